//! Binary arithmetic with numpy broadcasting, and `Dropout`.

use super::{constant, required, standard};
use crate::graph::Graph;
use crate::id::{NodeId, ValueId};

/// The kind of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the ONNX operator of the same name")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
}

/// `Y = A op B` with numpy broadcasting.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The node.
    pub node: NodeId,
    /// The kind of arithmetic.
    pub op: BinaryOp,
    /// Left operand.
    pub a: ValueId,
    /// Right operand.
    pub b: ValueId,
    /// Result.
    pub y: ValueId,
}

impl Binary {
    /// Reads a node; `None` below opset 7, because broadcasting had another meaning there.
    #[must_use]
    pub fn of(graph: &Graph, id: NodeId, opset: i64) -> Option<Self> {
        let op = match graph.get_node(id)?.op_type() {
            "Add" => BinaryOp::Add,
            "Sub" => BinaryOp::Sub,
            "Mul" => BinaryOp::Mul,
            "Div" => BinaryOp::Div,
            _ => return None,
        };
        let node = graph.get_node(id)?.op_type().to_owned();
        standard(graph, id, &node).filter(|_| opset >= 7)?;
        Some(Self {
            node: id,
            op,
            a: required(graph, id, 0)?,
            b: required(graph, id, 1)?,
            y: graph.sole_result(id)?,
        })
    }
}

/// Whether a `Dropout` passes its data through: inference form, mask unread.
#[must_use]
pub fn is_inference_dropout(graph: &Graph, id: NodeId, opset: i64) -> bool {
    let Some(node) = standard(graph, id, "Dropout") else { return false };
    if graph.result(id, 1).is_some_and(|mask| graph.is_read(mask)) {
        return false;
    }
    if opset < 7 {
        return node.int("is_test") == Some(1);
    }
    if opset < 12 {
        return true;
    }
    match graph.operand(id, 2) {
        None => true,
        Some(training) => constant(graph, training)
            .and_then(|t| t.to_i64())
            .is_some_and(|values| values.iter().all(|v| *v == 0)),
    }
}
