//! Blocks without a shortcut: convolutions in a row, and inverted residuals that change the stride or the
//! channels.

use std::collections::{BTreeMap, BTreeSet};

use updp_ir::{NodeId, ValueId};

use super::element::activation_after;
use super::flow::{Flow, is_read_only_by};
use super::{Activation, Block, BlockKind, Element};
use crate::error::Declined;
use crate::lift::Linear;
use crate::rule::Context;

/// Largest number of convolutions in one chain block; longer runs are cut into pairs.
const LONGEST_CHAIN: usize = 3;

/// A convolution with the elements between it and the previous convolution.
#[derive(Clone)]
struct Link {
    /// The elements between the previous convolution and this one's operand.
    before: Vec<Element>,
    /// Whether an activation makes this one's operand.
    reads_activation: bool,
    unit: Linear,
}

/// Chains and inverted residuals from nodes that no block with a shortcut claims.
pub(super) fn find(cx: &Context<'_>, flow: &Flow, claimed: &BTreeSet<NodeId>) -> Vec<Block> {
    let mut blocks = Vec::new();
    for run in runs(cx, flow, claimed, Between::Plain) {
        for (kind, links) in cut(run) {
            blocks.push(block(cx, flow, kind, &links));
        }
    }
    // The convolutions of a gate form a run of their own, inside the block that holds the gate.
    let gates: BTreeSet<NodeId> = blocks
        .iter()
        .flat_map(|block| &block.branch)
        .filter(|element| matches!(element, Element::Closed(_)))
        .flat_map(Element::nodes)
        .collect();
    blocks.retain(|block| !gates.contains(&block.nodes[0]));
    blocks
}

/// Chains of the convolutions that are left, with pools or anything else between them. They are only fitted.
pub(super) fn find_over_pools(
    cx: &Context<'_>,
    flow: &Flow,
    claimed: &BTreeSet<NodeId>,
) -> Vec<Block> {
    let mut blocks = Vec::new();
    for run in runs(cx, flow, claimed, Between::Any) {
        for (kind, links) in pieces(run) {
            let mut found = block(cx, flow, kind, &links);
            let between = links[1..].iter().flat_map(|link| &link.before);
            let what = between.filter_map(|element| match element {
                Element::Pool(_) => Some("a pool"),
                Element::Slice(_) => Some("a slice"),
                Element::Pad(_) => Some("a padding"),
                _ => None,
            });
            let detail = what.map(|what| format!("it holds {what}")).next();
            found.fit_only = detail.map(|detail| Declined::new("not-affine", detail));
            blocks.push(found);
        }
    }
    blocks
}

/// What may lie between two convolutions of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    /// What exact surgery can make linear, and gates.
    Plain,
    /// Anything with one input and one output.
    Any,
}

/// Maximal runs of unclaimed convolutions, with only elements of one reader between them.
fn runs(
    cx: &Context<'_>,
    flow: &Flow,
    claimed: &BTreeSet<NodeId>,
    allowed: Between,
) -> Vec<Vec<Link>> {
    let mut runs: Vec<Vec<Link>> = Vec::new();
    let mut ends: BTreeMap<ValueId, usize> = BTreeMap::new();
    for node in flow.order() {
        let Some(unit) = Linear::at(cx, *node).filter(Linear::is_conv) else { continue };
        if claimed.contains(node) || !flow.is_data(unit.x) {
            continue;
        }
        let (start, before) = way_to_last(cx, flow, claimed, &unit, allowed);
        let y = unit.y;
        let at = start.and_then(|value| ends.remove(&value)).unwrap_or_else(|| {
            runs.push(Vec::new());
            runs.len() - 1
        });
        let reads_activation = before.iter().any(|element| !element.is_affine())
            || Activation::ending_in(cx, flow, unit.x).is_some();
        runs[at].push(Link { before, reads_activation, unit });
        ends.insert(y, at);
    }
    runs
}

/// The elements between a convolution and the result of the previous one, and that result.
fn way_to_last(
    cx: &Context<'_>,
    flow: &Flow,
    claimed: &BTreeSet<NodeId>,
    unit: &Linear,
    allowed: Between,
) -> (Option<ValueId>, Vec<Element>) {
    let mut before = Vec::new();
    let mut at = unit.x;
    let mut readers = unit.nodes.clone();
    loop {
        if !is_read_only_by(cx, at, |node| readers.contains(&node)) {
            return (None, Vec::new());
        }
        let Some(element) = Element::ending_in(cx, flow, at) else { return (None, Vec::new()) };
        if element.nodes().iter().any(|node| claimed.contains(node)) {
            return (None, Vec::new());
        }
        match &element {
            Element::Linear(last) if last.is_conv() => {
                before.reverse();
                return (Some(at), before);
            }
            Element::Linear(_) => return (None, Vec::new()),
            _ if allowed == Between::Any => {}
            // A gate keeps the run together.
            Element::Closed(closed) if !closed.is_gate => return (None, Vec::new()),
            Element::Pool(_) | Element::Slice(_) | Element::Pad(_) => return (None, Vec::new()),
            _ => {}
        }
        readers = element.nodes();
        at = element.x();
        before.push(element);
    }
}

