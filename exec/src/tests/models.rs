//! Small models, built as protobuf messages.

use bytes::Bytes;
use prost::Message;
use updp_ir::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_proto::DataLocation, tensor_shape_proto, type_proto,
};
use updp_ir::{DataType, Tensor};

/// A dim of an input or output: number or name.
#[derive(Clone, Copy)]
pub(crate) enum D {
    N(i64),
    S(&'static str),
}

pub(crate) fn value(name: &str, dtype: DataType, dims: &[D]) -> ValueInfoProto {
    let dim = dims.iter().map(|dim| tensor_shape_proto::Dimension {
        value: Some(match dim {
            D::N(size) => tensor_shape_proto::dimension::Value::DimValue(*size),
            D::S(symbol) => tensor_shape_proto::dimension::Value::DimParam((*symbol).to_owned()),
        }),
        ..Default::default()
    });
    let tensor = type_proto::Tensor {
        elem_type: Some(dtype.code()),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    value_of(name, type_proto::Value::TensorType(tensor))
}

pub(super) fn value_of(name: &str, value: type_proto::Value) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { value: Some(value), ..Default::default() }),
        ..Default::default()
    }
}

pub(crate) fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        input: owned(inputs),
        output: owned(outputs),
        name: Some(format!("{}_node", outputs[0])),
        op_type: Some(op.to_owned()),
        ..Default::default()
    }
}

pub(crate) fn with_ints(mut node: NodeProto, name: &str, ints: &[i64]) -> NodeProto {
    node.attribute.push(AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints as i32),
        ints: ints.to_vec(),
        ..Default::default()
    });
    node
}

pub(crate) fn with_int(mut node: NodeProto, name: &str, int: i64) -> NodeProto {
    node.attribute.push(AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(int),
        ..Default::default()
    });
    node
}

/// An f32 weight.
pub(crate) fn with_float(mut node: NodeProto, name: &str, float: f32) -> NodeProto {
    node.attribute.push(AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Float as i32),
        f: Some(float),
        ..Default::default()
    });
    node
}

pub(super) fn weight(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    let tensor = Tensor::from_f32(dims.to_vec(), values).expect("well formed");
    TensorProto { name: Some(name.to_owned()), ..tensor.proto().clone() }
}

pub(crate) fn model(
    nodes: Vec<NodeProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    weights: Vec<TensorProto>,
) -> ModelProto {
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset("", 17), opset("com.example", 1)],
        graph: Some(GraphProto {
            name: Some("test".to_owned()),
            node: nodes,
            input: inputs,
            output: outputs,
            initializer: weights,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn bytes(model: &ModelProto) -> Bytes {
    model.encode_to_vec().into()
}

/// x [batch, 1, 3, 3] → Conv 2×2 → BatchNormalization (scale 2, bias 1) → Relu → y.
pub(super) fn conv_bn_relu(filter: &[f32; 4]) -> ModelProto {
    let ones = |name, value| weight(name, &[1], &[value]);
    model(
        vec![
            with_ints(node("Conv", &["x", "w", "b"], &["c"]), "kernel_shape", &[2, 2]),
            node("BatchNormalization", &["c", "scale", "bias", "mean", "var"], &["n"]),
            node("Relu", &["n"], &["y"]),
        ],
        vec![value("x", DataType::Float, &[D::S("batch"), D::N(1), D::N(3), D::N(3)])],
        vec![value("y", DataType::Float, &[D::S("batch"), D::N(1), D::N(2), D::N(2)])],
        vec![
            weight("w", &[1, 1, 2, 2], filter),
            ones("b", -10.0),
            ones("scale", 2.0),
            ones("bias", 1.0),
            ones("mean", 3.0),
            ones("var", 1.0 - 1e-5),
        ],
    )
}

/// The image 1 to 9, `batch` times.
pub(super) fn image(batch: usize) -> Tensor {
    let values: Vec<f32> = (0..9 * batch).map(|i| (i % 9 + 1) as f32).collect();
    Tensor::from_f32(vec![batch, 1, 3, 3], &values).expect("well formed")
}

/// [`conv_bn_relu`] with the filter 1, 0, 0, 1 of [`image`]: relu(2·(p − 13) + 1), p = x₀₀ + x₁₁.
pub(super) const IMAGE_RESULT: [f64; 4] = [0.0, 0.0, 0.0, 3.0];

/// x [n, 2] · [[1, 2, 3], [4, 5, 6]] + [0, 0, 1] by Gemm.
pub(super) fn gemm() -> ModelProto {
    model(
        vec![node("Gemm", &["x", "w", "b"], &["y"])],
        vec![value("x", DataType::Float, &[D::S("n"), D::N(2)])],
        vec![value("y", DataType::Float, &[D::S("n"), D::N(3)])],
        vec![
            weight("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            weight("b", &[3], &[0.0, 0.0, 1.0]),
        ],
    )
}

/// y = x for a dtype and dims.
pub(super) fn identity(dtype: DataType, dims: &[D]) -> ModelProto {
    model(
        vec![node("Identity", &["x"], &["y"])],
        vec![value("x", dtype, dims)],
        vec![value("y", dtype, dims)],
        vec![],
    )
}

/// An operator nobody has.
pub(super) fn unknown_operator(domain: &str, op: &str) -> ModelProto {
    let mut made = identity(DataType::Float, &[D::N(2)]);
    if let Some(graph) = &mut made.graph {
        graph.node[0].op_type = Some(op.to_owned());
        graph.node[0].domain = Some(domain.to_owned());
    }
    made
}

/// [`gemm`] with its weights in the file `w.bin`; and what is in that file.
pub(super) fn external_gemm() -> (ModelProto, Vec<u8>) {
    let mut made = gemm();
    let mut data = Vec::new();
    for tensor in made.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        let raw = tensor.raw_data.take().unwrap_or_default();
        let entry = |key: &str, value: String| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
        };
        tensor.data_location = Some(DataLocation::External as i32);
        tensor.external_data = vec![
            entry("location", "w.bin".to_owned()),
            entry("offset", data.len().to_string()),
            entry("length", raw.len().to_string()),
        ];
        data.extend_from_slice(&raw);
    }
    (made, data)
}
