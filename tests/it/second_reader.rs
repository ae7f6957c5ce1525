//! An independent reader of ONNX files agrees with what we write.

use std::path::PathBuf;

use onnx_protobuf::{GraphProto, ModelProto};
use protobuf::Message;
use updp_ir::Model;
use updp_testkit::{encode, model_of, ops, read_model};

use crate::compile::compile;
use crate::fixtures::folder;

/// The newest IR version the second reader knows.
const NEWEST_IR: i64 = 10;

fn reads_alike(name: &str, model: &Model) {
    let bytes = encode(model);
    let theirs = ModelProto::parse_from_bytes(&bytes).expect("the second reader reads it");
    assert_eq!(theirs.ir_version, model.ir_version(), "{name}");
    let opsets: Vec<(&str, i64)> =
        theirs.opset_import.iter().map(|import| (import.domain.as_str(), import.version)).collect();
    assert_eq!(opsets, model.opsets().collect::<Vec<_>>(), "{name}");
    let graph: &GraphProto = &theirs.graph;
    graph_reads_alike(name, graph, model);
    if model.ir_version() <= NEWEST_IR {
        let unknown = theirs.special_fields.unknown_fields().iter().count()
            + graph.special_fields.unknown_fields().iter().count();
        assert_eq!(unknown, 0, "{name}: fields the second reader does not know");
    }
    // Written by them, read and written by us, they read the same message. Compared as they read it,
    // because their types do not tell an absent field from an empty one.
    let rewritten = theirs.write_to_bytes().expect("the second reader writes it");
    let ours = encode(&updp_testkit::decode(rewritten).expect("reads"));
    let again = ModelProto::parse_from_bytes(&ours).expect("the second reader reads it");
    assert!(again == theirs, "{name}: differs after a round trip through the second reader");
}

fn graph_reads_alike(name: &str, theirs: &GraphProto, model: &Model) {
    let graph = &model.graph;
    let their_ops: Vec<&str> = theirs.node.iter().map(|node| node.op_type.as_str()).collect();
    assert_eq!(their_ops.len(), ops(graph).len(), "{name}");
    let written = model.to_proto().expect("encodes").graph.expect("a graph");
    for (theirs, ours) in theirs.node.iter().zip(&written.node) {
        assert_eq!(theirs.op_type, ours.op_type(), "{name}");
        assert_eq!(theirs.name, ours.name(), "{name}");
        assert_eq!(theirs.input, ours.input, "{name}: {}", theirs.name);
        assert_eq!(theirs.output, ours.output, "{name}: {}", theirs.name);
        assert_eq!(theirs.attribute.len(), ours.attribute.len(), "{name}: {}", theirs.name);
    }
    let inputs: Vec<&str> = theirs.input.iter().map(|info| info.name.as_str()).collect();
    let our_inputs: Vec<&str> = graph.inputs().map(|id| graph.value(id).name()).collect();
    assert_eq!(inputs, our_inputs, "{name}");
    let outputs: Vec<&str> = theirs.output.iter().map(|info| info.name.as_str()).collect();
    let our_outputs: Vec<&str> = graph.outputs().map(|id| graph.value(id).name()).collect();
    assert_eq!(outputs, our_outputs, "{name}");
    assert_eq!(theirs.initializer.len(), graph.initializers().count(), "{name}");
    for (theirs, id) in theirs.initializer.iter().zip(graph.initializers()) {
        let value = graph.value(id);
        let tensor = value.tensor().expect("dense");
        assert_eq!(theirs.name, value.name(), "{name}");
        let dims: Vec<usize> = theirs.dims.iter().map(|dim| *dim as usize).collect();
        assert_eq!(dims, tensor.dims(), "{name}: {}", theirs.name);
        assert_eq!(theirs.data_type, tensor.dtype().code(), "{name}: {}", theirs.name);
        assert!(theirs.raw_data == **tensor.bytes(), "{name}: {}", theirs.name);
    }
}

#[test]
fn reads_compiled_fixtures_as_we_do() {
    for part in ["exported", "trained"] {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder().join(part))
            .expect("fixtures are committed")
            .map(|entry| entry.expect("readable").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
            .collect();
        paths.sort();
        for path in paths {
            let name = path.display().to_string();
            let mut model = read_model(&path);
            reads_alike(&name, &model);
            compile(&mut model);
            reads_alike(&name, &model);
        }
    }
}

#[test]
fn reads_what_only_new_ir_versions_have_as_unknown_fields() {
    let mut m = updp_testkit::Micro::new(301).opset(24);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &updp_testkit::conv(4));
    let y = m.bn(&y);
    m.output(&y);
    let mut model = model_of(m.builder().proto()).expect("well formed");
    compile(&mut model);
    reads_alike("IR 12", &model);
}
