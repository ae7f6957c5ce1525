//! The elements of a branch: one operator, or one group of operators with one meaning.

use updp_ir::view::{AveragePool, Pad, Slice, Transpose};
use updp_ir::{NodeId, ValueId};

use super::activation::Activation;
use super::flow::{Flow, is_read_only_by};
use super::norm::Norm;
use crate::lift::{ChannelAffine, Form, Linear};
use crate::rule::Context;

/// Longest branch that is searched.
const MAX_ELEMENTS: usize = 64;

/// One element between two values of a branch.
#[derive(Clone, Debug)]
pub enum Element {
    /// Conv, Gemm or MatMul with constant weights.
    Linear(Linear),
    /// A scale and shift per channel, including a BatchNormalization.
    Affine(ChannelAffine),
    /// An elementwise nonlinear function.
    Activation(Activation),
    /// A normalization by statistics of its input.
    Norm(Norm),
    /// A change of layout.
    Transpose(Transpose),
    /// A mean over windows.
    Pool(AveragePool),
    /// A regular choice of elements.
    Slice(Slice),
    /// Constants around the data.
    Pad(Pad),
    /// Any other nodes between a value and the only value it depends on.
    Closed(Closed),
}

/// Nodes that no other kind of element describes.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The only data that it depends on.
    pub x: ValueId,
    /// Its result.
    pub y: ValueId,
    /// The nodes in topological order.
    pub nodes: Vec<NodeId>,
    /// A description in a few words.
    pub what: String,
    /// Whether it is a gate or a response normalization; both occur inside blocks of known families.
    pub is_gate: bool,
}

impl Element {
    /// The element with the result `value`; `None` if `value` is where the data enter the graph.
    #[must_use]
    pub fn ending_in(cx: &Context<'_>, flow: &Flow, value: ValueId) -> Option<Self> {
        if let Some(activation) = Activation::ending_in(cx, flow, value) {
            return Some(Self::Activation(activation));
        }
        if let Some(norm) = Norm::ending_in(cx, flow, value) {
            return Some(Self::Norm(norm));
        }
        if let Some(unit) = Linear::producing(cx, value)
            && unit.form != Form::ConvTranspose
            && flow.is_data(unit.x)
        {
            return Some(Self::Linear(unit));
        }
        let (node, _) = cx.graph.producer(value)?;
        if let Some(affine) = ChannelAffine::at(cx, node)
            && flow.is_data(affine.x)
        {
            return Some(Self::Affine(affine));
        }
        let x = flow.dominator(value)?;
        let rank = cx.rank(x);
        let plain = match cx.graph.node(node).op_type() {
            "Transpose" => Transpose::of(cx.graph, node, rank).map(Self::Transpose),
            "AveragePool" => AveragePool::of(cx.graph, node).map(Self::Pool),
            "Slice" => Slice::of(cx.graph, node, cx.opset, rank).map(Self::Slice),
            "Pad" => Pad::of(cx.graph, node, cx.opset, rank).map(Self::Pad),
            _ => None,
        };
        if plain.as_ref().is_some_and(|element| element.x() == x) {
            return plain;
        }
        let nodes = flow.between(cx, x, value);
        let (what, is_gate) = describe(cx, &nodes);
        Some(Self::Closed(Closed { x, y: value, nodes, what, is_gate }))
    }

    /// The value that it reads.
    #[must_use]
    pub fn x(&self) -> ValueId {
        match self {
            Self::Linear(e) => e.x,
            Self::Affine(e) => e.x,
            Self::Activation(e) => e.x,
            Self::Norm(e) => e.x,
            Self::Transpose(e) => e.x,
            Self::Pool(e) => e.x,
            Self::Slice(e) => e.x,
            Self::Pad(e) => e.x,
            Self::Closed(e) => e.x,
        }
    }

