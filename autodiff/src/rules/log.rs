//! `Log`: y = ln x; x̄ = ȳ / x.

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let x = site.operand(emit, 0)?;
    let dy = site.dy(emit)?;
    Ok(first(emit.div(dy, x)?))
}
