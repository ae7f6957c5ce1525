//! Tests inference on files of real exporters; their own `value_info` is hidden from it.

use std::collections::BTreeMap;
use std::fs;

use prost::Message;

use crate::codec::{Model, no_external_data};
use crate::graph::Graph;
use crate::infer::Shapes;
use crate::proto::{ModelProto, TypeProto, ValueInfoProto, type_proto};
use crate::types::{Dim, TensorType};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/exported");

/// The declarations of the file, and the model without them.
pub(super) struct Stripped {
    pub model: Model,
    pub declared: BTreeMap<String, TensorType>,
    pub outputs: Vec<String>,
}

/// The model of a file; `None` if the file holds no model.
pub(super) fn strip(bytes: &[u8]) -> Option<Stripped> {
    let mut proto = ModelProto::decode(bytes).ok()?;
    let graph = proto.graph.as_mut()?;
    let outputs: Vec<String> = graph.output.iter().map(|info| info.name().to_owned()).collect();
    let open = |info: &mut ValueInfoProto| {
        if let Some(TypeProto { value: Some(type_proto::Value::TensorType(ty)), .. }) =
            &mut info.r#type
        {
            ty.shape = None;
        }
    };
    let mut declared = BTreeMap::new();
    for info in graph.value_info.drain(..).chain(graph.output.iter().cloned()) {
        if let Some(ty) = info.r#type.as_ref().and_then(TensorType::from_proto) {
            declared.insert(info.name().to_owned(), ty);
        }
    }
    graph.output.iter_mut().for_each(open);
    let model = Model::from_proto(proto, &mut no_external_data);
    Some(Stripped { model: model.ok()?, declared, outputs })
}

fn files(kind: &str) -> Vec<(String, Stripped)> {
    let mut names: Vec<String> = fs::read_dir(FOLDER)
        .expect("fixtures/exported")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(kind))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    let read = |name: String| {
        let bytes = fs::read(format!("{FOLDER}/{name}")).expect("a readable file");
        (name, strip(&bytes).expect("a valid model"))
    };
    names.into_iter().map(read).collect()
}

fn infer(model: &Model) -> Shapes {
    Shapes::infer(&model.graph, model.opset("").expect("an ai.onnx opset"))
}

/// Inference gives the numbers of a file as numbers, and its symbols as symbols with any name.
fn assert_says(name: &str, graph: &Graph, shapes: &Shapes, value: &str, declared: &TensorType) {
    let id = graph.find(value).expect("a value of the graph");
    let inferred = shapes.of(id);
    let says = |ty: &TensorType| {
        let (Some(own), Some(dims)) = (&ty.shape, &declared.shape) else { return false };
        let same = |(own, dim): (&Dim, &Dim)| match dim {
            Dim::Known(_) => own == dim,
            Dim::Symbol(_) => matches!(own, Dim::Symbol(_) | Dim::Unknown),
            Dim::Unknown => true,
        };
        ty.dtype == declared.dtype && own.len() == dims.len() && own.iter().zip(dims).all(same)
    };
    let text = inferred.map_or("nothing".to_owned(), ToString::to_string);
    assert!(inferred.is_some_and(says), "{name}: {value}: {text}, declared {declared}");
}

#[test]
fn agrees_with_every_value_info_of_dynamo_files() {
    for (name, stripped) in files(".dynamo") {
        let shapes = infer(&stripped.model);
        for (value, declared) in &stripped.declared {
            assert_says(&name, &stripped.model.graph, &shapes, value, declared);
        }
    }
}

#[test]
fn knows_outputs_and_weighted_operands_of_legacy_files() {
    for (name, stripped) in files(".legacy") {
        let graph = &stripped.model.graph;
        let shapes = infer(&stripped.model);
        for value in &stripped.outputs {
            assert_says(&name, graph, &shapes, value, &stripped.declared[value]);
        }
        for id in graph.nodes() {
            let node = graph.node(id);
            if !["Conv", "MatMul", "Gemm"].contains(&node.op_type()) {
                continue;
            }
            for value in graph.operands(id).into_iter().flatten() {
                let operand = graph.value(value).name();
                assert!(shapes.rank(value).is_some(), "{name}: {operand}");
                if !name.contains("-dyn") {
                    assert!(shapes.known_dims(value).is_some(), "{name}: {operand}");
                }
            }
        }
    }
}

#[test]
fn keeps_the_batch_symbol_to_the_output() {
    for (name, stripped) in files("-dyn.") {
        let graph = &stripped.model.graph;
        let shapes = infer(&stripped.model);
        let input = graph.required_inputs().next().expect("an input");
        let output = graph.outputs().next().expect("an output");
        let batch = &shapes.dims(input).expect("a shape")[0];
        assert!(matches!(batch, Dim::Symbol(_)), "{name}");
        assert_eq!(&shapes.dims(output).expect("a shape")[0], batch, "{name}");
    }
}
