//! Image inputs of other types, and of open height and width.

use std::path::Path;

use onnx_protobuf::tensor_proto::DataType as Code;
use onnx_protobuf::tensor_shape_proto::dimension::Value as Size;
use onnx_protobuf::{ModelProto, NodeProto, type_proto};
use protobuf::Message;

use super::command::{arguments, data};
use crate::fixtures::folder;
use crate::prune::command::succeeds;

/// The shipped residual network after `edit`.
pub(super) fn edited(edit: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let path = folder().join("trained/fmnist_resnet.bn.onnx");
    let bytes = std::fs::read(path).expect("it is there");
    let mut model = ModelProto::parse_from_bytes(&bytes).expect("a model");
    edit(&mut model);
    model.write_to_bytes().expect("it encodes")
}

fn tensor_of(model: &mut ModelProto) -> &mut type_proto::Tensor {
    let input = &mut model.graph.as_mut().expect("a graph").input[0];
    match &mut input.type_.as_mut().expect("a type").value {
        Some(type_proto::Value::TensorType(tensor)) => tensor,
        other => panic!("no tensor: {other:?}"),
    }
}

/// Names the open dims: the batch, the height and the width.
fn open_sizes(model: &mut ModelProto, names: [&str; 3]) {
    let dims = &mut tensor_of(model).shape.as_mut().expect("a shape").dim;
    for (at, name) in [0, 2, 3].into_iter().zip(names) {
        dims[at].value = Some(Size::DimParam(name.to_owned()));
    }
}

#[test]
fn a_model_of_any_image_size_is_pruned_for_one_and_stays_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, output, data) = (path("model.onnx"), path("out.onnx"), data());
    // Some exporters give all open dims one name.
    for names in [["batch", "height", "width"], ["?", "?", "?"]] {
        std::fs::write(&model, edited(|model| open_sizes(model, names))).expect("written");
        let mut sized = arguments(&model, &output, &data, &["--blocks", "2", "--force"]);
        for argument in sized.iter_mut().filter(|argument| **argument == "fashion-mnist") {
            *argument = "fashion-mnist,28x28";
        }
        let told = succeeds(&sized);
        assert!(told.contains("28x28 pixels"), "{told}");
        let written = std::fs::read(Path::new(&output)).expect("written");
        let mut written = ModelProto::parse_from_bytes(&written).expect("a model");
        let dims = &tensor_of(&mut written).shape.dim;
        assert_eq!(dims[2].value, Some(Size::DimParam(names[1].to_owned())));
        std::fs::remove_file(&output).expect("removed");
    }
}

#[test]
fn a_model_with_an_f16_input_is_pruned() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, output, data) = (path("model.onnx"), path("out.onnx"), data());
    let halved = edited(|model| {
        tensor_of(model).elem_type = Code::FLOAT16 as i32;
        let graph = model.graph.as_mut().expect("a graph");
        let name = graph.input[0].name.clone();
        for node in &mut graph.node {
            for operand in node.input.iter_mut().filter(|operand| **operand == name) {
                *operand = "as_float".to_owned();
            }
        }
        let mut cast = NodeProto::new();
        "Cast".clone_into(&mut cast.op_type);
        cast.input.push(name);
        cast.output.push("as_float".to_owned());
        let mut to = onnx_protobuf::AttributeProto::new();
        "to".clone_into(&mut to.name);
        to.i = Code::FLOAT as i64;
        to.type_ = onnx_protobuf::attribute_proto::AttributeType::INT.into();
        cast.attribute.push(to);
        graph.node.insert(0, cast);
    });
    std::fs::write(&model, halved).expect("written");
    let told = succeeds(&arguments(&model, &output, &data, &["--blocks", "2", "--force"]));
    assert!(told.contains("1 of"), "{told}");
}
