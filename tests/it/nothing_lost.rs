//! Nothing around the merged operators is lost (peers.md §1.3), in memory.

use updp_ir::proto::{ModelProto, NodeProto, StringStringEntryProto};
use updp_ir::{DataPlacement, DataType, Dim, Model, Node};
use updp_testkit::{
    Bytes, Micro, Val, conv, decode, encode, model_of, prove, read_model, seeded, signature,
};

use crate::compile::compile;

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) }
}

/// Conv, BN, Relu with every field around them set; one input is not read.
fn everything() -> ModelProto {
    let mut m = Micro::new(201).opset(21);
    let x = m.input("x", &[4, 7, 6]);
    m.raw().input("unused", DataType::Int64, &["N".into(), Dim::Known(2)]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let y = m.bn(&y);
    m.raw().value_info(&y.name, DataType::Float, &["N".into(), 4.into(), 7.into(), 6.into()]);
    let y = m.unary("Relu", &y);
    m.output(&y);
    m.raw().producer("someone", "1.2").graph_name("net").metadata("author", "me");
    m.raw().opset("com.example", 3);
    let mut proto = m.builder().proto();
    proto.domain = Some("org.example".into());
    proto.model_version = Some(7);
    proto.doc_string = Some("about the model".into());
    let graph = proto.graph.as_mut().expect("a graph");
    graph.doc_string = Some("about the graph".into());
    graph.metadata_props = vec![entry("graph", "kept")];
    graph.input[0].doc_string = Some("about the input".into());
    graph.output[0].doc_string = Some("about the output".into());
    for node in &mut graph.node {
        node.doc_string = Some(format!("about {}", node.op_type()));
        node.metadata_props = vec![entry("scope", &format!("at {}", node.op_type()))];
    }
    graph.initializer[0].doc_string = Some("about the weight".into());
    proto
}

fn compiled(proto: ModelProto) -> (Model, Model) {
    let before = model_of(proto.clone()).expect("well formed");
    let mut after = model_of(proto).expect("well formed");
    compile(&mut after);
    (before, after)
}

fn node<'a>(proto: &'a ModelProto, op: &str) -> &'a NodeProto {
    let graph = proto.graph.as_ref().expect("a graph");
    graph.node.iter().find(|node| node.op_type() == op).expect("the operator is there")
}

#[test]
fn everything_around_the_graph_is_kept() {
    let proto = everything();
    let (before, after) = compiled(proto.clone());
    prove(&before, &after);
    let mut is = after.to_proto().expect("encodes");
    let mut was = proto;
    let (is_graph, was_graph) =
        (is.graph.take().expect("a graph"), was.graph.take().expect("a graph"));
    assert_eq!(is, was);
    assert_eq!(is_graph.name, was_graph.name);
    assert_eq!(is_graph.doc_string, was_graph.doc_string);
    assert_eq!(is_graph.metadata_props, was_graph.metadata_props);
    assert_eq!(is_graph.input, was_graph.input);
    assert_eq!(is_graph.output, was_graph.output);
}

#[test]
fn a_fused_node_keeps_its_name_documentation_and_metadata() {
    let (_, after) = compiled(everything());
    let is = after.to_proto().expect("encodes");
    let fused = node(&is, "Conv");
    assert_eq!(fused.name(), "conv_1");
    assert_eq!(fused.doc_string(), "about Conv");
    assert_eq!(fused.metadata_props[0], entry("scope", "at Conv"));
    assert!(fused.metadata_props.iter().any(|prop| prop.key() == updp_passes::PROVENANCE_KEY));
    let untouched = node(&is, "Relu");
    assert_eq!(untouched, node(&everything(), "Relu"));
}

#[test]
fn before_ir_10_no_node_gets_metadata() {
    let mut m = Micro::new(202).opset(18);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4));
    let y = m.bn(&y);
    m.output(&y);
    let (_, after) = compiled(m.builder().proto());
    let is = after.to_proto().expect("encodes");
    assert!(node(&is, "Conv").metadata_props.is_empty());
}

#[test]
fn the_fused_tensor_keeps_the_last_name_and_weights_keep_theirs() {
    let (_, after) = compiled(everything());
    let is = after.to_proto().expect("encodes");
    assert_eq!(node(&is, "Conv").input, ["x", "conv_1.weight", "conv_1.bias"]);
    assert_eq!(node(&is, "Conv").output, ["batchnormalization_2_out"]);
    let graph = is.graph.as_ref().expect("a graph");
    assert_eq!(graph.value_info.len(), 1);
    let weights: Vec<&str> =
        graph.initializer.iter().map(updp_ir::proto::TensorProto::name).collect();
    assert_eq!(weights, ["conv_1.weight", "conv_1.bias"]);
}

