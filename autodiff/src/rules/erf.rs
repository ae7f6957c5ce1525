//! `Erf`: y = erf x; x̄ = ȳ ⊙ 2/√π · exp(−x²).

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let x = site.operand(emit, 0)?;
    let dy = site.dy(emit)?;
    let square = emit.mul(x, x)?;
    let negative = emit.neg(square)?;
    let bell = emit.call("Exp", &[negative])?;
    let slope = emit.scale(bell, std::f64::consts::FRAC_2_SQRT_PI)?;
    Ok(first(emit.mul(dy, slope)?))
}
