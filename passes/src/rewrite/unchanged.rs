//! Operators that change nothing where they stand, whatever the numbers are.
//!
//! Each answer is exact for every number, NaN and infinities included, as the specification defines the operator;
//! the exception is the sign of a zero, which [`Unchanged::drops_zero_sign`] names.

use updp_ir::view::{AveragePool, Slice};
use updp_ir::{DataType, Dim, Node, NodeId, ValueId};

use crate::rule::Context;

/// The operators that [`unchanged`] knows.
pub(super) const OPERATORS: &[&str] = &[
    "AveragePool",
    "CastLike",
    "Clip",
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LeakyRelu",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Neg",
    "PRelu",
    "Pad",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Reshape",
    "Resize",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Sum",
    "Tile",
    "Unsqueeze",
    "Upsample",
    "Where",
];

/// Longest run of reshaping nodes that is followed.
const MAX_VIEWS: usize = 16;

/// What a node passes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unchanged {
    /// The value that equals the result.
    pub(super) x: ValueId,
    /// Whether −0 may turn into +0: a mean or sum of one element may start at +0.
    pub(super) drops_zero_sign: bool,
    /// Whether an infinity turns into the largest finite number: a Clip without bounds has these as bounds.
    pub(super) clips_infinities: bool,
}

/// The value that the only result of `node` equals; `None` if the node may change something.
pub(super) fn unchanged(cx: &Context<'_>, node: NodeId) -> Option<Unchanged> {
    let known = cx.graph.get_node(node)?;
    if !known.domain().is_empty() || known.has_reference_attribute() {
        return None;
    }
    let y = cx.graph.sole_result(node)?;
    let site = Site { cx, node, known, y };
    let is_sum = matches!(
        known.op_type(),
        "AveragePool" | "GlobalAveragePool" | "Mean" | "ReduceMean" | "ReduceSum"
    );
    let clips_infinities = site.is_open_clip();
    let x = if clips_infinities { cx.graph.operand(node, 0) } else { site.source() };
    x.map(|x| Unchanged { x, drops_zero_sign: is_sum, clips_infinities })
}

struct Site<'a, 'b> {
    cx: &'a Context<'b>,
    node: NodeId,
    known: &'a Node,
    y: ValueId,
}

impl Site<'_, '_> {
    fn source(&self) -> Option<ValueId> {
        let x = self.cx.graph.operand(self.node, 0);
        match self.known.op_type() {
            "Concat" => self.of_concat(),
            "Where" => self.of_where(),
            "Max" | "Mean" | "Min" | "Sum" => self.is_alone().then_some(x?),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.of_views(),
            "Neg" => self.of_negations(),
            _ => self.keeps(x?).then_some(x?),
        }
    }

    /// Whether the node passes its first operand on.
    fn keeps(&self, x: ValueId) -> bool {
        let node = self.known;
        match node.op_type() {
            "CastLike" => self.casts_to_own(x).unwrap_or(false),
            "Split" => self.cx.graph.results(self.node).len() == 1,
            "Pad" => self.pads_nothing().unwrap_or(false),
            "DepthToSpace" | "SpaceToDepth" => node.int("blocksize") == Some(1),
            "LeakyRelu" => node.float("alpha") == Some(1.0),
            "PRelu" => self.floats(1).is_some_and(|slope| slope.iter().all(|v| *v == 1.0)),
            "Pow" => {
                self.floats(1).is_some_and(|power| power.iter().all(|v| *v == 1.0))
                    && self.cx.graph.operand(self.node, 1).is_some_and(|own| self.fits(own, x))
            }
            "Clip" => self.has_open_bounds(x),
            "Expand" => self.expands_nothing(x).unwrap_or(false),
            "Tile" => {
                self.cx.opset >= 6
                    && self.entries(1).is_some_and(|repeats| repeats.iter().all(|r| *r == 1))
            }
            "Gather" => self.gathers_all(x).unwrap_or(false),
            "Slice" => self.slices_all(x).unwrap_or(false),
            "Resize" | "Upsample" => self.resizes_nothing(x).unwrap_or(false),
            "MaxPool" => self.pools_one(),
            "AveragePool" => {
                AveragePool::of(self.cx.graph, self.node).is_some_and(|p| !p.geometry.is_padded())
                    && self.pools_one()
            }
            "GlobalAveragePool" | "GlobalMaxPool" => self.cx.shapes.dims(x).is_some_and(|dims| {
                dims.len() > 2 && dims[2..].iter().all(|dim| *dim == Dim::Known(1))
            }),
            "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSum" => {
                self.reduces_nothing(x).unwrap_or(false)
            }
            _ => false,
        }
    }

