//! Converts tensors to tract's tensors and back.

use bytemuck::Pod;
use half::f16;
use tract_onnx::prelude::{Datum, DatumType, IntoTensor, Tensor as TractTensor, tract_ndarray};
use tract_onnx::tract_hir::internal::TDim;
use updp_ir::{DataType, Tensor};

use crate::error::ExecError;
use crate::ort_value::{self, string_tensor, texts, unsupported};

/// tract's element type; `None` where tract has no such type (bf16, fp8, 4 bits, complex).
pub(crate) fn datum_type(dtype: DataType) -> Option<DatumType> {
    Some(match dtype {
        DataType::Float => DatumType::F32,
        DataType::Double => DatumType::F64,
        DataType::Float16 => DatumType::F16,
        DataType::Uint8 => DatumType::U8,
        DataType::Int8 => DatumType::I8,
        DataType::Uint16 => DatumType::U16,
        DataType::Int16 => DatumType::I16,
        DataType::Uint32 => DatumType::U32,
        DataType::Int32 => DatumType::I32,
        DataType::Uint64 => DatumType::U64,
        DataType::Int64 => DatumType::I64,
        DataType::Bool => DatumType::Bool,
        DataType::String => DatumType::String,
        _ => return None,
    })
}

/// Our name for tract's element type. A quantized type gets its storage type, and a symbolic dim gets i64.
pub(crate) fn dtype_of(datum_type: DatumType) -> Option<DataType> {
    Some(match datum_type.unquantized() {
        DatumType::F32 => DataType::Float,
        DatumType::F64 => DataType::Double,
        DatumType::F16 => DataType::Float16,
        DatumType::U8 => DataType::Uint8,
        DatumType::I8 => DataType::Int8,
        DatumType::U16 => DataType::Uint16,
        DatumType::I16 => DataType::Int16,
        DatumType::U32 => DataType::Uint32,
        DatumType::I32 => DataType::Int32,
        DatumType::U64 => DataType::Uint64,
        DatumType::I64 | DatumType::TDim => DataType::Int64,
        DatumType::Bool => DataType::Bool,
        DatumType::String => DataType::String,
        _ => return None,
    })
}

/// A copy of `tensor` for tract.
pub(crate) fn to_tract(
    runtime: &str,
    name: &str,
    tensor: &Tensor,
) -> Result<TractTensor, ExecError> {
    let copied = match tensor.dtype() {
        DataType::Float => copy_in::<f32>(tensor),
        DataType::Double => copy_in::<f64>(tensor),
        DataType::Float16 => copy_in::<f16>(tensor),
        DataType::Uint8 => copy_in::<u8>(tensor),
        DataType::Int8 => copy_in::<i8>(tensor),
        DataType::Uint16 => copy_in::<u16>(tensor),
        DataType::Int16 => copy_in::<i16>(tensor),
        DataType::Uint32 => copy_in::<u32>(tensor),
        DataType::Int32 => copy_in::<i32>(tensor),
        DataType::Uint64 => copy_in::<u64>(tensor),
        DataType::Int64 => copy_in::<i64>(tensor),
        DataType::Bool => {
            let values: Vec<bool> = tensor.bytes().iter().map(|byte| *byte != 0).collect();
            TractTensor::from_shape(tensor.dims(), &values).map_err(|error| error.to_string())
        }
        DataType::String => {
            let texts = texts(name, tensor)?.into_iter().map(str::to_owned).collect();
            tract_ndarray::ArrayD::<String>::from_shape_vec(tensor.dims(), texts)
                .map(IntoTensor::into_tensor)
                .map_err(|error| error.to_string())
        }
        dtype => return Err(unsupported(runtime, name, dtype)),
    };
    copied.map_err(|detail| ExecError::RunFailed { runtime: runtime.to_owned(), detail })
}

fn copy_in<T: Datum + Pod>(tensor: &Tensor) -> Result<TractTensor, String> {
    TractTensor::from_shape(tensor.dims(), &ort_value::elements::<T>(tensor))
        .map_err(|error| error.to_string())
}

/// A copy of tract's tensor.
pub(crate) fn from_tract(
    runtime: &str,
    name: &str,
    tensor: &TractTensor,
) -> Result<Tensor, ExecError> {
    let Some(dtype) = dtype_of(tensor.datum_type()) else {
        let (name, kind) = (name.to_owned(), format!("{:?}", tensor.datum_type()));
        return Err(ExecError::NotATensor { name, kind });
    };
    match dtype {
        DataType::Float => copy_out::<f32>(tensor, dtype),
        DataType::Double => copy_out::<f64>(tensor, dtype),
        DataType::Float16 => copy_out::<f16>(tensor, dtype),
        DataType::Uint8 => copy_out::<u8>(tensor, dtype),
        DataType::Int8 => copy_out::<i8>(tensor, dtype),
        DataType::Uint16 => copy_out::<u16>(tensor, dtype),
        DataType::Int16 => copy_out::<i16>(tensor, dtype),
        DataType::Uint32 => copy_out::<u32>(tensor, dtype),
        DataType::Int32 => copy_out::<i32>(tensor, dtype),
        DataType::Uint64 => copy_out::<u64>(tensor, dtype),
        DataType::Int64 if tensor.datum_type() == TDim::datum_type() => tensor
            .cast_to::<i64>()
            .map_err(|error| error.to_string())
            .and_then(|cast| copy_out::<i64>(&cast, dtype)),
        DataType::Int64 => copy_out::<i64>(tensor, dtype),
        DataType::Bool => elements::<bool>(tensor).and_then(|values| {
            let bytes: Vec<u8> = values.iter().map(|value| u8::from(*value)).collect();
            Tensor::new(dtype, tensor.shape().to_vec(), bytes.into()).map_err(|e| e.to_string())
        }),
        DataType::String => elements::<String>(tensor)
            .and_then(|texts| string_tensor(tensor.shape(), texts.to_vec())),
        dtype => return Err(unsupported(runtime, name, dtype)),
    }
    .map_err(|detail| ExecError::RunFailed { runtime: runtime.to_owned(), detail })
}

fn elements<T: Datum>(tensor: &TractTensor) -> Result<&[T], String> {
    tensor
        .try_as_plain_ram()
        .and_then(|view| view.as_slice::<T>())
        .map_err(|error| error.to_string())
}

fn copy_out<T: Datum + Pod>(tensor: &TractTensor, dtype: DataType) -> Result<Tensor, String> {
    let bytes = bytemuck::cast_slice::<T, u8>(elements::<T>(tensor)?).to_vec();
    Tensor::new(dtype, tensor.shape().to_vec(), bytes.into()).map_err(|error| error.to_string())
}
