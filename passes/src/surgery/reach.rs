//! Which positions of a region's input one position of its output sees, whatever lies between.
//!
//! Along one spatial axis, position `p` of a value sees the positions `s·p + low … s·p + high` of the source. A window of
//! kernel k, dilation d, stride t and padding b before it makes from it
//! `s′ = s·t`, `low′ = low − s·b`, `high′ = high + s·(d·(k − 1) − b)`.
//! Operators by element leave it alone, sums and concatenations join it, a mean over all positions sees everything and
//! counts as a constant. An operator that is not known here is taken by its sizes: where it and what dominates it have
//! the same sizes, positions correspond. The sizes that the region makes are followed beside it, so that a new operator
//! can be held to them.

use std::collections::BTreeMap;

use updp_ir::view::Pad;
use updp_ir::{ConvGeometry, Dim, NodeId, ValueId};

use crate::blocks::{Flow, is_nonlinear};
use crate::error::Declined;
use crate::rule::Context;

/// Input sizes for which a new operator is checked, where sizes are not numbers.
const SIZES: usize = 96;
/// Largest kernel of a new operator.
const LARGEST: usize = 7;

/// What a position sees along one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    stride: i64,
    low: i64,
    high: i64,
    /// Input sizes, each with the size that the value then has; `None` = the region does not run.
    sizes: Vec<(usize, Option<usize>)>,
}

/// What a value sees of the source.
#[derive(Clone, Debug)]
enum State {
    /// Everything or nothing of it: the same at every position.
    Global,
    /// One reach for each spatial axis.
    Local(Vec<Reach>),
    /// Not known.
    Unknown,
}

/// A window along the spatial axes, with ceiling mode.
struct Window {
    geometry: ConvGeometry,
    is_ceil: bool,
}

impl Reach {
    fn start(dim: &Dim) -> Self {
        let sizes = match dim.known() {
            Some(size) => vec![(size, Some(size))],
            None => (1..=SIZES).map(|size| (size, Some(size))).collect(),
        };
        Self { stride: 1, low: 0, high: 0, sizes }
    }

    fn resized(&self, size: impl Fn(usize) -> Option<usize>) -> Vec<(usize, Option<usize>)> {
        self.sizes.iter().map(|(input, own)| (*input, own.and_then(&size))).collect()
    }

    fn behind(&self, window: &Window, axis: usize) -> Self {
        let of = window.geometry.axis(axis);
        let (begin, extent) = (of.begin as i64, of.extent() as i64);
        let size = |input: usize| {
            let floor = of.output_size(input)?;
            let rest = (input + of.padding() - of.extent() - 1) % of.stride;
            // A window that starts behind the input and its first padding does not count.
            let is_more = window.is_ceil && rest > 0 && floor * of.stride < input + of.begin;
            Some(floor + usize::from(is_more))
        };
        Self {
            stride: self.stride * of.stride as i64,
            low: self.low - self.stride * begin,
            high: self.high + self.stride * (extent - begin),
            sizes: self.resized(size),
        }
    }

    /// Padded or, where negative, cropped.
    fn padded(&self, begin: i64, end: i64) -> Self {
        let size = |input: usize| usize::try_from(input as i64 + begin + end).ok();
        let moved = self.stride * begin;
        let sizes = self.resized(size);
        Self { stride: self.stride, low: self.low - moved, high: self.high - moved, sizes }
    }

    /// Larger by a whole factor, if the stride so far has it.
    fn enlarged(&self, factor: usize) -> Option<Self> {
        let by = i64::try_from(factor).ok().filter(|by| *by > 0 && self.stride % by == 0)?;
        let stride = self.stride / by;
        let sizes = self.resized(|input| input.checked_mul(factor));
        Some(Self { stride, low: self.low - (self.stride - stride), high: self.high, sizes })
    }

    fn joined(&self, other: &Self) -> Option<Self> {
        let is_same = self.stride == other.stride
            && self
                .sizes
                .iter()
                .zip(&other.sizes)
                .all(|(a, b)| a.1 == b.1 || a.1.or(b.1).is_none());
        let (low, high) = (self.low.min(other.low), self.high.max(other.high));
        is_same.then(|| Self { low, high, ..self.clone() })
    }

