//! Fields that the schema does not know are kept, in every message that an edit leaves alone.

use onnx_protobuf::{GraphProto, ModelProto};
use protobuf::{Message, MessageField, UnknownFields};
use updp_ir::{DataPlacement, Model};
use updp_testkit::{Micro, conv, decode, encode};

use crate::compile::compile;

/// Adds a field of each wire type.
fn mark(fields: &mut UnknownFields, number: u32) {
    fields.add_varint(number, 1 << 40);
    fields.add_fixed32(number + 1, 7);
    fields.add_fixed64(number + 2, 9);
    fields.add_length_delimited(number + 3, b"kept".to_vec());
    fields.add_length_delimited(number + 3, Vec::new());
}

fn mark_graph(graph: &mut GraphProto) {
    mark(graph.special_fields.mut_unknown_fields(), 100);
    for node in &mut graph.node {
        mark(node.special_fields.mut_unknown_fields(), 200);
        for attribute in &mut node.attribute {
            mark(attribute.special_fields.mut_unknown_fields(), 300);
            if attribute.g.is_some() {
                mark_graph(attribute.g.mut_or_insert_default());
            }
        }
    }
    for tensor in &mut graph.initializer {
        mark(tensor.special_fields.mut_unknown_fields(), 400);
    }
    for info in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        mark(info.special_fields.mut_unknown_fields(), 500);
        mark(info.type_.mut_or_insert_default().special_fields.mut_unknown_fields(), 5000);
    }
}

/// The model with unknown fields in every kind of message.
fn marked(model: &Model) -> ModelProto {
    let mut theirs = ModelProto::parse_from_bytes(&encode(model)).expect("it is read");
    mark(theirs.special_fields.mut_unknown_fields(), 1000);
    for import in &mut theirs.opset_import {
        mark(import.special_fields.mut_unknown_fields(), 600);
    }
    let graph: &mut MessageField<GraphProto> = &mut theirs.graph;
    mark_graph(graph.mut_or_insert_default());
    theirs
}

fn network(has_identity: bool) -> Model {
    let mut m = Micro::new(71);
    m.raw().metadata("made by", "hand");
    let x = m.input("x", &[3, 6, 5]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let y = m.unary("Relu", &y);
    let y = if has_identity { m.unary("Identity", &y) } else { y };
    let y = m.conv(&y, &conv(2));
    m.output(&y);
    m.build()
}

#[test]
fn a_model_without_edits_keeps_every_field() {
    let theirs = marked(&network(false));
    let bytes = theirs.write_to_bytes().expect("written");
    let mut model = decode(bytes).expect("it is read");
    compile(&mut model);
    let written = encode(&model);
    let again = ModelProto::parse_from_bytes(&written).expect("it is read");
    assert!(again == theirs);
    let encoded = model.encode(&DataPlacement::Inline).expect("encodes");
    let mut streamed = Vec::new();
    encoded.write_model(&mut streamed).expect("written");
    assert_eq!(streamed, written);
    assert_eq!(encoded.model_bytes(), written.len() as u64);
    assert_eq!(encode(&model.clone()), written, "a copy keeps them too");
}

#[test]
fn an_edit_takes_only_the_fields_of_what_it_removes() {
    let theirs = marked(&network(true));
    let bytes = theirs.write_to_bytes().expect("written");
    let mut model = decode(bytes).expect("it is read");
    compile(&mut model);
    let again = ModelProto::parse_from_bytes(&encode(&model)).expect("it is read");
    assert_eq!((theirs.graph.node.len(), again.graph.node.len()), (4, 3));
    let has_all = |fields: &UnknownFields| fields.iter().count() == 5;
    assert!(again.graph.node.iter().all(|node| has_all(node.special_fields.unknown_fields())));
    assert!(again.graph.initializer == theirs.graph.initializer);
    assert!(again.graph.input == theirs.graph.input);
    assert!(again.graph.special_fields == theirs.graph.special_fields);
    assert!(again.special_fields == theirs.special_fields);
    assert!(again.opset_import == theirs.opset_import);
}
