//! Element type and shape of a value, with symbolic dims.

use std::fmt;
use std::sync::Arc;

use crate::dtype::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

/// One dimension of a shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A number.
    Known(usize),
    /// A named size, such as the batch; equal names are equal sizes.
    Symbol(Arc<str>),
    /// Nothing is known.
    Unknown,
}

impl Dim {
    /// The size, if it is a number.
    #[must_use]
    pub fn known(&self) -> Option<usize> {
        if let Self::Known(size) = self { Some(*size) } else { None }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(size) => write!(f, "{size}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// Element type and shape of a tensor value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// Element type.
    pub dtype: DataType,
    /// Dims, outermost first; `None` if not even the rank is known.
    pub shape: Option<Vec<Dim>>,
}

impl TensorType {
    /// A type with all dims known.
    #[must_use]
    pub fn fixed(dtype: DataType, dims: &[usize]) -> Self {
        Self { dtype, shape: Some(dims.iter().map(|d| Dim::Known(*d)).collect()) }
    }

    /// The type of a `TypeProto`; `None` unless it is a (dense) tensor type.
    #[must_use]
    pub fn from_proto(proto: &TypeProto) -> Option<Self> {
        let Some(type_proto::Value::TensorType(tensor)) = &proto.value else { return None };
        let shape = tensor.shape.as_ref().map(|shape| {
            shape
                .dim
                .iter()
                .map(|dim| match &dim.value {
                    Some(dimension::Value::DimValue(size)) => {
                        usize::try_from(*size).map_or(Dim::Unknown, Dim::Known)
                    }
                    Some(dimension::Value::DimParam(name)) if !name.is_empty() => {
                        Dim::Symbol(name.as_str().into())
                    }
                    _ => Dim::Unknown,
                })
                .collect()
        });
        Some(Self { dtype: DataType::from_code(tensor.elem_type()), shape })
    }

    /// The declaration of a value of this type.
    #[must_use]
    pub fn to_value_info(&self, name: &str) -> ValueInfoProto {
        let dimension = |dim: &Dim| Dimension {
            value: match dim {
                Dim::Known(size) => Some(dimension::Value::DimValue(*size as i64)),
                Dim::Symbol(symbol) => Some(dimension::Value::DimParam(symbol.to_string())),
                Dim::Unknown => None,
            },
            denotation: None,
        };
        let shape =
            |dims: &Vec<Dim>| TensorShapeProto { dim: dims.iter().map(dimension).collect() };
        ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto {
                denotation: None,
                value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                    elem_type: Some(self.dtype.code()),
                    shape: self.shape.as_ref().map(shape),
                })),
            }),
            ..ValueInfoProto::default()
        }
    }

    /// Number of dims, if known.
    #[must_use]
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// The dims as numbers, if all are known.
    #[must_use]
    pub fn known_dims(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().map(Dim::known).collect()
    }

    /// Size of `axis` (negative counts from the end), if it is a number.
    #[must_use]
    pub fn known_dim(&self, axis: i64) -> Option<usize> {
        let shape = self.shape.as_ref()?;
        let axis = if axis < 0 { axis + shape.len() as i64 } else { axis };
        shape.get(usize::try_from(axis).ok()?)?.known()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dtype)?;
        match &self.shape {
            None => f.write_str("[..]"),
            Some(dims) => {
                let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", dims.join(","))
            }
        }
    }
}
