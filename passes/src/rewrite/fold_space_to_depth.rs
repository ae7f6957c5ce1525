//! Makes a Conv on a rearranged image a Conv with larger steps on the image itself.
//!
//! Before: `y = Conv(z)`, `z = SpaceToDepth(x)`, or z the Concat of strided Slices of x (Focus of `YOLOv5` and YOLOX)
//! After:  `y = Conv(x)` with strides and paddings times the block size
//!
//! `z[j, p] = x[c_j, B·p + o_j]` with block sizes B and offsets `o_j` in `0..B` on each spatial axis. Then
//! `W'[o, c, B·u + f] = Σ W[o, j, u]` over all j with `c_j = c`, `o_j = f`; kernel `B·k`, strides `B·s`, paddings `B·P`.
//!
//! 1. `read-twice`: nothing else reads z.
//! 2. `groups`: the Conv has one group.
//! 3. `dilation`: no kernel above 1 is dilated; the taps would not stand in a grid.
//! 4. `open-size`: the block size divides the image: its size is known, or the Slices begin at the first and the
//!    last place of a block and so give parts of one size only if it does.
//! 5. `slower`: every place of a block is read (the number of multiplications stays), unless all merges are asked for.
//! 6. `overflow`: no weight leaves the range of its dtype.
//!
//! Source: papers.md L11b, L15.
//! Measure: Slices, `SpaceToDepth` and Concats before Convs.

use std::collections::BTreeSet;

use ndarray::{ArrayD, IxDyn};
use updp_ir::view::Slice;
use updp_ir::{NodeId, ValueId};

use crate::error::{Declined, Stop};
use crate::kernel::AffineMap;
use crate::lift::Linear;
use crate::patch::{Operand, Out, Patch};
use crate::rule::{Context, Rule};

/// Largest block size; the kernel grows by its square.
const MAX_BLOCK: usize = 16;
/// Longest run of Slices before a Concat.
const MAX_SLICES: usize = 8;

/// See the module documentation.
#[derive(Debug)]
pub struct FoldSpaceToDepth;

/// A Conv and the rearrangement in front of it.
#[derive(Debug)]
pub struct Match {
    unit: Linear,
    blocks: Blocks,
}

/// A rearrangement of an image.
#[derive(Debug)]
struct Blocks {
    /// The node that makes z.
    node: NodeId,
    /// The image [N, C, …].
    x: ValueId,
    /// Channels of the image.
    channels: usize,
    /// Block size, one per spatial axis.
    size: Vec<usize>,
    /// For each channel of z: the channel of the image and the offset.
    places: Vec<(usize, Vec<usize>)>,
    /// Whether the operator itself demands that the block size divides the image.
    is_divided: bool,
}

impl Rule for FoldSpaceToDepth {
    type Match = Match;
    const NAME: &'static str = "fold-space-to-depth";
    const SUMMARY: &'static str =
        "turns Conv on SpaceToDepth or joined strided Slices (Focus) into one strided Conv";
    const ROOTS: &'static [&'static str] = &["Conv"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let unit = Linear::at(cx, root)?;
        let (above, _) = cx.graph.producer(unit.x)?;
        let node = cx.graph.node(above);
        if !node.domain().is_empty() || node.has_reference_attribute() {
            return None;
        }
        let blocks = match node.op_type() {
            "SpaceToDepth" => Blocks::of_operator(cx, above)?,
            "Concat" => Blocks::of_slices(cx, above)?,
            _ => return None,
        };
        let is_meant = blocks.size.len() == unit.geometry.rank()
            && blocks.places.len() == unit.in_channels
            && blocks.size.iter().any(|size| *size > 1);
        is_meant.then_some(Match { unit, blocks })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        matched.check(cx)?;
        let map = matched.map().ok_or_else(|| Declined::new("out-of-range", "no such kernel"))?;
        let Match { unit, blocks } = matched;
        let mut patch = Patch::new();
        let x = Operand::Value(blocks.x);
        unit.emit_map(cx, &mut patch, x, &map, Out::Value(unit.y))?;
        patch.remove_all([unit.main(), blocks.node]);
        Ok(patch)
    }
}

impl Match {
    /// Checks preconditions 1 to 4.
    fn check(&self, cx: &Context<'_>) -> Result<(), Declined> {
        let Self { unit, blocks } = self;
        if cx.graph.sole_use(unit.x).is_none() {
            let name = cx.graph.value(unit.x).name();
            return Err(Declined::new("read-twice", format!("{name:?} is read elsewhere too")));
        }
        if unit.groups != 1 {
            let detail = format!("{:?} has {} groups", cx.describe(unit.main()), unit.groups);
            return Err(Declined::new("groups", detail));
        }
        if unit.geometry.axes().any(|axis| axis.kernel > 1 && axis.dilation > 1) {
            let detail = format!("the kernel of {:?} is dilated", cx.describe(unit.main()));
            return Err(Declined::new("dilation", detail));
        }
        for (axis, size) in blocks.size.iter().enumerate() {
            let known = cx.shapes.of(blocks.x).and_then(|ty| ty.known_dim(axis as i64 + 2));
            let has = |offset| blocks.places.iter().any(|(_, offsets)| offsets[axis] == offset);
            let is_divided = blocks.is_divided
                || known.is_some_and(|known| known.is_multiple_of(*size))
                || has(0) && has(size - 1);
            if !is_divided {
                let detail = format!("{size} may not divide the size of axis {}", axis + 2);
                return Err(Declined::new("open-size", detail));
            }
        }
        let taps = blocks.size.iter().product::<usize>() * blocks.channels;
        let read = blocks.places.iter().collect::<BTreeSet<_>>().len();
        if read < taps && !cx.options.merge_all {
            let detail = format!("{read} of {taps} places of a block are read");
            return Err(Declined::new("slower", detail));
        }
        Ok(())
    }

