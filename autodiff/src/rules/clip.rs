//! `Clip`: y = min(max(x, low), high); x̄ = ȳ ⊙ [low < x < high]: 0 at the kinks.

use super::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    if site.wants(1) || site.wants(2) {
        return Err(site.refuse(emit, "its bounds would be trained"));
    }
    let x = site.operand(emit, 0)?;
    let mut dx = site.dy(emit)?;
    for (slot, comparison) in [(1, "Greater"), (2, "Less")] {
        if let Some(bound) = site.optional(slot) {
            let inside = emit.mask(comparison, x, bound)?;
            dx = emit.mul(dx, inside)?;
        }
    }
    Ok(first(dx))
}
