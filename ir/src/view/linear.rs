//! `Gemm`, `MatMul` and `Transpose`.

use super::{required, standard};
use crate::graph::Graph;
use crate::id::{NodeId, ValueId};

/// `Y = alpha·A'·B' + beta·C`, with A' and B' transposed on request.
#[derive(Clone, Debug)]
pub struct Gemm {
    /// The node.
    pub node: NodeId,
    /// Left operand.
    pub a: ValueId,
    /// Right operand.
    pub b: ValueId,
    /// Added matrix, broadcast to the result.
    pub c: Option<ValueId>,
    /// Result [M, N].
    pub y: ValueId,
    /// Factor of the product.
    pub alpha: f64,
    /// Factor of C.
    pub beta: f64,
    /// Whether A is transposed.
    pub trans_a: bool,
    /// Whether B is transposed.
    pub trans_b: bool,
}

impl Gemm {
    /// Reads a node; `None` below opset 7, because broadcasting had another meaning there.
    #[must_use]
    pub fn of(graph: &Graph, id: NodeId, opset: i64) -> Option<Self> {
        let node = standard(graph, id, "Gemm").filter(|_| opset >= 7)?;
        Some(Self {
            node: id,
            a: required(graph, id, 0)?,
            b: required(graph, id, 1)?,
            c: graph.operand(id, 2),
            y: graph.sole_result(id)?,
            alpha: f64::from(node.float("alpha").unwrap_or(1.0)),
            beta: f64::from(node.float("beta").unwrap_or(1.0)),
            trans_a: node.int("transA").unwrap_or(0) != 0,
            trans_b: node.int("transB").unwrap_or(0) != 0,
        })
    }
}

/// `Y = A · B` with numpy `matmul` semantics.
#[derive(Clone, Debug)]
pub struct MatMul {
    /// The node.
    pub node: NodeId,
    /// Left operand.
    pub a: ValueId,
    /// Right operand.
    pub b: ValueId,
    /// Result.
    pub y: ValueId,
}

impl MatMul {
    /// Reads a node.
    #[must_use]
    pub fn of(graph: &Graph, id: NodeId) -> Option<Self> {
        standard(graph, id, "MatMul")?;
        Some(Self {
            node: id,
            a: required(graph, id, 0)?,
            b: required(graph, id, 1)?,
            y: graph.sole_result(id)?,
        })
    }
}

/// `Y = Transpose(X)`: axis `i` of Y is axis `perm[i]` of X.
#[derive(Clone, Debug)]
pub struct Transpose {
    /// The node.
    pub node: NodeId,
    /// Input.
    pub x: ValueId,
    /// Result.
    pub y: ValueId,
    /// A permutation of the axes.
    pub perm: Vec<usize>,
}

impl Transpose {
    /// Reads a node; `rank` is the rank of X, needed only if `perm` is absent (reversal).
    #[must_use]
    pub fn of(graph: &Graph, id: NodeId, rank: Option<usize>) -> Option<Self> {
        let node = standard(graph, id, "Transpose")?;
        let perm: Vec<usize> = match node.ints("perm") {
            Some(perm) if !perm.is_empty() => {
                perm.iter().map(|p| usize::try_from(*p).ok()).collect::<Option<_>>()?
            }
            _ => (0..rank?).rev().collect(),
        };
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..perm.len()) {
            return None;
        }
        Some(Self { node: id, x: required(graph, id, 0)?, y: graph.sole_result(id)?, perm })
    }

    /// Whether nothing moves.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.perm.iter().copied().eq(0..self.perm.len())
    }

    /// Axis of Y that carries axis `axis` of X.
    #[must_use]
    pub fn result_axis(&self, axis: usize) -> Option<usize> {
        self.perm.iter().position(|p| *p == axis)
    }
}