    /// The value that it makes.
    #[must_use]
    pub fn y(&self) -> ValueId {
        match self {
            Self::Linear(e) => e.y,
            Self::Affine(e) => e.y,
            Self::Activation(e) => e.y,
            Self::Norm(e) => e.y,
            Self::Transpose(e) => e.y,
            Self::Pool(e) => e.y,
            Self::Slice(e) => e.y,
            Self::Pad(e) => e.y,
            Self::Closed(e) => e.y,
        }
    }

    /// Its nodes in topological order.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        match self {
            Self::Linear(e) => e.nodes.clone(),
            Self::Affine(e) => vec![e.node],
            Self::Activation(e) => e.nodes.clone(),
            Self::Norm(e) => e.nodes.clone(),
            Self::Transpose(e) => vec![e.node],
            Self::Pool(e) => vec![e.node],
            Self::Slice(e) => vec![e.node],
            Self::Pad(e) => vec![e.node],
            Self::Closed(e) => e.nodes.clone(),
        }
    }

    /// The weighted operator, if the element is one.
    #[must_use]
    pub fn linear(&self) -> Option<&Linear> {
        if let Self::Linear(unit) = self { Some(unit) } else { None }
    }

    /// The activation, if the element is one.
    #[must_use]
    pub fn activation(&self) -> Option<&Activation> {
        if let Self::Activation(activation) = self { Some(activation) } else { None }
    }

    /// Whether the element is linear. A shortcut may consist of linear elements only.
    #[must_use]
    pub fn is_affine(&self) -> bool {
        !matches!(self, Self::Activation(_) | Self::Norm(_) | Self::Closed(_))
    }
}

/// The elements from `source` to `value` in the direction of data flow; `None` if the walk does not
/// reach `source`.
#[must_use]
pub fn walk(
    cx: &Context<'_>,
    flow: &Flow,
    source: ValueId,
    value: ValueId,
) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    let mut at = value;
    while at != source {
        if elements.len() == MAX_ELEMENTS {
            return None;
        }
        let element = Element::ending_in(cx, flow, at)?;
        at = element.x();
        elements.push(element);
    }
    elements.reverse();
    Some(elements)
}

/// The activation that is the only reader of `value`.
#[must_use]
pub fn activation_after(cx: &Context<'_>, flow: &Flow, value: ValueId) -> Option<Activation> {
    let mut pending: Vec<(ValueId, usize)> = vec![(value, 0)];
    while let Some((at, depth)) = pending.pop() {
        for user in cx.graph.users(at) {
            let Some(result) = cx.graph.sole_result(user.node) else { continue };
            if let Some(found) = Activation::ending_in(cx, flow, result)
                && found.x == value
                && is_read_only_by(cx, value, |node| found.nodes.contains(&node))
            {
                return Some(found);
            }
            if depth < 6 && flow.is_data(result) {
                pending.push((result, depth + 1));
            }
        }
    }
    None
}

/// Describes a group of nodes in a few words, and says whether it is a gate or a response normalization.
pub(super) fn describe(cx: &Context<'_>, nodes: &[NodeId]) -> (String, bool) {
    let has = |op: &str| nodes.iter().any(|node| cx.graph.node(*node).is(op));
    let pools = has("GlobalAveragePool") || has("ReduceMean");
    if has("Softmax") || has("Attention") {
        return ("attention".into(), false);
    }
    if pools && (has("Sigmoid") || has("HardSigmoid") || has("Clip")) && has("Mul") {
        return ("a squeeze-and-excitation gate".into(), true);
    }
    if has("ReduceL2") || (pools && has("Sqrt")) {
        return ("a global response normalization".into(), true);
    }
    let mut ops: Vec<&str> = Vec::new();
    for node in nodes {
        let op = cx.graph.node(*node).op_type();
        if !ops.contains(&op) {
            ops.push(op);
        }
    }
    let more = if ops.len() > 4 { ", …" } else { "" };
    ops.truncate(4);
    (format!("{}{more}", ops.join(", ")), false)
}