    /// Whether the node has one operand.
    fn is_alone(&self) -> bool {
        self.cx.graph.operands(self.node).len() == 1
    }

    /// The only operand of a Concat that is not known to be empty.
    fn of_concat(&self) -> Option<ValueId> {
        let axis = self.known.int("axis")?;
        let operands = self.cx.graph.operands(self.node);
        let operands: Vec<ValueId> = operands.into_iter().collect::<Option<_>>()?;
        match filled(self.cx, &operands, axis)?[..] {
            [x] => Some(x),
            _ => None,
        }
    }

    fn of_where(&self) -> Option<ValueId> {
        let [Some(condition), Some(yes), Some(no)] = self.cx.graph.operands(self.node)[..] else {
            return None;
        };
        let x = if yes == no {
            yes
        } else {
            let chosen = self.cx.shapes.constant(self.cx.graph, condition)?.to_i64()?;
            match (chosen.iter().all(|c| *c != 0), chosen.iter().all(|c| *c == 0)) {
                (true, false) => yes,
                (false, true) => no,
                _ => return None,
            }
        };
        [condition, yes, no].iter().all(|own| *own == x || self.fits(*own, x)).then_some(x)
    }

    /// The first value in a run of reshaping nodes that has the dims of the result: the elements keep their order.
    fn of_views(&self) -> Option<ValueId> {
        let dims = self.cx.shapes.dims(self.y)?;
        let (mut node, mut found) = (self.node, None);
        for _ in 0..MAX_VIEWS {
            let x = self.cx.graph.operand(node, 0)?;
            if self.cx.shapes.dims(x).is_some_and(|own| is_same_view(own, dims)) {
                found = Some(x);
            }
            match self.cx.graph.producer(x) {
                Some((above, _)) if is_view(self.cx.graph.node(above)) => node = above,
                _ => break,
            }
        }
        found
    }

    fn of_negations(&self) -> Option<ValueId> {
        let between = self.cx.graph.operand(self.node, 0)?;
        let (above, _) = self.cx.graph.producer(between)?;
        let inner = self.cx.graph.node(above);
        let is_negation = inner.is("Neg") && !inner.has_reference_attribute();
        is_negation.then(|| self.cx.graph.operand(above, 0)).flatten()
    }

    fn pads_nothing(&self) -> Option<bool> {
        let pads = if self.cx.opset < 11 {
            self.known.ints("pads").or_else(|| self.known.ints("paddings"))?.to_vec()
        } else {
            self.entries(1)?
        };
        Some(pads.iter().all(|pad| *pad == 0))
    }

    fn casts_to_own(&self, x: ValueId) -> Option<bool> {
        let like = self.cx.graph.operand(self.node, 1)?;
        Some(like == x || self.cx.shapes.dtype(x)? == self.cx.shapes.dtype(like)?)
    }

    /// Whether this is a Clip of floats without any bound.
    fn is_open_clip(&self) -> bool {
        let x = self.cx.graph.operand(self.node, 0);
        let is_float =
            x.and_then(|x| self.cx.shapes.dtype(x)).is_some_and(DataType::is_foldable_float);
        let has_bound = self.known.has("min")
            || self.known.has("max")
            || (1..3).any(|slot| self.cx.graph.operand(self.node, slot).is_some());
        self.known.is("Clip") && is_float && !has_bound
    }

