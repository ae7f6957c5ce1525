//! `Div`: y = a / b with broadcasting; ā = ȳ / b, b̄ = −ȳ ⊙ y / b.

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let (b, y) = (site.operand(emit, 1)?, site.y(emit)?);
    let dy = site.dy(emit)?;
    let part = emit.div(dy, b)?;
    let mut back = vec![Cotangent::Value(part), Cotangent::NotDifferentiable];
    if site.wants(1) {
        let product = emit.mul(part, y)?;
        back[1] = Cotangent::Value(emit.neg(product)?);
    }
    Ok(back)
}
