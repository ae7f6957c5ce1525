//! `Concat`: each x̄ᵢ is its part of ȳ.

use super::site::{Cotangent, Site, axis_of};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let rank = emit.dims(site.y(emit)?)?.len();
    let axis = axis_of(site.read(emit).int("axis").unwrap_or(0), rank);
    let dy = site.dy(emit)?;
    let mut at = 0;
    let mut back = Vec::with_capacity(site.operands.len());
    for slot in 0..site.operands.len() {
        let size = emit.dims(site.operand(emit, slot)?)?[axis];
        back.push(if site.wants(slot) {
            Cotangent::Value(emit.slice(dy, &[axis], &[at], &[at + size], &[1])?)
        } else {
            Cotangent::NotDifferentiable
        });
        at += size;
    }
    Ok(back)
}
