//! `Min`: y = min xᵢ with broadcasting; ȳ goes to the first operand that equals y, and the others get 0.

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    super::max::chosen(emit, site)
}
