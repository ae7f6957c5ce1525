//! Blocks with a shortcut: regions closed by a sum of two data values.

use std::collections::BTreeSet;

use updp_ir::view::{Binary, BinaryOp};
use updp_ir::{NodeId, ValueId};

use super::element::{activation_after, walk};
use super::flow::Flow;
use super::{AttentionHalf, Block, BlockKind, Closed, Element, Norm};
use crate::error::Declined;
use crate::lift::Linear;
use crate::rule::Context;

/// A sum with the two paths that lead to it.
struct Sum {
    source: ValueId,
    result: ValueId,
    branch: Vec<Element>,
    shortcut: Vec<Element>,
    nodes: Vec<NodeId>,
}

/// The kind of a region.
enum Region {
    Block(Block),
    Attention(AttentionHalf, Block),
    Other(Block),
}

/// Blocks with a shortcut, and regions with a shortcut that no family describes.
pub(super) fn find(cx: &Context<'_>, flow: &Flow) -> Vec<Block> {
    let mut regions: Vec<Region> = flow
        .order()
        .iter()
        .filter_map(|node| Some(classify(cx, flow, sum(cx, flow, *node)?)))
        .collect();
    let halves = pair_transformer_halves(&mut regions);
    let blocks: Vec<(bool, Block)> = regions
        .into_iter()
        .map(|region| match region {
            Region::Block(block) => (true, block),
            Region::Attention(_, block) | Region::Other(block) => (false, block),
        })
        .collect();
    let mut kept = without_nested(cx, flow, blocks);
    // An attention half is a block of its own, too, if its layer is one.
    let is_of = |half: &Block, layer: &Block| {
        layer.attention.as_ref().is_some_and(|own| own.result == half.result)
    };
    let halves = halves.into_iter().filter(|half| kept.iter().any(|layer| is_of(half, layer)));
    let halves: Vec<Block> = halves.collect();
    kept.extend(halves);
    kept
}

/// The sum at a node, if two data values meet there.
fn sum(cx: &Context<'_>, flow: &Flow, node: NodeId) -> Option<Sum> {
    let binary = Binary::of(cx.graph, node, cx.opset).filter(|b| b.op == BinaryOp::Add);
    let [a, b] = match binary {
        Some(binary) => [binary.a, binary.b],
        None if cx.graph.node(node).is("Sum") => {
            let operands = cx.graph.operands(node);
            let &[Some(a), Some(b)] = operands.as_slice() else { return None };
            [a, b]
        }
        None => return None,
    };
    if a == b || !flow.is_data(a) || !flow.is_data(b) {
        return None;
    }
    let result = cx.graph.sole_result(node)?;
    let source = flow.common(a, b)?;
    let nodes = flow.between(cx, source, result);
    let ways = [walk(cx, flow, source, a)?, walk(cx, flow, source, b)?];
    let is_shortcut = |way: &[Element]| way.iter().all(Element::is_affine);
    let [first, second] = ways;
    let layers = |way: &[Element]| way.iter().filter(|e| e.linear().is_some()).count();
    let takes_first = match (is_shortcut(&first), is_shortcut(&second)) {
        (true, false) => true,
        (false, true) => false,
        _ => layers(&first) < layers(&second) || first.is_empty(),
    };
    let (shortcut, branch) = if takes_first { (first, second) } else { (second, first) };
    Some(Sum { source, result, branch, shortcut, nodes })
}

fn classify(cx: &Context<'_>, flow: &Flow, sum: Sum) -> Region {
    let end = activation_after(cx, flow, sum.result);
    let kind = kind(&sum, end.is_some());
    let attention = attention(cx, &sum);
    let mut nodes = sum.nodes.clone();
    // The activation behind a transformer's sum belongs to the next block.
    let end = end.filter(|_| kind != BlockKind::Mlp && attention.is_none());
    let result = end.as_ref().map_or(sum.result, |end| end.y);
    nodes.extend(end.iter().flat_map(|end| end.nodes.iter().copied()));
    let is_block = kind != BlockKind::Other && attention.is_none();
    let fit_only = (!is_block).then(|| {
        let closed = sum.branch.iter().chain(&sum.shortcut).find_map(|element| match element {
            Element::Closed(Closed { what, .. }) => Some(what.clone()),
            _ => None,
        });
        let what = closed.unwrap_or_else(|| "a shape of no known family".into());
        Declined::new("unknown-form", format!("it holds {what}"))
    });
    let block = Block {
        index: 0,
        kind: if attention.is_some() { BlockKind::Attention } else { kind },
        name: String::new(),
        source: sum.source,
        branch_source: sum.source,
        result,
        end,
        attention: None,
        is_half: false,
        nodes,
        refusal: None,
        fit_only,
        branch: sum.branch,
        shortcut: Some(sum.shortcut),
    };
    match attention {
        Some(half) => Region::Attention(half, block),
        None if is_block => Region::Block(block),
        None => Region::Other(block),
    }
}