#[test]
fn opset_and_ir_version_stay_from_9_to_25() {
    for opset in 9..=25 {
        let mut m = Micro::new(203).opset(opset);
        let x = m.input("x", &[4, 7, 6]);
        let y = m.conv(&x, &conv(4).kernel(3));
        let y = m.bn(&y);
        let y = m.unary("Relu", &y);
        m.output(&y);
        let (before, after) = compiled(m.builder().proto());
        assert_eq!(signature(&before), signature(&after), "opset {opset}");
        assert_eq!(after.graph.node_count(), 2, "opset {opset}");
        assert_eq!(after.opset(""), Some(opset));
    }
}

#[test]
fn ir_versions_of_other_times_stay() {
    for ir in 3..=13 {
        let mut m = Micro::new(204).opset(15);
        m.raw().ir_version(ir);
        let x = m.input("x", &[4, 7, 6]);
        let y = m.conv(&x, &conv(4).kernel(3));
        let y = m.bn(&y);
        m.output(&y);
        let (before, after) = compiled(m.builder().proto());
        assert_eq!(signature(&before), signature(&after), "IR {ir}");
        assert_eq!((after.ir_version(), after.graph.node_count()), (ir, 1));
    }
}

#[test]
fn symbolic_dims_of_inputs_and_outputs_stay() {
    let mut m = Micro::new(205);
    let dims: Vec<Dim> = vec!["batch".into(), 3.into(), "height".into(), Dim::Unknown];
    m.raw().input("x", DataType::Float, &dims);
    let x = Val { name: "x".into(), channels: 3, rank: 4, axis: 1 };
    let y = m.conv(&x, &conv(4).kernel(3));
    let y = m.bn(&y);
    m.raw().output(
        &y.name,
        DataType::Float,
        Some(&["batch".into(), 4.into(), "h".into(), "w".into()]),
    );
    let (before, after) = compiled(m.builder().proto());
    prove(&before, &after);
    assert_eq!(signature(&after).inputs, ["x: f32[batch,3,height,?]"]);
    assert_eq!(signature(&after).outputs[0], "batchnormalization_2_out: f32[batch,4,h,w]");
}

#[test]
fn an_operator_of_another_domain_stays_and_is_a_barrier() {
    let mut m = Micro::new(206);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4));
    let y = m.bn(&y);
    let y = m.unary("Sharpen", &y);
    let y = m.conv(&y, &conv(4));
    m.output(&y);
    m.raw().opset("com.example", 1);
    let mut proto = m.builder().proto();
    let graph = proto.graph.as_mut().expect("a graph");
    graph.node[2].domain = Some("com.example".into());
    graph.node[2].metadata_props = vec![entry("kept", "yes")];
    let custom = graph.node[2].clone();
    let (_, after) = compiled(proto);
    assert_eq!(*node(&after.to_proto().expect("encodes"), "Sharpen"), custom);
    assert_eq!(after.graph.node_count(), 3);
}

#[test]
fn local_functions_stay_as_they_are() {
    let mut body = Micro::new(207);
    let x = body.input("bx", &[4, 7, 6]);
    let y = body.unary("Relu", &x);
    body.output(&y);
    let mut m = Micro::new(208);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4));
    let y = m.bn(&y);
    let y = m.unary("Rectify", &y);
    m.output(&y);
    m.raw().opset("local", 1).function("local", "Rectify", body.builder());
    let mut proto = m.builder().proto();
    proto.graph.as_mut().expect("a graph").node[2].domain = Some("local".into());
    let functions = proto.functions.clone();
    let (before, after) = compiled(proto);
    prove(&before, &after);
    assert_eq!(after.to_proto().expect("encodes").functions, functions);
    assert_eq!(after.graph.node_count(), 2);
}

#[test]
fn an_input_that_is_also_an_output_keeps_its_name() {
    let mut m = Micro::new(209);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4));
    let y = m.bn(&y);
    m.output(&x);
    m.output(&y);
    let (before, after) = compiled(m.builder().proto());
    assert_eq!(signature(&before), signature(&after));
    assert_eq!(after.graph.node_count(), 1);
}

#[test]
fn a_model_with_nothing_to_do_is_written_field_by_field() {
    let mut proto = everything();
    proto.graph.as_mut().expect("a graph").node[1].attribute.push(updp_ir::proto::AttributeProto {
        name: Some("training_mode".into()),
        i: Some(1),
        r#type: Some(2),
        ..Default::default()
    });
    let (_, after) = compiled(proto.clone());
    assert_eq!(after.to_proto().expect("encodes"), proto);
}

