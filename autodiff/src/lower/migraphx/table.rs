//! The operators that a step may contain according to MIGraphX's documentation.
//!
//! Sources: MIGraphX documentation, `onnx_operators`, Operator Support Matrix (operators of opset 19 and older, with
//! remarks); ONNX 1.23 Changelog.md for the changes after opset 19.

use updp_ir::infer::Shapes;
use updp_ir::{DataType, Model, Node, NodeId, view};

use crate::error::{AutodiffError, Result};

/// The newest opset that MIGraphX documents: `onnx_operators`, operators up to opset 19.
pub(super) const NEWEST: i64 = 19;

/// The newest opset whose operators were compared with the operators of [`NEWEST`]: ONNX 1.23, Changelog.md.
const COMPARED: i64 = 28;

/// The name of the target in messages.
pub(super) const NAME: &str = "MIGraphX";

/// Operators with the operands that must be constants, in alphabetical order. None of them has bodies.
const OPERATORS: &[(&str, &[usize])] = &[
    ("Abs", &[]),
    ("Acos", &[]),
    ("Acosh", &[]),
    ("Add", &[]),
    ("And", &[]),
    ("ArgMax", &[]),
    ("ArgMin", &[]),
    ("Asin", &[]),
    ("Asinh", &[]),
    ("Atan", &[]),
    ("Atanh", &[]),
    ("AveragePool", &[]),
    ("BatchNormalization", &[]),
    ("Cast", &[]),
    ("CastLike", &[]),
    ("Ceil", &[]),
    ("Celu", &[]),
    ("Clip", &[]),
    ("Concat", &[]),
    ("Constant", &[]),
    ("ConstantOfShape", &[0]),
    ("Conv", &[]),
    ("ConvTranspose", &[]),
    ("Cos", &[]),
    ("Cosh", &[]),
    ("CumSum", &[1]),
    ("DepthToSpace", &[]),
    ("Div", &[]),
    ("Dropout", &[]),
    ("Einsum", &[]),
    ("Elu", &[]),
    ("Equal", &[]),
    ("Erf", &[]),
    ("Exp", &[]),
    ("Expand", &[1]),
    ("EyeLike", &[]),
    ("Flatten", &[]),
    ("Floor", &[]),
    ("Gather", &[]),
    ("GatherElements", &[]),
    ("GatherND", &[]),
    ("Gemm", &[]),
    ("GlobalAveragePool", &[]),
    ("GlobalMaxPool", &[]),
    ("Greater", &[]),
    ("GreaterOrEqual", &[]),
    ("GroupNormalization", &[]),
    ("HardSigmoid", &[]),
    ("HardSwish", &[]),
    ("Identity", &[]),
    ("InstanceNormalization", &[]),
    ("IsInf", &[]),
    ("IsNaN", &[]),
    ("LRN", &[]),
    ("LayerNormalization", &[]),
    ("LeakyRelu", &[]),
    ("Less", &[]),
    ("LessOrEqual", &[]),
    ("Log", &[]),
    ("LogSoftmax", &[]),
    ("LpNormalization", &[]),
    ("MatMul", &[]),
    ("Max", &[]),
    ("MaxPool", &[]),
    ("Mean", &[]),
    ("Min", &[]),
    ("Mul", &[]),
    ("Neg", &[]),
    ("Not", &[]),
    ("OneHot", &[1]),
    ("Or", &[]),
    ("PRelu", &[]),
    ("Pad", &[1, 2, 3]),
    ("Pow", &[]),
    ("Range", &[0, 1, 2]),
    ("Reciprocal", &[]),
    ("ReduceL1", &[1]),
    ("ReduceL2", &[1]),
    ("ReduceLogSum", &[1]),
    ("ReduceLogSumExp", &[1]),
    ("ReduceMax", &[1]),
    ("ReduceMean", &[1]),
    ("ReduceMin", &[1]),
    ("ReduceProd", &[1]),
    ("ReduceSum", &[1]),
    ("ReduceSumSquare", &[1]),
    ("Relu", &[]),
    ("Reshape", &[1]),
    ("Resize", &[1, 2, 3]),
    ("Round", &[]),
    ("ScatterElements", &[]),
    ("ScatterND", &[]),
    ("Selu", &[]),
    ("Shape", &[]),
    ("Sigmoid", &[]),
    ("Sign", &[]),
    ("Sin", &[]),
    ("Sinh", &[]),
    ("Size", &[]),
    ("Slice", &[1, 2, 3, 4]),
    ("Softmax", &[]),
    ("Softplus", &[]),
    ("Softsign", &[]),
    ("SpaceToDepth", &[]),
    ("Split", &[1]),
    ("Sqrt", &[]),
    ("Squeeze", &[1]),
    ("Sub", &[]),
    ("Sum", &[]),
    ("Tan", &[]),
    ("Tanh", &[]),
    ("ThresholdedRelu", &[]),
    ("Tile", &[1]),
    ("TopK", &[1]),
    ("Transpose", &[]),
    ("Trilu", &[1]),
    ("Unsqueeze", &[1]),
    ("Where", &[]),
    ("Xor", &[]),
];

/// The element types that MIGraphX lists.
const DTYPES: [DataType; 12] = [
    DataType::Bool,
    DataType::Uint8,
    DataType::Uint16,
    DataType::Uint32,
    DataType::Uint64,
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::Float,
    DataType::Float16,
    DataType::Double,
];

/// The operands of an operator that must be constants.
pub(super) fn constant_slots(op: &str) -> &'static [usize] {
    let at = OPERATORS.binary_search_by(|(name, _)| (*name).cmp(op));
    at.map_or(&[], |at| OPERATORS[at].1)
}

