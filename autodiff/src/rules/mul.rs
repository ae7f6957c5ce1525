//! `Mul`: y = a ⊙ b with broadcasting; ā = ȳ ⊙ b, b̄ = ȳ ⊙ a.

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let dy = site.dy(emit)?;
    let mut back = vec![Cotangent::NotDifferentiable; 2];
    for (slot, other) in [(0, 1), (1, 0)] {
        if site.wants(slot) {
            let factor = site.operand(emit, other)?;
            back[slot] = Cotangent::Value(emit.mul(dy, factor)?);
        }
    }
    Ok(back)
}
