//! Element arithmetic: each operation in the element's own dtype, `None` if the result does not
//! fit or runtimes disagree.

use half::{bf16, f16};

/// The limit below which every integer is an exact double.
const EXACT: i128 = 1 << 53;

/// An element of a numeric tensor.
pub(super) trait Number: Copy + PartialOrd {
    /// Whether this is an integer type.
    const IS_INTEGER: bool;

    /// Elements of little-endian bytes.
    fn read(bytes: &[u8]) -> Vec<Self>;
    /// Little-endian bytes of elements.
    fn write(values: &[Self]) -> Vec<u8>;
    /// A small integer in this type.
    fn of(value: i8) -> Option<Self>;

    /// `a + b`.
    fn add(self, other: Self) -> Option<Self>;
    /// `a - b`.
    fn sub(self, other: Self) -> Option<Self>;
    /// `a · b`.
    fn mul(self, other: Self) -> Option<Self>;
    /// `a / b`, truncated toward zero for integers.
    fn div(self, other: Self) -> Option<Self>;
    /// Remainder with the sign of the divisor; integers only.
    fn floor_mod(self, other: Self) -> Option<Self>;
    /// Remainder with the sign of the dividend.
    fn fmod(self, other: Self) -> Option<Self>;
    /// `aᵉ` for exponents that every runtime computes alike.
    fn power(self, exponent: f64) -> Option<Self>;
    /// One-operand operators by ONNX name.
    fn unary(self, op: &str) -> Option<Self>;

    /// The smaller of the two; `None` for NaN.
    fn least(self, other: Self) -> Option<Self> {
        self.partial_cmp(&other).map(|order| if order.is_gt() { other } else { self })
    }
    /// The larger of the two; `None` for NaN.
    fn greatest(self, other: Self) -> Option<Self> {
        self.partial_cmp(&other).map(|order| if order.is_lt() { other } else { self })
    }
}

macro_rules! integer {
    ($($ty:ty),*) => {$(
        impl Number for $ty {
            const IS_INTEGER: bool = true;

            fn read(bytes: &[u8]) -> Vec<Self> {
                let chunks = bytes.as_chunks::<{ size_of::<$ty>() }>().0;
                chunks.iter().map(|chunk| Self::from_le_bytes(*chunk)).collect()
            }
            fn write(values: &[Self]) -> Vec<u8> {
                values.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
            fn of(value: i8) -> Option<Self> {
                Self::try_from(value).ok()
            }
            fn add(self, other: Self) -> Option<Self> {
                self.checked_add(other)
            }
            fn sub(self, other: Self) -> Option<Self> {
                self.checked_sub(other)
            }
            fn mul(self, other: Self) -> Option<Self> {
                self.checked_mul(other)
            }
            fn div(self, other: Self) -> Option<Self> {
                self.checked_div(other)
            }
            fn floor_mod(self, other: Self) -> Option<Self> {
                let (a, b) = (i128::from(self), i128::from(other));
                let rest = a.checked_rem(b)?;
                let rest = if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest };
                Self::try_from(rest).ok()
            }
            fn fmod(self, other: Self) -> Option<Self> {
                self.checked_rem(other)
            }
            fn power(self, exponent: f64) -> Option<Self> {
                if exponent.fract() != 0.0 || !(0.0..=64.0).contains(&exponent) {
                    return None;
                }
                let result = i128::from(self).checked_pow(exponent as u32)?;
                if result.abs() <= EXACT { Self::try_from(result).ok() } else { None }
            }
            fn unary(self, op: &str) -> Option<Self> {
                match op {
                    "Neg" => Self::try_from(-i128::from(self)).ok(),
                    "Abs" => Self::try_from(i128::from(self).abs()).ok(),
                    _ => None,
                }
            }
        }
    )*};
}

