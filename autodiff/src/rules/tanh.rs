//! `Tanh`: y = tanh x; x̄ = ȳ ⊙ (1 − y²).

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let y = site.y(emit)?;
    let dy = site.dy(emit)?;
    let square = emit.mul(y, y)?;
    let slope = emit.complement(1.0, square)?;
    Ok(first(emit.mul(dy, slope)?))
}
