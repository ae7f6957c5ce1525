//! `Sigmoid`: y = 1 / (1 + e⁻ˣ); x̄ = ȳ ⊙ y ⊙ (1 − y).

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let y = site.y(emit)?;
    let dy = site.dy(emit)?;
    let rest = emit.complement(1.0, y)?;
    let slope = emit.mul(y, rest)?;
    Ok(first(emit.mul(dy, slope)?))
}
