//! Tests that malformed nodes stay unknown, whatever their attributes and operands say, and cost little.

use proptest::prelude::*;

use super::{bools, f32s, i64s};
use crate::attribute::AttributeValue;
use crate::builder::ModelBuilder;
use crate::dtype::DataType;
use crate::infer::{Shapes, evaluate};
use crate::node::Node;
use crate::tensor::Tensor;
use crate::types::Dim;

const OPS: &[&str] = &[
    "Constant",
    "ConstantOfShape",
    "Range",
    "Identity",
    "Shape",
    "Size",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Expand",
    "Tile",
    "Slice",
    "Gather",
    "GatherND",
    "GatherElements",
    "Concat",
    "Pad",
    "Cast",
    "CastLike",
    "Where",
    "Not",
    "And",
    "Equal",
    "Less",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "Pow",
    "Neg",
    "Sqrt",
    "Sum",
    "Min",
    "Clip",
    "ReduceSum",
    "ReduceMax",
    "ReduceMean",
    "Split",
    "Conv",
    "ConvTranspose",
    "ConvInteger",
    "QLinearConv",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "MaxRoiPool",
    "RoiAlign",
    "GridSample",
    "DepthToSpace",
    "SpaceToDepth",
    "Resize",
    "Upsample",
    "Gemm",
    "MatMul",
    "Attention",
    "LSTM",
    "BatchNormalization",
    "LayerNormalization",
    "Dropout",
    "OneHot",
    "NonZero",
    "TopK",
    "ArgMax",
    "DynamicQuantizeLinear",
    "QuantizeLinear",
    "Compress",
    "Det",
    "RandomNormal",
    "If",
    "Loop",
];
const NAMES: &[&str] = &[
    "axis",
    "axes",
    "perm",
    "pads",
    "strides",
    "dilations",
    "kernel_shape",
    "auto_pad",
    "group",
    "ceil_mode",
    "output_shape",
    "output_padding",
    "shape",
    "split",
    "num_outputs",
    "keepdims",
    "starts",
    "ends",
    "start",
    "end",
    "to",
    "value",
    "value_ints",
    "scales",
    "blocksize",
    "k",
    "mode",
    "transA",
    "batch_dims",
    "allowzero",
    "noop_with_empty_axes",
    "q_num_heads",
    "kv_num_heads",
    "hidden_size",
    "layout",
    "pooled_shape",
    "stash_type",
    "dtype",
    "fmod",
];

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![-3_i64..5, Just(i64::MAX), Just(i64::MIN), Just(1 << 40), Just(i64::from(i32::MAX)),]
}

fn attribute() -> impl Strategy<Value = AttributeValue> {
    prop_oneof![
        number().prop_map(AttributeValue::Int),
        prop::collection::vec(number(), 0..6).prop_map(AttributeValue::Ints),
        Just(AttributeValue::Float(f32::NAN)),
        prop::collection::vec(Just(1e30_f32), 0..5).prop_map(AttributeValue::Floats),
        prop_oneof![Just("SAME_UPPER"), Just("VALID"), Just("edge")]
            .prop_map(|text| AttributeValue::String(text.into())),
        tensor().prop_map(AttributeValue::Tensor),
    ]
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let vector = prop::collection::vec(number(), 0..6);
    prop_oneof![
        vector.prop_map(|values| i64s(&[values.len()], &values)),
        number().prop_map(|value| i64s(&[], &[value])),
        (0_usize..4, 0_usize..4, 1_usize..3)
            .prop_map(|(a, b, c)| { f32s(&[a, b, c], &vec![1.5; a * b * c]) }),
        Just(f32s(&[2, 3, 1, 1], &[0.5; 6])),
        Just(bools(&[2], &[0, 7])),
        Just(f32s(&[0, 1 << 30, 1 << 30, 1 << 30], &[])),
        Just(Tensor::new(DataType::Int4, vec![3], vec![1, 2].into()).expect("two bytes")),
        Just(Tensor::from_f64(DataType::Float16, vec![2], &[1.0, -2.0]).expect("two values")),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let attributes = prop::collection::vec((prop::sample::select(NAMES), attribute()), 0..5);
    (prop::sample::select(OPS), attributes).prop_map(|(op, attributes)| {
        let node = Node::new(op);
        attributes.into_iter().fold(node, |node, (name, value)| node.with(name, value))
    })
}

fn dims() -> impl Strategy<Value = Option<Vec<Dim>>> {
    let dim = prop_oneof![
        (0_usize..5).prop_map(Dim::Known),
        Just(Dim::Known(usize::MAX >> 1)),
        Just(Dim::from("n")),
        Just(Dim::Unknown),
    ];
    prop::option::of(prop::collection::vec(dim, 0..6))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn evaluates_anything_without_panic(
        node in node(),
        opset in prop_oneof![Just(1_i64), 5_i64..24, Just(i64::MAX)],
        operands in prop::collection::vec(prop::option::of(tensor()), 0..6),
    ) {
        let operands: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
        for tensor in evaluate(&node, opset, &operands, 1 << 16).unwrap_or_default() {
            let copied = operands.iter().flatten().any(|o| o.bytes().len() >= tensor.bytes().len());
            prop_assert!(tensor.bytes().len() <= 1 << 16 || copied);
        }
    }

    #[test]
    fn infers_anything_without_panic(
        node in node(),
        opset in 1_i64..24,
        shapes in prop::collection::vec((dims(), any::<bool>()), 0..6),
        tensors in prop::collection::vec(tensor(), 6),
    ) {
        let mut builder = ModelBuilder::new(opset);
        builder.ir_version(8);
        let mut operands = Vec::new();
        for (at, ((shape, is_constant), tensor)) in shapes.iter().zip(&tensors).enumerate() {
            let name = format!("v{at}");
            if *is_constant {
                builder.initializer(&name, tensor);
            } else {
                builder.input(&name, DataType::Float, shape.as_deref().unwrap_or_default());
            }
            operands.push(name);
        }
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        builder.node(node, &operands, &["r0", "", "r2", "r3"]);
        builder.node(Node::new("Shape"), &["r0"], &["s"]);
        builder.node(Node::new("Reshape"), &["r2", "s"], &["t"]);
        if let Ok(model) = builder.build() {
            let table = Shapes::infer(&model.graph, opset);
            for value in model.graph.values() {
                let _ = (table.of(value), table.constant(&model.graph, value));
            }
        }
    }
}

#[test]
fn infers_long_chains_in_linear_time() {
    let mut builder = ModelBuilder::new(13);
    builder.input("v0", DataType::Float, &["n".into(), 4.into()]);
    let count = 20_000;
    for at in 0..count {
        let (from, to) = (format!("v{at}"), format!("v{}", at + 1));
        builder.node(Node::new("Relu"), &[&from], &[&to]);
    }
    let model = builder.output(&format!("v{count}"), DataType::Float, None).build();
    let model = model.expect("a valid model");
    let shapes = Shapes::infer(&model.graph, 13);
    let last = model.graph.outputs().next().expect("an output");
    assert_eq!(shapes.of(last).expect("a type").to_string(), "f32[n,4]");
}
