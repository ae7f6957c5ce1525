//! Operators that make tensors from attributes and sizes.

use super::cast::convert;
use super::movement::element_size;
use super::{Call, count};
use crate::dtype::DataType;
use crate::proto::{SparseTensorProto, TensorProto};
use crate::tensor::Tensor;

/// `Constant` in every form; a sparse value is made dense.
pub(super) fn constant(call: &Call<'_>) -> Option<Tensor> {
    let node = call.node;
    let mut names = node.attribute_names();
    let name = names.next()?;
    if names.next().is_some() {
        return None;
    }
    match name {
        "value" => Tensor::from_proto(node.tensor_proto(name)?.clone(), None).ok(),
        "value_int" => Tensor::from_i64(Vec::new(), &[call.int(name, 0)?]).ok(),
        "value_ints" => node.ints(name).and_then(|v| Tensor::from_i64(vec![v.len()], v).ok()),
        "value_float" => Tensor::from_f32(Vec::new(), &[node.float(name)?]).ok(),
        "value_floats" => node.floats(name).and_then(|v| Tensor::from_f32(vec![v.len()], v).ok()),
        "value_string" | "value_strings" => {
            let attribute = node.attribute(name)?;
            let (dims, strings) = match &attribute.s {
                Some(string) if name == "value_string" => (Vec::new(), vec![string.clone()]),
                None if name == "value_strings" => {
                    (vec![attribute.strings.len() as i64], attribute.strings.clone())
                }
                _ => return None,
            };
            let proto = TensorProto {
                dims,
                data_type: Some(DataType::String.code()),
                string_data: strings,
                ..TensorProto::default()
            };
            Tensor::from_proto(proto, None).ok()
        }
        "sparse_value" => dense(call, node.attribute(name)?.sparse_tensor.as_ref()?),
        _ => None,
    }
}

/// A sparse tensor with its zeros written out; indices are `[NNZ]` or `[NNZ, rank]`.
fn dense(call: &Call<'_>, sparse: &SparseTensorProto) -> Option<Tensor> {
    let values = Tensor::from_proto(sparse.values.clone()?, None).ok()?;
    let indices = Tensor::from_proto(sparse.indices.clone()?, None).ok()?;
    let dims: Vec<usize> =
        sparse.dims.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<_>>()?;
    let size = element_size(values.dtype())?;
    let mut out = vec![0_u8; call.bytes_of(&dims, size)?];
    let entries = values.len();
    let width = match indices.dims() {
        [n] if *n == entries => 1,
        [n, rank] if *n == entries && *rank == dims.len() && *rank > 0 => *rank,
        _ => return None,
    };
    if indices.dtype() != DataType::Int64 || values.dims().len() != 1 {
        return None;
    }
    let places = indices.to_i64()?;
    for (index, value) in places.chunks_exact(width).zip(values.bytes().chunks_exact(size)) {
        let place = if indices.dims().len() == 1 {
            usize::try_from(index[0]).ok().filter(|place| *place < out.len() / size)?
        } else {
            index.iter().zip(&dims).try_fold(0_usize, |place, (at, dim)| {
                let at = usize::try_from(*at).ok().filter(|at| at < dim)?;
                place.checked_mul(*dim)?.checked_add(at)
            })?
        };
        out.get_mut(place.checked_mul(size)?..(place + 1).checked_mul(size)?)?
            .copy_from_slice(value);
    }
    Tensor::new(values.dtype(), dims, out.into()).ok()
}

/// `ConstantOfShape`: one element (f32 zero by default) at every position.
pub(super) fn constant_of_shape(call: &Call<'_>) -> Option<Tensor> {
    let dims: Vec<usize> =
        call.ints(0)?.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<_>>()?;
    let element = if call.node.has("value") {
        Tensor::from_proto(call.node.tensor_proto("value")?.clone(), None).ok()?
    } else {
        Tensor::from_f32(Vec::new(), &[0.0]).ok()?
    };
    let size = element_size(element.dtype())?;
    if count(element.dims())? != 1 {
        return None;
    }
    let bytes = call.bytes_of(&dims, size)?;
    Tensor::new(element.dtype(), dims, element.bytes().repeat(bytes / size).into()).ok()
}

/// `Range` over integers, and over floats that are small integers.
pub(super) fn range(call: &Call<'_>) -> Option<Tensor> {
    let bounds: Vec<&Tensor> = call.all()?;
    let [start, limit, delta] = bounds.as_slice() else { return None };
    let dtype = start.dtype();
    if limit.dtype() != dtype || delta.dtype() != dtype || dtype == DataType::Bool {
        return None;
    }
    let integer = |tensor: &Tensor| {
        if dtype.is_foldable_float() {
            let value = tensor.scalar_f64()?;
            (value.fract() == 0.0 && value.abs() <= 1024.0).then_some(value as i64)
        } else if count(tensor.dims())? == 1 && dtype != DataType::Uint64 {
            tensor.to_i64()?.first().copied()
        } else {
            None
        }
    };
    let (start, limit, delta) = (integer(start)?, integer(limit)?, integer(delta)?);
    let span = i128::from(limit) - i128::from(start);
    let step = i128::from(delta);
    if step == 0 {
        return None;
    }
    let len = if (span > 0) == (step > 0) && span != 0 {
        usize::try_from(span.abs() / step.abs() + i128::from(span % step != 0)).ok()?
    } else {
        0
    };
    call.bytes_of(&[len], size_of::<i64>())?;
    let values: Vec<i64> = (0..len as i128)
        .map(|at| i64::try_from(i128::from(start) + at * step).ok())
        .collect::<Option<_>>()?;
    let values = Tensor::from_i64(vec![len], &values).ok()?;
    convert(call, &values, dtype)
}
