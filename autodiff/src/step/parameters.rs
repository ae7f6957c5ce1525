//! Finds the initializers to train: those that are read as a weight.

use updp_ir::{Graph, Origin, Tensor, ValueId};

/// An added constant below this is a mask that closes attention.
const CLOSED: f64 = -10.0;

/// Initializers that are weights, in file order. A weight is a float tensor with at least one axis. Directly or through
/// operators that only move elements, it is the weight or bias of a Conv, ConvTranspose, Gemm or MatMul, the scale or
/// shift of a normalization, the slope of a PRelu, a factor or summand of data (layer scale, position embedding), a
/// part of a Concat (class token), or a table of Gather. Masks, bounds and running statistics are not weights.
pub(super) fn parameters(graph: &Graph, frozen: &[String]) -> Vec<ValueId> {
    let is_parameter = |value: &ValueId| {
        let known = graph.value(*value);
        let Some(tensor) = graph.constant_initializer(*value) else { return false };
        known.origin() == Origin::Initializer { overridable: false }
            && tensor.dtype().is_foldable_float()
            && !tensor.dims().is_empty()
            && !tensor.is_empty()
            && !known.is_output()
            && !graph.is_captured(*value)
            && !frozen.iter().any(|name| name == known.name())
            && is_weight(graph, *value, tensor)
    };
    graph.initializers().filter(is_parameter).collect()
}

fn is_weight(graph: &Graph, value: ValueId, tensor: &Tensor) -> bool {
    graph.users(value).into_iter().any(|user| {
        let node = graph.node(user.node);
        if !node.domain().is_empty() {
            return false;
        }
        let through =
            || graph.sole_result(user.node).is_some_and(|result| is_weight(graph, result, tensor));
        match (node.op_type(), user.slot) {
            ("Gemm" | "MatMul", _)
            | ("PRelu", 1)
            | (
                "Conv"
                | "ConvTranspose"
                | "BatchNormalization"
                | "InstanceNormalization"
                | "GroupNormalization"
                | "LayerNormalization",
                1 | 2,
            ) => true,
            ("Add" | "Mul", slot) => {
                let other = graph.operand(user.node, 1 - slot);
                tensor.len() > 1
                    && !is_mask(tensor)
                    && other.is_some_and(|other| is_hidden(graph, other))
            }
            ("Concat", _) => {
                let others = graph.operands(user.node).into_iter().flatten();
                others.into_iter().any(|other| is_hidden(graph, other))
            }
            ("Identity" | "Transpose" | "Flatten", _)
            | ("Reshape" | "Squeeze" | "Unsqueeze" | "Expand" | "Gather" | "Slice" | "Cast", 0) => {
                through()
            }
            _ => false,
        }
    })
}

/// Whether the value is computed, and is neither a constant nor an input. Constants on the input are preprocessing.
fn is_hidden(graph: &Graph, value: ValueId) -> bool {
    graph.value(value).origin() == Origin::Result && updp_ir::view::constant(graph, value).is_none()
}

/// Whether the values look like a mask: zeros and ones, or zeros and large negative numbers.
fn is_mask(tensor: &Tensor) -> bool {
    let values = tensor.to_f64().unwrap_or_default();
    let has = |wanted: &dyn Fn(f64) -> bool| values.iter().any(|value| wanted(*value));
    let are_all = |wanted: &dyn Fn(f64) -> bool| values.iter().all(|value| wanted(*value));
    let is_zero_one =
        has(&|v| v == 0.0) && has(&|v| v == 1.0) && are_all(&|v| v == 0.0 || v == 1.0);
    let is_closing = has(&|v| v <= CLOSED) && are_all(&|v| v == 0.0 || v <= CLOSED);
    is_zero_one || is_closing
}
