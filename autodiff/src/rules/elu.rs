//! `Elu`: y = x for x > 0, else α·(eˣ − 1); x̄ = ȳ ⊙ ([x > 0] + [x ≤ 0] ⊙ (y + α)).

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let alpha = f64::from(site.read(emit).float("alpha").unwrap_or(1.0));
    exponential(emit, site, 1.0, alpha)
}

/// x̄ = ȳ ⊙ (γ·[x > 0] + [x ≤ 0] ⊙ (y + a)), where y = γ·x for x > 0, else a·(eˣ − 1).
pub(super) fn exponential(
    emit: &mut Emit<'_>,
    site: &Site,
    gamma: f64,
    a: f64,
) -> Result<Vec<Cotangent>> {
    let (x, y) = (site.operand(emit, 0)?, site.y(emit)?);
    let dy = site.dy(emit)?;
    let is_open = emit.mask_against("Greater", x, 0.0)?;
    let is_shut = emit.complement(1.0, is_open)?;
    let decay = emit.shift(y, a)?;
    let low = emit.mul(is_shut, decay)?;
    let high = emit.scale(is_open, gamma)?;
    let slope = emit.add(high, low)?;
    Ok(first(emit.mul(dy, slope)?))
}
