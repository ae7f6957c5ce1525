//! Operators that read dims, or give the same bytes other dims.

use super::{Call, count};
use crate::infer::attributes;
use crate::tensor::Tensor;

/// `Shape`: the dims from `start` to `end` (opset 15) as an i64 vector.
pub(super) fn shape(call: &Call<'_>) -> Option<Tensor> {
    let dims = call.operand(0)?.dims();
    let (from, len) =
        attributes::slice_range(dims.len(), call.int("start", 0)?, call.int("end", i64::MAX)?, 1)?;
    let dims: Vec<i64> =
        dims[from..from + len].iter().map(|d| i64::try_from(*d).ok()).collect::<Option<_>>()?;
    Tensor::from_i64(vec![len], &dims).ok()
}

/// `Size`: the element count as an i64 scalar.
pub(super) fn size(call: &Call<'_>) -> Option<Tensor> {
    let count = count(call.operand(0)?.dims())?;
    Tensor::from_i64(Vec::new(), &[i64::try_from(count).ok()?]).ok()
}

/// `Reshape` with `0` (copy, or zero under `allowzero`) and one `-1`.
pub(super) fn reshape(call: &Call<'_>) -> Option<Tensor> {
    let data = call.operand(0)?;
    let wanted = if call.opset < 5 { call.node.ints("shape")?.to_vec() } else { call.ints(1)? };
    let allow_zero = call.int("allowzero", 0)? != 0;
    let mut dims = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (position, entry) in wanted.iter().enumerate() {
        dims.push(match entry {
            -1 if open.is_none() => {
                open = Some(position);
                1
            }
            0 if !allow_zero => *data.dims().get(position)?,
            entry => usize::try_from(*entry).ok()?,
        });
    }
    if let Some(position) = open {
        let rest = count(&dims)?;
        let total = count(data.dims())?;
        if rest == 0 || !total.is_multiple_of(rest) {
            return None;
        }
        dims[position] = total / rest;
    }
    data.with_dims(dims).ok()
}

/// `Flatten` to two dims split at `axis`.
pub(super) fn flatten(call: &Call<'_>) -> Option<Tensor> {
    let data = call.operand(0)?;
    let rank = data.dims().len();
    let axis = call.int("axis", 1)?;
    let axis = if axis == rank as i64 { rank } else { attributes::axis(axis, rank)? };
    let (head, tail) = data.dims().split_at(axis);
    data.with_dims(vec![count(head)?, count(tail)?]).ok()
}

/// `Squeeze`: removes the named axes (all axes of size one if none are named).
pub(super) fn squeeze(call: &Call<'_>) -> Option<Tensor> {
    let data = call.operand(0)?;
    let dims = data.dims();
    let kept: Vec<usize> = match call.axes(1)?.named() {
        None => dims.iter().copied().filter(|d| *d != 1).collect(),
        Some(axes) => {
            let axes = attributes::axes(&axes, dims.len())?;
            if axes.iter().any(|axis| dims[*axis] != 1) {
                return None;
            }
            let kept = dims.iter().enumerate().filter(|(at, _)| !axes.contains(at));
            kept.map(|(_, dim)| *dim).collect()
        }
    };
    data.with_dims(kept).ok()
}

/// `Unsqueeze`: adds size-one dims at the named places of the result.
pub(super) fn unsqueeze(call: &Call<'_>) -> Option<Tensor> {
    let data = call.operand(0)?;
    let axes = call.axes(1)?.named()?;
    let rank = data.dims().len().checked_add(axes.len())?;
    let axes = attributes::axes(&axes, rank)?;
    let mut old = data.dims().iter();
    let dims: Vec<usize> = (0..rank)
        .map(|at| if axes.binary_search(&at).is_ok() { Some(1) } else { old.next().copied() })
        .collect::<Option<_>>()?;
    data.with_dims(dims).ok()
}
