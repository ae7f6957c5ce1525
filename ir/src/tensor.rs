//! Constant tensors: dtype, dims and bytes, with the protobuf message they came from.

use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};
use prost::Message;

use crate::dtype::DataType;
use crate::error::IrError;
use crate::proto::{TensorProto, tensor_proto::DataLocation};

/// A tensor: dtype + dims + little-endian bytes in C order.
///
/// Cloning is cheap: bytes are shared slices of the mapped file or of one buffer. The tensor keeps the message
/// that it was read from, so that an untouched tensor is written back with every field equal.
/// The name of a tensor in a graph belongs to its value, not to the tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DataType,
    dims: Vec<usize>,
    bytes: Bytes,
    proto: Arc<TensorProto>,
}

/// Lends the typed `*_data` field of a message as bytes, without a copy.
struct TypedField(Arc<TensorProto>);

impl AsRef<[u8]> for TypedField {
    fn as_ref(&self) -> &[u8] {
        let proto = &self.0;
        match DataType::from_code(proto.data_type()) {
            DataType::Double | DataType::Complex128 => bytemuck::cast_slice(&proto.double_data),
            DataType::Int64 => bytemuck::cast_slice(&proto.int64_data),
            DataType::Uint64 => bytemuck::cast_slice(&proto.uint64_data),
            DataType::Int32 => bytemuck::cast_slice(&proto.int32_data),
            _ => bytemuck::cast_slice(&proto.float_data),
        }
    }
}

impl Tensor {
    /// A tensor of `dims` over `bytes` (little-endian, C order).
    ///
    /// # Errors
    /// I0203 when the byte count does not match dims and dtype.
    pub fn new(dtype: DataType, dims: Vec<usize>, bytes: Bytes) -> Result<Self, IrError> {
        check_len("", dtype, &dims, bytes.len())?;
        let proto = TensorProto {
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type: Some(dtype.code()),
            raw_data: Some(bytes.clone()),
            ..TensorProto::default()
        };
        Ok(Self { dtype, dims, bytes, proto: Arc::new(proto) })
    }

    /// A tensor of `dtype` (f32, f64, f16, bf16) that holds `values`, each rounded once.
    ///
    /// # Errors
    /// I0203 when the value count does not match dims; I0204 for any other dtype.
    pub fn from_f64(dtype: DataType, dims: Vec<usize>, values: &[f64]) -> Result<Self, IrError> {
        let bytes: Vec<u8> = match dtype {
            DataType::Float => values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
            DataType::Double => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DataType::Float16 => {
                values.iter().flat_map(|v| f16::from_f64(*v).to_le_bytes()).collect()
            }
            DataType::Bfloat16 => {
                values.iter().flat_map(|v| bf16::from_f64(*v).to_le_bytes()).collect()
            }
            other => return Err(IrError::UnsupportedDtype { dtype: other, wanted: "float" }),
        };
        Self::new(dtype, dims, bytes.into())
    }

    /// An f32 tensor.
    ///
    /// # Errors
    /// I0203 when the value count does not match dims.
    pub fn from_f32(dims: Vec<usize>, values: &[f32]) -> Result<Self, IrError> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::new(DataType::Float, dims, bytes.into())
    }

    /// An i64 tensor.
    ///
    /// # Errors
    /// I0203 when the value count does not match dims.
    pub fn from_i64(dims: Vec<usize>, values: &[i64]) -> Result<Self, IrError> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::new(DataType::Int64, dims, bytes.into())
    }

    /// The tensor of a message; `external` holds the bytes if its data lie in another file.
    ///
    /// # Errors
    /// I0201 negative dims or too many elements, I0203 wrong byte count, I0205 external bytes missing.
    pub fn from_proto(proto: TensorProto, external: Option<Bytes>) -> Result<Self, IrError> {
        let name = proto.name().to_owned();
        let dtype = DataType::from_code(proto.data_type());
        let mut dims = Vec::with_capacity(proto.dims.len());
        for dim in &proto.dims {
            dims.push(
                usize::try_from(*dim)
                    .map_err(|_| IrError::BadTensorDims { name: name.clone(), dim: *dim })?,
            );
        }
        let proto = Arc::new(proto);
        if dtype == DataType::String || dtype.bits().is_none() {
            let count = element_count(&name, &dims)?;
            if dtype == DataType::String && proto.string_data.len() != count {
                let found = proto.string_data.len();
                return Err(IrError::TensorLength { name, expected: count, found });
            }
            return Ok(Self { dtype, dims, bytes: Bytes::new(), proto });
        }
        let bytes = if proto.data_location() == DataLocation::External {
            external.ok_or_else(|| IrError::ExternalDataMissing { name: name.clone() })?
        } else if let Some(raw) = &proto.raw_data {
            raw.clone()
        } else {
            typed_bytes(&proto, dtype)
        };
        check_len(&name, dtype, &dims, bytes.len())?;
        Ok(Self { dtype, dims, bytes, proto })
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Dims, outermost first; empty for a scalar.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Little-endian bytes, C order; empty for strings and unknown dtypes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Strings of a string tensor, otherwise empty.
    #[must_use]
    pub fn strings(&self) -> &[Bytes] {
        &self.proto.string_data
    }

    /// The message that this tensor was read from or will be written as.
    #[must_use]
    pub fn proto(&self) -> &TensorProto {
        &self.proto
    }

    /// The bytes of a `TensorProto` file with this tensor under this name.
    #[must_use]
    pub fn to_message(&self, name: &str) -> Vec<u8> {
        let mut proto = self.proto().clone();
        proto.name = Some(name.to_owned());
        proto.encode_to_vec()
    }

    /// All elements as f64; `None` unless the dtype is a float, bool or integer of whole bytes.
    #[must_use]
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        Some(match self.dtype {
            DataType::Float => self.map(|b: [u8; 4]| f64::from(f32::from_le_bytes(b))),
            DataType::Double => self.map(f64::from_le_bytes),
            DataType::Float16 => self.map(|b| f16::from_le_bytes(b).to_f64()),
            DataType::Bfloat16 => self.map(|b| bf16::from_le_bytes(b).to_f64()),
            _ => self.to_i64()?.into_iter().map(|v| v as f64).collect(),
        })
    }

    /// All elements as i64; `None` unless the dtype is bool or an integer of whole bytes.
    ///
    /// u64 values above `i64::MAX` wrap.
    #[must_use]
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match self.dtype {
            DataType::Int64 => self.map(i64::from_le_bytes),
            DataType::Uint64 => self.map(|b| u64::from_le_bytes(b) as i64),
            DataType::Int32 => self.map(|b| i64::from(i32::from_le_bytes(b))),
            DataType::Uint32 => self.map(|b| i64::from(u32::from_le_bytes(b))),
            DataType::Int16 => self.map(|b| i64::from(i16::from_le_bytes(b))),
            DataType::Uint16 => self.map(|b| i64::from(u16::from_le_bytes(b))),
            DataType::Int8 => self.map(|b| i64::from(i8::from_le_bytes(b))),
            DataType::Uint8 | DataType::Bool => self.map(|b| i64::from(u8::from_le_bytes(b))),
            _ => return None,
        })
    }

    /// The only element of a one-element float or integer tensor of any rank.
    #[must_use]
    pub fn scalar_f64(&self) -> Option<f64> {
        if self.len() == 1 { self.to_f64()?.first().copied() } else { None }
    }

    /// The same elements under other dims.
    ///
    /// # Errors
    /// I0203 when the element count differs.
    pub fn with_dims(&self, dims: Vec<usize>) -> Result<Self, IrError> {
        Self::new(self.dtype, dims, self.bytes.clone())
    }

    fn map<const N: usize, T>(&self, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
    }
}

