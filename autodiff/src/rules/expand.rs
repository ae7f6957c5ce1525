//! `Expand`: y = x repeated; x̄ is ȳ summed to the dims of x by the driver.

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let dy = site.dy(emit)?;
    Ok(first(dy))
}
