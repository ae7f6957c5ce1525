//! `Attention` with four axes: P = softmax(s·Q·Kᵀ + M), Y = P·V, all [N, heads, tokens, width]. With S̄ = P ⊙ (P̄ − Σ
//! P̄⊙P) and P̄ = Ȳ·Vᵀ: V̄ = Pᵀ·Ȳ, Q̄ = s·S̄·K, K̄ = s·S̄ᵀ·Q.
//!
//! The rule computes P again, because the operator does not return it. It adds a mask M unchanged and does not train
//! it.

use updp_ir::{Node, ValueId};

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let operands = [site.operand(emit, 0)?, site.operand(emit, 1)?, site.operand(emit, 2)?];
    let [q, k, v] = operands;
    check(emit, site, operands)?;
    let width = *emit.dims(q)?.last().unwrap_or(&1);
    let scale = site.read(emit).float("scale").filter(|scale| *scale != 0.0);
    let scale = scale.map_or_else(|| 1.0 / (width as f64).sqrt(), f64::from);
    let weights = weights(emit, site, q, k, scale)?;
    let dy = site.dy(emit)?;
    let mut back = vec![Cotangent::NotDifferentiable; 3];
    if site.wants(2) {
        let turned = emit.transpose_last(weights)?;
        back[2] = Cotangent::Value(emit.matmul(turned, dy)?);
    }
    if site.wants(0) || site.wants(1) {
        let turned = emit.transpose_last(v)?;
        let gain = emit.matmul(dy, turned)?;
        let product = emit.mul(gain, weights)?;
        let sum = emit.reduce_sum(product, &[3], true)?;
        let centred = emit.sub(gain, sum)?;
        let scores = emit.mul(weights, centred)?;
        let scores = emit.scale(scores, scale)?;
        back[0] = Cotangent::Value(emit.matmul(scores, k)?);
        if site.wants(1) {
            let turned = emit.transpose_last(scores)?;
            back[1] = Cotangent::Value(emit.matmul(turned, q)?);
        }
    }
    Ok(back)
}

/// Refuses every form except the plain one.
fn check(emit: &Emit<'_>, site: &Site, operands: [ValueId; 3]) -> Result<()> {
    let mut heads = Vec::with_capacity(3);
    for operand in operands {
        let dims = emit.dims(operand)?;
        if dims.len() != 4 {
            return Err(site.refuse(emit, "only four axes are differentiated"));
        }
        heads.push(dims[1]);
    }
    let node = site.read(emit);
    let is_plain = node.int("is_causal").unwrap_or(0) == 0
        && node.float("softcap").unwrap_or(0.0) == 0.0
        && site.operands.iter().skip(4).all(Option::is_none)
        && site.results.iter().skip(1).all(Option::is_none)
        && heads.iter().all(|count| *count == heads[0]);
    if !is_plain {
        return Err(site.refuse(emit, "only the form without cache, cap and causal mask"));
    }
    if site.wants(3) {
        return Err(site.refuse(emit, "its mask would be trained"));
    }
    match site.optional(3) {
        Some(mask) if !emit.dtype(mask)?.is_foldable_float() => {
            Err(site.refuse(emit, "its mask is no float"))
        }
        _ => Ok(()),
    }
}

/// P, the weights of the values.
fn weights(
    emit: &mut Emit<'_>,
    site: &Site,
    q: ValueId,
    k: ValueId,
    scale: f64,
) -> Result<ValueId> {
    let turned = emit.transpose_last(k)?;
    let scores = emit.matmul(q, turned)?;
    let mut scores = emit.scale(scores, scale)?;
    if let Some(mask) = site.optional(3) {
        scores = emit.add(scores, mask)?;
    }
    emit.node(Node::new("Softmax").with("axis", -1_i64), &[Some(scores)])
}
