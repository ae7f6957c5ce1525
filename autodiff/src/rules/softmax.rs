//! `Softmax`: y = eˣ / Σeˣ along an axis; x̄ = y ⊙ (ȳ − Σ ȳ⊙y).

use updp_ir::Node;

use super::site::{Cotangent, Site, axis_of, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let axes = axes(emit, site)?;
    let y = site.y(emit)?;
    let dy = site.dy(emit)?;
    let product = emit.mul(dy, y)?;
    let sum = emit.reduce_sum(product, &axes, true)?;
    let centred = emit.sub(dy, sum)?;
    let dx = emit.mul(y, centred)?;
    if axes == [emit.dims(y)?.len() - 1] {
        emit.record_fused_alternative(Node::new("SoftmaxGradient"), &[dy, y], &[dx])?;
    }
    Ok(first(dx))
}

/// The axes over which probabilities sum to 1: one axis from opset 13 on, all axes from `axis` on before opset 13.
pub(super) fn axes(emit: &Emit<'_>, site: &Site) -> Result<Vec<usize>> {
    let rank = emit.dims(site.operand(emit, 0)?)?.len();
    let given = site.read(emit).int("axis");
    Ok(if emit.opset() >= 13 {
        vec![axis_of(given.unwrap_or(-1), rank)]
    } else {
        (axis_of(given.unwrap_or(1), rank)..rank).collect()
    })
}
