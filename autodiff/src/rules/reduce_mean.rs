//! `ReduceMean`: y = Σ x / n over axes; x̄ = ȳ / n, repeated by the driver.

use super::reduce_sum::Reduced;
use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let reduced = Reduced::of(emit, site)?;
    let dy = site.dy(emit)?;
    let dy = reduced.kept(emit, dy)?;
    Ok(first(emit.scale(dy, 1.0 / reduced.count as f64)?))
}
