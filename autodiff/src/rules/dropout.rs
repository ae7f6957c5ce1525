//! `Dropout` in inference form: y = x, x̄ = ȳ.

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    if !updp_ir::view::is_inference_dropout(emit.graph(), site.node, emit.opset()) {
        return Err(site.refuse(emit, "it is in training form"));
    }
    let dy = site.dy(emit)?;
    Ok(first(dy))
}
