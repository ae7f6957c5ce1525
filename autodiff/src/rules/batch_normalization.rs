//! `BatchNormalization` in inference form: y = γ·r ⊙ (x − μ) + β, r = 1/√(σ² + ε), all [C];
//! x̄ = γ·r ⊙ ȳ, β̄ = Σ ȳ, γ̄ = r·Σ ȳ⊙(x − μ), μ̄ = −γ·r·β̄, σ̄² = −½·γ·r²·γ̄.
//!
//! `train_form.rs` handles the form with the statistics of the batch.

use updp_ir::view;

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let view = view::BatchNorm::of(emit.graph(), site.node, emit.opset())
        .ok_or_else(|| site.refuse(emit, "it is in training form"))?;
    let rank = emit.dims(view.x)?.len();
    let mut channel = vec![1; rank];
    channel[1] = emit.dims(view.x)?[1];
    let axes: Vec<usize> = std::iter::once(0).chain(2..rank).collect();
    let dy = site.dy(emit)?;
    let shifted = emit.shift(view.var, view.epsilon)?;
    let deviation = emit.call("Sqrt", &[shifted])?;
    let inverse = emit.call("Reciprocal", &[deviation])?;
    let gain = emit.mul(view.scale, inverse)?;
    let mut back = vec![Cotangent::NotDifferentiable; 5];
    if site.wants(0) {
        let gain = emit.reshape(gain, &channel)?;
        back[0] = Cotangent::Value(emit.mul(dy, gain)?);
    }
    if site.wants(2) || site.wants(3) {
        let sum = emit.reduce_sum(dy, &axes, false)?;
        back[2] = Cotangent::Value(sum);
        let product = emit.mul(gain, sum)?;
        back[3] = Cotangent::Value(emit.neg(product)?);
    }
    if site.wants(1) || site.wants(4) {
        let mean = emit.reshape(view.mean, &channel)?;
        let centred = emit.sub(view.x, mean)?;
        let product = emit.mul(dy, centred)?;
        let sum = emit.reduce_sum(product, &axes, false)?;
        let scale = emit.mul(inverse, sum)?;
        back[1] = Cotangent::Value(scale);
        let square = emit.mul(gain, inverse)?;
        let product = emit.mul(square, scale)?;
        back[4] = Cotangent::Value(emit.scale(product, -0.5)?);
    }
    Ok(back)
}