    /// The window of one operator that sees about the same; with `is_pointwise`, one tap of it.
    fn window(&self, is_pointwise: bool) -> Option<(usize, usize, usize, usize)> {
        let stride = usize::try_from(self.stride).ok().filter(|stride| *stride > 0)?;
        let reach = usize::try_from(self.high - self.low + 1).ok()?;
        let wanted = if stride <= 2 { 3 } else { stride + 1 - stride % 2 };
        let wanted = if is_pointwise { 1 } else { wanted.min(reach).max(1) };
        // Without padding in front, the kernel has to be long enough to have its centre where the region has it.
        let inside = usize::try_from(self.low + self.high + 1).unwrap_or(0);
        let kernels = if is_pointwise { vec![1] } else { vec![wanted, wanted + 1, inside] };
        for kernel in kernels.into_iter().filter(|k| (wanted..=LARGEST).contains(k)) {
            let begin = ((kernel as i64 - 1) - (self.low + self.high)).max(0) / 2;
            let begin = usize::try_from(begin).ok()?.min(kernel - 1);
            let distance = (kernel as i64 - 1 - 2 * begin as i64 - self.low - self.high).abs();
            if distance > 2 * self.stride.max(1) {
                continue;
            }
            let fits = |end: &usize| {
                let axis = updp_ir::ConvAxis { kernel, stride, dilation: 1, begin, end: *end };
                let mut known = self.sizes.iter().filter(|(_, size)| size.is_some());
                known.all(|(input, size)| axis.output_size(*input) == *size)
            };
            if let Some(end) = (0..kernel).find(fits) {
                return Some((kernel, stride, begin, end));
            }
        }
        None
    }
}

/// Follows the values of a region.
struct Walk<'a> {
    cx: &'a Context<'a>,
    flow: &'a Flow,
    /// The axis of the channels; all axes except this one and axis 0 are spatial.
    axis: usize,
    rank: usize,
    states: BTreeMap<ValueId, State>,
}

/// Windows of new operators in the place of a region. They are empty where the channels come last.
pub(super) struct Windows {
    /// As wide as one operator needs to be.
    pub(super) wide: ConvGeometry,
    /// One tap; `None` where one tap does not give the same sizes.
    pub(super) narrow: Option<ConvGeometry>,
}

/// The windows of new operators from `source` to `result`, whose channels lie on `axis`.
///
/// # Errors
/// `geometry` when the positions cannot be followed or no window gives the same sizes.
pub(super) fn windows(
    cx: &Context<'_>,
    flow: &Flow,
    source: ValueId,
    result: ValueId,
    axis: usize,
) -> Result<Windows, Declined> {
    let name = |value: ValueId| cx.graph.value(value).name().to_owned();
    let unknown = || {
        let detail = format!("which of its inputs {:?} sees cannot be followed", name(result));
        Declined::new("geometry", detail)
    };
    let dims = cx.shapes.dims(source).ok_or_else(unknown)?;
    let rank = dims.len();
    let spatial = (1..rank).filter(|at| *at != axis);
    let start = spatial.map(|at| Reach::start(&dims[at])).collect();
    let states = BTreeMap::from([(source, State::Local(start))]);
    let mut walk = Walk { cx, flow, axis, rank, states };
    for node in flow.between(cx, source, result) {
        walk.visit(node);
    }
    let Some(State::Local(reaches)) = walk.states.get(&result) else { return Err(unknown()) };
    if axis != 1 {
        let is_same = |reach: &Reach| {
            reach.stride == 1
                && reach.sizes.iter().all(|(input, size)| size.is_none_or(|size| size == *input))
        };
        let same = Windows { wide: ConvGeometry::default(), narrow: None };
        return reaches.iter().all(is_same).then_some(same).ok_or_else(unknown);
    }
    let window = |is_pointwise: bool| -> Option<ConvGeometry> {
        let mut window = ConvGeometry::pointwise(reaches.len());
        for (at, reach) in reaches.iter().enumerate() {
            let (kernel, stride, begin, end) = reach.window(is_pointwise)?;
            (window.kernel[at], window.stride[at]) = (kernel, stride);
            (window.pad_begin[at], window.pad_end[at]) = (begin, end);
        }
        Some(window)
    };
    let sizes = || {
        let detail = format!("no small kernel gives {:?} its size", name(result));
        Declined::new("geometry", detail)
    };
    Ok(Windows { wide: window(false).ok_or_else(sizes)?, narrow: window(true) })
}