/// The family of a sum; `Other` if its branch fits no family.
fn kind(sum: &Sum, has_end: bool) -> BlockKind {
    let units: Vec<&Linear> = sum.branch.iter().filter_map(Element::linear).collect();
    let has_activation = sum.branch.iter().any(|e| e.activation().is_some());
    // A block with a gate or a response normalization inside keeps its family and is refused by that name.
    if sum.branch.iter().any(|e| matches!(e, Element::Closed(closed) if !closed.is_gate)) {
        return BlockKind::Other;
    }
    let shape: Vec<char> = units
        .iter()
        .map(|unit| match () {
            () if unit.is_depthwise() => 'd',
            () if unit.is_pointwise() => 'p',
            () => 'k',
        })
        .collect();
    let is_token = units.iter().all(|unit| !unit.is_conv());
    match shape.as_slice() {
        ['k', 'k'] => BlockKind::Basic,
        ['d', 'p', 'p'] if !has_end => BlockKind::ConvNext,
        ['p', 'p'] if is_token && has_activation => BlockKind::Mlp,
        ['p', 'd', 'p'] | ['d', 'p'] => BlockKind::InvertedResidual,
        ['p', 'k', 'p'] => BlockKind::Bottleneck,
        [_, _, ..] => BlockKind::Residual,
        _ => BlockKind::Other,
    }
}

/// The attention half, if the sum closes one: projections read a normalization, and a softmax follows.
fn attention(cx: &Context<'_>, sum: &Sum) -> Option<AttentionHalf> {
    if !sum.shortcut.is_empty() {
        return None;
    }
    let holds_softmax = sum.branch.iter().any(|element| match element {
        Element::Closed(closed) => closed
            .nodes
            .iter()
            .any(|node| matches!(cx.graph.node(*node).op_type(), "Softmax" | "Attention")),
        _ => false,
    });
    let Some(Element::Norm(norm)) = sum.branch.first().filter(|_| holds_softmax) else {
        return None;
    };
    feeds_projections(cx, norm).then(|| AttentionHalf {
        norm: norm.clone(),
        result: sum.result,
        nodes: sum.nodes.clone(),
    })
}

/// Whether every reader of a normalization is a projection of the channels. Affines and transposes are
/// skipped, because a window attention cuts up the image before it projects.
fn feeds_projections(cx: &Context<'_>, norm: &Norm) -> bool {
    let mut pending = vec![norm.y];
    let mut count = 0;
    while let Some(value) = pending.pop() {
        for user in cx.graph.users(value) {
            let node = cx.graph.node(user.node);
            if Linear::reading(cx, value, user.node).is_some() {
                count += 1;
            } else if let Some(affine) = crate::lift::ChannelAffine::at(cx, user.node) {
                pending.push(affine.y);
            } else if node.is("Transpose") {
                pending.extend(cx.graph.sole_result(user.node));
            } else if !node.is("Shape") {
                return false;
            }
        }
    }
    count > 0
}

/// Joins each attention half with the MLP half that reads its sum. Returns the attention halves that were joined.
fn pair_transformer_halves(regions: &mut Vec<Region>) -> Vec<Block> {
    let (mut halves, mut at) = (Vec::new(), 0);
    while at + 1 < regions.len() {
        let next = (at + 1..regions.len()).find(|other| match (&regions[at], &regions[*other]) {
            (Region::Attention(_, half), Region::Block(mlp)) => {
                mlp.kind == BlockKind::Mlp && mlp.source == half.result
            }
            _ => false,
        });
        if let Some(next) = next
            && let Region::Block(mut layer) = regions.remove(next)
            && let Region::Attention(half, first) =
                std::mem::replace(&mut regions[at], Region::Other(layer.clone()))
        {
            layer.kind = BlockKind::VitLayer;
            layer.source = first.source;
            layer.nodes = first.nodes.iter().copied().chain(layer.nodes).collect();
            layer.attention = Some(half);
            regions[at] = Region::Block(layer);
            halves.push(Block { is_half: true, ..first });
        }
        at += 1;
    }
    halves
}

/// For nested regions, keeps the outer region if a family describes it, otherwise the inner ones.
/// A region of no family stays only if nothing else is known of its nodes, if its shortcut is linear, if
/// nothing inside is read outside, and if it holds weighted operators.
fn without_nested(cx: &Context<'_>, flow: &Flow, blocks: Vec<(bool, Block)>) -> Vec<Block> {
    let mut kept: Vec<Block> = Vec::new();
    let mut claimed: BTreeSet<NodeId> = BTreeSet::new();
    let (known, other): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|(is_known, _)| *is_known);
    let mut known: Vec<Block> = known.into_iter().map(|(_, block)| block).collect();
    let mut other: Vec<Block> = other.into_iter().map(|(_, block)| block).collect();
    // Larger regions first. A region inside a kept region is dropped, and so is a region that holds a kept one.
    known.sort_by_key(|block| std::cmp::Reverse(block.nodes.len()));
    other.sort_by_key(|block| block.nodes.len());
    for block in known.into_iter().chain(other) {
        let is_residual = !matches!(block.kind, BlockKind::Other | BlockKind::Attention)
            || block.shortcut.iter().flatten().all(Element::is_affine)
                && block.layers(cx) > 0
                && flow.leak(cx, &block.nodes, block.result).is_none();
        if is_residual && block.nodes.iter().all(|node| !claimed.contains(node)) {
            claimed.extend(block.nodes.iter().copied());
            kept.push(block);
        }
    }
    kept
}