/// Checks that every node of a model of a newer opset means the same in [`NEWEST`]. All operators of the table do for
/// the types of the table, with three exceptions: windows that begin in the padding behind an image, an order of
/// `SpaceToDepth` that came later, and the maximum of truth values.
///
/// # Errors
/// T0311 with the first node that does not.
pub(super) fn same_in_newest(model: &Model, opset: i64) -> Result<()> {
    let shapes = Shapes::infer(&model.graph, opset);
    let is_bool = |id| {
        let x = model.graph.operand(id, 0);
        x.and_then(|x| shapes.dtype(x)) == Some(DataType::Bool)
    };
    for id in model.graph.nodes() {
        let node = model.graph.node(id);
        let is_other = match node.op_type() {
            _ if opset > COMPARED => true,
            "AveragePool" | "MaxPool" => opset >= 22 && node.int("ceil_mode").unwrap_or(0) != 0,
            "ReduceMax" | "ReduceMin" => is_bool(id),
            "SpaceToDepth" => node.string("mode").is_some_and(|mode| mode != "DCR"),
            _ => false,
        };
        if is_other {
            let detail = format!(
                "it is of opset {opset} and may mean something else in opset {NEWEST}, the newest documented"
            );
            return Err(AutodiffError::refused(NAME, Some(node), detail));
        }
    }
    Ok(())
}

/// Checks every node against the table.
///
/// # Errors
/// T0311 with the first node that is not in the table.
pub(super) fn check(model: &Model, opset: i64) -> Result<()> {
    let shapes = Shapes::infer(&model.graph, opset);
    for id in model.graph.nodes() {
        if let Some(detail) = against(model, &shapes, id) {
            return Err(AutodiffError::refused(NAME, Some(model.graph.node(id)), detail));
        }
    }
    Ok(())
}

/// The reason why a node is not supported, if there is one.
fn against(model: &Model, shapes: &Shapes, id: NodeId) -> Option<String> {
    let graph = &model.graph;
    let node = graph.node(id);
    if !model.is_standard(node) {
        return Some("it is no operator of ai.onnx".to_owned());
    }
    if OPERATORS.binary_search_by(|(name, _)| (*name).cmp(node.op_type())).is_err() {
        return Some("the documented operators of opset 19 do not have it".to_owned());
    }
    for slot in constant_slots(node.op_type()) {
        let value = graph.operand(id, *slot);
        if value.is_some_and(|value| view::constant(graph, value).is_none()) {
            return Some(format!("operand {slot} has to be a constant"));
        }
    }
    for (at, value) in graph.results(id).into_iter().enumerate() {
        let Some(value) = value else { continue };
        let name = graph.value(value).name();
        if at > 0 && gives_one(node.op_type()) && graph.is_read(value) {
            return Some(format!("only its first result is given, and {name:?} is read"));
        }
        if at == 0 && shapes.known_dims(value).is_none() {
            return Some(format!("the sizes of {name:?} are not known before it runs"));
        }
        if let Some(dtype) = shapes.dtype(value).filter(|dtype| !DTYPES.contains(dtype)) {
            return Some(format!("{name:?} is of type {dtype}"));
        }
    }
    let second = graph.operand(id, 1).and_then(|value| shapes.known_dims(value));
    attributes(node, second.as_deref())
}

/// Operators whose results after the first do not exist or mean training.
fn gives_one(op: &str) -> bool {
    matches!(op, "BatchNormalization" | "Dropout" | "LayerNormalization" | "MaxPool")
}

/// The reason why the attributes of a node are not supported, if there is one. `second` are the dims of operand 1.
fn attributes(node: &Node, second: Option<&[usize]>) -> Option<String> {
    let int = |name: &str| node.int(name).unwrap_or(0);
    let text = |name: &str, fits: &[&str]| {
        node.string(name)
            .filter(|text| !fits.contains(text))
            .map(|text| format!("{name} is {text}"))
    };
    let nonzero = |name: &str| (int(name) != 0).then(|| format!("{name} is {}", int(name)));
    let padded = || text("auto_pad", &["NOTSET"]);
    match node.op_type() {
        "BatchNormalization" => nonzero("training_mode"),
        "ConvTranspose" => {
            let more = node.ints("output_padding").is_some_and(|more| more.iter().any(|p| *p != 0));
            more.then(|| "output_padding is computed otherwise".to_owned()).or_else(padded)
        }
        "GroupNormalization" => {
            let groups = usize::try_from(int("num_groups")).ok();
            (second != groups.as_ref().map(std::slice::from_ref))
                .then(|| "its scale is none of groups, as opset 18 has it".to_owned())
        }
        "MaxPool" => {
            let is_dilated = node.ints("dilations").is_some_and(|d| d.iter().any(|d| *d != 1));
            nonzero("storage_order")
                .or_else(|| is_dilated.then(|| "dilations are supported in part".to_owned()))
        }
        "Pad" => text("mode", &["constant", "reflect"]),
        "Reshape" => nonzero("allowzero"),
        "Resize" => text("mode", &["nearest", "linear"])
            .or_else(|| nonzero("antialias"))
            .or_else(|| nonzero("exclude_outside"))
            .or_else(|| {
                let modes = [
                    "half_pixel",
                    "pytorch_half_pixel",
                    "tf_half_pixel_for_nn",
                    "asymmetric",
                    "align_corners",
                ];
                text("coordinate_transformation_mode", &modes)
            }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_no_operator_twice() {
        assert!(OPERATORS.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(constant_slots("Slice"), [1, 2, 3, 4]);
        assert!(constant_slots("Gelu").is_empty());
    }
}
