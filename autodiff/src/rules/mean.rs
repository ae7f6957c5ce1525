//! `Mean`: y = Σ xᵢ / n with broadcasting; x̄ᵢ = ȳ / n.

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let dy = site.dy(emit)?;
    let part = emit.scale(dy, 1.0 / site.operands.len() as f64)?;
    Ok(vec![Cotangent::Value(part); site.operands.len()])
}
