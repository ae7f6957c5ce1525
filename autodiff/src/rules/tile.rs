//! `Tile`: y = x repeated r times along each axis; x̄ = Σ over the repetitions of ȳ.

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let x = site.operand(emit, 0)?;
    let dims = emit.dims(x)?;
    let repeats = site.integers(emit, 1)?.unwrap_or_default();
    let split: Vec<usize> =
        repeats.iter().zip(&dims).flat_map(|(times, dim)| [*times as usize, *dim]).collect();
    let dy = site.dy(emit)?;
    let apart = emit.reshape(dy, &split)?;
    let axes: Vec<usize> = (0..dims.len()).map(|axis| 2 * axis).collect();
    Ok(first(emit.reduce_sum(apart, &axes, false)?))
}
