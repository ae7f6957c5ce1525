//! `Swish`: s = sigmoid(α·x), y = x ⊙ s; x̄ = ȳ ⊙ s ⊙ (1 + α·x ⊙ (1 − s)).

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let alpha = f64::from(site.read(emit).float("alpha").unwrap_or(1.0));
    let x = site.operand(emit, 0)?;
    let dy = site.dy(emit)?;
    let inner = emit.scale(x, alpha)?;
    let s = emit.call("Sigmoid", &[inner])?;
    let rest = emit.complement(1.0, s)?;
    let product = emit.mul(inner, rest)?;
    let gain = emit.shift(product, 1.0)?;
    let slope = emit.mul(s, gain)?;
    Ok(first(emit.mul(dy, slope)?))
}
