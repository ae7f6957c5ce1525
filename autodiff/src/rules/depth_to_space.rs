//! `DepthToSpace`: a permutation of [N, C·b², H, W] into [N, C, H·b, W·b]; x̄ is ȳ permuted back.

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let dims = emit.dims(site.operand(emit, 0)?)?;
    let node = site.read(emit);
    let b = node.int("blocksize").unwrap_or(1).max(1) as usize;
    let is_column_first = node.string("mode") == Some("CRD");
    let (n, c, h, w) = (dims[0], dims[1] / (b * b), dims[2], dims[3]);
    let dy = site.dy(emit)?;
    let apart = emit.reshape(dy, &[n, c, h, b, w, b])?;
    let perm = if is_column_first { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
    let moved = emit.transpose(apart, &perm)?;
    Ok(first(emit.reshape(moved, &dims)?))
}
