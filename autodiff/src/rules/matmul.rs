//! `MatMul`: Y = A·B, A [.., M, K], B [.., K, N]; Ā = Ȳ·Bᵀ, B̄ = Aᵀ·Ȳ, summed over repeated batch axes by the driver.
//!
//! A matrix B without batch axes, such as a weight, multiplies the rows of all batches in one product.

use updp_ir::{Node, ValueId};

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let (a, b) = (site.operand(emit, 0)?, site.operand(emit, 1)?);
    let (a_dims, b_dims) = (emit.dims(a)?, emit.dims(b)?);
    // Vectors are matrices with one row or one column.
    let a_full = if a_dims.len() == 1 { vec![1, a_dims[0]] } else { a_dims.clone() };
    let b_full = if b_dims.len() == 1 { vec![b_dims[0], 1] } else { b_dims.clone() };
    let (m, n) = (a_full[a_full.len() - 2], b_full[b_full.len() - 1]);
    let mut y_full = emit.dims(site.y(emit)?)?;
    y_full.truncate(y_full.len() - usize::from(a_dims.len() > 1) - usize::from(b_dims.len() > 1));
    y_full.extend([m, n]);
    let dy = site.dy(emit)?;
    let (a, b) = (emit.reshape(a, &a_full)?, emit.reshape(b, &b_full)?);
    let dy = emit.reshape(dy, &y_full)?;
    let wants = [site.wants(0), site.wants(1)];
    let (da, db) = if b_full.len() == 2 {
        if a_dims.len() > 1 && b_dims.len() == 2 {
            record_product(emit, [a, b], None, site.y(emit)?)?;
        }
        of_rows(emit, a, b, dy, wants)?
    } else {
        of_batches(emit, a, b, dy, wants)?
    };
    let mut back = vec![Cotangent::NotDifferentiable; 2];
    if let Some(da) = da {
        let da = emit.sum_to(da, &a_full)?;
        back[0] = Cotangent::Value(emit.reshape(da, &a_dims)?);
    }
    if let Some(db) = db {
        let db = emit.sum_to(db, &b_full)?;
        back[1] = Cotangent::Value(emit.reshape(db, &b_dims)?);
    }
    Ok(back)
}

type Pair = (Option<ValueId>, Option<ValueId>);

/// A matrix of a product.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    /// The matrix.
    pub value: ValueId,
    /// Whether the product reads it transposed.
    pub is_transposed: bool,
}

impl Factor {
    /// The matrix itself.
    pub fn plain(value: ValueId) -> Self {
        Self { value, is_transposed: false }
    }

    /// The matrix transposed.
    pub fn transposed(value: ValueId) -> Self {
        Self { value, is_transposed: true }
    }

    /// The same matrix, with one more transposition.
    pub fn turned(self) -> Self {
        Self { is_transposed: !self.is_transposed, ..self }
    }
}

/// `alpha·A·B`, where each factor is transposed if it says so.
pub(super) fn gemm(emit: &mut Emit<'_>, a: Factor, b: Factor, alpha: f32) -> Result<ValueId> {
    let mut node = Node::new("Gemm");
    if a.is_transposed {
        node = node.with("transA", 1_i64);
    }
    if b.is_transposed {
        node = node.with("transB", 1_i64);
    }
    if alpha != 1.0 {
        node = node.with("alpha", alpha);
    }
    let product = emit.node(node, &[Some(a.value), Some(b.value)])?;
    if alpha == 1.0 {
        let node = own_product("Product", a.is_transposed, b.is_transposed);
        emit.record_fused_alternative(node, &[a.value, b.value], &[product])?;
    }
    Ok(product)
}

/// The fused operator for a product of two matrices.
fn own_product(op: &str, is_a_transposed: bool, is_b_transposed: bool) -> Node {
    let node = Node::new(op).with("trans_a", i64::from(is_a_transposed));
    node.with("trans_b", i64::from(is_b_transposed))
}

/// Records that one fused operator computes `y`, the product of two values plus a bias if there is one. The second
/// value is a matrix.
pub(super) fn record_product(
    emit: &mut Emit<'_>,
    [a, b]: [ValueId; 2],
    bias: Option<ValueId>,
    y: ValueId,
) -> Result<()> {
    let op = if bias.is_some() { "ProductBias" } else { "Product" };
    let operands: Vec<ValueId> = [a, b].into_iter().chain(bias).collect();
    emit.record_fused_alternative(own_product(op, false, false), &operands, &[y])
}

fn of_rows(
    emit: &mut Emit<'_>,
    a: ValueId,
    b: ValueId,
    dy: ValueId,
    wants: [bool; 2],
) -> Result<Pair> {
    let (a_dims, dy_dims) = (emit.dims(a)?, emit.dims(dy)?);
    let (k, n) = (a_dims[a_dims.len() - 1], dy_dims[dy_dims.len() - 1]);
    let rows = a_dims[..a_dims.len() - 1].iter().product();
    let dy = emit.reshape(dy, &[rows, n])?;
    let mut pair = (None, None);
    if wants[0] {
        let da = gemm(emit, Factor::plain(dy), Factor::transposed(b), 1.0)?;
        pair.0 = Some(emit.reshape(da, &a_dims)?);
    }
    if wants[1] {
        let a = emit.reshape(a, &[rows, k])?;
        pair.1 = Some(gemm(emit, Factor::transposed(a), Factor::plain(dy), 1.0)?);
    }
    Ok(pair)
}

fn of_batches(
    emit: &mut Emit<'_>,
    a: ValueId,
    b: ValueId,
    dy: ValueId,
    wants: [bool; 2],
) -> Result<Pair> {
    let mut pair = (None, None);
    if wants[0] {
        let b = emit.transpose_last(b)?;
        pair.0 = Some(emit.matmul(dy, b)?);
    }
    if wants[1] {
        let a = emit.transpose_last(a)?;
        pair.1 = Some(emit.matmul(a, dy)?);
    }
    Ok(pair)
}
