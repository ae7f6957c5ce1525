//! Converts tensors to ONNX Runtime's values and back.

use std::fmt::Debug;

use bytemuck::Pod;
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{
    DynTensor, DynTensorValueType, PrimitiveTensorElementType, SequenceValueTypeMarker,
    Tensor as OrtTensor, TensorElementType, TensorRef, TensorValueTypeMarker, Value, ValueType,
};
use updp_ir::proto::TensorProto;
use updp_ir::{DataType, Tensor};

use crate::error::ExecError;

/// Our name for the runtime's element type; `None` for types without an ONNX counterpart here.
pub(crate) fn dtype_of(ty: TensorElementType) -> Option<DataType> {
    Some(match ty {
        TensorElementType::Float32 => DataType::Float,
        TensorElementType::Float64 => DataType::Double,
        TensorElementType::Float16 => DataType::Float16,
        TensorElementType::Bfloat16 => DataType::Bfloat16,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::String => DataType::String,
        TensorElementType::Complex64 => DataType::Complex64,
        TensorElementType::Complex128 => DataType::Complex128,
        TensorElementType::Float8E4M3FN => DataType::Float8E4M3Fn,
        TensorElementType::Float8E4M3FNUZ => DataType::Float8E4M3Fnuz,
        TensorElementType::Float8E5M2 => DataType::Float8E5M2,
        TensorElementType::Float8E5M2FNUZ => DataType::Float8E5M2Fnuz,
        TensorElementType::Float8E8M0 => DataType::Float8E8M0,
        TensorElementType::Float4E2M1 => DataType::Float4E2M1,
        TensorElementType::Uint4 => DataType::Uint4,
        TensorElementType::Int4 => DataType::Int4,
        TensorElementType::Uint2 => DataType::Uint2,
        TensorElementType::Int2 => DataType::Int2,
        _ => return None,
    })
}

/// A runtime value over the bytes of `tensor`; the bytes are copied only if they are not aligned.
pub(crate) fn to_value<'t>(
    runtime: &str,
    name: &str,
    tensor: &'t Tensor,
) -> Result<SessionInputValue<'t>, ExecError> {
    let value = match tensor.dtype() {
        DataType::Float => primitive::<f32>(tensor),
        DataType::Double => primitive::<f64>(tensor),
        DataType::Float16 => primitive::<f16>(tensor),
        DataType::Bfloat16 => primitive::<bf16>(tensor),
        DataType::Uint8 => primitive::<u8>(tensor),
        DataType::Int8 => primitive::<i8>(tensor),
        DataType::Uint16 => primitive::<u16>(tensor),
        DataType::Int16 => primitive::<i16>(tensor),
        DataType::Uint32 => primitive::<u32>(tensor),
        DataType::Int32 => primitive::<i32>(tensor),
        DataType::Uint64 => primitive::<u64>(tensor),
        DataType::Int64 => primitive::<i64>(tensor),
        DataType::Bool => {
            let values: Vec<bool> = tensor.bytes().iter().map(|byte| *byte != 0).collect();
            OrtTensor::from_array((tensor.dims().to_vec(), values)).map(Into::into)
        }
        DataType::String => {
            let texts: Vec<String> = texts(name, tensor)?.into_iter().map(str::to_owned).collect();
            OrtTensor::from_string_array((tensor.dims().to_vec(), texts.as_slice())).map(Into::into)
        }
        dtype => return Err(unsupported(runtime, name, dtype)),
    };
    value.map_err(|error| ExecError::RunFailed {
        runtime: runtime.to_owned(),
        detail: error.message().to_owned(),
    })
}

