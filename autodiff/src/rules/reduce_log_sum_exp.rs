//! `ReduceLogSumExp`: y = ln Σ eˣ over axes; x̄ = ȳ ⊙ eˣ⁻ʸ.

use super::reduce_sum::Reduced;
use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let reduced = Reduced::of(emit, site)?;
    let (x, y) = (site.operand(emit, 0)?, site.y(emit)?);
    let dy = site.dy(emit)?;
    let (y, dy) = (reduced.kept(emit, y)?, reduced.kept(emit, dy)?);
    let offset = emit.sub(x, y)?;
    let share = emit.call("Exp", &[offset])?;
    Ok(first(emit.mul(dy, share)?))
}