macro_rules! float {
    ($($ty:ty, $wide:ty, $to_wide:expr, $from_wide:expr);*) => {$(
        impl Number for $ty {
            const IS_INTEGER: bool = false;

            fn read(bytes: &[u8]) -> Vec<Self> {
                let chunks = bytes.as_chunks::<{ size_of::<$ty>() }>().0;
                chunks.iter().map(|chunk| Self::from_le_bytes(*chunk)).collect()
            }
            fn write(values: &[Self]) -> Vec<u8> {
                values.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
            fn of(value: i8) -> Option<Self> {
                Some($from_wide(<$wide>::from(value)))
            }
            fn add(self, other: Self) -> Option<Self> {
                Some($from_wide($to_wide(self) + $to_wide(other)))
            }
            fn sub(self, other: Self) -> Option<Self> {
                Some($from_wide($to_wide(self) - $to_wide(other)))
            }
            fn mul(self, other: Self) -> Option<Self> {
                Some($from_wide($to_wide(self) * $to_wide(other)))
            }
            fn div(self, other: Self) -> Option<Self> {
                let other = $to_wide(other);
                if other == 0.0 { None } else { Some($from_wide($to_wide(self) / other)) }
            }
            fn floor_mod(self, _: Self) -> Option<Self> {
                None
            }
            fn fmod(self, other: Self) -> Option<Self> {
                let other = $to_wide(other);
                if other == 0.0 { None } else { Some($from_wide($to_wide(self) % other)) }
            }
            fn power(self, exponent: f64) -> Option<Self> {
                let base = $to_wide(self);
                if exponent == 0.0 {
                    Self::of(1)
                } else if exponent == 1.0 {
                    Some(self)
                } else if exponent == 2.0 {
                    Some($from_wide(base * base))
                } else {
                    None
                }
            }
            fn unary(self, op: &str) -> Option<Self> {
                let wide: $wide = $to_wide(self);
                Some($from_wide(match op {
                    "Neg" => -wide,
                    "Abs" => wide.abs(),
                    "Sqrt" if wide >= 0.0 => wide.sqrt(),
                    "Ceil" => wide.ceil(),
                    "Floor" => wide.floor(),
                    "Round" => wide.round_ties_even(),
                    "Reciprocal" if wide != 0.0 => 1.0 / wide,
                    _ => return None,
                }))
            }
        }
    )*};
}

integer!(i8, i16, i32, i64, u8, u16, u32, u64);
float!(
    f32, f32, |v: f32| v, |v: f32| v;
    f64, f64, |v: f64| v, |v: f64| v;
    f16, f32, |v: f16| v.to_f32(), f16::from_f32;
    bf16, f32, |v: bf16| v.to_f32(), bf16::from_f32
);

/// Calls a generic function with the element type of `$dtype`; `None` for other dtypes.
macro_rules! with_number {
    ($dtype:expr, $function:ident($($argument:expr),*)) => {
        match $dtype {
            crate::dtype::DataType::Float => $function::<f32>($($argument),*),
            crate::dtype::DataType::Double => $function::<f64>($($argument),*),
            crate::dtype::DataType::Float16 => $function::<half::f16>($($argument),*),
            crate::dtype::DataType::Bfloat16 => $function::<half::bf16>($($argument),*),
            crate::dtype::DataType::Int8 => $function::<i8>($($argument),*),
            crate::dtype::DataType::Int16 => $function::<i16>($($argument),*),
            crate::dtype::DataType::Int32 => $function::<i32>($($argument),*),
            crate::dtype::DataType::Int64 => $function::<i64>($($argument),*),
            crate::dtype::DataType::Uint8 => $function::<u8>($($argument),*),
            crate::dtype::DataType::Uint16 => $function::<u16>($($argument),*),
            crate::dtype::DataType::Uint32 => $function::<u32>($($argument),*),
            crate::dtype::DataType::Uint64 => $function::<u64>($($argument),*),
            _ => None,
        }
    };
}
pub(super) use with_number;
