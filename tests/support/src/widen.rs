//! The same model in f32, for dtypes that no runtime computes on the processor.

use bytes::Bytes;
use updp_ir::proto::{
    AttributeProto, GraphProto, ModelProto, TensorProto, TypeProto, ValueInfoProto, type_proto,
};
use updp_ir::{DataType, Model, Tensor};

use crate::files::model_of;

/// The model with every f64, f16 and bf16 tensor and declared type changed to f32.
///
/// # Panics
/// When the model cannot be read back. This does not happen, because the conversion keeps it well formed.
pub(crate) fn as_f32(model: &Model) -> Model {
    let mut proto: ModelProto =
        model.to_proto().unwrap_or_else(|error| panic!("the model does not encode: {error}"));
    if let Some(graph) = &mut proto.graph {
        widen_graph(graph);
    }
    for node in proto.functions.iter_mut().flat_map(|function| &mut function.node) {
        node.attribute.iter_mut().for_each(widen_attribute);
    }
    model_of(proto).unwrap_or_else(|error| panic!("the widened model is malformed: {error}"))
}

/// The tensor converted to f32 if it has another float type.
pub(crate) fn tensor_as_f32(tensor: &Tensor) -> Tensor {
    match tensor.to_f64() {
        Some(values) if is_widened(tensor.dtype()) => {
            Tensor::from_f64(DataType::Float, tensor.dims().to_vec(), &values)
                .unwrap_or_else(|error| panic!("widened tensor: {error}"))
        }
        _ => tensor.clone(),
    }
}

fn is_widened(dtype: DataType) -> bool {
    matches!(dtype, DataType::Double | DataType::Float16 | DataType::Bfloat16)
}

fn widen_graph(graph: &mut GraphProto) {
    graph.initializer.iter_mut().for_each(widen_tensor);
    let infos = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    infos.for_each(widen_info);
    for node in &mut graph.node {
        let is_cast = node.op_type() == "Cast";
        for attribute in &mut node.attribute {
            let to = attribute.i.map(|code| DataType::from_code(code as i32));
            if is_cast && attribute.name() == "to" && to.is_some_and(is_widened) {
                attribute.i = Some(i64::from(DataType::Float.code()));
            }
            widen_attribute(attribute);
        }
    }
}

fn widen_attribute(attribute: &mut AttributeProto) {
    attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(widen_tensor);
    attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(widen_graph);
}

fn widen_info(info: &mut ValueInfoProto) {
    if let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) =
        &mut info.r#type
        && is_widened(DataType::from_code(tensor.elem_type()))
    {
        tensor.elem_type = Some(DataType::Float.code());
    }
}

fn widen_tensor(proto: &mut TensorProto) {
    if !is_widened(DataType::from_code(proto.data_type())) {
        return;
    }
    let name = proto.name.take();
    let Ok(tensor) = Tensor::from_proto(proto.clone(), None) else { return };
    let wide = tensor_as_f32(&tensor);
    let raw: Bytes = wide.bytes().clone();
    *proto = TensorProto { name, raw_data: Some(raw), ..wide.proto().clone() };
}
