//! `Sub`: y = a − b with broadcasting; ā = ȳ, b̄ = −ȳ.

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let dy = site.dy(emit)?;
    let mut back = vec![Cotangent::Value(dy), Cotangent::NotDifferentiable];
    if site.wants(1) {
        // Summing first makes the negation as small as the operand.
        let b = site.operand(emit, 1)?;
        let dims = emit.dims(b)?;
        let sum = emit.sum_to(dy, &dims)?;
        back[1] = Cotangent::Value(emit.neg(sum)?);
    }
    Ok(back)
}
