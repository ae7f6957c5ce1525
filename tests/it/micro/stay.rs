//! What must stay: not a field may change, whatever the options.

use updp_ir::{DataType, Node, Tensor};
use updp_testkit::{Micro, WeightForm, conv, decode, encode, model_of};

use crate::compile::{becomes, compile_with, merge_all, stays, stays_unrun};

#[test]
fn pads_that_are_not_zero_padding() {
    let rows: [(&str, &[i64], Option<f64>); 5] = [
        ("reflect", &[0, 0, 1, 1, 0, 0, 1, 1], None),
        ("edge", &[0, 0, 1, 1, 0, 0, 1, 1], None),
        ("constant", &[0, 0, 1, 1, 0, 0, 1, 1], Some(1.5)),
        ("constant", &[0, 1, 1, 1, 0, 1, 1, 1], Some(0.0)),
        ("constant", &[0, 0, -1, -1, 0, 0, -1, 1], Some(0.0)),
    ];
    for (mode, pads, value) in rows {
        let mut m = Micro::new(61);
        let x = m.input("x", &[4, 7, 6]);
        let mut y = m.pad(&x, pads, mode, value);
        y.channels += (pads[1] + pads[5]) as usize;
        let y = m.conv(&y, &conv(4).kernel(3));
        m.output(&y);
        stays(&m);
    }
}

#[test]
fn zero_pad_before_a_conv_that_pads_by_size() {
    let mut m = Micro::new(62);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.pad(&x, &[0, 0, 1, 1, 0, 0, 1, 1], "constant", Some(0.0));
    let y = m.conv(&y, &conv(4).kernel(3).auto_pad("SAME_UPPER"));
    m.output(&y);
    stays(&m);
}

#[test]
fn quantized_weight_keeps_its_batch_norm() {
    let mut m = Micro::new(63);
    let x = m.input("x", &[4, 7, 6]);
    let weight: Vec<u8> = (0..144_u32).map(|i| (i * 37 % 251) as u8).collect();
    let weight = Tensor::new(DataType::Int8, vec![4, 4, 3, 3], weight.into()).expect("fits");
    m.constant("w", &weight);
    m.weight("scale", &[], &[0.01]);
    m.weight("x_scale", &[], &[0.05]);
    let zero = Tensor::new(DataType::Int8, vec![], vec![0].into()).expect("fits");
    m.constant("zero", &zero);
    let q = m.node(Node::new("QuantizeLinear"), &["x", "x_scale", "zero"]);
    let dq = m.node(Node::new("DequantizeLinear"), &[&q, "x_scale", "zero"]);
    let w = m.node(Node::new("DequantizeLinear"), &["w", "scale", "zero"]);
    let x = updp_testkit::Val { name: dq, ..x };
    let y = m.conv_with(&x, &conv(4).kernel(3).pad(1), &w, None);
    let y = m.bn(&y);
    m.output(&y);
    stays(&m);
}

#[test]
fn batch_norm_in_training_form() {
    let mut m = Micro::new(64);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let node = Node::new("BatchNormalization").with("training_mode", 1_i64);
    let y = m.batch_norm(&y, node);
    m.output(&y);
    // Operators in training form have two more results, which no runtime here needs to run.
    stays_unrun(m.build());
}

#[test]
fn dropout_in_training_form() {
    let mut m = Micro::new(65);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    m.weight("ratio", &[], &[0.5]);
    let on = Tensor::new(DataType::Bool, vec![], vec![1].into()).expect("fits");
    m.constant("on", &on);
    let name = m.node(Node::new("Dropout"), &[&y.name, "ratio", "on"]);
    let y = m.bn(&updp_testkit::Val { name, ..y });
    m.output(&y);
    stays_unrun(m.build());
}

