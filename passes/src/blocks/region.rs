//! Regions of no family: nodes between a value that forks and the value in which the ways join again.
//!
//! A region opens at the last value that every path to the join passes (its dominator), and nothing inside is read
//! outside. The weighted operator in front of the fork belongs to it, and the one behind the join, if no other fork
//! follows it. So the stages of Inception, `SqueezeNet`, CSP networks and spatial pyramids are regions.

use std::collections::BTreeSet;

use updp_ir::{NodeId, ValueId};

use super::element::{activation_after, describe};
use super::flow::Flow;
use super::{Block, BlockKind, Closed, Element};
use crate::error::Declined;
use crate::rule::Context;

/// Regions whose nodes no block has, in topological order.
pub(super) fn find(cx: &Context<'_>, flow: &Flow, claimed: &BTreeSet<NodeId>) -> Vec<Block> {
    let weighted = |nodes: &[NodeId]| nodes.iter().filter(|node| is_weighted(cx, **node)).count();
    let most = weighted(flow.order()) / 2;
    let mut claimed = claimed.clone();
    let mut blocks = Vec::new();
    for join in flow.order() {
        let operands = flow.data_operands(cx, *join);
        let Some(result) = cx.graph.sole_result(*join).filter(|_| operands.len() > 1) else {
            continue;
        };
        let Some(source) = flow.dominator(result) else { continue };
        let region = Region { source, result, nodes: flow.between(cx, source, result) };
        let count = weighted(&region.nodes);
        if count < 2 || count > most || !region.is_free(cx, flow, &claimed) {
            continue;
        }
        let region = region.with_first(cx, flow, &claimed).with_last(cx, flow, &claimed);
        let block = region.block(cx, flow);
        claimed.extend(block.nodes.iter().copied());
        blocks.push(block);
    }
    blocks
}

/// Nodes from one value to another.
struct Region {
    source: ValueId,
    result: ValueId,
    nodes: Vec<NodeId>,
}

impl Region {
    /// Whether no block has one of its nodes and nothing else reads what is inside.
    fn is_free(&self, cx: &Context<'_>, flow: &Flow, claimed: &BTreeSet<NodeId>) -> bool {
        !self.nodes.is_empty()
            && self.nodes.iter().all(|node| !claimed.contains(node))
            && flow.leak(cx, &self.nodes, self.result).is_none()
    }

    /// With the weighted operator in front of the fork.
    fn with_first(self, cx: &Context<'_>, flow: &Flow, claimed: &BTreeSet<NodeId>) -> Self {
        let mut at = self.source;
        while let Some(element) = Element::ending_in(cx, flow, at) {
            let wider = Self {
                source: element.x(),
                result: self.result,
                nodes: flow.between(cx, element.x(), self.result),
            };
            let is_simple =
                matches!(element, Element::Linear(_) | Element::Affine(_) | Element::Activation(_));
            if !is_simple || !wider.is_free(cx, flow, claimed) {
                break;
            }
            if element.linear().is_some() {
                return wider;
            }
            at = element.x();
        }
        self
    }

    /// With the weighted operator behind the join.
    fn with_last(self, cx: &Context<'_>, flow: &Flow, claimed: &BTreeSet<NodeId>) -> Self {
        let Some(user) = cx.graph.sole_use(self.result) else { return self };
        let Some(result) = cx.graph.sole_result(user.node).filter(|_| is_weighted(cx, user.node))
        else {
            return self;
        };
        let wider =
            Self { source: self.source, result, nodes: flow.between(cx, self.source, result) };
        let end = activation_after(cx, flow, result).map_or(result, |end| end.y);
        let is_fork = cx.graph.users(end).len() > 1;
        let is_whole = flow.data_operands(cx, user.node) == [self.result];
        if is_fork || !is_whole || !wider.is_free(cx, flow, claimed) { self } else { wider }
    }

    fn block(self, cx: &Context<'_>, flow: &Flow) -> Block {
        let Self { source, result: y, nodes } = self;
        let end = activation_after(cx, flow, y);
        let result = end.as_ref().map_or(y, |end| end.y);
        let (what, _) = describe(cx, &nodes);
        let fit_only = Some(Declined::new("unknown-form", format!("it holds {what}")));
        let branch = vec![Element::Closed(Closed {
            x: source,
            y,
            nodes: nodes.clone(),
            what,
            is_gate: false,
        })];
        let of_end = end.iter().flat_map(|end| end.nodes.iter().copied());
        let nodes = nodes.into_iter().chain(of_end).collect();
        Block {
            index: 0,
            kind: BlockKind::Other,
            name: String::new(),
            source,
            result,
            branch,
            branch_source: source,
            shortcut: None,
            end,
            attention: None,
            is_half: false,
            nodes,
            refusal: None,
            fit_only,
        }
    }
}

/// Whether a node is a weighted operator, in any domain.
pub(super) fn is_weighted(cx: &Context<'_>, node: NodeId) -> bool {
    matches!(
        cx.graph.node(node).op_type(),
        "Conv" | "FusedConv" | "ConvTranspose" | "MatMul" | "Gemm" | "FusedMatMul" | "FusedGemm"
    )
}
