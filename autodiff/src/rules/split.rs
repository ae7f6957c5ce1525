//! `Split`: x̄ = the ȳᵢ side by side, with zeros for a part that nothing reads.

use super::site::{Cotangent, Site, axis_of, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let rank = emit.dims(site.operand(emit, 0)?)?.len();
    let axis = axis_of(site.read(emit).int("axis").unwrap_or(0), rank);
    let mut parts = Vec::with_capacity(site.results.len());
    for slot in 0..site.results.len() {
        parts.push(site.cotangent(emit, slot)?);
    }
    Ok(first(emit.concat(&parts, axis)?))
}
