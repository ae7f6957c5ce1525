//! `Gather` with constant indices: y = x at `indices` of an axis; x̄ᵢ = Σ of ȳ over the places that took index i.
//!
//! The rule gathers back: for each entry of x it gathers the places that took this entry, filled up with a place that
//! holds zero, then sums them. `ScatterElements` with addition exists on fewer providers. Consecutive indices are a
//! slice, so the rule pads ȳ back.

use super::site::{Cotangent, Site, axis_of, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let x = site.operand(emit, 0)?;
    let dims = emit.dims(x)?;
    let axis = axis_of(site.read(emit).int("axis").unwrap_or(0), dims.len());
    let indices = site.integers(emit, 1)?.unwrap_or_default();
    let mut places: Vec<Vec<i64>> = vec![Vec::new(); dims[axis]];
    for (place, index) in indices.iter().enumerate() {
        places[axis_of(*index, dims[axis])].push(place as i64);
    }
    let most = places.iter().map(Vec::len).max().unwrap_or(0);
    let zero = indices.len() as i64;
    let back: Vec<i64> = places
        .iter()
        .flat_map(|list| (0..most).map(|at| list.get(at).copied().unwrap_or(zero)))
        .collect();
    let mut flat = dims.clone();
    flat[axis] = indices.len();
    let dy = site.dy(emit)?;
    let dy = emit.reshape(dy, &flat)?;
    if let Some(start) = slice_start(&indices, dims[axis]) {
        let (mut begin, mut end) = (vec![0; dims.len()], vec![0; dims.len()]);
        begin[axis] = start as i64;
        end[axis] = (dims[axis] - start - indices.len()) as i64;
        return Ok(first(emit.pad(dy, &begin, &end, 0.0)?));
    }
    let mut end = vec![0; dims.len()];
    end[axis] = 1;
    let padded = emit.pad(dy, &vec![0; dims.len()], &end, 0.0)?;
    let gathered = emit.gather(padded, axis, &back)?;
    let mut apart = dims.clone();
    apart.insert(axis + 1, most);
    let apart = emit.reshape(gathered, &apart)?;
    Ok(first(emit.reduce_sum(apart, &[axis + 1], false)?))
}

/// The first index, if the other indices follow it one by one.
fn slice_start(indices: &[i64], size: usize) -> Option<usize> {
    let start = axis_of(*indices.first()?, size);
    let mut expected = start..size;
    indices.iter().all(|index| expected.next() == Some(axis_of(*index, size))).then_some(start)
}
