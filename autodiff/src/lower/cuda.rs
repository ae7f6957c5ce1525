//! Replaces nodes that ONNX Runtime's CUDA provider leaves to the CPU, or computes slowly, with nodes that it computes
//! well.
//!
//! - `Conv` and `ConvTranspose` whose paddings before and after differ stay on the CPU. This costs two copies for each
//!   of them and prevents recording the step. Before: pads (b, e). After: `Pad`, then a convolution without paddings.
//!   For the transposed convolution: pads (m, m) with m = min(b, e), then `Slice` of b − m and e − m rows.
//! - The unrolling of x by one-hot kernels in one group per channel (W̄ of a dense layer) → strided slices of x side by
//!   side.
//! - A convolution of x [1, C, …] with computed kernels [C, 1, k…] in C groups (W̄ of a depthwise layer) → for each
//!   position of the result the entries that the kernel sees there, side by side, and one product per channel.

use updp_ir::{Model, Tensor, ValueId, view};

use crate::convolution::{one_hot, positions};
use crate::emit::Emit;
use crate::error::Result;

/// The maximum number of positions of a result that is computed from slices.
const MOST_POSITIONS: usize = 25;

/// Rewrites every node that the provider would not compute well. Returns the number of nodes.
pub(super) fn lower(model: &mut Model) -> Result<usize> {
    let nodes = model.graph.nodes();
    let mut emit = Emit::new(model)?;
    emit.set_scope("cuda");
    let mut replaced = 0;
    for node in nodes {
        let Some(y) = emit.graph().sole_result(node) else { continue };
        emit.set_anchor(node);
        let graph = emit.graph();
        let new = if let Some(conv) = view::Conv::of(graph, node, 4) {
            Window::of(&emit, &conv).map(|window| convolution(&mut emit, &conv, &window))
        } else {
            view::ConvTranspose::of(graph, node).map(|conv| transposed(&mut emit, &conv))
        };
        let Some(new) = new.transpose()?.flatten() else { continue };
        emit.replace(node, y, new)?;
        replaced += 1;
    }
    Ok(replaced)
}

/// A convolution with known sizes.
struct Window {
    /// Dims of x, the weight and the result.
    x: Vec<usize>,
    weight: Vec<usize>,
    y: Vec<usize>,
}

impl Window {
    fn of(emit: &Emit<'_>, conv: &view::Conv) -> Option<Self> {
        let dims = |value| emit.dims(value).ok();
        let window = Self { x: dims(conv.x)?, weight: dims(conv.weight)?, y: dims(conv.y)? };
        let is_usual = conv.auto_pad == view::AutoPad::NotSet
            && window.x.len() == window.weight.len()
            && window.y.len() == window.x.len()
            && window.y.iter().all(|size| *size > 0);
        is_usual.then_some(window)
    }

    /// The number of axes behind batch and channels.
    fn space(&self) -> usize {
        self.x.len() - 2
    }
}

/// The better form of a convolution, or `None` if there is none.
fn convolution(emit: &mut Emit<'_>, conv: &view::Conv, window: &Window) -> Result<Option<ValueId>> {
    if is_unrolling(emit, conv, window) {
        let taps = &window.weight[2..];
        // [N, C, taps, P]
        let columns = windows(
            emit,
            conv,
            window,
            Grid { sizes: taps, step: &conv.dilations },
            Grid { sizes: &window.y[2..], step: &conv.strides },
        )?;
        return Ok(Some(emit.reshape(columns, &window.y)?));
    }
    if is_own_kernel(emit, conv, window) {
        let places = &window.y[2..];
        // [1, C, places, taps]
        let kernel = &window.weight[2..];
        let rows = windows(
            emit,
            conv,
            window,
            Grid { sizes: places, step: &conv.strides },
            Grid { sizes: kernel, step: &conv.dilations },
        )?;
        let (channels, taps) = (window.x[1], kernel.iter().product::<usize>());
        let rows = emit.reshape(rows, &[channels, places.iter().product(), taps])?;
        let kernel = emit.reshape(conv.weight, &[channels, taps, 1])?;
        let product = emit.matmul(rows, kernel)?;
        return Ok(Some(emit.reshape(product, &window.y)?));
    }
    if conv.pad_begin == conv.pad_end {
        return Ok(None);
    }
    let x = padded(emit, conv)?;
    let zeros = vec![0_i64; 2 * window.space()];
    let node = emit.graph().node(conv.node).bare_copy().with("pads", zeros);
    Ok(Some(emit.node(node, &[Some(x), Some(conv.weight), conv.bias])?))
}

