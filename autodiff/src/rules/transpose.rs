//! `Transpose`: x̄ is ȳ with the axes moved back.

use super::site::{Cotangent, Site, axis_of, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let rank = emit.dims(site.operand(emit, 0)?)?.len();
    let mut inverse: Vec<usize> = (0..rank).rev().collect();
    if let Some(perm) = site.read(emit).ints("perm") {
        let perm = perm.to_vec();
        for (to, from) in perm.iter().enumerate() {
            inverse[axis_of(*from, rank)] = to;
        }
    }
    let dy = site.dy(emit)?;
    Ok(first(emit.transpose(dy, &inverse)?))
}
