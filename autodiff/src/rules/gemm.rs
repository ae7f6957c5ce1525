//! `Gemm`: Y = α·A′·B′ + β·C, A′ [M, K], B′ [K, N]; Ā′ = α·Ȳ·B′ᵀ, B̄′ = α·A′ᵀ·Ȳ, C̄ = β·Ȳ summed by the driver.

use updp_ir::view;

use super::matmul::gemm;
use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let view = view::Gemm::of(emit.graph(), site.node, emit.opset())
        .ok_or_else(|| site.refuse(emit, "it is not understood"))?;
    let dy = site.dy(emit)?;
    let alpha = view.alpha as f32;
    let mut back = vec![Cotangent::NotDifferentiable; 3];
    if site.wants(0) {
        back[0] = Cotangent::Value(if view.trans_a {
            gemm(emit, (view.b, view.trans_b), (dy, true), alpha)?
        } else {
            gemm(emit, (dy, false), (view.b, !view.trans_b), alpha)?
        });
    }
    if site.wants(1) {
        back[1] = Cotangent::Value(if view.trans_b {
            gemm(emit, (dy, true), (view.a, view.trans_a), alpha)?
        } else {
            gemm(emit, (view.a, !view.trans_a), (dy, false), alpha)?
        });
    }
    if site.wants(2) {
        back[2] = Cotangent::Value(emit.scale(dy, view.beta)?);
    }
    Ok(back)
}
