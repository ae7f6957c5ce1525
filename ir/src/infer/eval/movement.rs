//! Operators that move whole elements: any dtype of whole bytes, by strided block copies.

use super::{Call, count};
use crate::dtype::DataType;
use crate::infer::attributes;
use crate::tensor::Tensor;

const TILE: usize = 32;

/// Bytes of one element; `None` for strings and packed types.
pub(super) fn element_size(dtype: DataType) -> Option<usize> {
    let bits = dtype.bits()?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// Steps in elements between neighbours along each axis, in C order; exact unless the tensor is
/// empty.
fn strides(dims: &[usize]) -> Vec<isize> {
    let mut steps = vec![1_isize; dims.len()];
    for axis in (1..dims.len()).rev() {
        steps[axis - 1] = steps[axis].wrapping_mul(dims[axis] as isize);
    }
    steps
}

/// The elements of `data` at `offset + Σ index·step` for every index within `axes` (size, step).
///
/// Every position that the axes reach lies within `data`, unless the result is empty.
fn view(call: &Call<'_>, data: &Tensor, offset: usize, axes: &[(usize, isize)]) -> Option<Tensor> {
    let dims: Vec<usize> = axes.iter().map(|axis| axis.0).collect();
    let size = element_size(data.dtype())?;
    let mut out = vec![0_u8; call.bytes_of(&dims, size)?];
    if !out.is_empty() {
        let axes = coalesce(axes);
        match size {
            1 => copy::<1>(data.bytes(), &mut out, offset as isize, &axes),
            2 => copy::<2>(data.bytes(), &mut out, offset as isize, &axes),
            4 => copy::<4>(data.bytes(), &mut out, offset as isize, &axes),
            8 => copy::<8>(data.bytes(), &mut out, offset as isize, &axes),
            16 => copy::<16>(data.bytes(), &mut out, offset as isize, &axes),
            _ => return None,
        }
    }
    Tensor::new(data.dtype(), dims, out.into()).ok()
}

/// Drops axes of size one and joins axes that are walked as one.
fn coalesce(axes: &[(usize, isize)]) -> Vec<(usize, isize)> {
    let mut joined: Vec<(usize, isize)> = Vec::with_capacity(axes.len());
    for (size, step) in axes.iter().copied().filter(|axis| axis.0 != 1) {
        match joined.last_mut() {
            Some(outer) if outer.1 == step.wrapping_mul(size as isize) => {
                *outer = (outer.0 * size, step);
            }
            _ => joined.push((size, step)),
        }
    }
    joined
}

fn copy<const N: usize>(from: &[u8], to: &mut [u8], offset: isize, axes: &[(usize, isize)]) {
    let (from, to) = (from.as_chunks::<N>().0, to.as_chunks_mut::<N>().0);
    let (outer, plane) = axes.split_at(axes.len().saturating_sub(2));
    let (rows, row_step, columns, step) = match plane {
        [row, column] => (row.0, row.1, column.0, column.1),
        [column] => (1, 0, column.0, column.1),
        _ => (1, 0, 1, 1),
    };
    let mut index = vec![0_usize; outer.len()];
    let mut start = offset;
    for plane in to.chunks_exact_mut(rows * columns) {
        if step == 1 {
            for (row, line) in plane.chunks_exact_mut(columns).enumerate() {
                let at = (start + row as isize * row_step) as usize;
                line.copy_from_slice(&from[at..at + columns]);
            }
        } else {
            for row_block in (0..rows).step_by(TILE) {
                for column_block in (0..columns).step_by(TILE) {
                    let end = columns.min(column_block + TILE);
                    for row in row_block..rows.min(row_block + TILE) {
                        let line = &mut plane[row * columns + column_block..row * columns + end];
                        let mut at = start + row as isize * row_step + column_block as isize * step;
                        for element in line {
                            *element = from[at as usize];
                            at = at.wrapping_add(step);
                        }
                    }
                }
            }
        }
        for (axis, at) in outer.iter().zip(&mut index).rev() {
            *at += 1;
            start += axis.1;
            if *at < axis.0 {
                break;
            }
            start -= axis.1 * axis.0 as isize;
            *at = 0;
        }
    }
}

/// Common dims of numpy broadcasting; `None` if the shapes do not agree.
pub(super) fn broadcast_dims(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], axis: usize| {
        (axis + dims.len()).checked_sub(rank).map_or(1, |place| dims[place])
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (x, y) if x == y => Some(x),
            (1, other) | (other, 1) => Some(other),
            _ => None,
        })
        .collect()
}