impl Walk<'_> {
    fn visit(&mut self, node: NodeId) {
        let operands = self.flow.data_operands(self.cx, node);
        let known: Vec<State> = operands.iter().map(|value| self.state(*value)).collect();
        for result in self.cx.graph.results(node).into_iter().flatten() {
            if !self.flow.is_data(result) || self.states.contains_key(&result) {
                continue;
            }
            let state = match self.made(node, result, &known) {
                State::Unknown => self.by_size(result),
                state => state,
            };
            self.states.insert(result, state);
        }
    }

    fn state(&self, value: ValueId) -> State {
        self.states.get(&value).cloned().unwrap_or(State::Unknown)
    }

    fn made(&self, node: NodeId, result: ValueId, known: &[State]) -> State {
        if !known.is_empty() && known.iter().all(|state| matches!(state, State::Global)) {
            return State::Global;
        }
        let op = self.cx.graph.node(node).op_type();
        let Some(first) = known.first() else { return State::Unknown };
        if is_by_element(op) || self.keeps_positions(node, result) {
            return joined(known);
        }
        let is_conv = matches!(op, "Conv" | "FusedConv");
        if matches!(op, "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool")
            || !is_conv && self.is_mean_over_all(result)
        {
            return State::Global;
        }
        let State::Local(reaches) = first else { return State::Unknown };
        let moved: Option<Vec<Reach>> = match op {
            "Conv" | "FusedConv" | "MaxPool" | "AveragePool" | "LpPool" if known.len() == 1 => {
                self.window(node).map(|window| {
                    let each = reaches.iter().enumerate();
                    each.map(|(axis, reach)| reach.behind(&window, axis)).collect()
                })
            }
            "Pad" => self.padded(node, reaches),
            "Resize" | "Upsample" => self.enlarged(node, reaches),
            _ => None,
        };
        moved.map_or(State::Unknown, State::Local)
    }

    /// Concat and Split of channels, and layers over the channels.
    fn keeps_positions(&self, node: NodeId, result: ValueId) -> bool {
        let graph = self.cx.graph;
        let known = graph.node(node);
        let rank = self.cx.rank(result);
        if rank != Some(self.rank) {
            return false;
        }
        let axis = |default: i64| {
            let axis = known.int("axis").unwrap_or(default);
            usize::try_from(if axis < 0 { axis + self.rank as i64 } else { axis }).ok()
        };
        match known.op_type() {
            "Concat" => axis(1) == Some(self.axis),
            "Split" => axis(0) == Some(self.axis),
            "Softmax" | "LogSoftmax" => axis(-1) == Some(self.axis),
            "LayerNormalization" => self.axis + 1 == self.rank && axis(-1) == Some(self.axis),
            "MatMul" => {
                self.axis + 1 == self.rank
                    && graph
                        .operand(node, 1)
                        .is_some_and(|weight| self.cx.constant(weight).is_some())
            }
            "Slice" => {
                let axes = graph.operand(node, 3).and_then(|axes| self.cx.constant(axes)?.to_i64());
                let axes = axes.or_else(|| known.ints("axes").map(<[i64]>::to_vec));
                axes.is_some_and(|axes| axes == [self.axis as i64])
            }
            _ => false,
        }
    }

    /// Whether all spatial dims of a value are 1 although the source's are not known to be.
    fn is_mean_over_all(&self, result: ValueId) -> bool {
        let Some(dims) = self.cx.shapes.dims(result) else { return false };
        dims.len() == self.rank
            && self.rank > 2
            && (1..self.rank).filter(|at| *at != self.axis).all(|at| dims[at] == Dim::Known(1))
    }

    fn window(&self, node: NodeId) -> Option<Window> {
        let (cx, known) = (self.cx, self.cx.graph.node(node));
        let x = cx.graph.operand(node, 0)?;
        if cx.rank(x)? != self.rank || self.axis != 1 {
            return None;
        }
        let spatial = self.rank - 2;
        let sizes = |name: &str, default: usize, count: usize| -> Option<Vec<usize>> {
            match known.ints(name) {
                None => Some(vec![default; count]),
                Some(list) => list.iter().map(|v| usize::try_from(*v).ok()).collect(),
            }
        };
        let kernel = match known.ints("kernel_shape") {
            Some(_) => sizes("kernel_shape", 1, spatial)?,
            None => cx.shapes.known_dims(cx.graph.operand(node, 1)?)?.get(2..)?.to_vec(),
        };
        let (stride, dilation) = (sizes("strides", 1, spatial)?, sizes("dilations", 1, spatial)?);
        let pads = match known.string("auto_pad") {
            None | Some("NOTSET" | "") => sizes("pads", 0, 2 * spatial)?,
            Some("VALID") => vec![0; 2 * spatial],
            Some(mode) => same_pads(
                mode == "SAME_UPPER",
                cx.spatial(x).as_deref(),
                &kernel,
                &stride,
                &dilation,
            )?,
        };
        let is_whole = [&kernel, &stride, &dilation].iter().all(|list| list.len() == spatial)
            && pads.len() == 2 * spatial
            && kernel.iter().chain(&stride).chain(&dilation).all(|v| *v > 0);
        let (pad_begin, pad_end) = (pads.get(..spatial)?.to_vec(), pads.get(spatial..)?.to_vec());
        let is_ceil = known.int("ceil_mode").unwrap_or(0) != 0;
        let geometry = ConvGeometry { kernel, stride, dilation, pad_begin, pad_end };
        is_whole.then_some(Window { geometry, is_ceil })
    }

    fn padded(&self, node: NodeId, reaches: &[Reach]) -> Option<Vec<Reach>> {
        let pad = Pad::of(self.cx.graph, node, self.cx.opset, Some(self.rank));
        // Any mode moves the positions alike, and the older view reads constant padding only.
        let (begin, end) = if let Some(pad) = pad {
            (pad.begin, pad.end)
        } else {
            let pads = match self.cx.graph.operand(node, 1) {
                Some(pads) => self.cx.constant(pads)?.to_i64()?,
                None => self.cx.graph.node(node).ints("pads")?.to_vec(),
            };
            let half = pads.len() / 2;
            (pads[..half].to_vec(), pads[half..].to_vec())
        };
        let axes = (1..self.rank).filter(|at| *at != self.axis);
        let each = axes.zip(reaches);
        each.map(|(at, reach)| Some(reach.padded(*begin.get(at)?, *end.get(at)?))).collect()
    }

    fn enlarged(&self, node: NodeId, reaches: &[Reach]) -> Option<Vec<Reach>> {
        let graph = self.cx.graph;
        let slot = if self.cx.opset < 11 { 1 } else { 2 };
        let scales = match graph.operand(node, slot).and_then(|value| self.cx.constant(value)) {
            Some(tensor) => tensor.to_f64()?,
            None => graph.node(node).floats("scales")?.iter().map(|v| f64::from(*v)).collect(),
        };
        let axes = (1..self.rank).filter(|at| *at != self.axis);
        let each = axes.zip(reaches).map(|(at, reach)| {
            let scale = *scales.get(at)?;
            let is_whole = scale >= 1.0 && scale.fract() == 0.0 && scale < 1e4;
            reach.enlarged(is_whole.then_some(scale as usize)?)
        });
        each.collect()
    }

    /// The positions of a value by its sizes: those of the nearest dominator with the same sizes.
    fn by_size(&self, value: ValueId) -> State {
        let Some(dims) = self.cx.shapes.dims(value) else { return State::Unknown };
        let mut at = value;
        while let Some(dominator) = self.flow.dominator(at) {
            at = dominator;
            let (Some(State::Local(reaches)), Some(own)) =
                (self.states.get(&at), self.cx.shapes.dims(at))
            else {
                continue;
            };
            let is_same = |at: usize| dims[at] == own[at] && dims[at] != Dim::Unknown;
            let mut spatial = (1..self.rank).filter(|at| *at != self.axis);
            if dims.len() == self.rank && own.len() == self.rank && spatial.all(is_same) {
                let wider = |reach: &Reach| Reach {
                    low: reach.low - reach.stride,
                    high: reach.high + reach.stride,
                    ..reach.clone()
                };
                return State::Local(reaches.iter().map(wider).collect());
            }
        }
        State::Unknown
    }
}

