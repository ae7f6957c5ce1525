//! `Max`: y = max xᵢ with broadcasting; ȳ goes to the first operand that equals y, and the others get 0.

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    chosen(emit, site)
}

/// The common part of `Max` and `Min`: their result equals one of the operands.
pub(super) fn chosen(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let y = site.y(emit)?;
    let mut rest = site.dy(emit)?;
    let count = site.operands.len();
    let mut back = Vec::with_capacity(count);
    for slot in 0..count - 1 {
        let x = site.operand(emit, slot)?;
        let is_chosen = emit.mask("Equal", y, x)?;
        let part = emit.mul(rest, is_chosen)?;
        rest = emit.sub(rest, part)?;
        back.push(Cotangent::Value(part));
    }
    back.push(Cotangent::Value(rest));
    Ok(back)
}