/// `data` repeated to `dims`; its own dims must broadcast to them.
pub(super) fn broadcast_to(call: &Call<'_>, data: &Tensor, dims: &[usize]) -> Option<Tensor> {
    if data.dims() == dims {
        return Some(data.clone());
    }
    let missing = dims.len().checked_sub(data.dims().len())?;
    let steps = strides(data.dims());
    let mut axes = Vec::with_capacity(dims.len());
    for (axis, size) in dims.iter().enumerate() {
        let own = axis.checked_sub(missing).map(|place| (data.dims()[place], steps[place]));
        axes.push(match own {
            Some((dim, step)) if dim == *size => (*size, step),
            None | Some((1, _)) => (*size, 0),
            Some(_) => return None,
        });
    }
    view(call, data, 0, &axes)
}

/// `data` with its axes in `order`, a permutation.
pub(super) fn permute(call: &Call<'_>, data: &Tensor, order: &[usize]) -> Option<Tensor> {
    let steps = strides(data.dims());
    let axes: Vec<_> = order.iter().map(|axis| (data.dims()[*axis], steps[*axis])).collect();
    view(call, data, 0, &axes)
}

/// `Transpose`.
pub(super) fn transpose(call: &Call<'_>) -> Option<Tensor> {
    let data = call.operand(0)?;
    permute(call, data, &attributes::permutation(call.node, data.dims().len())?)
}

/// `Expand` by broadcasting against a shape vector.
pub(super) fn expand(call: &Call<'_>) -> Option<Tensor> {
    let data = call.operand(0)?;
    let shape: Vec<usize> =
        call.ints(1)?.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<_>>()?;
    let dims = broadcast_dims(data.dims(), &shape)?;
    broadcast_to(call, data, &dims)
}

/// `Tile` (opset 6 form).
pub(super) fn tile(call: &Call<'_>) -> Option<Tensor> {
    let data = call.operand(0)?;
    let repeats = call.ints(1)?;
    if call.opset < 6 || repeats.len() != data.dims().len() {
        return None;
    }
    let mut axes = Vec::with_capacity(2 * repeats.len());
    let mut dims = Vec::with_capacity(repeats.len());
    for ((size, step), times) in data.dims().iter().zip(strides(data.dims())).zip(repeats) {
        let times = usize::try_from(times).ok()?;
        axes.extend([(times, 0), (*size, step)]);
        dims.push(times.checked_mul(*size)?);
    }
    view(call, data, 0, &axes)?.with_dims(dims).ok()
}

/// `Slice`: attribute form below opset 10, operand form from opset 10 on.
pub(super) fn slice(call: &Call<'_>) -> Option<Tensor> {
    let data = call.operand(0)?;
    let dims = data.dims();
    let (starts, ends) = if call.opset < 10 {
        (call.node.ints("starts")?.to_vec(), call.node.ints("ends")?.to_vec())
    } else {
        (call.ints(1)?, call.ints(2)?)
    };
    let is_named = call.opset < 10 || call.has_operand(3);
    let named = if is_named { call.axes(3)?.named() } else { None };
    let named = named.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let ones = || vec![1; starts.len()];
    let steps = if call.has_operand(4) { call.ints(4)? } else { ones() };
    attributes::axes(&named, dims.len())?;
    if [ends.len(), named.len(), steps.len()] != [starts.len(); 3] {
        return None;
    }
    let own = strides(dims);
    let mut axes: Vec<(usize, isize)> = dims.iter().copied().zip(own.iter().copied()).collect();
    let mut offset = 0_usize;
    for (at, axis) in named.iter().enumerate() {
        let axis = attributes::axis(*axis, dims.len())?;
        let (first, len) = attributes::slice_range(dims[axis], starts[at], ends[at], steps[at])?;
        // With at most one element left, no step is taken.
        let step = if len > 1 { own[axis].wrapping_mul(steps[at] as isize) } else { 0 };
        axes[axis] = (len, step);
        offset = offset.wrapping_add(first.wrapping_mul(own[axis] as usize));
    }
    view(call, data, offset, &axes)
}

