//! Attention heads as hidden channels, which leave head by head.
//!
//! The last operator of an attention branch reads `H·d` channels: `d` of each of the `H` heads, side by side. Between it and
//! the operators that make q, k and v, a head never meets another one. So a head leaves with its rows of these operators, and
//! what stays computes the same as before. A walk from the last operator back to them says where each value has its heads:
//! a dim of size `b·H·a` with the heads in the middle. A dim of `3·H·d` holds q, k and v in a row.

mod remover;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use updp_ir::{DataType, Dim, NodeId, ValueId};

use self::remover::Remover;
use self::walk::Walk;
use super::thin::{Tail, axis_of, check_readers, wrong};
use crate::error::Declined;
use crate::lift::Linear;
use crate::patch::Patch;
use crate::rule::Context;

/// Where a value has its heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The dim of size `b·H·after`.
    axis: usize,
    /// Neighbouring entries that belong to one head.
    after: usize,
}

impl Place {
    fn on(self, axis: usize) -> Self {
        Self { axis, ..self }
    }
}

/// What changes when heads leave.
enum Edit {
    /// A dense operator loses rows.
    Rows { unit: Box<Linear>, after: usize },
    /// A node reads a constant with fewer entries on an axis.
    Constant { node: NodeId, slot: usize, place: Place },
    /// Integers of a constant shrink with the number of heads.
    Sizes { node: NodeId, slot: usize, entries: Vec<usize> },
    /// A `Reshape` whose sizes are computed gets constants in their place, of which one shrinks.
    Dims { node: NodeId, dims: Vec<i64>, entry: usize },
    /// A `Reshape` whose sizes are put together gets a constant in the place of one part, which shrinks.
    Part { node: NodeId, slot: usize, size: i64 },
    /// Attributes that hold the number of heads.
    Counts { node: NodeId, names: &'static [&'static str] },
}

/// The attention heads that the last operator of a branch reads.
pub(super) struct Heads {
    /// Number of heads.
    count: usize,
    /// Channels of a head.
    size: usize,
    places: BTreeMap<ValueId, Place>,
    edits: Vec<Edit>,
}

impl Heads {
    /// The heads that the last operator reads; `None` if it reads none.
    ///
    /// # Errors
    /// `one-head`, `read-outside`, and `heads` when an operator between mixes the heads or is not followed.
    pub(super) fn of(cx: &Context<'_>, tail: &Tail) -> Result<Option<Self>, Declined> {
        let Some((count, size)) = heads_of(cx, &tail.last) else { return Ok(None) };
        if count < 2 {
            return Err(Declined::new("one-head", "its attention has one head"));
        }
        let start = (tail.last.x, Place { axis: axis_of(&tail.last), after: size });
        let mut walk = Walk::new(cx, count);
        walk.pending.push(start);
        walk.run()?;
        let Walk { places, edits, nodes, .. } = walk;
        let heads = Self { count, size, places, edits };
        let mut nodes: BTreeSet<NodeId> = nodes.into_iter().chain(tail.nodes()).collect();
        nodes.extend(heads.unread_shapes(cx));
        let values = heads.inner(cx).into_iter().chain(tail.inner(cx));
        check_readers(cx, values, &nodes)?;
        Ok(Some(heads))
    }

    /// Channels of a head.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The values that lose entries.
    pub(super) fn inner(&self, cx: &Context<'_>) -> Vec<ValueId> {
        let products = self.edits.iter().filter_map(|edit| match edit {
            Edit::Rows { unit, .. } => Some(unit.nodes.iter().copied()),
            _ => None,
        });
        let products = products.flatten().flat_map(|node| cx.graph.results(node)).flatten();
        let all: BTreeSet<ValueId> = self.places.keys().copied().chain(products).collect();
        all.into_iter().collect()
    }