#[test]
fn overridable_weight() {
    for ir in [4, 8, 10] {
        let mut m = Micro::new(66).weights(WeightForm::Listed);
        m.raw().ir_version(ir);
        let x = m.input("x", &[4, 7, 6]);
        let y = m.conv(&x, &conv(4).kernel(3).pad(1));
        m.set_weights(WeightForm::Initializer);
        let y = m.bn(&y);
        m.output(&y);
        stays(&m);
    }
}

#[test]
fn overridable_batch_norm() {
    let mut m = Micro::new(67);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    m.set_weights(WeightForm::Listed);
    let y = m.bn(&y);
    m.output(&y);
    stays(&m);
}

#[test]
fn weights_that_are_computed() {
    let mut m = Micro::new(68);
    let x = m.input("x", &[4, 7, 6]);
    let w = m.input("w", &[2, 3, 3]);
    let slice = Tensor::from_i64(vec![1], &[0]).expect("fits");
    m.constant("zero", &slice);
    let one = m.node(Node::new("Gather").with("axis", 0_i64), &[&w.name, "zero"]);
    let w = m.node(Node::new("Concat").with("axis", 0_i64), &[&one, &one]);
    let y = m.conv_with(&x, &conv(2).kernel(3).pad(1).groups(2), &w, None);
    let y = m.bn(&y);
    m.output(&y);
    stays(&m);
}

/// The model with node `at` in another domain that is imported.
fn in_domain(m: &Micro, at: usize, domain: &str) -> updp_ir::Model {
    let mut proto = m.builder().opset(domain, 1).proto();
    let graph = proto.graph.as_mut().expect("a graph");
    graph.node[at].domain = Some(domain.to_owned());
    model_of(proto).expect("well formed")
}

#[test]
fn a_batch_norm_of_another_domain_is_another_operator() {
    let mut m = Micro::new(69);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let y = m.bn(&y);
    m.output(&y);
    stays_unrun(in_domain(&m, 1, "com.example"));
}

#[test]
fn conv_and_batch_norm_inside_a_local_function_stay_one_call() {
    let mut body = Micro::new(70);
    body.raw().opset("local", 1);
    let x = body.input("bx", &[4, 7, 6]);
    body.set_weights(WeightForm::ConstantNode);
    let y = body.conv(&x, &conv(4).kernel(3).pad(1));
    let y = body.bn(&y);
    body.output(&y);
    let mut m = Micro::new(71);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.unary("ConvBn", &x);
    m.output(&y);
    m.raw().function("local", "ConvBn", body.builder());
    let before = in_domain(&m, 0, "local");
    let mut after = in_domain(&m, 0, "local");
    compile_with(&mut after, &merge_all());
    assert_eq!(after.graph.node_count(), 1);
    assert_eq!(after.function_count(), 1);
    updp_testkit::prove(&before, &after);
    assert!(encode(&before) == encode(&after));
    decode(encode(&after)).expect("reads its own output");
}

#[test]
fn relu_between_convs_keeps_both() {
    let mut m = Micro::new(72);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(8));
    let y = m.unary("Relu", &y);
    let y = m.conv(&y, &conv(4).kernel(3).pad(1));
    m.output(&y);
    stays(&m);
    becomes(&m, 3);
}

#[test]
fn a_constant_that_widens_the_result() {
    let mut m = Micro::new(73);
    let x = m.input("x", &[1, 7, 6]);
    let y = m.conv(&x, &conv(1).kernel(3).pad(1));
    let values = m.numbers(5, 0.5, 1.5);
    m.weight("wide", &[1, 5, 1, 1], &values);
    let name = m.node(Node::new("Mul"), &[&y.name, "wide"]);
    m.output(&updp_testkit::Val { name, ..y });
    stays(&m);
}

#[test]
fn a_division_of_a_constant_by_a_conv() {
    let mut m = Micro::new(74);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let y = m.unary("Sigmoid", &y);
    let y = m.conv(&y, &conv(4));
    let y = m.with_constant("Div", &y, updp_testkit::Broadcast::Channel, true);
    let y = m.unary("Sigmoid", &y);
    m.output(&y);
    stays(&m);
}
