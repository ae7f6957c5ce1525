//! Reductions over integers; the largest and the smallest element also over floats.

use super::movement::permute;
use super::number::{Number, with_number};
use super::{Call, count};
use crate::infer::attributes;
use crate::tensor::Tensor;

/// `ReduceSum`, `ReduceProd`, `ReduceMax`, `ReduceMin`.
pub(super) fn reduce(call: &Call<'_>) -> Option<Tensor> {
    let data = call.operand(0)?;
    let rank = data.dims().len();
    let keep = call.int("keepdims", 1)? != 0;
    let named = call.axes(1)?.named().filter(|axes| !axes.is_empty());
    if named.is_none() && call.int("noop_with_empty_axes", 0)? != 0 {
        return Some(data.clone());
    }
    let axes = match named {
        Some(axes) => attributes::axes(&axes, rank)?,
        None => (0..rank).collect(),
    };
    let is_reduced = |axis: &usize| axes.binary_search(axis).is_ok();
    let mut dims = Vec::with_capacity(rank);
    for (axis, dim) in data.dims().iter().enumerate() {
        if !is_reduced(&axis) {
            dims.push(*dim);
        } else if keep {
            dims.push(1);
        }
    }
    let mut order: Vec<usize> = (0..rank).filter(|axis| !is_reduced(axis)).collect();
    order.extend(&axes);
    // [kept axes, reduced axes]
    let rows = permute(call, data, &order)?;
    let width = count(&rows.dims()[rank - axes.len()..])?;
    with_number!(data.dtype(), fold(call, &rows, width, dims))
}

fn fold<T: Number>(
    call: &Call<'_>,
    rows: &Tensor,
    width: usize,
    dims: Vec<usize>,
) -> Option<Tensor> {
    let (start, op) = match call.node.op_type() {
        "ReduceSum" if T::IS_INTEGER => (T::of(0), T::add as fn(T, T) -> Option<T>),
        "ReduceProd" if T::IS_INTEGER => (T::of(1), T::mul as fn(T, T) -> Option<T>),
        "ReduceMax" => (None, T::greatest as fn(T, T) -> Option<T>),
        "ReduceMin" => (None, T::least as fn(T, T) -> Option<T>),
        _ => return None,
    };
    call.bytes_of(&dims, size_of::<T>())?;
    let values = T::read(rows.bytes());
    let mut out = Vec::new();
    for row in 0..count(&dims)? {
        let row = values.get(row.checked_mul(width)?..(row + 1).checked_mul(width)?)?;
        let first = start.or_else(|| row.first().copied())?;
        let rest = if start.is_some() { row } else { row.get(1..)? };
        out.push(rest.iter().try_fold(first, |total, value| op(total, *value))?);
    }
    Tensor::new(rows.dtype(), dims, T::write(&out).into()).ok()
}