    /// The `Shape` nodes of values with heads that nothing needs any more, because what is made of them are the sizes that
    /// constants replace.
    fn unread_shapes(&self, cx: &Context<'_>) -> Vec<NodeId> {
        let replaced: BTreeSet<NodeId> = self
            .edits
            .iter()
            .filter_map(|edit| if let Edit::Dims { node, .. } = edit { Some(*node) } else { None })
            .collect();
        let is_unread = |shape: &NodeId| {
            let mut pending = vec![*shape];
            let mut seen = BTreeSet::new();
            while let Some(node) = pending.pop() {
                if replaced.contains(&node) || !seen.insert(node) {
                    continue;
                }
                let is_integers = |value: &ValueId| {
                    cx.shapes.of(*value).is_some_and(|ty| ty.dtype == DataType::Int64)
                };
                let results: Vec<ValueId> = cx.graph.results(node).into_iter().flatten().collect();
                let is_end = |value: &ValueId| {
                    cx.graph.outputs().any(|output| output == *value)
                        || cx.graph.is_captured(*value)
                };
                if !results.iter().all(is_integers) || results.iter().any(is_end) {
                    return false;
                }
                let users = results.iter().flat_map(|value| cx.graph.users(*value));
                pending.extend(users.map(|user| user.node));
            }
            true
        };
        let users = self.places.keys().flat_map(|value| cx.graph.users(*value));
        let shapes = users.map(|user| user.node).filter(|node| cx.graph.node(*node).is("Shape"));
        shapes.filter(is_unread).collect()
    }

    /// Plans everything before the last operator with the channels `kept` of whole heads.
    pub(super) fn plan(&self, cx: &Context<'_>, kept: &[usize]) -> Result<Patch, Declined> {
        let heads: Vec<usize> = kept.iter().step_by(self.size).map(|at| at / self.size).collect();
        let mut remover = Remover { cx, patch: Patch::new(), count: self.count, heads };
        if !remover.entries(self.count * self.size, self.size).eq(kept.iter().copied()) {
            return Err(wrong("the channels that stay are not those of whole heads"));
        }
        for edit in &self.edits {
            remover.apply(edit)?;
        }
        Ok(remover.patch)
    }
}

/// Number and size of the heads that an operator reads: its channels come from a dim of heads and a dim of their channels.
fn heads_of(cx: &Context<'_>, last: &Linear) -> Option<(usize, usize)> {
    let (mut value, mut axis) = (last.x, axis_of(last));
    for _ in 0..8 {
        let (id, _) = cx.graph.producer(value)?;
        let (node, x) = (cx.graph.node(id), cx.graph.operand(id, 0)?);
        match node.op_type() {
            "Transpose" => axis = permutation(cx, id)?.get(axis).copied()?,
            "Identity" | "Cast" | "Dropout" => {}
            "Reshape" => {
                let (from, to) = (cx.shapes.dims(x)?, cx.shapes.dims(value)?);
                let behind = known_product(to.get(axis + 1..)?)?;
                return (1..from.len()).rev().find_map(|at| {
                    let (heads, size) = (from[at - 1].known()?, from[at].known()?);
                    let is_here = known_product(&from[at + 1..])? == behind;
                    (is_here && heads * size == last.in_channels).then_some((heads, size))
                });
            }
            "Attention" | "MultiHeadAttention" => {
                let heads = node.int("q_num_heads").or_else(|| node.int("num_heads"))?;
                let heads = usize::try_from(heads).ok().filter(|heads| *heads > 0)?;
                return Some((heads, last.in_channels / heads));
            }
            _ => return None,
        }
        value = x;
    }
    None
}

/// The product of dims, if all are known.
fn known_product(dims: &[Dim]) -> Option<usize> {
    dims.iter().map(Dim::known).product()
}

/// The axes of the operand in the order of the result.
fn permutation(cx: &Context<'_>, node: NodeId) -> Option<Vec<usize>> {
    let rank = cx.rank(cx.graph.operand(node, 0)?);
    updp_ir::view::Transpose::of(cx.graph, node, rank).map(|transpose| transpose.perm)
}

/// The integers of a constant operand.
fn integers(cx: &Context<'_>, node: NodeId, slot: usize) -> Option<Vec<i64>> {
    cx.constant(cx.graph.operand(node, slot)?)?.to_i64()
}

/// An axis of a node, counted from the front.
fn from_front(axis: i64, rank: usize) -> Option<usize> {
    usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok().filter(|at| *at < rank)
}