    /// The Conv on the image.
    fn map(&self) -> Option<AffineMap> {
        let Self { unit, blocks } = self;
        let old = unit.map()?;
        let kernel: Vec<usize> =
            old.kernel_size().iter().zip(&blocks.size).map(|(k, size)| k * size).collect();
        let dims = [&[old.out_channels(), blocks.channels][..], &kernel].concat();
        let mut weight = ArrayD::<f64>::zeros(IxDyn(&dims));
        for (at, value) in old.weight.indexed_iter() {
            let (channel, offsets) = &blocks.places[at[1]];
            let mut place = vec![at[0], *channel];
            place.extend(
                (0..kernel.len()).map(|axis| at[axis + 2] * blocks.size[axis] + offsets[axis]),
            );
            weight[&place[..]] += value;
        }
        let times = |numbers: &[usize]| -> Vec<usize> {
            numbers.iter().zip(&blocks.size).map(|(number, size)| number * size).collect()
        };
        let dilation = vec![1; kernel.len()];
        let (begin, end) = (times(&old.pad_begin), times(&old.pad_end));
        AffineMap::new(weight, old.bias, times(&old.stride), dilation, begin, end, 1).ok()
    }
}

impl Blocks {
    /// `SpaceToDepth`: `z[(oy·B + ox)·C + c, p] = x[c, B·p + o]`.
    fn of_operator(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let x = cx.graph.operand(node, 0)?;
        let block = usize::try_from(cx.graph.node(node).int("blocksize")?).ok()?;
        let channels = cx.shapes.of(x)?.known_dim(1)?;
        if !(1..=MAX_BLOCK).contains(&block) || cx.rank(x)? != 4 {
            return None;
        }
        let places = (0..block * block * channels)
            .map(|at| (at % channels, vec![at / channels / block, at / channels % block]))
            .collect();
        Some(Self { node, x, channels, size: vec![block; 2], places, is_divided: true })
    }

    /// A Concat of the channels of Slices of one image, all with one step.
    fn of_slices(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let parts: Vec<ValueId> = cx.graph.operands(node).into_iter().collect::<Option<_>>()?;
        let mut whole: Option<Self> = None;
        for part in parts {
            let (x, size, offsets) = sliced(cx, part)?;
            let channels = cx.shapes.of(x)?.known_dim(1)?;
            let rank = size.len() as i64 + 2;
            let axis = cx.graph.node(node).int("axis")?;
            let own = whole.get_or_insert_with(|| Self {
                node,
                x,
                channels,
                size: size.clone(),
                places: vec![],
                is_divided: false,
            });
            if own.x != x || own.size != size || (axis != 1 && axis + rank != 1) {
                return None;
            }
            own.places.extend((0..channels).map(|channel| (channel, offsets.clone())));
        }
        whole
    }
}

/// The image behind a run of Slices, and the steps and offsets of the run on its spatial axes.
fn sliced(cx: &Context<'_>, value: ValueId) -> Option<(ValueId, Vec<usize>, Vec<usize>)> {
    let rank = cx.rank(value).filter(|rank| *rank >= 3)?;
    let (mut size, mut offsets) = (vec![1; rank - 2], vec![0; rank - 2]);
    let mut at = value;
    for _ in 0..MAX_SLICES {
        let Some((above, _)) = cx.graph.producer(at) else { break };
        let Some(slice) = Slice::of(cx.graph, above, cx.opset, Some(rank)) else { break };
        let dims = cx.shapes.dims(slice.x)?;
        for (axis, dim) in dims.iter().enumerate().take(rank) {
            let length = dim.known().map_or(i64::from(i32::MAX), |size| size as i64);
            let (start, step) = (slice.start[axis], slice.step[axis]);
            if slice.end[axis] < length || start < 0 || step < 1 {
                return None;
            }
            let is_whole = start == 0 && step == 1;
            if is_whole {
                continue;
            }
            let spatial = axis.checked_sub(2)?;
            // Two steps on one axis would need the sum of their offsets.
            let is_first = size[spatial] == 1;
            let (start, step) = (usize::try_from(start).ok()?, usize::try_from(step).ok()?);
            if !is_first || start >= step || step > MAX_BLOCK {
                return None;
            }
            (size[spatial], offsets[spatial]) = (step, start);
        }
        at = slice.x;
    }
    (at != value).then_some((at, size, offsets))
}
