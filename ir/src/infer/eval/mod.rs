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
    if node.op_type() == SPLIT {
        return movement::split(&call);
    }
    rule(node.op_type())?(&call).map(|tensor| vec![tensor])
}

/// Whether [`evaluate`] knows an operator of the default domain.
#[must_use]
pub fn is_evaluated(op_type: &str) -> bool {
    op_type == SPLIT || rule(op_type).is_some()
}

/// The only operator here with several results.
const SPLIT: &str = "Split";

/// How an operator with one result is evaluated.
type Rule = fn(&Call<'_>) -> Option<Tensor>;

fn rule(op_type: &str) -> Option<Rule> {
    let rule: Rule = match op_type {
        "Constant" => constant::constant,
        "ConstantOfShape" => constant::constant_of_shape,
        "Range" => constant::range,
        "Identity" => identity,
        "Shape" => layout::shape,
        "Size" => layout::size,
        "Reshape" => layout::reshape,
        "Flatten" => layout::flatten,
        "Squeeze" => layout::squeeze,
        "Unsqueeze" => layout::unsqueeze,
        "Transpose" => movement::transpose,
        "Expand" => movement::expand,
        "Tile" => movement::tile,
        "Slice" => movement::slice,
        "Gather" => movement::gather,
        "Concat" => movement::concat,
        "Pad" => movement::pad,
        "Cast" => cast::cast,
        "CastLike" => cast::cast_like,
        "Where" => logic::select,
        "Not" => logic::not,
        "And" | "Or" | "Xor" => logic::connective,
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" => logic::compare,
        "Add" | "Sub" | "Mul" | "Div" | "Mod" => arithmetic::binary,
        "Pow" => arithmetic::pow,
        "Neg" | "Abs" | "Sqrt" | "Ceil" | "Floor" | "Round" | "Reciprocal" => arithmetic::unary,
        "Sum" | "Min" | "Max" => arithmetic::variadic,
        "Clip" => arithmetic::clip,
        "ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin" => reduce::reduce,
        _ => return None,
    };
    Some(rule)
}

fn identity(call: &Call<'_>) -> Option<Tensor> {
    call.operand(0).cloned()
}
