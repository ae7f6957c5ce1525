//! `Add`: y = a + b with broadcasting; ā = ȳ, b̄ = ȳ, each summed to its operand's dims by the driver.

use super::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let dy = site.dy(emit)?;
    Ok(vec![Cotangent::Value(dy); 2])
}
