//! `Sum`: y = Σ xᵢ with broadcasting; x̄ᵢ = ȳ.

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let dy = site.dy(emit)?;
    Ok(vec![Cotangent::Value(dy); site.operands.len()])
}
