//! `GlobalMaxPool`: y = max of x over the spatial axes; x̄ = ȳ in equal shares to the entries that equal y.

use super::reduce_sum::Reduced;
use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let reduced = Reduced::spatial(emit, site)?;
    reduced.extremum(emit, site)
}
