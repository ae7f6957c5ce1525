//! `Gemm`: Y = α·A′·B′ + β·C, A′ [M, K], B′ [K, N]; Ā′ = α·Ȳ·B′ᵀ, B̄′ = α·A′ᵀ·Ȳ, C̄ = β·Ȳ summed by the driver.

use updp_ir::view;

use super::matmul::{Factor, gemm};
use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let view = view::Gemm::of(emit.graph(), site.node, emit.opset())
        .ok_or_else(|| site.refuse(emit, "it is not understood"))?;
    let dy = site.dy(emit)?;
    let alpha = view.alpha as f32;
    let a = Factor { value: view.a, is_transposed: view.trans_a };
    let b = Factor { value: view.b, is_transposed: view.trans_b };
    let mut back = vec![Cotangent::NotDifferentiable; 3];
    if site.wants(0) {
        back[0] = Cotangent::Value(if view.trans_a {
            gemm(emit, b, Factor::transposed(dy), alpha)?
        } else {
            gemm(emit, Factor::plain(dy), b.turned(), alpha)?
        });
    }
    if site.wants(1) {
        back[1] = Cotangent::Value(if view.trans_b {
            gemm(emit, Factor::transposed(dy), a, alpha)?
        } else {
            gemm(emit, a.turned(), Factor::plain(dy), alpha)?
        });
    }
    if site.wants(2) {
        back[2] = Cotangent::Value(emit.scale(dy, view.beta)?);
    }
    Ok(back)
}
