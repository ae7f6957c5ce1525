//! `Softsign`: y = x / (1 + |x|); x̄ = ȳ ⊙ (1 − |y|)².

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let y = site.y(emit)?;
    let dy = site.dy(emit)?;
    let size = emit.call("Abs", &[y])?;
    let rest = emit.complement(1.0, size)?;
    let slope = emit.mul(rest, rest)?;
    Ok(first(emit.mul(dy, slope)?))
}
