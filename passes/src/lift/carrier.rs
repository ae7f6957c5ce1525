//! Operators that a per-channel affine may move across: `f(a ⊙ x + c) = a ⊙ f(x) + c`.
//!
//! | operator | condition |
//! |---|---|
//! | Transpose | none: the axis moves with it |
//! | Reshape, Flatten, Squeeze, Unsqueeze | an axis of the same length, with as many elements behind it, stands on both sides; none for one number |
//! | AveragePool, GlobalAveragePool, ReduceMean | the axis is not averaged; where zeros of the padding count in the mean, or the size is rounded up, there is no summand |
//! | MaxPool, GlobalMaxPool | the axis is not pooled; every factor is positive |
//! | Resize and Upsample, nearest or linear | the axis keeps its length; no crop, no antialiasing |
//! | Pad by reflection, edge or wrapping; Slice | the axis is not touched |

use updp_ir::view::{AveragePool, Slice, Transpose};
use updp_ir::{Dim, NodeId, ValueId};

use crate::rule::Context;

/// What a carrier asks of the affine that moves across it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    Nothing,
    /// Every factor is positive: a maximum stays a maximum.
    PositiveScale,
    /// Nothing is added: zeros that count in a mean do not take the summand.
    NoShift,
}

/// An operator that an affine may move across.
#[derive(Clone, Copy, Debug)]
pub struct Carrier {
    /// The node.
    pub node: NodeId,
    /// The operand that carries the data.
    pub x: ValueId,
    /// The result.
    pub y: ValueId,
    /// The axis of the channels on the other side; `None` if one number serves every element.
    pub axis: Option<usize>,
    /// What it asks of the affine.
    pub demand: Demand,
}

/// The side on which the axis is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Operand,
    Result,
}

impl Carrier {
    /// Reads a node behind which an affine acts along `axis` of the result; gives the axis of the operand.
    #[must_use]
    pub fn above(cx: &Context<'_>, node: NodeId, axis: Option<usize>) -> Option<Self> {
        Self::at(cx, node, axis, Side::Result)
    }

    /// Reads a node in front of which an affine acts along `axis` of the operand; gives the axis of the result.
    #[must_use]
    pub fn below(cx: &Context<'_>, node: NodeId, axis: Option<usize>) -> Option<Self> {
        Self::at(cx, node, axis, Side::Operand)
    }

    fn at(cx: &Context<'_>, node: NodeId, axis: Option<usize>, side: Side) -> Option<Self> {
        let known = cx.graph.get_node(node)?;
        if !known.domain().is_empty() || known.has_reference_attribute() {
            return None;
        }
        let x = cx.graph.operand(node, 0)?;
        let y = cx.graph.sole_result(node)?;
        let site = Site { cx, node, x, y, side };
        let (axis, demand) = match known.op_type() {
            "Transpose" => (site.transposed(axis)?, Demand::Nothing),
            "Reshape" | "Flatten" => (site.reshaped(axis)?, Demand::Nothing),
            "Squeeze" | "Unsqueeze" => (site.squeezed(axis)?, Demand::Nothing),
            "AveragePool" => (spared(axis)?, site.mean_demand()),
            "GlobalAveragePool" => (spared(axis)?, Demand::Nothing),
            "ReduceMean" => (site.reduced(axis)?, Demand::Nothing),
            "MaxPool" | "GlobalMaxPool" => (spared(axis)?, Demand::PositiveScale),
            "Resize" | "Upsample" => (site.resized(axis)?, Demand::Nothing),
            "Pad" => (site.padded(axis)?, Demand::Nothing),
            "Slice" => (site.sliced(axis)?, Demand::Nothing),
            _ => return None,
        };
        Some(Self { node, x, y, axis, demand })
    }
}

/// The axis, if a window over the spatial dims leaves it alone.
#[expect(clippy::option_option, reason = "no axis and no carrier are different answers")]
fn spared(axis: Option<usize>) -> Option<Option<usize>> {
    axis.is_none_or(|axis| axis <= 1).then_some(axis)
}