    /// Whether no number lies outside of the bounds. An absent bound is the largest or smallest finite number, so
    /// for floats it is no open bound.
    fn has_open_bounds(&self, x: ValueId) -> bool {
        let bound = |name: &str, slot: usize| {
            if self.cx.opset < 11 {
                return self.known.has(name).then(|| self.known.float(name).map(f64::from));
            }
            let value = self.cx.graph.operand(self.node, slot)?;
            Some(self.cx.constant(value).and_then(|tensor| tensor.scalar_f64()))
        };
        let (low, high) = (bound("min", 1), bound("max", 2));
        let is_integer = self.cx.shapes.dtype(x).is_some_and(DataType::is_integer);
        if is_integer {
            return low.is_none() && high.is_none();
        }
        low == Some(Some(f64::NEG_INFINITY)) && high == Some(Some(f64::INFINITY))
    }

    fn expands_nothing(&self, x: ValueId) -> Option<bool> {
        let dims = self.cx.shapes.dims(x)?;
        let target = self.cx.shapes.value(self.cx.graph.operand(self.node, 1)?)?;
        let missing = dims.len().checked_sub(target.len())?;
        let mut pairs = dims[missing..].iter().zip(target);
        Some(pairs.all(|(dim, entry)| entry.known() == Some(1) || is_equal(dim, &entry.to_dim())))
    }

    fn gathers_all(&self, x: ValueId) -> Option<bool> {
        let ty = self.cx.shapes.of(x)?;
        let axis = self.known.int("axis").unwrap_or(0);
        let size = ty.known_dim(axis)?;
        let indices = self.cx.constant(self.cx.graph.operand(self.node, 1)?)?;
        let is_row = indices.dims() == [size];
        Some(is_row && indices.to_i64()?.into_iter().eq(0..size as i64))
    }

    fn slices_all(&self, x: ValueId) -> Option<bool> {
        let dims = self.cx.shapes.dims(x)?;
        let slice = Slice::of(self.cx.graph, self.node, self.cx.opset, Some(dims.len()))?;
        let is_whole = |axis: usize| {
            // No dim is longer than a list can be.
            let size = dims[axis].known().map_or(i64::from(i32::MAX), |size| size as i64);
            slice.start[axis] == 0 && slice.step[axis] == 1 && slice.end[axis] >= size
        };
        Some((0..dims.len()).all(is_whole))
    }

    fn resizes_nothing(&self, x: ValueId) -> Option<bool> {
        let node = self.known;
        let places = node.string("coordinate_transformation_mode").unwrap_or("half_pixel");
        let keeps_places = matches!(
            places,
            "half_pixel"
                | "half_pixel_symmetric"
                | "asymmetric"
                | "align_corners"
                | "pytorch_half_pixel"
        );
        if !keeps_places || node.int("antialias").unwrap_or(0) != 0 {
            return Some(false);
        }
        let is_resize = node.is("Resize");
        let slot = if is_resize && self.cx.opset >= 11 { 2 } else { 1 };
        if let Some(scales) = node.floats("scales").filter(|_| !is_resize) {
            return Some(scales.iter().all(|scale| *scale == 1.0));
        }
        let scales = self.floats(slot).filter(|scales| !scales.is_empty());
        if let Some(scales) = scales {
            return Some(scales.iter().all(|scale| *scale == 1.0));
        }
        let sizes = self.entries(3).filter(|_| is_resize && !node.has("axes"))?;
        let dims = self.cx.shapes.known_dims(x)?;
        Some(sizes.iter().copied().eq(dims.iter().map(|dim| *dim as i64)))
    }

