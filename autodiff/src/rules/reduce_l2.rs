//! `ReduceL2`: y = √Σ x² over axes; x̄ = ȳ ⊙ x / y, and 0 where y is 0.

use super::reduce_sum::Reduced;
use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let reduced = Reduced::of(emit, site)?;
    let (x, y) = (site.operand(emit, 0)?, site.y(emit)?);
    let dy = site.dy(emit)?;
    let (y, dy) = (reduced.kept(emit, y)?, reduced.kept(emit, dy)?);
    let least = emit.scalar(y, 1e-30)?;
    let norm = emit.call("Max", &[y, least])?;
    let share = emit.div(dy, norm)?;
    Ok(first(emit.mul(x, share)?))
}