/// What several values see together.
fn joined(known: &[State]) -> State {
    let mut whole: Option<Vec<Reach>> = None;
    for state in known {
        let reaches = match state {
            State::Global => continue,
            State::Unknown => return State::Unknown,
            State::Local(reaches) => reaches,
        };
        whole = match whole {
            None => Some(reaches.clone()),
            Some(before) => {
                let pairs = before.iter().zip(reaches);
                let both: Option<Vec<Reach>> = pairs.map(|(a, b)| a.joined(b)).collect();
                match both {
                    Some(both) => Some(both),
                    None => return State::Unknown,
                }
            }
        };
    }
    whole.map_or(State::Global, State::Local)
}

/// The padding of `auto_pad`.
fn same_pads(
    is_upper: bool,
    input: Option<&[usize]>,
    kernel: &[usize],
    stride: &[usize],
    dilation: &[usize],
) -> Option<Vec<usize>> {
    let (mut begin, mut end) = (Vec::new(), Vec::new());
    for (axis, kernel) in kernel.iter().enumerate() {
        let (stride, reach) =
            (*stride.get(axis)?, dilation.get(axis)? * kernel.checked_sub(1)? + 1);
        let total = if stride == 1 {
            reach - 1
        } else {
            let size = *input?.get(axis)?;
            ((size.div_ceil(stride).checked_sub(1)?) * stride + reach).saturating_sub(size)
        };
        let (small, large) = (total / 2, total - total / 2);
        begin.push(if is_upper { small } else { large });
        end.push(if is_upper { large } else { small });
    }
    begin.extend(end);
    Some(begin)
}

/// Whether an operator makes each position from the same position of its data, or from all positions for statistics.
fn is_by_element(op: &str) -> bool {
    let is_listed = matches!(
        op,
        "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Pow"
            | "Sum"
            | "Mean"
            | "Min"
            | "Max"
            | "Where"
            | "Abs"
            | "Neg"
            | "Exp"
            | "Log"
            | "Sqrt"
            | "Reciprocal"
            | "Erf"
            | "FastGelu"
            | "BiasGelu"
            | "QuickGelu"
            | "Identity"
            | "Dropout"
            | "Cast"
            | "LRN"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "GroupNormalization"
    );
    is_listed || is_nonlinear(op)
}
