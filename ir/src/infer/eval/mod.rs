//! Exact evaluation of default-domain operators on constant tensors.
//!
//! Only operations that every runtime computes bit for bit alike: data movement, integer and boolean
//! arithmetic, and the correctly rounded float operations. No transcendental functions.

mod arithmetic;
mod cast;
mod constant;
mod layout;
mod logic;
mod movement;
mod number;
mod reduce;

use crate::dtype::DataType;
use crate::infer::attributes::{self, Axes};
use crate::node::Node;
use crate::tensor::Tensor;

/// One node with the tensors that it reads.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    node: &'a Node,
    opset: i64,
    operands: &'a [Option<&'a Tensor>],
    max_bytes: usize,
}

impl<'a> Call<'a> {
    fn operand(&self, slot: usize) -> Option<&'a Tensor> {
        self.operands.get(slot).copied().flatten()
    }

    fn has_operand(&self, slot: usize) -> bool {
        self.operand(slot).is_some()
    }

    fn all(&self) -> Option<Vec<&'a Tensor>> {
        self.operands.iter().copied().collect()
    }

    fn int(&self, name: &str, default: i64) -> Option<i64> {
        attributes::int(self.node, name, default)
    }

    /// A scalar or 1-D int64 or int32 operand.
    fn ints(&self, slot: usize) -> Option<Vec<i64>> {
        let tensor = self.operand(slot)?;
        let is_index = matches!(tensor.dtype(), DataType::Int64 | DataType::Int32);
        if is_index && tensor.dims().len() <= 1 { tensor.to_i64() } else { None }
    }

    /// Axes from operand `slot`, otherwise from the attribute `axes`; `None` if malformed.
    fn axes(&self, slot: usize) -> Option<Axes> {
        if self.has_operand(slot) {
            return self.ints(slot).map(Axes::given);
        }
        Some(Axes::attribute(self.node))
    }

    /// Byte count of `dims` elements of `size` bytes, if it is within the limit.
    fn bytes_of(&self, dims: &[usize], size: usize) -> Option<usize> {
        let bytes = count(dims)?.checked_mul(size)?;
        (bytes <= self.max_bytes).then_some(bytes)
    }
}

/// Product of dims; `None` on overflow.
fn count(dims: &[usize]) -> Option<usize> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim))
}

/// Results of `node` (an operator of `ai.onnx` at `opset`) on constant `operands`, by slot.
///
/// `None` if the operator, dtype or form is not supported, the input is malformed, a value does
/// not fit its dtype, or a result would take more than `max_bytes` bytes (checked before any
/// allocation). The caller checks that `operands` holds every operand of the node, except those that
/// the node leaves out, and that the model does not redefine the operator.
#[must_use]
pub fn evaluate(
    node: &Node,
    opset: i64,
    operands: &[Option<&Tensor>],
    max_bytes: usize,
) -> Option<Vec<Tensor>> {
    if !node.domain().is_empty() || node.has_reference_attribute() {
        return None;
    }
    let call = Call { node, opset, operands, max_bytes };
    if node.op_type() == "Split" {
        return movement::split(&call);
    }
    one(&call).map(|tensor| vec![tensor])
}

fn one(call: &Call<'_>) -> Option<Tensor> {
    match call.node.op_type() {
        "Constant" => constant::constant(call),
        "ConstantOfShape" => constant::constant_of_shape(call),
        "Range" => constant::range(call),
        "Identity" => call.operand(0).cloned(),
        "Shape" => layout::shape(call),
        "Size" => layout::size(call),
        "Reshape" => layout::reshape(call),
        "Flatten" => layout::flatten(call),
        "Squeeze" => layout::squeeze(call),
        "Unsqueeze" => layout::unsqueeze(call),
        "Transpose" => movement::transpose(call),
        "Expand" => movement::expand(call),
        "Tile" => movement::tile(call),
        "Slice" => movement::slice(call),
        "Gather" => movement::gather(call),
        "Concat" => movement::concat(call),
        "Pad" => movement::pad(call),
        "Cast" => cast::cast(call),
        "CastLike" => cast::cast_like(call),
        "Where" => logic::select(call),
        "Not" => logic::not(call),
        "And" | "Or" | "Xor" => logic::connective(call),
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" => logic::compare(call),
        "Add" | "Sub" | "Mul" | "Div" | "Mod" => arithmetic::binary(call),
        "Pow" => arithmetic::pow(call),
        "Neg" | "Abs" | "Sqrt" | "Ceil" | "Floor" | "Round" | "Reciprocal" => {
            arithmetic::unary(call)
        }
        "Sum" | "Min" | "Max" => arithmetic::variadic(call),
        "Clip" => arithmetic::clip(call),
        "ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin" => reduce::reduce(call),
        _ => None,
    }
}
