//! `AveragePool`: y = Σ of a window / n; x̄ is the adjoint of the sum over the window, applied to ȳ / n.
//!
//! n counts the positions inside the input. With `count_include_pad` it also counts the positions of the explicit
//! padding. It never counts the positions that `ceil_mode` adds behind the padding.

use updp_ir::ValueId;

use super::site::{Cotangent, Site, first};
use crate::convolution::Geometry;
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let x = site.operand(emit, 0)?;
    let dims = emit.dims(x)?;
    let window = PoolWindow::of(emit, site)?;
    let dy = site.dy(emit)?;
    let share = window.counts(emit, dy)?;
    let dy = emit.div(dy, share)?;
    // Each image has one channel here: the window is the same for all channels.
    let mut flat = vec![dims[0] * dims[1], 1];
    flat.extend(&window.geometry.output);
    let dy = emit.reshape(dy, &flat)?;
    let mut ones = vec![1, 1];
    ones.extend(&window.geometry.kernel);
    let dtype = emit.dtype(dy)?;
    let weight = emit.floats(dtype, &ones, &vec![1.0; ones.iter().product()])?;
    let dx = window.geometry.input_gradient(emit, weight, dy)?;
    Ok(first(emit.reshape(dx, &dims)?))
}

/// A pooling window over [N·C, 1, space].
pub(super) struct PoolWindow {
    /// The convolution that reads the same entries as the window.
    pub geometry: Geometry,
    end: Vec<usize>,
    counts_padding: bool,
}

impl PoolWindow {
    /// Reads an `AveragePool` or a `MaxPool`.
    pub fn of(emit: &Emit<'_>, site: &Site) -> Result<Self> {
        let input = emit.dims(site.operand(emit, 0)?)?;
        let output = emit.dims(site.y(emit)?)?;
        let node = site.read(emit);
        let space = input.len() - 2;
        let list = |name: &str, len: usize, default: usize| {
            node.ints(name).filter(|list| list.len() == len).map_or_else(
                || vec![default; len],
                |list| list.iter().map(|v| *v as usize).collect::<Vec<usize>>(),
            )
        };
        let kernel = list("kernel_shape", space, 1);
        let (strides, dilations) = (list("strides", space, 1), list("dilations", space, 1));
        let pads = match node.string("auto_pad") {
            None | Some("NOTSET" | "") => list("pads", 2 * space, 0),
            Some("VALID") => vec![0; 2 * space],
            Some(same) => {
                let mut pads = vec![0; 2 * space];
                for a in 0..space {
                    let reach = (output[a + 2] - 1) * strides[a] + (kernel[a] - 1) * dilations[a];
                    let total = (reach + 1).checked_sub(input[a + 2]).ok_or_else(|| {
                        site.refuse(emit, "its stride is so large that SAME padding crops")
                    })?;
                    let small = total / 2;
                    let begin = if same == "SAME_UPPER" { small } else { total - small };
                    (pads[a], pads[a + space]) = (begin, total - begin);
                }
                pads
            }
        };
        let geometry = Geometry {
            batch: input[0] * input[1],
            in_channels: 1,
            out_channels: 1,
            group: 1,
            input: input[2..].to_vec(),
            output: output[2..].to_vec(),
            kernel,
            strides,
            dilations,
            begin: pads[..space].to_vec(),
        };
        let counts_padding = node.int("count_include_pad").unwrap_or(0) != 0;
        Ok(Self { geometry, end: pads[space..].to_vec(), counts_padding })
    }

    /// The number of positions in each mean: a single number if they all agree, else [1, 1, space].
    fn counts(&self, emit: &mut Emit<'_>, like: ValueId) -> Result<ValueId> {
        let g = &self.geometry;
        let mut all = vec![1.0];
        for a in 0..g.kernel.len() {
            let (low, high) = if self.counts_padding {
                (0, g.begin[a] + g.input[a] + self.end[a])
            } else {
                (g.begin[a], g.begin[a] + g.input[a])
            };
            let along: Vec<f64> = (0..g.output[a])
                .map(|o| {
                    let at = (0..g.kernel[a]).map(|k| o * g.strides[a] + k * g.dilations[a]);
                    at.filter(|p| (low..high).contains(p)).count() as f64
                })
                .collect();
            all = all.iter().flat_map(|c| along.iter().map(move |n| c * n)).collect();
        }
        if all.iter().all(|count| *count == all[0]) {
            return emit.scalar(like, all[0]);
        }
        let mut dims = vec![1, 1];
        dims.extend(&g.output);
        let dtype = emit.dtype(like)?;
        emit.floats(dtype, &dims, &all)
    }
}
