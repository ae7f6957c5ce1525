//! Comparisons, boolean connectives and `Where`.

use super::Call;
use super::movement::{broadcast_dims, broadcast_to, element_size};
use super::number::{Number, with_number};
use crate::dtype::DataType;
use crate::tensor::Tensor;

fn bools(dims: Vec<usize>, values: Vec<u8>) -> Option<Tensor> {
    Tensor::new(DataType::Bool, dims, values.into()).ok()
}

/// `Equal`, `Less`, `Greater`, `LessOrEqual`, `GreaterOrEqual`.
pub(super) fn compare(call: &Call<'_>) -> Option<Tensor> {
    fn run<T: Number>(op: &str, a: &Tensor, b: &Tensor) -> Option<Vec<u8>> {
        let test = match op {
            "Equal" => |x: &T, y: &T| x == y,
            "Less" => |x: &T, y: &T| x < y,
            "Greater" => |x: &T, y: &T| x > y,
            "LessOrEqual" => |x: &T, y: &T| x <= y,
            "GreaterOrEqual" => |x: &T, y: &T| x >= y,
            _ => return None,
        };
        let (a, b) = (T::read(a.bytes()), T::read(b.bytes()));
        Some(a.iter().zip(&b).map(|(x, y)| u8::from(test(x, y))).collect())
    }
    let (a, b) = (call.operand(0)?, call.operand(1)?);
    if a.dtype() != b.dtype() || (call.opset < 7 && a.dims() != b.dims()) {
        return None;
    }
    let dims = broadcast_dims(a.dims(), b.dims())?;
    call.bytes_of(&dims, element_size(a.dtype())?)?;
    let (left, right) = (broadcast_to(call, a, &dims)?, broadcast_to(call, b, &dims)?);
    let op = call.node.op_type();
    let values = if a.dtype() == DataType::Bool {
        if op != "Equal" {
            return None;
        }
        let pairs = left.bytes().iter().zip(right.bytes());
        pairs.map(|(x, y)| u8::from((*x != 0) == (*y != 0))).collect()
    } else {
        with_number!(a.dtype(), run(op, &left, &right))?
    };
    bools(dims, values)
}

/// `Not`.
pub(super) fn not(call: &Call<'_>) -> Option<Tensor> {
    let data = call.operand(0)?;
    call.bytes_of(data.dims(), 1)?;
    if data.dtype() != DataType::Bool {
        return None;
    }
    bools(data.dims().to_vec(), data.bytes().iter().map(|v| u8::from(*v == 0)).collect())
}

/// `And`, `Or`, `Xor`.
pub(super) fn connective(call: &Call<'_>) -> Option<Tensor> {
    let (a, b) = (call.operand(0)?, call.operand(1)?);
    let is_bool = a.dtype() == DataType::Bool && b.dtype() == DataType::Bool;
    if !is_bool || (call.opset < 7 && a.dims() != b.dims()) {
        return None;
    }
    let dims = broadcast_dims(a.dims(), b.dims())?;
    let (left, right) = (broadcast_to(call, a, &dims)?, broadcast_to(call, b, &dims)?);
    let join = match call.node.op_type() {
        "And" => |x: bool, y: bool| x && y,
        "Or" => |x: bool, y: bool| x || y,
        _ => |x: bool, y: bool| x != y,
    };
    let pairs = left.bytes().iter().zip(right.bytes());
    bools(dims, pairs.map(|(x, y)| u8::from(join(*x != 0, *y != 0))).collect())
}

/// `Where(condition, x, y)` over any dtype of whole bytes.
pub(super) fn select(call: &Call<'_>) -> Option<Tensor> {
    let (condition, x, y) = (call.operand(0)?, call.operand(1)?, call.operand(2)?);
    if condition.dtype() != DataType::Bool || x.dtype() != y.dtype() {
        return None;
    }
    let size = element_size(x.dtype())?;
    let dims = broadcast_dims(&broadcast_dims(condition.dims(), x.dims())?, y.dims())?;
    let mut out = Vec::with_capacity(call.bytes_of(&dims, size)?);
    let condition = broadcast_to(call, condition, &dims)?;
    let (x, y) = (broadcast_to(call, x, &dims)?, broadcast_to(call, y, &dims)?);
    let pairs = x.bytes().chunks_exact(size).zip(y.bytes().chunks_exact(size));
    for (test, (x, y)) in condition.bytes().iter().zip(pairs) {
        out.extend_from_slice(if *test == 0 { y } else { x });
    }
    Tensor::new(x.dtype(), dims, out.into()).ok()
}
