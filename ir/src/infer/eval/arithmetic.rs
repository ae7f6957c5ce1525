//! Elementwise arithmetic with numpy broadcasting, in the dtype of the operands.

use super::movement::{broadcast_dims, broadcast_to, element_size};
use super::number::{Number, with_number};
use super::{Call, count};
use crate::dtype::DataType;
use crate::tensor::Tensor;

/// `zip(a, b)` of two operands with one dtype, broadcast against each other.
fn zip<T: Number>(
    call: &Call<'_>,
    a: &Tensor,
    b: &Tensor,
    op: fn(T, T) -> Option<T>,
) -> Option<Tensor> {
    if a.dtype() != b.dtype() {
        return None;
    }
    let dims = broadcast_dims(a.dims(), b.dims())?;
    call.bytes_of(&dims, size_of::<T>())?;
    let (left, right) = (broadcast_to(call, a, &dims)?, broadcast_to(call, b, &dims)?);
    let values: Vec<T> = T::read(left.bytes())
        .into_iter()
        .zip(T::read(right.bytes()))
        .map(|(x, y)| op(x, y))
        .collect::<Option<_>>()?;
    Tensor::new(a.dtype(), dims, T::write(&values).into()).ok()
}

/// Whether the operands broadcast by today's rule; below opset 7 the `broadcast` attribute decides.
fn is_modern(call: &Call<'_>) -> bool {
    call.opset >= 7
        || call
            .operands
            .windows(2)
            .all(|pair| matches!(pair, [Some(a), Some(b)] if a.dims() == b.dims()))
}

/// `Add`, `Sub`, `Mul`, `Div`, `Mod`.
pub(super) fn binary(call: &Call<'_>) -> Option<Tensor> {
    fn run<T: Number>(call: &Call<'_>, a: &Tensor, b: &Tensor) -> Option<Tensor> {
        let op = match call.node.op_type() {
            "Add" => T::add,
            "Sub" => T::sub,
            "Mul" => T::mul,
            "Div" => T::div,
            "Mod" if call.int("fmod", 0)? == 0 => T::floor_mod,
            "Mod" => T::fmod,
            _ => return None,
        };
        zip(call, a, b, op)
    }
    let (a, b) = (call.operand(0)?, call.operand(1)?);
    if !is_modern(call) || call.operands.len() != 2 {
        return None;
    }
    with_number!(a.dtype(), run(call, a, b))
}

/// `Pow`; the exponent may have another dtype.
pub(super) fn pow(call: &Call<'_>) -> Option<Tensor> {
    fn run<T: Number>(call: &Call<'_>, base: &Tensor, exponent: &Tensor) -> Option<Tensor> {
        let dims = broadcast_dims(base.dims(), exponent.dims())?;
        call.bytes_of(&dims, size_of::<f64>())?;
        let exponents = broadcast_to(call, exponent, &dims)?.to_f64()?;
        let values: Vec<T> = T::read(broadcast_to(call, base, &dims)?.bytes())
            .into_iter()
            .zip(exponents)
            .map(|(x, y)| x.power(y))
            .collect::<Option<_>>()?;
        Tensor::new(base.dtype(), dims, T::write(&values).into()).ok()
    }
    let (base, exponent) = (call.operand(0)?, call.operand(1)?);
    if !is_modern(call) || exponent.dtype() == DataType::Bool {
        return None;
    }
    with_number!(base.dtype(), run(call, base, exponent))
}

/// `Neg`, `Abs`, `Sqrt`, `Ceil`, `Floor`, `Round`, `Reciprocal`.
pub(super) fn unary(call: &Call<'_>) -> Option<Tensor> {
    fn run<T: Number>(call: &Call<'_>, data: &Tensor) -> Option<Tensor> {
        let values: Vec<T> = T::read(data.bytes())
            .into_iter()
            .map(|value| value.unary(call.node.op_type()))
            .collect::<Option<_>>()?;
        Tensor::new(data.dtype(), data.dims().to_vec(), T::write(&values).into()).ok()
    }
    let data = call.operand(0)?;
    call.bytes_of(data.dims(), element_size(data.dtype())?)?;
    with_number!(data.dtype(), run(call, data))
}

/// `Sum`, `Min`, `Max`, from left to right.
pub(super) fn variadic(call: &Call<'_>) -> Option<Tensor> {
    fn run<T: Number>(call: &Call<'_>, parts: &[&Tensor]) -> Option<Tensor> {
        let op = match call.node.op_type() {
            "Sum" => T::add,
            "Min" => T::least,
            "Max" => T::greatest,
            _ => return None,
        };
        let (first, rest) = parts.split_first()?;
        let mut total = (*first).clone();
        for part in rest {
            total = zip(call, &total, part, op)?;
        }
        Some(total)
    }
    let parts = call.all()?;
    let dtype = parts.first()?.dtype();
    // A sum of halves may be rounded once or after each step.
    let is_half = matches!(dtype, DataType::Float16 | DataType::Bfloat16);
    if (is_half && parts.len() > 2) || (call.opset < 8 && !is_modern(call)) {
        return None;
    }
    with_number!(dtype, run(call, &parts))
}

/// `Clip`; attribute form below opset 11.
pub(super) fn clip(call: &Call<'_>) -> Option<Tensor> {
    fn run<T: Number>(
        call: &Call<'_>,
        data: &Tensor,
        bounds: &[Option<Tensor>; 2],
    ) -> Option<Tensor> {
        let mut clipped = data.clone();
        for (bound, op) in bounds.iter().zip([T::greatest as fn(T, T) -> Option<T>, T::least]) {
            if let Some(bound) = bound {
                if count(bound.dims())? != 1 {
                    return None;
                }
                clipped = zip(call, &clipped, &bound.with_dims(Vec::new()).ok()?, op)?;
            }
        }
        Some(clipped)
    }
    let data = call.operand(0)?;
    let bounds = if call.opset < 11 {
        let bound = |name: &str| match call.node.float(name) {
            Some(bound) => {
                Some(Some(Tensor::from_f64(data.dtype(), Vec::new(), &[f64::from(bound)]).ok()?))
            }
            None if call.node.has(name) => None,
            None => Some(None),
        };
        [bound("min")?, bound("max")?]
    } else {
        [call.operand(1).cloned(), call.operand(2).cloned()]
    };
    with_number!(data.dtype(), run(call, data, &bounds))
}