    /// Whether each window has one place.
    fn pools_one(&self) -> bool {
        let is_all = |name: &str, value: i64| {
            self.known.ints(name).is_none_or(|list| list.iter().all(|v| *v == value))
        };
        let is_window = self.known.ints("kernel_shape").is_some_and(|k| k.iter().all(|k| *k == 1));
        is_window && is_all("strides", 1) && is_all("pads", 0)
    }

    fn reduces_nothing(&self, x: ValueId) -> Option<bool> {
        let node = self.known;
        let dims = self.cx.shapes.dims(x)?;
        let axes = match self.cx.graph.operand(self.node, 1) {
            Some(axes) => Some(self.cx.constant(axes)?.to_i64()?),
            None => node.ints("axes").map(<[i64]>::to_vec),
        };
        if axes.as_ref().is_none_or(Vec::is_empty) && node.int("noop_with_empty_axes") == Some(1) {
            return Some(true);
        }
        let axes = axes.filter(|axes| !axes.is_empty())?;
        let ty = self.cx.shapes.of(x)?;
        let keeps = node.int("keepdims").unwrap_or(1) != 0;
        Some(keeps && !dims.is_empty() && axes.iter().all(|axis| ty.known_dim(*axis) == Some(1)))
    }

    fn floats(&self, slot: usize) -> Option<Vec<f64>> {
        self.cx.constant(self.cx.graph.operand(self.node, slot)?)?.to_f64()
    }

    fn entries(&self, slot: usize) -> Option<Vec<i64>> {
        let value = self.cx.graph.operand(self.node, slot)?;
        self.cx.shapes.constant(self.cx.graph, value)?.to_i64()
    }

    /// Whether a broadcast of `other` with `x` has the dims of `x`.
    fn fits(&self, other: ValueId, x: ValueId) -> bool {
        let (Some(own), Some(dims)) = (self.cx.shapes.dims(other), self.cx.shapes.dims(x)) else {
            return false;
        };
        let Some(missing) = dims.len().checked_sub(own.len()) else { return false };
        own.iter().zip(&dims[missing..]).all(|(a, b)| *a == Dim::Known(1) || is_equal(a, b))
    }
}

/// The operands of a Concat along `axis` that are not known to be empty; `None` if their other dims contradict
/// each other, so that no runtime takes the model.
pub(super) fn filled(cx: &Context<'_>, operands: &[ValueId], axis: i64) -> Option<Vec<ValueId>> {
    let rank = operands.iter().find_map(|value| cx.rank(*value))?;
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    let known = |value: ValueId, at: usize| cx.shapes.of(value)?.known_dim(at as i64);
    for at in (0..rank).filter(|at| *at as i64 != axis) {
        let mut sizes = operands.iter().filter_map(|value| known(*value, at));
        if let Some(first) = sizes.next()
            && sizes.any(|size| size != first)
        {
            return None;
        }
    }
    let is_empty =
        |value: &&ValueId| cx.shapes.of(**value).and_then(|ty| ty.known_dim(axis)) == Some(0);
    Some(operands.iter().filter(|value| !is_empty(value)).copied().collect())
}

/// Whether the node gives the same elements in the same order other dims.
pub(super) fn is_view(node: &Node) -> bool {
    ["Reshape", "Flatten", "Squeeze", "Unsqueeze"].iter().any(|op| node.is(op))
}

fn is_equal(a: &Dim, b: &Dim) -> bool {
    a == b && *a != Dim::Unknown
}

/// Whether two views of the same elements have the same dims. One dim may be open in the second: it follows from
/// the number of elements.
fn is_same_view(a: &[Dim], b: &[Dim]) -> bool {
    let mut open = a.iter().zip(b).filter(|(a, b)| !is_equal(a, b));
    let has_zero = || a.iter().any(|dim| *dim == Dim::Known(0));
    a.len() == b.len()
        && match (open.next(), open.next()) {
            (None, _) => true,
            (Some((_, b)), None) => b.known().is_none() && !has_zero(),
            _ => false,
        }
}