/// `Gather` along one axis; negative indices count from the end.
pub(super) fn gather(call: &Call<'_>) -> Option<Tensor> {
    let (data, indices) = (call.operand(0)?, call.operand(1)?);
    let axis = attributes::axis(call.int("axis", 0)?, data.dims().len())?;
    if !matches!(indices.dtype(), DataType::Int64 | DataType::Int32) {
        return None;
    }
    let picks: Vec<usize> = indices
        .to_i64()?
        .into_iter()
        .map(|index| attributes::axis(index, data.dims()[axis]))
        .collect::<Option<_>>()?;
    let (head, tail) = (&data.dims()[..axis], &data.dims()[axis + 1..]);
    let dims = [head, indices.dims(), tail].concat();
    let size = element_size(data.dtype())?;
    let mut out = Vec::with_capacity(call.bytes_of(&dims, size)?);
    let chunk = count(tail)?.checked_mul(size)?;
    if count(&dims)? > 0 {
        for block in data.bytes().chunks_exact(chunk * data.dims()[axis]) {
            for pick in &picks {
                out.extend_from_slice(&block[pick * chunk..(pick + 1) * chunk]);
            }
        }
    }
    Tensor::new(data.dtype(), dims, out.into()).ok()
}

/// `Concat` along one axis.
pub(super) fn concat(call: &Call<'_>) -> Option<Tensor> {
    let parts = call.all()?;
    let first = parts.first()?;
    if call.opset >= 4 && !call.node.has("axis") {
        return None;
    }
    let axis = attributes::axis(call.int("axis", 1)?, first.dims().len())?;
    let mut dims = first.dims().to_vec();
    dims[axis] = 0;
    for part in &parts {
        let fits = part.dtype() == first.dtype()
            && part.dims().len() == dims.len()
            && (0..dims.len()).all(|at| at == axis || part.dims()[at] == dims[at]);
        if !fits {
            return None;
        }
        dims[axis] = dims[axis].checked_add(part.dims()[axis])?;
    }
    let size = element_size(first.dtype())?;
    let mut out = Vec::with_capacity(call.bytes_of(&dims, size)?);
    if count(&dims)? > 0 {
        let inner = count(&dims[axis + 1..])? * size;
        for outer in 0..count(&dims[..axis])? {
            for part in &parts {
                let len = part.dims()[axis] * inner;
                out.extend_from_slice(&part.bytes()[outer * len..(outer + 1) * len]);
            }
        }
    }
    Tensor::new(first.dtype(), dims, out.into()).ok()
}

/// `Split` into the given lengths, or into equal lengths.
pub(super) fn split(call: &Call<'_>) -> Option<Vec<Tensor>> {
    let data = call.operand(0)?;
    let axis = attributes::axis(call.int("axis", 0)?, data.dims().len())?;
    let dim = data.dims()[axis];
    let lengths: Vec<usize> = if call.has_operand(1) || call.node.has("split") {
        let given =
            if call.has_operand(1) { call.ints(1)? } else { call.node.ints("split")?.to_vec() };
        given.iter().map(|len| usize::try_from(*len).ok()).collect::<Option<_>>()?
    } else {
        let parts = call.int("num_outputs", call.node.result_slots as i64)?;
        attributes::equal_split(dim, usize::try_from(parts).ok()?, call.opset)?
    };
    if lengths.iter().try_fold(0_usize, |sum, len| sum.checked_add(*len))? != dim {
        return None;
    }
    let own = strides(data.dims());
    let mut axes: Vec<(usize, isize)> =
        data.dims().iter().copied().zip(own.iter().copied()).collect();
    let mut first = 0_usize;
    let mut parts = Vec::with_capacity(lengths.len());
    for len in lengths {
        axes[axis].0 = len;
        parts.push(view(call, data, first.wrapping_mul(own[axis] as usize), &axes)?);
        first += len;
    }
    Some(parts)
}