struct Site<'a, 'b> {
    cx: &'a Context<'b>,
    node: NodeId,
    x: ValueId,
    y: ValueId,
    side: Side,
}

#[expect(clippy::option_option, reason = "no axis and no carrier are different answers")]
impl Site<'_, '_> {
    fn transposed(&self, axis: Option<usize>) -> Option<Option<usize>> {
        let view = Transpose::of(self.cx.graph, self.node, self.cx.rank(self.x))?;
        let Some(axis) = axis else { return Some(None) };
        match self.side {
            Side::Operand => view.result_axis(axis).map(Some),
            Side::Result => view.perm.get(axis).copied().map(Some),
        }
    }

    /// The axis of the same length on the other side with as many elements behind it. The channel of an element
    /// is its place divided by that number, modulo the length.
    fn reshaped(&self, axis: Option<usize>) -> Option<Option<usize>> {
        let Some(axis) = axis else { return Some(None) };
        let (here, there) = match self.side {
            Side::Operand => (self.x, self.y),
            Side::Result => (self.y, self.x),
        };
        let (here, there) = (self.cx.shapes.dims(here)?, self.cx.shapes.dims(there)?);
        let channels = here.get(axis)?.known().filter(|channels| *channels > 0)?;
        let behind = Product::of(&here[axis + 1..])?;
        let found = (0..there.len()).find(|at| {
            there[*at].known() == Some(channels)
                && Product::of(&there[at + 1..]).is_some_and(|own| own == behind)
        });
        found.map(Some)
    }

    /// As [`Self::reshaped`]; without sizes where the axes are known.
    fn squeezed(&self, axis: Option<usize>) -> Option<Option<usize>> {
        let Some(axis) = axis else { return Some(None) };
        let is_squeeze = self.cx.graph.node(self.node).is("Squeeze");
        let long = if is_squeeze { self.x } else { self.y };
        let (Some(axes), Some(rank)) = (self.axes(), self.cx.rank(long)) else {
            return self.reshaped(Some(axis));
        };
        let mut is_removed = vec![false; rank];
        for own in axes {
            let own = if own < 0 { own + rank as i64 } else { own };
            *is_removed.get_mut(usize::try_from(own).ok()?)? = true;
        }
        let is_on_long_side = is_squeeze == (self.side == Side::Operand);
        if is_on_long_side {
            // A removed axis has one element, so its one number serves none of those that stay.
            let stays = !*is_removed.get(axis)?;
            return stays.then(|| Some(is_removed[..axis].iter().filter(|gone| !**gone).count()));
        }
        let mut kept = (0..rank).filter(|at| !is_removed[*at]);
        kept.nth(axis).map(Some)
    }

    /// The axes that the node names, as an attribute or as a constant operand.
    fn axes(&self) -> Option<Vec<i64>> {
        match self.cx.graph.operand(self.node, 1) {
            Some(axes) => self.cx.constant(axes)?.to_i64(),
            None => self.cx.graph.node(self.node).ints("axes").map(<[i64]>::to_vec),
        }
    }

    /// The weights of every window add up to 1, except where zeros of the padding count or a runtime may count
    /// places behind the end.
    fn mean_demand(&self) -> Demand {
        let node = self.cx.graph.node(self.node);
        let is_zero = |name: &str| node.int(name).unwrap_or(0) == 0;
        let counts_no_zeros = self.cx.opset >= 7 && is_zero("count_include_pad");
        let is_unpadded =
            || AveragePool::of(self.cx.graph, self.node).is_some_and(|p| !p.geometry.is_padded());
        if is_zero("ceil_mode") && (counts_no_zeros || is_unpadded()) {
            Demand::Nothing
        } else {
            Demand::NoShift
        }
    }

    fn reduced(&self, axis: Option<usize>) -> Option<Option<usize>> {
        let Some(axis) = axis else { return Some(None) };
        let rank = self.cx.rank(self.x)?;
        let keeps = self.cx.graph.node(self.node).int("keepdims").unwrap_or(1) != 0;
        let mut is_reduced = vec![false; rank];
        for own in self.axes().filter(|axes| !axes.is_empty())? {
            let own = if own < 0 { own + rank as i64 } else { own };
            *is_reduced.get_mut(usize::try_from(own).ok()?)? = true;
        }
        let mut kept = (0..rank).filter(|at| !is_reduced[*at]);
        match (self.side, keeps) {
            (_, true) => (!*is_reduced.get(axis)?).then_some(Some(axis)),
            (Side::Operand, false) => kept.position(|at| at == axis).map(Some),
            (Side::Result, false) => kept.nth(axis).map(Some),
        }
    }