impl PartialEq for Tensor {
    /// Equal dtype, dims and content; the origin of the bytes does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype
            && self.dims == other.dims
            && self.bytes == other.bytes
            && self.proto.string_data == other.proto.string_data
    }
}

/// Product of `dims`; refused if it overflows.
fn element_count(name: &str, dims: &[usize]) -> Result<usize, IrError> {
    dims.iter()
        .try_fold(1_usize, |product, dim| product.checked_mul(*dim))
        .filter(|count| isize::try_from(*count).is_ok())
        .ok_or_else(|| IrError::TensorTooLarge { name: name.to_owned() })
}

fn check_len(name: &str, dtype: DataType, dims: &[usize], found: usize) -> Result<(), IrError> {
    let count = element_count(name, dims)?;
    match dtype.byte_len(count) {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => Err(IrError::TensorLength { name: name.to_owned(), expected, found }),
        None => Err(IrError::TensorTooLarge { name: name.to_owned() }),
    }
}

/// Bytes of a message that keeps its elements in a typed field. They are shared if the widths agree,
/// otherwise narrowed from `int32_data`.
fn typed_bytes(proto: &Arc<TensorProto>, dtype: DataType) -> Bytes {
    match dtype {
        DataType::Float
        | DataType::Complex64
        | DataType::Double
        | DataType::Complex128
        | DataType::Int64
        | DataType::Uint64
        | DataType::Int32 => Bytes::from_owner(TypedField(Arc::clone(proto))),
        DataType::Uint32 => proto
            .uint64_data
            .iter()
            .flat_map(|v| (*v as u32).to_le_bytes())
            .collect::<Vec<_>>()
            .into(),
        _ if dtype.bits() == Some(16) => proto
            .int32_data
            .iter()
            .flat_map(|v| (*v as u16).to_le_bytes())
            .collect::<Vec<_>>()
            .into(),
        _ => proto.int32_data.iter().map(|v| *v as u8).collect::<Vec<_>>().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_typed_fields_without_changing_them() {
        let proto = TensorProto {
            dims: vec![2],
            data_type: Some(DataType::Float16.code()),
            int32_data: vec![0x3c00, 0xc000],
            ..TensorProto::default()
        };
        let tensor = Tensor::from_proto(proto.clone(), None).expect("well formed");
        assert_eq!(tensor.to_f64(), Some(vec![1.0, -2.0]));
        assert_eq!(tensor.proto(), &proto);
    }

    #[test]
    fn refuses_lengths_that_do_not_match_dims() {
        let proto = TensorProto {
            dims: vec![3, 1 << 40, 1 << 40],
            data_type: Some(1),
            raw_data: Some(Bytes::from_static(&[0; 4])),
            ..TensorProto::default()
        };
        assert!(matches!(Tensor::from_proto(proto, None), Err(IrError::TensorTooLarge { .. })));
        assert!(matches!(
            Tensor::new(DataType::Float, vec![2], Bytes::from_static(&[0; 4])),
            Err(IrError::TensorLength { expected: 8, found: 4, .. })
        ));
    }

    #[test]
    fn rounds_each_weight_once() {
        let tensor =
            Tensor::from_f64(DataType::Bfloat16, vec![1], &[1.003_906_25]).expect("one value");
        assert_eq!(tensor.to_f64(), Some(vec![1.0]));
    }
}