/// `Pad` in constant mode; negative pads crop.
pub(super) fn pad(call: &Call<'_>) -> Option<Tensor> {
    let data = call.operand(0)?;
    let (dims, rank) = (data.dims(), data.dims().len());
    if call.node.has("mode") && call.node.string("mode")? != "constant" {
        return None;
    }
    let size = element_size(data.dtype())?;
    let (pads, fill) = pads_and_fill(call, data.dtype(), size)?;
    let axes: Vec<usize> = if call.has_operand(3) {
        call.ints(3)?.iter().map(|a| attributes::axis(*a, rank)).collect::<Option<_>>()?
    } else {
        (0..rank).collect()
    };
    if pads.len() != 2 * axes.len() {
        return None;
    }
    let mut around = vec![(0_i64, 0_i64); rank];
    for (at, axis) in axes.iter().enumerate() {
        around[*axis] = (pads[at], pads[at + axes.len()]);
    }
    let own = strides(dims);
    let mut kept = Vec::with_capacity(rank);
    let mut wide = Vec::with_capacity(rank);
    let mut offset = 0_usize;
    for (axis, (before, after)) in around.iter().enumerate() {
        let dim = i64::try_from(dims[axis]).ok()?;
        let crop = before.checked_neg()?.max(0);
        let left = dim.checked_sub(crop)?.checked_sub(after.checked_neg()?.max(0))?;
        wide.push(usize::try_from(dim.checked_add(*before)?.checked_add(*after)?).ok()?);
        kept.push((usize::try_from(left).ok()?, own[axis]));
        offset = offset.wrapping_add((crop as usize).wrapping_mul(own[axis] as usize));
    }
    let mut out = fill.repeat(call.bytes_of(&wide, size)? / size);
    let inside = view(call, data, offset, &kept)?;
    let row = kept.last().map_or(1, |axis| axis.0) * size;
    if !inside.is_empty() {
        let steps = strides(&wide);
        let corner =
            (0..rank).map(|axis| around[axis].0.max(0) as isize * steps[axis]).sum::<isize>();
        for (at, line) in inside.bytes().chunks_exact(row).enumerate() {
            let (mut rest, mut to) = (at, corner);
            for axis in (0..rank.saturating_sub(1)).rev() {
                to += (rest % kept[axis].0) as isize * steps[axis];
                rest /= kept[axis].0;
            }
            let to = to as usize * size;
            out[to..to + row].copy_from_slice(line);
        }
    }
    Tensor::new(data.dtype(), wide, out.into()).ok()
}

/// Pads (all begins, then all ends) and the bytes of one filling element.
fn pads_and_fill(call: &Call<'_>, dtype: DataType, size: usize) -> Option<(Vec<i64>, Vec<u8>)> {
    if call.opset < 11 {
        let pads = call.node.ints(if call.opset < 2 { "paddings" } else { "pads" })?.to_vec();
        let fill = call.node.float("value").unwrap_or(0.0);
        let fill = Tensor::from_f64(dtype, Vec::new(), &[f64::from(fill)]).ok()?;
        return Some((pads, fill.bytes().to_vec()));
    }
    let fill = match call.operand(2) {
        None => vec![0; size],
        Some(fill) if fill.dtype() == dtype && fill.len() == 1 => fill.bytes().to_vec(),
        Some(_) => return None,
    };
    Some((call.ints(1)?, fill))
}
