//! `Where`: y = a where c, else b; ā = ȳ ⊙ [c], b̄ = ȳ ⊙ [¬c]. The rule uses masks, because `Where` is slow in ONNX
//! Runtime.

use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let condition = site.operand(emit, 0)?;
    let dy = site.dy(emit)?;
    let dtype = emit.dtype(dy)?;
    let is_first = emit.cast(condition, dtype)?;
    let part = emit.mul(dy, is_first)?;
    let mut back =
        vec![Cotangent::NotDifferentiable, Cotangent::Value(part), Cotangent::NotDifferentiable];
    if site.wants(2) {
        back[2] = Cotangent::Value(emit.sub(dy, part)?);
    }
    Ok(back)
}
