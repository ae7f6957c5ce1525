//! `Pow`: y = xᵖ with broadcasting; x̄ = ȳ ⊙ p ⊙ xᵖ⁻¹, p̄ = ȳ ⊙ y ⊙ ln x.

use updp_ir::ValueId;

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let (x, p) = (site.operand(emit, 0)?, site.operand(emit, 1)?);
    let dy = site.dy(emit)?;
    let mut back = vec![Cotangent::NotDifferentiable; 2];
    if site.wants(0) {
        let constant = emit.constant_of(p).and_then(|tensor| tensor.scalar_f64());
        let slope = match constant {
            Some(exponent) => constant_slope(emit, x, exponent)?,
            None => slope(emit, x, p)?,
        };
        back[0] = Cotangent::Value(emit.mul(dy, slope)?);
    }
    if site.wants(1) {
        let y = site.y(emit)?;
        let log = emit.call("Log", &[x])?;
        let product = emit.mul(y, log)?;
        back[1] = Cotangent::Value(emit.mul(dy, product)?);
    }
    Ok(back)
}

/// p·xᵖ⁻¹ for a number p, exact for squares.
fn constant_slope(emit: &mut Emit<'_>, x: ValueId, exponent: f64) -> Result<ValueId> {
    if exponent == 2.0 {
        return emit.scale(x, 2.0);
    }
    let reduced = emit.scalar(x, exponent - 1.0)?;
    let power = emit.call("Pow", &[x, reduced])?;
    emit.scale(power, exponent)
}

/// p ⊙ xᵖ⁻¹.
fn slope(emit: &mut Emit<'_>, x: ValueId, p: ValueId) -> Result<ValueId> {
    let dtype = emit.dtype(x)?;
    let p = if emit.dtype(p)? == dtype { p } else { emit.cast(p, dtype)? };
    let reduced = emit.shift(p, -1.0)?;
    let power = emit.call("Pow", &[x, reduced])?;
    emit.mul(p, power)
}
