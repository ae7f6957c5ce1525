//! `Relu`: y = max(x, 0); x̄ = ȳ ⊙ [y > 0], which is 0 at the kink.

use updp_ir::Node;

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let y = site.y(emit)?;
    let dy = site.dy(emit)?;
    let is_open = emit.mask_against("Greater", y, 0.0)?;
    let dx = emit.mul(dy, is_open)?;
    emit.record_fused_alternative(Node::new("ReluGradient"), &[dy, y], &[dx])?;
    Ok(first(dx))
}
