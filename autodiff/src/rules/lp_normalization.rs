//! `LpNormalization` with p = 2: y = x / ‖x‖ along an axis; x̄ = (ȳ − y ⊙ Σ ȳ⊙y) / ‖x‖.

use super::site::{Cotangent, Site, axis_of, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let (x, y) = (site.operand(emit, 0)?, site.y(emit)?);
    let node = site.read(emit);
    if node.int("p").unwrap_or(2) != 2 {
        return Err(site.refuse(emit, "only p = 2 is differentiated"));
    }
    let axis = node.int("axis").unwrap_or(-1);
    let axis = axis_of(axis, emit.dims(x)?.len());
    let dy = site.dy(emit)?;
    let product = emit.mul(dy, y)?;
    let along = emit.reduce_sum(product, &[axis], true)?;
    let part = emit.mul(y, along)?;
    let across = emit.sub(dy, part)?;
    let square = emit.reduce("ReduceSumSquare", x, &[axis], true)?;
    let norm = emit.call("Sqrt", &[square])?;
    Ok(first(emit.div(across, norm)?))
}
