//! `Sqrt`: y = √x; x̄ = ȳ / (2·y).

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let y = site.y(emit)?;
    let dy = site.dy(emit)?;
    let half = emit.scale(dy, 0.5)?;
    Ok(first(emit.div(half, y)?))
}
