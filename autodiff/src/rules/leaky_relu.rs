//! `LeakyRelu`: y = x for x > 0, else α·x; x̄ = ȳ ⊙ (α + (1 − α)·[x > 0]).

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let alpha = f64::from(site.read(emit).float("alpha").unwrap_or(0.01));
    let x = site.operand(emit, 0)?;
    let dy = site.dy(emit)?;
    let is_open = emit.mask_against("Greater", x, 0.0)?;
    let gain = emit.scale(is_open, 1.0 - alpha)?;
    let slope = emit.shift(gain, alpha)?;
    Ok(first(emit.mul(dy, slope)?))
}
