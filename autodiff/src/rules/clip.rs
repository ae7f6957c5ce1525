//! `Clip`: y = min(max(x, low), high); x̄ = ȳ ⊙ [low < x < high], which is 0 at the kinks.

use updp_ir::Node;

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    if site.wants(1) || site.wants(2) {
        return Err(site.refuse(emit, "its bounds would be trained"));
    }
    let x = site.operand(emit, 0)?;
    let dy = site.dy(emit)?;
    let bounds =
        [1, 2].map(|slot| Some(emit.constant_of(site.optional(slot)?)?.scalar_f64()? as f32));
    let mut inside = None;
    for (slot, comparison) in [(1, "Greater"), (2, "Less")] {
        if let Some(bound) = site.optional(slot) {
            let holds = emit.call(comparison, &[x, bound])?;
            inside = Some(match inside {
                None => holds,
                Some(other) => emit.call("And", &[other, holds])?,
            });
        }
    }
    let Some(inside) = inside else { return Ok(first(dy)) };
    let dtype = emit.dtype(x)?;
    let inside = emit.cast(inside, dtype)?;
    let dx = emit.mul(dy, inside)?;
    if let [Some(low), Some(high)] = bounds {
        let node = Node::new("ClipGradient").with("low", low).with("high", high);
        emit.record_fused_alternative(node, &[dy, x], &[dx])?;
    }
    Ok(first(dx))
}