#[test]
fn the_same_input_twice_gives_the_same_bytes_and_again_changes_nothing() {
    let (_, first) = compiled(everything());
    let (_, second) = compiled(everything());
    let bytes = encode(&first);
    assert!(bytes == encode(&second));
    let mut again = decode(bytes.clone()).expect("reads its own output");
    compile(&mut again);
    assert!(encode(&again) == bytes);
}

/// A network with weights large enough to be kept outside.
fn heavy() -> Micro {
    let mut m = Micro::new(210);
    let x = m.input("x", &[16, 7, 6]);
    m.weight("w", &[16, 16, 3, 3], &seeded(1, 16 * 16 * 9));
    let y = m.conv_with(&x, &conv(16).kernel(3).pad(1), "w", None);
    let y = m.bn(&y);
    m.output(&y);
    m
}

#[test]
fn external_data_can_be_read_compiled_and_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |model: &Model, name: &str| {
        let file_name = format!("{name}.onnx.data");
        let encoded = model.encode(&DataPlacement::External { file_name }).expect("encodes");
        assert!(encoded.has_data());
        let path = folder.path().join(format!("{name}.onnx"));
        let mut file = std::fs::File::create(&path).expect("a file");
        encoded.write_model(&mut file).expect("written");
        let mut data = std::fs::File::create(path.with_extension("onnx.data")).expect("a file");
        encoded.write_data(&mut data).expect("written");
        path
    };
    let before = heavy().build();
    let path = write(&before, "before");
    let mut after = read_model(&path);
    compile(&mut after);
    assert_eq!(after.graph.node_count(), 1);
    let again = read_model(&write(&after, "after"));
    prove(&before, &again);
    // Large weights lie in the second file only.
    let small = std::fs::metadata(folder.path().join("after.onnx")).expect("written").len();
    let large = std::fs::metadata(folder.path().join("after.onnx.data")).expect("written").len();
    assert!(small < 2048 && large >= 16 * 16 * 9 * 4, "{small} {large}");
    // The output refers to its own data file, not to that of the input.
    std::fs::remove_file(folder.path().join("before.onnx.data")).expect("removed");
    prove(&before, &read_model(&folder.path().join("after.onnx")));
}

#[test]
fn external_data_of_the_input_can_be_taken_in() {
    let model = heavy().build();
    let placement = DataPlacement::External { file_name: "w.data".into() };
    let encoded = model.encode(&placement).expect("encodes");
    let mut data = Vec::new();
    encoded.write_data(&mut data).expect("written");
    let data = Bytes::from(data);
    let read = Model::decode(encoded.model_to_bytes(), &mut |reference| {
        let start = reference.offset as usize;
        Ok(data.slice(start..start + reference.length.expect("given") as usize))
    });
    let inline = encode(&read.expect("reads its own output"));
    assert!(inline == encode(&model));
}

#[test]
fn a_dangling_input_is_an_error() {
    let mut proto = everything();
    proto.graph.as_mut().expect("a graph").node[2].input[0] = "nowhere".into();
    let error = model_of(proto).expect_err("nothing defines it");
    assert_eq!(error.code(), "I0102");
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn an_undefined_output_is_an_error() {
    let mut proto = everything();
    proto.graph.as_mut().expect("a graph").output[0].name = Some("nowhere".into());
    assert_eq!(model_of(proto).expect_err("nothing defines it").code(), "I0104");
}

#[test]
fn an_empty_file_is_an_error() {
    assert_eq!(decode(Vec::new()).expect_err("empty").code(), "I0004");
}

#[test]
fn damaged_bytes_give_errors_or_a_model_but_never_a_panic() {
    let bytes = encode(&model_of(everything()).expect("well formed"));
    for at in (0..bytes.len()).step_by(7) {
        for value in [0x00, 0xff, 0x80] {
            let mut damaged = bytes.to_vec();
            damaged[at] = value;
            if let Ok(mut model) = decode(damaged) {
                let _ = updp_passes::pipeline::compile(
                    &mut model,
                    &updp_passes::Options::default(),
                    &mut |_, _| (),
                );
            }
        }
        assert!(decode(bytes.slice(..at)).is_err() || at == 0 || at > 8, "cut at {at}");
    }
}

#[test]
fn an_unknown_operator_does_not_stop_the_rest() {
    let mut m = Micro::new(211);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4));
    let y = m.bn(&y);
    let name = m.node(Node::new("FromTheFuture"), &[&y.name]);
    let y = m.conv(&Val { name, ..y }, &conv(4));
    let y = m.bn(&y);
    m.output(&y);
    let (_, after) = compiled(m.builder().proto());
    assert_eq!(after.graph.node_count(), 3);
}
