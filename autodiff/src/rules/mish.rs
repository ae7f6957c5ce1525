//! `Mish`: t = tanh(ln(1 + eˣ)), y = x ⊙ t; x̄ = ȳ ⊙ (t + x ⊙ sigmoid x ⊙ (1 − t²)).

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let x = site.operand(emit, 0)?;
    let dy = site.dy(emit)?;
    let softplus = emit.call("Softplus", &[x])?;
    let t = emit.call("Tanh", &[softplus])?;
    let square = emit.mul(t, t)?;
    let rest = emit.complement(1.0, square)?;
    let s = emit.call("Sigmoid", &[x])?;
    let inner = emit.mul(x, s)?;
    let bend = emit.mul(inner, rest)?;
    let slope = emit.add(t, bend)?;
    Ok(first(emit.mul(dy, slope)?))
}
