//! `BatchNormalization` in inference form.

use super::{required, standard};
use crate::graph::Graph;
use crate::id::{NodeId, ValueId};

/// `Y = (X - mean) / sqrt(var + epsilon) * scale + bias` on axis 1.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// The node.
    pub node: NodeId,
    /// Input [N, C, …].
    pub x: ValueId,
    /// γ `[C]`.
    pub scale: ValueId,
    /// β `[C]`.
    pub bias: ValueId,
    /// Running mean `[C]`.
    pub mean: ValueId,
    /// Running variance `[C]`.
    pub var: ValueId,
    /// Result [N, C, …].
    pub y: ValueId,
    /// Added to the variance.
    pub epsilon: f64,
}

impl BatchNorm {
    /// Reads a node; `None` in training form (batch statistics, or running statistics as results).
    #[must_use]
    pub fn of(graph: &Graph, id: NodeId, opset: i64) -> Option<Self> {
        let node = standard(graph, id, "BatchNormalization")?;
        let is_inference = match opset {
            ..7 => node.int("is_test") == Some(1),
            7..9 => node.int("spatial").unwrap_or(1) == 1,
            9..14 => true,
            14.. => node.int("training_mode").unwrap_or(0) == 0,
        };
        if !is_inference || node.int("spatial").is_some_and(|s| s == 0) {
            return None;
        }
        Some(Self {
            node: id,
            x: required(graph, id, 0)?,
            scale: required(graph, id, 1)?,
            bias: required(graph, id, 2)?,
            mean: required(graph, id, 3)?,
            var: required(graph, id, 4)?,
            y: graph.sole_result(id).filter(|y| graph.result(id, 0) == Some(*y))?,
            epsilon: f64::from(node.float("epsilon").unwrap_or(1e-5)),
        })
    }
}
