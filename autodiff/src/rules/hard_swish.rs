//! `HardSwish`: y = x ⊙ max(0, min(1, x/6 + ½)); x̄ = ȳ ⊙ ([x > 3] + [−3 < x ≤ 3] ⊙ (x/3 + ½)).

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let x = site.operand(emit, 0)?;
    let dy = site.dy(emit)?;
    let above = emit.mask_against("Greater", x, -3.0)?;
    let full = emit.mask_against("Greater", x, 3.0)?;
    let inside = emit.sub(above, full)?;
    let third = emit.scale(x, 1.0 / 3.0)?;
    let line = emit.shift(third, 0.5)?;
    let ramp = emit.mul(inside, line)?;
    let slope = emit.add(full, ramp)?;
    Ok(first(emit.mul(dy, slope)?))
}
