//! `Slice` with constant bounds: x̄ is ȳ at the positions that the slice took, with zeros between them.

use updp_ir::view;

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let x = site.operand(emit, 0)?;
    let dims = emit.dims(x)?;
    let taken = emit.dims(site.y(emit)?)?;
    let steps = steps(emit, site, dims.len())?;
    let mut dx = site.dy(emit)?;
    let (mut begin, mut end) = (vec![0_i64; dims.len()], vec![0_i64; dims.len()]);
    for (axis, (start, step)) in steps.into_iter().enumerate() {
        let (size, count) = (dims[axis] as i64, taken[axis] as i64);
        let start = if start < 0 { start + size } else { start };
        let mut first = if step < 0 { start.clamp(0, size - 1) } else { start.clamp(0, size) };
        if step < 0 {
            let reversed: Vec<i64> = (0..count).rev().collect();
            dx = emit.gather(dx, axis, &reversed)?;
            first += (count - 1) * step;
        }
        let step = step.abs();
        if step > 1 {
            dx = spread(emit, dx, axis, step as usize)?;
        }
        begin[axis] = first;
        end[axis] = size - first - count * step;
    }
    Ok(first(emit.pad(dx, &begin, &end, 0.0)?))
}

/// The start and step of every axis.
fn steps(emit: &Emit<'_>, site: &Site, rank: usize) -> Result<Vec<(i64, i64)>> {
    // The bounds may follow from shapes. The view alone reads only initializers and `Constant` nodes.
    if let Some(view) = view::Slice::of(emit.graph(), site.node, emit.opset(), Some(rank)) {
        return Ok(view.start.into_iter().zip(view.step).collect());
    }
    let starts = site.integers(emit, 1)?.unwrap_or_default();
    let axes = site.integers(emit, 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = site.integers(emit, 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    let mut all = vec![(0, 1); rank];
    for ((axis, start), step) in axes.iter().zip(starts).zip(steps) {
        all[super::site::axis_of(*axis, rank)] = (start, step);
    }
    Ok(all)
}

/// Inserts `step − 1` zeros behind every entry of `axis`.
fn spread(
    emit: &mut Emit<'_>,
    x: updp_ir::ValueId,
    axis: usize,
    step: usize,
) -> Result<updp_ir::ValueId> {
    let dims = emit.dims(x)?;
    let mut apart = dims.clone();
    apart.insert(axis + 1, 1);
    let apart = emit.reshape(x, &apart)?;
    let begin = vec![0; dims.len() + 1];
    let mut end = begin.clone();
    end[axis + 1] = step as i64 - 1;
    let padded = emit.pad(apart, &begin, &end, 0.0)?;
    let mut joined = dims;
    joined[axis] *= step;
    emit.reshape(padded, &joined)
}