/// x with the zeros that the convolution would add.
fn padded(emit: &mut Emit<'_>, conv: &view::Conv) -> Result<ValueId> {
    let pads = |own: &[usize]| -> Vec<i64> {
        [0, 0].into_iter().chain(own.iter().map(|pad| *pad as i64)).collect()
    };
    emit.pad(conv.x, &pads(&conv.pad_begin), &pads(&conv.pad_end), 0.0)
}

/// Positions on the spatial axes, evenly spaced.
#[derive(Clone, Copy)]
struct Grid<'a> {
    /// The number of positions on each axis.
    sizes: &'a [usize],
    /// The distance between neighbouring positions on each axis.
    step: &'a [usize],
}

/// The entries of padded x on the grid `entries`, moved to each position of the grid `places`: [N, C, places, entries].
fn windows(
    emit: &mut Emit<'_>,
    conv: &view::Conv,
    window: &Window,
    places: Grid<'_>,
    entries: Grid<'_>,
) -> Result<ValueId> {
    let space = window.space();
    let x = padded(emit, conv)?;
    let axes: Vec<usize> = (2..space + 2).collect();
    let (images, channels) = (window.x[0], window.x[1]);
    let Grid { sizes, step } = entries;
    let count: usize = sizes.iter().product();
    let mut parts = Vec::new();
    for place in positions(places.sizes) {
        let start: Vec<usize> = place.iter().zip(places.step).map(|(at, step)| at * step).collect();
        let end: Vec<usize> =
            (0..space).map(|axis| start[axis] + (sizes[axis] - 1) * step[axis] + 1).collect();
        let part = emit.slice(x, &axes, &start, &end, step)?;
        parts.push(emit.reshape(part, &[images, channels, 1, count])?);
    }
    emit.concat(&parts, 2)
}

/// Whether a convolution only puts the entries that each position reads side by side.
fn is_unrolling(emit: &Emit<'_>, conv: &view::Conv, window: &Window) -> bool {
    let taps: usize = window.weight[2..].iter().product();
    let channels = window.x[1];
    let has_form = conv.bias.is_none()
        && conv.group == channels
        && window.weight[0] == channels * taps
        && window.weight[1] == 1
        && taps > 1;
    let values = || emit.constant_of(conv.weight).as_ref().and_then(Tensor::to_f64);
    has_form
        && values().is_some_and(|values| {
            let one = one_hot(&window.weight[2..]);
            values.chunks_exact(one.len()).all(|own| own == one)
        })
}

/// Whether each channel of one image has a computed kernel of its own, and the result has few positions.
fn is_own_kernel(emit: &Emit<'_>, conv: &view::Conv, window: &Window) -> bool {
    let channels = window.x[1];
    conv.bias.is_none()
        && window.x[0] == 1
        && conv.group == channels
        && channels > 1
        && window.weight[..2] == [channels, 1]
        && window.y[2..].iter().product::<usize>() <= MOST_POSITIONS
        && emit.constant_of(conv.weight).is_none()
}

/// A transposed convolution with equal paddings, and a `Slice` that cuts the rest off. `None` if the paddings are equal
/// or unknown.
fn transposed(emit: &mut Emit<'_>, conv: &view::ConvTranspose) -> Result<Option<ValueId>> {
    let node = emit.graph().node(conv.node);
    let is_plain =
        !["auto_pad", "output_shape", "output_padding"].iter().any(|name| node.has(name));
    let pads: Vec<usize> = match node.ints("pads") {
        Some(pads) if is_plain => {
            pads.iter().filter_map(|pad| usize::try_from(*pad).ok()).collect()
        }
        _ => return Ok(None),
    };
    let (begin, end) = pads.split_at(pads.len() / 2);
    if begin == end || begin.len() != end.len() {
        return Ok(None);
    }
    let Ok(dims) = emit.dims(conv.y) else { return Ok(None) };
    let least: Vec<usize> = begin.iter().zip(end).map(|(a, b)| *a.min(b)).collect();
    let both: Vec<i64> = least.iter().chain(&least).map(|pad| *pad as i64).collect();
    let node = node.bare_copy().with("pads", both);
    let wide = emit.node(node, &[Some(conv.x), Some(conv.weight), conv.bias])?;
    let axes: Vec<usize> = (2..dims.len()).collect();
    let start: Vec<usize> = begin.iter().zip(&least).map(|(pad, least)| pad - least).collect();
    let stop: Vec<usize> = axes.iter().map(|axis| start[axis - 2] + dims[*axis]).collect();
    let ones = vec![1; axes.len()];
    Ok(Some(emit.slice(wide, &axes, &start, &stop, &ones)?))
}
