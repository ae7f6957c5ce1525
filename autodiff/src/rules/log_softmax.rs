//! `LogSoftmax`: y = x − ln Σeˣ along an axis; x̄ = ȳ − eʸ ⊙ Σȳ.

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let axes = super::softmax::axes(emit, site)?;
    let y = site.y(emit)?;
    let dy = site.dy(emit)?;
    let sum = emit.reduce_sum(dy, &axes, true)?;
    let probability = emit.call("Exp", &[y])?;
    let share = emit.mul(probability, sum)?;
    Ok(first(emit.sub(dy, share)?))
}