fn is_activated(link: &Link) -> bool {
    link.before.iter().any(|element| !element.is_affine())
}

/// Cuts a run into inverted residuals (linear at their end) and chains.
fn cut(run: Vec<Link>) -> Vec<(BlockKind, Vec<Link>)> {
    let mut blocks = Vec::new();
    let mut open: Vec<Link> = Vec::new();
    let mut links = run.into_iter().peekable();
    while let Some(link) = links.next() {
        open.push(link);
        // The end is linear if nothing nonlinear follows before the next convolution. For the last link,
        // the graph decides.
        let is_linear_end = links.peek().is_none_or(|next| !is_activated(next));
        if is_linear_end && let Some(length) = inverted_length(&open) {
            let tail = open.split_off(open.len() - length);
            blocks.extend(chains(std::mem::take(&mut open)));
            blocks.push((BlockKind::InvertedResidual, tail));
        }
    }
    blocks.extend(chains(open));
    blocks
}

/// The number of links at the end that make an inverted residual: pointwise, depthwise, pointwise, or only the
/// last two of them.
fn inverted_length(open: &[Link]) -> Option<usize> {
    let [.., dw, last] = open else { return None };
    if !last.unit.is_pointwise() || !dw.unit.is_depthwise() || !is_activated(last) {
        return None;
    }
    let has_expansion = open.len() > 2 && is_activated(dw) && is_expansion(&open[open.len() - 3]);
    Some(if has_expansion { 3 } else { 2 })
}

/// Whether a pointwise convolution starts an inverted residual: it widens, or it reads the linear end of another block. A
/// thinned expansion may be narrower than what it reads.
fn is_expansion(link: &Link) -> bool {
    let unit = &link.unit;
    unit.is_pointwise() && (unit.out_channels > unit.in_channels || !link.reads_activation)
}

/// Chain blocks of two or three convolutions; a single convolution is no block. A convolution with a stride
/// starts a block, unless that would leave every convolution alone.
fn chains(links: Vec<Link>) -> Vec<(BlockKind, Vec<Link>)> {
    let mut stages: Vec<Vec<Link>> = Vec::new();
    for link in &links {
        let is_strided = link.unit.geometry.is_strided();
        match stages.last_mut().filter(|_| !is_strided) {
            Some(stage) => stage.push(link.clone()),
            None => stages.push(vec![link.clone()]),
        }
    }
    if stages.iter().all(|stage| stage.len() == 1) {
        stages = vec![links];
    }
    stages.into_iter().flat_map(pieces).collect()
}

/// Cuts a stage into pieces of two or three.
fn pieces(mut rest: Vec<Link>) -> Vec<(BlockKind, Vec<Link>)> {
    let mut blocks = Vec::new();
    while rest.len() > 1 {
        let length = if rest.len() <= LONGEST_CHAIN { rest.len() } else { 2 };
        let tail = rest.split_off(length);
        blocks.push((BlockKind::Chain, rest));
        rest = tail;
    }
    blocks
}

fn block(cx: &Context<'_>, flow: &Flow, kind: BlockKind, links: &[Link]) -> Block {
    let mut branch: Vec<Element> = Vec::new();
    for (at, link) in links.iter().enumerate() {
        if at > 0 {
            branch.extend(link.before.iter().cloned());
        }
        branch.push(Element::Linear(link.unit.clone()));
    }
    let source = links[0].unit.x;
    let last = links[links.len() - 1].unit.y;
    let (body, end) = ending(cx, flow, &mut branch, last);
    // An inverted residual is linear at its end by definition.
    let kind =
        if end.is_some() && kind == BlockKind::InvertedResidual { BlockKind::Chain } else { kind };
    let result = end.as_ref().map_or(body, |end| end.y);
    let mut nodes: Vec<NodeId> = branch.iter().flat_map(Element::nodes).collect();
    nodes.extend(end.iter().flat_map(|end| end.nodes.iter().copied()));
    Block {
        index: 0,
        kind,
        name: String::new(),
        source,
        branch_source: source,
        result,
        end,
        attention: None,
        is_half: false,
        nodes,
        refusal: None,
        fit_only: None,
        branch,
        shortcut: None,
    }
}

/// Adds the affines behind the last convolution to the branch; returns its end and the activation there.
fn ending(
    cx: &Context<'_>,
    flow: &Flow,
    branch: &mut Vec<Element>,
    last: ValueId,
) -> (ValueId, Option<Activation>) {
    let mut body = last;
    while let Some(user) = cx.graph.sole_use(body)
        && let Some(affine) = crate::lift::ChannelAffine::at(cx, user.node)
    {
        body = affine.y;
        branch.push(Element::Affine(affine));
    }
    (body, activation_after(cx, flow, body))
}
