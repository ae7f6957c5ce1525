//! The flow of data through a graph: which values carry data, and which values dominate others.
//!
//! A value carries data when it depends on a graph input through floating-point values. A value computed
//! from shapes alone carries none, so an exporter's shape arithmetic joins no two places of a network.

use std::collections::{BTreeMap, BTreeSet};

use updp_ir::{DataType, IrError, NodeId, ValueId, order};

use crate::rule::Context;

/// Data values of a graph with their immediate dominators.
#[derive(Debug)]
pub struct Flow {
    order: Vec<NodeId>,
    place: BTreeMap<NodeId, usize>,
    /// Immediate dominator and depth; no dominator = only the entry of the graph.
    dominators: BTreeMap<ValueId, (Option<ValueId>, usize)>,
}

impl Flow {
    /// Follows the data from the graph's inputs.
    ///
    /// # Errors
    /// I0105 when the graph has a cycle.
    pub fn of(cx: &Context<'_>) -> Result<Self, IrError> {
        let graph = cx.graph;
        let order = order::topological(graph)?;
        let place = order.iter().enumerate().map(|(at, node)| (*node, at)).collect();
        let mut flow = Self { order, place, dominators: BTreeMap::new() };
        for input in graph.required_inputs() {
            flow.dominators.insert(input, (None, 0));
        }
        for at in 0..flow.order.len() {
            let node = flow.order[at];
            if matches!(graph.node(node).op_type(), "Shape" | "Size") {
                continue;
            }
            let operands = flow.data_operands(cx, node);
            let Some((first, rest)) = operands.split_first() else { continue };
            let mut dominator = Some(*first);
            for operand in rest {
                dominator = dominator.and_then(|known| flow.common(known, *operand));
            }
            let depth = dominator.map_or(0, |value| flow.dominators[&value].1 + 1);
            for result in graph.results(node).into_iter().flatten() {
                let is_index = matches!(
                    cx.shapes.dtype(result),
                    Some(DataType::Int64 | DataType::Int32 | DataType::Bool)
                );
                if !is_index {
                    flow.dominators.insert(result, (dominator, depth));
                }
            }
        }
        Ok(flow)
    }

    /// Whether the value carries data.
    #[must_use]
    pub fn is_data(&self, value: ValueId) -> bool {
        self.dominators.contains_key(&value)
    }

    /// The nodes in topological order.
    #[must_use]
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// The place of a node in the topological order.
    #[must_use]
    pub fn place(&self, node: NodeId) -> usize {
        self.place.get(&node).copied().unwrap_or(usize::MAX)
    }

    /// Data operands of a node, each once, in slot order.
    #[must_use]
    pub fn data_operands(&self, cx: &Context<'_>, node: NodeId) -> Vec<ValueId> {
        let mut operands = Vec::new();
        let read = cx.graph.operands(node).into_iter().flatten().chain(cx.graph.captures(node));
        for value in read {
            if self.is_data(value) && !operands.contains(&value) {
                operands.push(value);
            }
        }
        operands
    }

    /// The last value that every path to `value` passes; `None` at the graph's entry.
    #[must_use]
    pub fn dominator(&self, value: ValueId) -> Option<ValueId> {
        self.dominators.get(&value)?.0
    }

    /// The last value that every path to `a` and to `b` passes (one of the two, if it dominates the
    /// other).
    #[must_use]
    pub fn common(&self, a: ValueId, b: ValueId) -> Option<ValueId> {
        let (mut a, mut b) = (a, b);
        while a != b {
            let (of_a, of_b) = (self.dominators.get(&a)?, self.dominators.get(&b)?);
            if of_a.1 >= of_b.1 { a = of_a.0? } else { b = of_b.0? }
        }
        Some(a)
    }

    /// The nodes on the paths from `source` to `result`, in topological order; empty if `source` does
    /// not dominate `result`.
    #[must_use]
    pub fn between(&self, cx: &Context<'_>, source: ValueId, result: ValueId) -> Vec<NodeId> {
        let mut nodes = BTreeSet::new();
        let mut pending = vec![result];
        while let Some(value) = pending.pop() {
            if value == source {
                continue;
            }
            let Some((node, _)) = cx.graph.producer(value) else { return Vec::new() };
            if nodes.insert((self.place(node), node)) {
                pending.extend(self.data_operands(cx, node));
            }
        }
        nodes.into_iter().map(|(_, node)| node).collect()
    }

    /// The first value made by `nodes`, except `result`, that a node outside them reads.
    #[must_use]
    pub fn leak(&self, cx: &Context<'_>, nodes: &[NodeId], result: ValueId) -> Option<ValueId> {
        let inside: BTreeSet<NodeId> = nodes.iter().copied().collect();
        let made = nodes.iter().flat_map(|node| cx.graph.results(*node)).flatten();
        made.filter(|value| *value != result && self.is_data(*value))
            .find(|value| !is_read_only_by(cx, *value, |node| inside.contains(&node)))
    }
}

/// Whether every node that reads a value `is_inside`. Any node may read its shape.
#[must_use]
pub fn is_read_only_by(
    cx: &Context<'_>,
    value: ValueId,
    is_inside: impl Fn(NodeId) -> bool,
) -> bool {
    !cx.graph.outputs().any(|output| output == value)
        && !cx.graph.is_captured(value)
        && cx
            .graph
            .users(value)
            .into_iter()
            .all(|user| is_inside(user.node) || cx.graph.node(user.node).is("Shape"))
}
