//! `Exp`: y = eˣ; x̄ = ȳ ⊙ y.

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let y = site.y(emit)?;
    let dy = site.dy(emit)?;
    Ok(first(emit.mul(dy, y)?))
}
