//! `Gelu`: y = x·Φ(x), x̄ = ȳ ⊙ (Φ(x) + x·φ(x)); the `tanh` approximation of Φ has its own derivative.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use updp_ir::{Node, ValueId};

use super::site::{Cotangent, Site, first};
use crate::composite::Gelu;
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let x = site.operand(emit, 0)?;
    let dy = site.dy(emit)?;
    Ok(first(match site.read(emit).string("approximate") {
        None | Some("none") => exact_gradient(emit, x, dy)?,
        Some("tanh") => {
            let slope = approximate(emit, x)?;
            emit.mul(dy, slope)?
        }
        Some(_) => return Err(site.refuse(emit, "the approximation is unknown")),
    }))
}

/// x̄ of the exact function.
fn exact_gradient(emit: &mut Emit<'_>, x: ValueId, dy: ValueId) -> Result<ValueId> {
    let inner = emit.scale(x, FRAC_1_SQRT_2)?;
    let erf = emit.call("Erf", &[inner])?;
    let sum = emit.shift(erf, 1.0)?;
    gradient(emit, Gelu { x, inner, sum }, dy)
}

/// x̄ = ȳ ⊙ (Φ(x) + x·φ(x)), Φ = ½·(1 + erf(x/√2)), φ = exp(−x²/2)/√(2π).
pub(crate) fn gradient(emit: &mut Emit<'_>, gelu: Gelu, dy: ValueId) -> Result<ValueId> {
    let Gelu { x, inner, sum } = gelu;
    let phi = emit.scale(sum, 0.5)?;
    let square = emit.mul(inner, inner)?;
    let negative = emit.neg(square)?;
    let bell = emit.call("Exp", &[negative])?;
    let density = emit.scale(bell, 0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI)?;
    let bend = emit.mul(x, density)?;
    let slope = emit.add(phi, bend)?;
    let dx = emit.mul(dy, slope)?;
    emit.record_fused_alternative(Node::new("GeluGradient"), &[dy, x], &[dx])?;
    Ok(dx)
}

/// ½·(1 + t) + ½·x·(1 − t²)·u′ with t = tanh u, u = √(2/π)·(x + 0.044715·x³).
fn approximate(emit: &mut Emit<'_>, x: ValueId) -> Result<ValueId> {
    let root = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
    let square = emit.mul(x, x)?;
    let cubic = emit.scale(square, 0.044_715 * root)?;
    let factor = emit.shift(cubic, root)?;
    let u = emit.mul(x, factor)?;
    let t = emit.call("Tanh", &[u])?;
    let steep = emit.scale(square, 3.0 * 0.044_715 * root)?;
    let inner_slope = emit.shift(steep, root)?;
    let t_square = emit.mul(t, t)?;
    let rest = emit.complement(1.0, t_square)?;
    let bend = emit.mul(rest, inner_slope)?;
    let bend = emit.mul(x, bend)?;
    let one = emit.shift(t, 1.0)?;
    let sum = emit.add(one, bend)?;
    emit.scale(sum, 0.5)
}
