//! `Reciprocal`: y = 1 / x; x̄ = −ȳ ⊙ y².

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let y = site.y(emit)?;
    let dy = site.dy(emit)?;
    let square = emit.mul(y, y)?;
    let product = emit.mul(dy, square)?;
    Ok(first(emit.neg(product)?))
}
