//! Attributes of a node: raw messages with typed access.

use bytes::Bytes;

use crate::proto::{AttributeProto, attribute_proto::AttributeType};
use crate::tensor::Tensor;

/// Value of an attribute that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// `FLOAT`
    Float(f32),
    /// `INT`
    Int(i64),
    /// `STRING`
    String(String),
    /// `TENSOR`
    Tensor(Tensor),
    /// `FLOATS`
    Floats(Vec<f32>),
    /// `INTS`
    Ints(Vec<i64>),
    /// `STRINGS`
    Strings(Vec<String>),
}

impl From<f32> for AttributeValue {
    fn from(v: f32) -> Self {
        Self::Float(v)
    }
}
impl From<i64> for AttributeValue {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
impl From<&str> for AttributeValue {
    fn from(v: &str) -> Self {
        Self::String(v.to_owned())
    }
}
impl From<Tensor> for AttributeValue {
    fn from(v: Tensor) -> Self {
        Self::Tensor(v)
    }
}
impl From<Vec<i64>> for AttributeValue {
    fn from(v: Vec<i64>) -> Self {
        Self::Ints(v)
    }
}
impl From<&[usize]> for AttributeValue {
    fn from(v: &[usize]) -> Self {
        Self::Ints(v.iter().map(|x| *x as i64).collect())
    }
}

/// The message for `value` under `name`.
pub(crate) fn to_proto(name: &str, value: AttributeValue) -> AttributeProto {
    let mut proto = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
    let kind = match value {
        AttributeValue::Float(v) => {
            proto.f = Some(v);
            AttributeType::Float
        }
        AttributeValue::Int(v) => {
            proto.i = Some(v);
            AttributeType::Int
        }
        AttributeValue::String(v) => {
            proto.s = Some(Bytes::from(v));
            AttributeType::String
        }
        AttributeValue::Tensor(v) => {
            proto.t = Some(v.proto().clone());
            AttributeType::Tensor
        }
        AttributeValue::Floats(v) => {
            proto.floats = v;
            AttributeType::Floats
        }
        AttributeValue::Ints(v) => {
            proto.ints = v;
            AttributeType::Ints
        }
        AttributeValue::Strings(v) => {
            proto.strings = v.into_iter().map(Bytes::from).collect();
            AttributeType::Strings
        }
    };
    proto.r#type = Some(kind as i32);
    proto
}
