//! `PRelu`: y = x for x > 0, else a ⊙ x; x̄ = ȳ ⊙ ([x > 0] + [x ≤ 0] ⊙ a), ā = ȳ ⊙ x ⊙ [x ≤ 0].

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let (x, slope) = (site.operand(emit, 0)?, site.operand(emit, 1)?);
    let dy = site.dy(emit)?;
    let is_open = emit.mask_against("Greater", x, 0.0)?;
    let is_shut = emit.complement(1.0, is_open)?;
    let mut back = vec![Cotangent::NotDifferentiable; 2];
    if site.wants(0) {
        let low = emit.mul(is_shut, slope)?;
        let gain = emit.add(is_open, low)?;
        back[0] = Cotangent::Value(emit.mul(dy, gain)?);
    }
    if site.wants(1) {
        let low = emit.mul(x, is_shut)?;
        back[1] = Cotangent::Value(emit.mul(dy, low)?);
    }
    Ok(back)
}
