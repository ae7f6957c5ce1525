//! Typed views of known operators, with their defaults resolved for the opset.
//!
//! A view is `None` if anything about the node is uncertain: another domain, a form that the opset does
//! not define, or attributes taken from a function. The node then passes through untouched.

mod batch_norm;
mod constant;
mod conv;
mod elementwise;
mod linear;
mod window;

pub use crate::geometry::AutoPad;
pub use batch_norm::BatchNorm;
pub use constant::constant;
pub use conv::{Conv, ConvTranspose};
pub use elementwise::{Binary, BinaryOp, is_inference_dropout};
pub use linear::{Gemm, MatMul, Transpose};
pub use window::{AveragePool, Pad, Slice};

use crate::graph::Graph;
use crate::id::{NodeId, ValueId};
use crate::node::Node;

/// The node, if it is `op_type` of the default domain with plain attributes.
fn standard<'a>(graph: &'a Graph, id: NodeId, op_type: &str) -> Option<&'a Node> {
    let node = graph.get_node(id)?;
    (node.is(op_type) && !node.has_reference_attribute()).then_some(node)
}

/// A required operand.
fn required(graph: &Graph, id: NodeId, slot: usize) -> Option<ValueId> {
    graph.operand(id, slot)
}

/// A list attribute as sizes, or `default` if it is absent; `None` if an entry is negative.
fn sizes(node: &Node, name: &str, len: usize, default: usize) -> Option<Vec<usize>> {
    match node.ints(name) {
        None => Some(vec![default; len]),
        Some(list) if list.len() == len => list.iter().map(|v| usize::try_from(*v).ok()).collect(),
        Some(_) => None,
    }
}