fn primitive<T>(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>>
where
    T: PrimitiveTensorElementType + Pod + Debug,
{
    let dims = tensor.dims().to_vec();
    match bytemuck::try_cast_slice::<u8, T>(tensor.bytes()) {
        Ok(values) => TensorRef::from_array_view((dims, values)).map(Into::into),
        Err(_) => OrtTensor::from_array((dims, elements::<T>(tensor))).map(Into::into),
    }
}

/// The elements of `tensor`; its bytes may have any alignment.
pub(crate) fn elements<T: Pod>(tensor: &Tensor) -> Vec<T> {
    tensor.bytes().chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

/// The strings of a string tensor; the runtime accepts only text without NUL.
pub(crate) fn texts<'t>(name: &str, tensor: &'t Tensor) -> Result<Vec<&'t str>, ExecError> {
    let strings = tensor.strings().iter().enumerate();
    strings
        .map(|(index, bytes)| {
            let bad = |detail| ExecError::BadString { name: name.to_owned(), index, detail };
            match std::str::from_utf8(bytes) {
                Ok(text) if text.contains('\0') => Err(bad("it holds a NUL byte".to_owned())),
                Ok(text) => Ok(text),
                Err(error) => Err(bad(error.to_string())),
            }
        })
        .collect()
}

/// A copy of the tensor in a result of a run.
pub(crate) fn from_value<K: TensorValueTypeMarker + ?Sized>(
    runtime: &str,
    name: &str,
    value: &Value<K>,
) -> Result<Tensor, ExecError> {
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        let (name, kind) = (name.to_owned(), value.dtype().to_string());
        return Err(ExecError::NotATensor { name, kind });
    };
    let dtype = dtype_of(*ty).unwrap_or(DataType::Other(0));
    match dtype {
        DataType::Float => extract::<f32, K>(value, dtype),
        DataType::Double => extract::<f64, K>(value, dtype),
        DataType::Float16 => extract::<f16, K>(value, dtype),
        DataType::Bfloat16 => extract::<bf16, K>(value, dtype),
        DataType::Uint8 => extract::<u8, K>(value, dtype),
        DataType::Int8 => extract::<i8, K>(value, dtype),
        DataType::Uint16 => extract::<u16, K>(value, dtype),
        DataType::Int16 => extract::<i16, K>(value, dtype),
        DataType::Uint32 => extract::<u32, K>(value, dtype),
        DataType::Int32 => extract::<i32, K>(value, dtype),
        DataType::Uint64 => extract::<u64, K>(value, dtype),
        DataType::Int64 => extract::<i64, K>(value, dtype),
        DataType::Bool => value
            .try_extract_tensor::<bool>()
            .map_err(|e| e.message().to_owned())
            .and_then(|(dims, values)| {
                let bytes: Vec<u8> = values.iter().map(|value| u8::from(*value)).collect();
                Tensor::new(dtype, to_dims(dims), bytes.into()).map_err(|e| e.to_string())
            }),
        DataType::String => value
            .try_extract_strings()
            .map_err(|error| error.message().to_owned())
            .and_then(|(dims, texts)| string_tensor(&to_dims(dims), texts)),
        dtype => return Err(unsupported(runtime, name, dtype)),
    }
    .map_err(|detail| ExecError::RunFailed { runtime: runtime.to_owned(), detail })
}

/// The elements of a sequence in a result of a run, named `name[0]`, `name[1]`, …, and their number, named
/// `name.length`.
pub(crate) fn from_sequence<K: SequenceValueTypeMarker>(
    runtime: &str,
    name: &str,
    value: &Value<K>,
) -> Result<Vec<(String, Tensor)>, ExecError> {
    let fail = |detail: String| ExecError::RunFailed { runtime: runtime.to_owned(), detail };
    let elements = value
        .try_extract_sequence::<DynTensorValueType>()
        .map_err(|error| fail(error.message().to_owned()))?;
    let length = Tensor::from_i64(vec![], &[elements.len() as i64]);
    let length = length.map_err(|error| fail(error.to_string()))?;
    let mut named = vec![(format!("{name}.length"), length)];
    for (at, element) in elements.iter().enumerate() {
        let name = format!("{name}[{at}]");
        let tensor = from_value(runtime, &name, element)?;
        named.push((name, tensor));
    }
    Ok(named)
}

fn extract<T, K>(value: &Value<K>, dtype: DataType) -> Result<Tensor, String>
where
    T: PrimitiveTensorElementType + Pod,
    K: TensorValueTypeMarker + ?Sized,
{
    let (dims, values) = value.try_extract_tensor::<T>().map_err(|e| e.message().to_owned())?;
    let bytes = bytemuck::cast_slice::<T, u8>(values).to_vec();
    Tensor::new(dtype, to_dims(dims), bytes.into()).map_err(|error| error.to_string())
}

