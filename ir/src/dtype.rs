//! Element types of tensors, with the numbers of `TensorProto.DataType`.

use std::fmt;

/// Element type of a tensor; codes that this build does not know are kept as [`DataType::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is the ONNX type of the same name")]
pub enum DataType {
    Float,
    Uint8,
    Int8,
    Uint16,
    Int16,
    Int32,
    Int64,
    String,
    Bool,
    Float16,
    Double,
    Uint32,
    Uint64,
    Complex64,
    Complex128,
    Bfloat16,
    Float8E4M3Fn,
    Float8E4M3Fnuz,
    Float8E5M2,
    Float8E5M2Fnuz,
    Uint4,
    Int4,
    Float4E2M1,
    Float8E8M0,
    Uint2,
    Int2,
    /// A code outside the table above (including 0 = undefined).
    Other(i32),
}

/// Every known type with its `TensorProto.DataType` code, bits per element, and short name.
const TABLE: &[(DataType, i32, usize, &str)] = &[
    (DataType::Float, 1, 32, "f32"),
    (DataType::Uint8, 2, 8, "u8"),
    (DataType::Int8, 3, 8, "i8"),
    (DataType::Uint16, 4, 16, "u16"),
    (DataType::Int16, 5, 16, "i16"),
    (DataType::Int32, 6, 32, "i32"),
    (DataType::Int64, 7, 64, "i64"),
    (DataType::String, 8, 0, "string"),
    (DataType::Bool, 9, 8, "bool"),
    (DataType::Float16, 10, 16, "f16"),
    (DataType::Double, 11, 64, "f64"),
    (DataType::Uint32, 12, 32, "u32"),
    (DataType::Uint64, 13, 64, "u64"),
    (DataType::Complex64, 14, 64, "complex64"),
    (DataType::Complex128, 15, 128, "complex128"),
    (DataType::Bfloat16, 16, 16, "bf16"),
    (DataType::Float8E4M3Fn, 17, 8, "f8e4m3fn"),
    (DataType::Float8E4M3Fnuz, 18, 8, "f8e4m3fnuz"),
    (DataType::Float8E5M2, 19, 8, "f8e5m2"),
    (DataType::Float8E5M2Fnuz, 20, 8, "f8e5m2fnuz"),
    (DataType::Uint4, 21, 4, "u4"),
    (DataType::Int4, 22, 4, "i4"),
    (DataType::Float4E2M1, 23, 4, "f4e2m1"),
    (DataType::Float8E8M0, 24, 8, "f8e8m0"),
    (DataType::Uint2, 25, 2, "u2"),
    (DataType::Int2, 26, 2, "i2"),
];

impl DataType {
    /// The type of a `TensorProto.DataType` code.
    #[must_use]
    pub fn from_code(code: i32) -> Self {
        TABLE.iter().find(|row| row.1 == code).map_or(Self::Other(code), |row| row.0)
    }

    /// The `TensorProto.DataType` code.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Other(code) => code,
            known => TABLE.iter().find(|row| row.0 == known).map_or(0, |row| row.1),
        }
    }

    /// Bits per element in `raw_data`; `None` for strings and unknown types.
    #[must_use]
    pub fn bits(self) -> Option<usize> {
        TABLE.iter().find(|row| row.0 == self).map(|row| row.2).filter(|bits| *bits > 0)
    }

    /// Bytes that `elements` elements take in `raw_data` (sub-byte types are packed); `None` for
    /// strings, unknown types and on overflow.
    #[must_use]
    pub fn byte_len(self, elements: usize) -> Option<usize> {
        Some(elements.checked_mul(self.bits()?)?.div_ceil(8))
    }

    /// Whether weights of this type can be folded: f32, f64, f16 or bf16.
    #[must_use]
    pub fn is_foldable_float(self) -> bool {
        matches!(self, Self::Float | Self::Double | Self::Float16 | Self::Bfloat16)
    }

    /// Whether this is one of the eight integer types of at least one byte.
    #[must_use]
    pub fn is_integer(self) -> bool {
        matches!(
            self,
            Self::Uint8
                | Self::Int8
                | Self::Uint16
                | Self::Int16
                | Self::Int32
                | Self::Int64
                | Self::Uint32
                | Self::Uint64
        )
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(code) => write!(f, "type{code}"),
            known => f.write_str(TABLE.iter().find(|row| row.0 == *known).map_or("?", |row| row.3)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_types_are_one_to_one() {
        for code in -3..40 {
            assert_eq!(DataType::from_code(code).code(), code);
        }
        assert_eq!(DataType::Int4.byte_len(3), Some(2));
        assert_eq!(DataType::String.byte_len(3), None);
        assert_eq!(DataType::Double.byte_len(usize::MAX), None);
    }
}
