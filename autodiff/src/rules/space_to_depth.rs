//! `SpaceToDepth`: a permutation of [N, C, H·b, W·b] into [N, b²·C, H, W]; x̄ is ȳ permuted back.

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let dims = emit.dims(site.operand(emit, 0)?)?;
    let b = site.read(emit).int("blocksize").unwrap_or(1).max(1) as usize;
    let (n, c, h, w) = (dims[0], dims[1], dims[2] / b, dims[3] / b);
    let dy = site.dy(emit)?;
    let apart = emit.reshape(dy, &[n, b, b, c, h, w])?;
    let moved = emit.transpose(apart, &[0, 3, 4, 1, 5, 2])?;
    Ok(first(emit.reshape(moved, &dims)?))
}
