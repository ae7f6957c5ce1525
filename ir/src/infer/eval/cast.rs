//! `Cast` and `CastLike` between floats, integers of whole bytes and bool.

use half::{bf16, f16};

use super::Call;
use super::movement::element_size;
use super::number::Number;
use crate::dtype::DataType;
use crate::tensor::Tensor;

/// `Cast` to the attribute `to`.
pub(super) fn cast(call: &Call<'_>) -> Option<Tensor> {
    let to = call.node.int("to")?;
    convert(call, call.operand(0)?, DataType::from_code(i32::try_from(to).ok()?))
}

/// `CastLike` to the dtype of operand 1.
pub(super) fn cast_like(call: &Call<'_>) -> Option<Tensor> {
    convert(call, call.operand(0)?, call.operand(1)?.dtype())
}

/// `data` in dtype `to`; `None` when an element does not fit.
pub(super) fn convert(call: &Call<'_>, data: &Tensor, to: DataType) -> Option<Tensor> {
    if data.dtype() == to {
        return Some(data.clone());
    }
    call.bytes_of(data.dims(), element_size(to)?)?;
    call.bytes_of(data.dims(), size_of::<f64>())?;
    let bytes = if data.dtype().is_foldable_float() {
        let is_double = data.dtype() == DataType::Double;
        from_floats(&data.to_f64()?, is_double, to)?
    } else if data.dtype() == DataType::Uint64 {
        from_integers(u64::read(data.bytes()).into_iter().map(i128::from), to)?
    } else {
        let is_bool = data.dtype() == DataType::Bool;
        let values = data.to_i64()?.into_iter().map(i128::from);
        from_integers(values.map(|v| if is_bool { i128::from(v != 0) } else { v }), to)?
    };
    Tensor::new(to, data.dims().to_vec(), bytes.into()).ok()
}

/// Floats keep their value or are rounded once to nearest even; integers are truncated toward zero.
fn from_floats(values: &[f64], is_double: bool, to: DataType) -> Option<Vec<u8>> {
    let half = |v: f64| {
        // Runtimes go from f64 to a half through f32, so this is allowed only without a second rounding.
        let exact = !is_double || v.is_nan() || f64::from(v as f32).to_bits() == v.to_bits();
        exact.then_some(v)
    };
    if to.is_foldable_float() {
        return write(values.iter().copied(), to, |v| match to {
            DataType::Float16 => Some(f16::from_f64(half(v)?).to_f64()),
            DataType::Bfloat16 => Some(bf16::from_f64(half(v)?).to_f64()),
            DataType::Float => Some(f64::from(v as f32)),
            _ => Some(v),
        });
    }
    if values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    if to == DataType::Bool {
        return Some(values.iter().map(|v| u8::from(*v != 0.0)).collect());
    }
    let limit = 2_f64.powi(65);
    if values.iter().any(|v| v.abs() > limit) {
        return None;
    }
    from_integers(values.iter().map(|v| v.trunc() as i128), to)
}

/// Integers that fit the dtype; for a half, only those that are exact in f32.
fn from_integers(values: impl Iterator<Item = i128>, to: DataType) -> Option<Vec<u8>> {
    fn narrow<T: Number + TryFrom<i128>>(values: impl Iterator<Item = i128>) -> Option<Vec<u8>> {
        let values: Vec<T> = values.map(|v| T::try_from(v).ok()).collect::<Option<_>>()?;
        Some(T::write(&values))
    }
    match to {
        DataType::Bool => Some(values.map(|v| u8::from(v != 0)).collect()),
        DataType::Int8 => narrow::<i8>(values),
        DataType::Int16 => narrow::<i16>(values),
        DataType::Int32 => narrow::<i32>(values),
        DataType::Int64 => narrow::<i64>(values),
        DataType::Uint8 => narrow::<u8>(values),
        DataType::Uint16 => narrow::<u16>(values),
        DataType::Uint32 => narrow::<u32>(values),
        DataType::Uint64 => narrow::<u64>(values),
        DataType::Float => Some(f32::write(&values.map(|v| v as f32).collect::<Vec<_>>())),
        DataType::Double => Some(f64::write(&values.map(|v| v as f64).collect::<Vec<_>>())),
        DataType::Float16 | DataType::Bfloat16 => {
            let exact = |v: i128| ((v as f32) as i128 == v).then_some(v as f64);
            let values: Vec<f64> = values.map(exact).collect::<Option<_>>()?;
            write(values.into_iter(), to, Some)
        }
        _ => None,
    }
}

/// Bytes of floats after `round`; its results are exact in `to` (or halves, which are rounded here once).
fn write(
    values: impl Iterator<Item = f64>,
    to: DataType,
    round: impl Fn(f64) -> Option<f64>,
) -> Option<Vec<u8>> {
    let values: Vec<f64> = values.map(round).collect::<Option<_>>()?;
    let count = values.len();
    Tensor::from_f64(to, vec![count], &values).ok().map(|tensor| tensor.bytes().to_vec())
}