/// The runtime's element type for the dtypes that a state may have: the dtypes of plain numbers.
pub(crate) fn element_type(dtype: DataType) -> Option<TensorElementType> {
    Some(match dtype {
        DataType::Float => TensorElementType::Float32,
        DataType::Double => TensorElementType::Float64,
        DataType::Float16 => TensorElementType::Float16,
        DataType::Bfloat16 => TensorElementType::Bfloat16,
        DataType::Uint8 => TensorElementType::Uint8,
        DataType::Int8 => TensorElementType::Int8,
        DataType::Uint16 => TensorElementType::Uint16,
        DataType::Int16 => TensorElementType::Int16,
        DataType::Uint32 => TensorElementType::Uint32,
        DataType::Int32 => TensorElementType::Int32,
        DataType::Uint64 => TensorElementType::Uint64,
        DataType::Int64 => TensorElementType::Int64,
        _ => return None,
    })
}

/// Copies the elements of `tensor` into a value of the same dtype and dims in memory that the processor can access.
pub(crate) fn write_into(
    runtime: &str,
    name: &str,
    value: &mut DynTensor,
    tensor: &Tensor,
) -> Result<(), ExecError> {
    match tensor.dtype() {
        DataType::Float => overwrite::<f32>(value, tensor),
        DataType::Double => overwrite::<f64>(value, tensor),
        DataType::Float16 => overwrite::<f16>(value, tensor),
        DataType::Bfloat16 => overwrite::<bf16>(value, tensor),
        DataType::Uint8 => overwrite::<u8>(value, tensor),
        DataType::Int8 => overwrite::<i8>(value, tensor),
        DataType::Uint16 => overwrite::<u16>(value, tensor),
        DataType::Int16 => overwrite::<i16>(value, tensor),
        DataType::Uint32 => overwrite::<u32>(value, tensor),
        DataType::Int32 => overwrite::<i32>(value, tensor),
        DataType::Uint64 => overwrite::<u64>(value, tensor),
        DataType::Int64 => overwrite::<i64>(value, tensor),
        dtype => return Err(unsupported(runtime, name, dtype)),
    }
    .map_err(|detail| ExecError::RunFailed { runtime: runtime.to_owned(), detail })
}

fn overwrite<T>(value: &mut DynTensor, tensor: &Tensor) -> Result<(), String>
where
    T: PrimitiveTensorElementType + Pod,
{
    let (_, values) = value.try_extract_tensor_mut::<T>().map_err(|e| e.message().to_owned())?;
    let bytes = bytemuck::cast_slice_mut::<T, u8>(values);
    if bytes.len() != tensor.bytes().len() {
        let (has, given) = (bytes.len(), tensor.bytes().len());
        return Err(format!("a buffer of {has} bytes is given {given}"));
    }
    bytes.copy_from_slice(tensor.bytes());
    Ok(())
}

fn to_dims(dims: &[i64]) -> Vec<usize> {
    dims.iter().map(|dim| *dim as usize).collect()
}

/// A string tensor of `dims`.
pub(crate) fn string_tensor(dims: &[usize], texts: Vec<String>) -> Result<Tensor, String> {
    let proto = TensorProto {
        dims: dims.iter().map(|dim| *dim as i64).collect(),
        data_type: Some(DataType::String.code()),
        string_data: texts.into_iter().map(Into::into).collect(),
        ..TensorProto::default()
    };
    Tensor::from_proto(proto, None).map_err(|error| error.to_string())
}

pub(crate) fn unsupported(runtime: &str, name: &str, dtype: DataType) -> ExecError {
    ExecError::DtypeUnsupported { runtime: runtime.to_owned(), name: name.to_owned(), dtype }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dtypes_the_interface_lacks_are_refused_by_name() {
        let bytes = vec![0; 8].into();
        let tensor = Tensor::new(DataType::Complex64, vec![1], bytes).expect("well formed");
        let error = to_value("ONNX Runtime 1", "x", &tensor).err().expect("no complex numbers");
        assert_eq!(error.code(), "X0304");
        let text = "ONNX Runtime 1 takes no tensors of dtype complex64 (value \"x\")";
        assert_eq!(error.to_string(), text);
    }
}
