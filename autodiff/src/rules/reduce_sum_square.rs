//! `ReduceSumSquare`: y = Σ x² over axes; x̄ = 2·ȳ ⊙ x.

use super::reduce_sum::Reduced;
use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let reduced = Reduced::of(emit, site)?;
    let x = site.operand(emit, 0)?;
    let dy = site.dy(emit)?;
    let dy = reduced.kept(emit, dy)?;
    let twice = emit.scale(dy, 2.0)?;
    Ok(first(emit.mul(x, twice)?))
}
