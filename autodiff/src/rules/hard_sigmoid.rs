//! `HardSigmoid`: y = max(0, min(1, α·x + β)); x̄ = ȳ ⊙ α·[0 < y < 1].

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let alpha = f64::from(site.read(emit).float("alpha").unwrap_or(0.2));
    let y = site.y(emit)?;
    let dy = site.dy(emit)?;
    let above = emit.mask_against("Greater", y, 0.0)?;
    let below = emit.mask_against("Less", y, 1.0)?;
    let inside = emit.mul(above, below)?;
    let slope = emit.scale(inside, alpha)?;
    Ok(first(emit.mul(dy, slope)?))
}
