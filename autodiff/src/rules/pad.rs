//! `Pad` in constant mode: x̄ is ȳ without the padding.

use super::site::{Cotangent, Site, axis_of, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let x = site.operand(emit, 0)?;
    let rank = emit.dims(x)?.len();
    if site.wants(2) {
        return Err(site.refuse(emit, "its filling would be trained"));
    }
    let pads = pads(emit, site, rank)?;
    let back: Vec<i64> = pads.iter().map(|pad| -pad).collect();
    let dy = site.dy(emit)?;
    Ok(first(emit.pad(dy, &back[..rank], &back[rank..], 0.0)?))
}

/// The pads of every axis: first the pads before, then the pads after.
fn pads(emit: &Emit<'_>, site: &Site, rank: usize) -> Result<Vec<i64>> {
    if !matches!(site.read(emit).string("mode"), None | Some("constant")) {
        return Err(site.refuse(emit, "only the constant mode is differentiated"));
    }
    let given = site.integers(emit, 1)?.unwrap_or_default();
    let Some(axes) = site.integers(emit, 3)? else { return Ok(given) };
    let mut pads = vec![0; 2 * rank];
    for (at, axis) in axes.iter().enumerate() {
        let axis = axis_of(*axis, rank);
        (pads[axis], pads[rank + axis]) = (given[at], given[axes.len() + at]);
    }
    Ok(pads)
}