    fn resized(&self, axis: Option<usize>) -> Option<Option<usize>> {
        let graph = self.cx.graph;
        let node = graph.node(self.node);
        let is_known_mode = matches!(node.string("mode"), None | Some("nearest" | "linear"));
        let is_crop = node.string("coordinate_transformation_mode") == Some("tf_crop_and_resize");
        if !is_known_mode || is_crop || node.int("antialias").unwrap_or(0) != 0 {
            return None;
        }
        let Some(axis) = axis else { return Some(None) };
        if node.has("axes") {
            return None;
        }
        let slot = if node.is("Resize") && self.cx.opset >= 11 { 2 } else { 1 };
        let given = graph.operand(self.node, slot).and_then(|scales| self.cx.constant(scales));
        let keeps_length = match given.filter(|scales| !scales.is_empty()) {
            Some(scales) => scales.to_f64()?.get(axis) == Some(&1.0),
            None => match node.floats("scales").filter(|_| node.is("Upsample")) {
                Some(scales) => scales.get(axis) == Some(&1.0),
                None => {
                    let policy = node.string("keep_aspect_ratio_policy");
                    let (x, y) = (self.cx.shapes.of(self.x)?, self.cx.shapes.of(self.y)?);
                    let (old, new) = (x.known_dim(axis as i64)?, y.known_dim(axis as i64)?);
                    graph.operand(self.node, 3).is_some()
                        && old == new
                        && matches!(policy, None | Some("stretch"))
                }
            },
        };
        keeps_length.then_some(Some(axis))
    }

    fn padded(&self, axis: Option<usize>) -> Option<Option<usize>> {
        let node = self.cx.graph.node(self.node);
        if !matches!(node.string("mode"), Some("reflect" | "edge" | "wrap")) {
            return None;
        }
        let Some(axis) = axis else { return Some(None) };
        let rank = self.cx.rank(self.x)?;
        let pads = match self.cx.graph.operand(self.node, 1) {
            Some(pads) => self.cx.constant(pads)?.to_i64()?,
            None => node.ints("pads")?.to_vec(),
        };
        let is_plain = pads.len() == 2 * rank && self.cx.graph.operand(self.node, 3).is_none();
        (is_plain && axis < rank && pads[axis] == 0 && pads[rank + axis] == 0).then_some(Some(axis))
    }

    fn sliced(&self, axis: Option<usize>) -> Option<Option<usize>> {
        let Some(axis) = axis else { return Some(None) };
        let slice = Slice::of(self.cx.graph, self.node, self.cx.opset, self.cx.rank(self.x))?;
        let size = self.cx.shapes.of(self.x)?.known_dim(axis as i64)?;
        let is_whole = *slice.start.get(axis)? == 0
            && slice.step[axis] == 1
            && usize::try_from(slice.end[axis]).is_ok_and(|end| end >= size);
        is_whole.then_some(Some(axis))
    }
}

/// A product of dims in which equal symbols are equal factors.
#[derive(PartialEq, Eq)]
struct Product<'a> {
    known: usize,
    symbols: Vec<&'a str>,
}

impl<'a> Product<'a> {
    /// The product; `None` if a dim is unknown or zero, or if it is too large.
    fn of(dims: &'a [Dim]) -> Option<Self> {
        let mut product = Self { known: 1, symbols: vec![] };
        for dim in dims {
            match dim {
                Dim::Known(size) if *size > 0 => {
                    product.known = product.known.checked_mul(*size)?
                }
                Dim::Symbol(name) => product.symbols.push(name),
                Dim::Known(_) | Dim::Unknown => return None,
            }
        }
        product.symbols.sort_unstable();
        Some(product)
    }
}
