//! Verification neither blames a rewrite for rounding nor calls equal what it cannot decide.

use updp_compile::{
    CompileOptions, CompileReport, Silent, VerificationStatus, VerifyOptions, compile, verify,
};
use updp_exec::{InputData, ModelSource, RuntimeOptions};
use updp_ir::{DataType, Dim, Model, Node, Tensor};
use updp_testkit::{Bytes, Fault, Micro, conv, encode, model_of, plant, seeded};
use updp_verify::{Oracle, Parts, parts};

/// A Conv with BN whose result is multiplied by `factor` and goes through a sine. The sine of a large number depends on
/// the last digits of that number.
fn amplifier(factor: f32) -> Micro {
    let mut m = Micro::new(510);
    let x = m.input("x", &[3, 8, 8]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let y = m.bn(&y);
    let y = m.unary("Tanh", &y);
    let tensor = Tensor::from_f32(vec![1], &[factor]).expect("one");
    let factor = m.constant("factor", &tensor);
    let y = m.node(Node::new("Mul"), &[&y.name, &factor]);
    let y = m.node(Node::new("Sin"), &[&y]);
    m.raw().output(&y, DataType::Float, None);
    m
}

fn compiled(model: &Model) -> CompileReport {
    let options = CompileOptions::default();
    compile(model, &options, &mut Silent).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_model_that_amplifies_rounding_is_not_refused() {
    let report = compiled(&amplifier(1e4).build());
    assert_eq!(report.status, VerificationStatus::Passed);
    let verification = report.verification.expect("it was run");
    assert!(verification.is_noisy() && verification.is_passed(), "{verification:?}");
    let noise = verification.outputs[0].noise.expect("measured");
    assert!(verification.worst() > 1e-4 && noise > 1e-4, "{} {noise}", verification.worst());
    assert!(verification.local.expect("compared").is_proof());
}

#[test]
fn a_quiet_model_costs_no_measurement() {
    let report = compiled(&amplifier(1.0).build());
    let verification = report.verification.expect("it was run");
    assert!(!verification.is_noisy() && verification.is_passed(), "{verification:?}");
}

#[test]
fn a_chaotic_model_is_verified_by_its_parts() {
    let report = compiled(&amplifier(3e6).build());
    assert_eq!(report.status, VerificationStatus::Local);
    let verification = report.verification.expect("it was run");
    assert!(verification.is_chaotic(), "{verification:?}");
    assert!(verification.local.expect("compared").is_proof());
}

#[test]
fn two_chaotic_models_are_called_neither_equal_nor_different() {
    let model = amplifier(3e6).build();
    let other = with_wrong_weight(&model);
    let report = verify(&model, &other, &VerifyOptions::default(), &mut Silent).expect("they run");
    assert!(report.is_chaotic() && !report.is_passed());
}

#[test]
fn noise_excuses_no_error_in_a_part() {
    let model = amplifier(1e4).build();
    let report = verify(&model, &with_wrong_weight(&model), &VerifyOptions::default(), &mut Silent);
    assert!(!report.expect("they run").is_passed());
}

/// The model with one weight off by a thousandth.
fn with_wrong_weight(model: &Model) -> Model {
    let mut proto = model.to_proto().expect("acyclic");
    let graph = proto.graph.as_mut().expect("there");
    let weight = graph.initializer.iter_mut().find(|it| it.dims.len() == 4).expect("a kernel");
    let tensor = Tensor::from_proto(weight.clone(), None).expect("a tensor");
    let mut values = tensor.to_f64().expect("floats");
    let most = (0..values.len()).max_by(|a, b| values[*a].abs().total_cmp(&values[*b].abs()));
    values[most.expect("weights")] *= 1.2;
    let tensor = Tensor::from_f64(tensor.dtype(), tensor.dims().to_vec(), &values).expect("fits");
    *weight = updp_ir::proto::TensorProto { name: weight.name.clone(), ..tensor.proto().clone() };
    model_of(proto).expect("still a model")
}

/// What saturates hides what is in front of it; the part in front is compared by itself.
#[test]
fn an_error_in_front_of_a_saturating_operator_is_found() {
    let clip = Node::new("Clip");
    for (node, bounds) in [
        (Node::new("Sigmoid"), None),
        (Node::new("Tanh"), None),
        (Node::new("HardSigmoid"), None),
        (Node::new("Softmax").with("axis", 1_i64), None),
        (clip, Some([-1e-3_f32, 1e-3])),
    ] {
        let name = node.op_type().to_owned();
        let mut m = Micro::new(512);
        let x = m.input("x", &[3, 8, 8]);
        let weights: Vec<f64> = seeded(7, 108).iter().map(|weight| 1e5 * weight).collect();
        m.weight("w", &[4, 3, 3, 3], &weights);
        let y = m.conv_with(&x, &conv(4).kernel(3).pad(1), "w", None);
        let y = m.bn(&y);
        let mut operands = vec![y.name.clone()];
        for (at, bound) in bounds.iter().flatten().enumerate() {
            let bound = Tensor::from_f32(vec![], &[*bound]).expect("one");
            operands.push(m.constant(&format!("bound{at}"), &bound));
        }
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        let y = m.node(node, &operands);
        m.raw().output(&y, DataType::Float, None);
        let before = m.build();
        let mut after = m.build();
        crate::compile::compile(&mut after);
        let fault = (0..).find_map(|seed| plant(&after, Fault::Weight, seed)).expect("a weight");
        let clean = parts_of(&before, &after);
        assert!(clean.is_proof() && clean.equal == 1, "{name}: {clean:?}");
        let wrong = parts_of(&before, &fault.model);
        assert!(wrong.fault.is_some(), "{name}, {}: {wrong:?}", fault.place);
    }
}

fn parts_of(before: &Model, after: &Model) -> Parts {
    let (bytes, options): (Bytes, _) = (encode(before), RuntimeOptions::default());
    let source = ModelSource::Bytes(&bytes);
    let oracle = Oracle::new(source, &before.graph, &InputData::default(), 1, &options);
    let oracle = oracle.expect("a runtime runs it");
    parts::compare(before, after, &oracle).expect("it has parts")
}

/// A model with an open batch that a reshape fits to one image.
#[test]
fn a_model_that_takes_one_image_only_is_verified_with_one() {
    let mut m = Micro::new(511);
    m.raw().input(
        "x",
        DataType::Float,
        &[Dim::Symbol("batch".into()), Dim::Known(3), Dim::Known(8), Dim::Known(8)],
    );
    m.weight("w", &[4, 3, 3, 3], &seeded(1, 108));
    m.weight("scale", &[4], &seeded(2, 4));
    m.weight("bias", &[4], &seeded(3, 4));
    m.weight("mean", &[4], &seeded(4, 4));
    m.weight("variance", &[4], &[0.5, 1.0, 1.5, 2.0]);
    let pads = Node::new("Conv").with("pads", vec![1_i64, 1, 1, 1]);
    let y = m.node(pads, &["x", "w"]);
    let y = m.node(Node::new("BatchNormalization"), &[&y, "scale", "bias", "mean", "variance"]);
    let shape = Tensor::from_i64(vec![5], &[1, 2, 2, 8, 8]).expect("five");
    let shape = m.constant("shape", &shape);
    let y = m.node(Node::new("Reshape"), &[&y, &shape]);
    m.raw().output(&y, DataType::Float, None);
    let bytes: Bytes = encode(&m.build());
    let report = compile(bytes, &CompileOptions::default(), &mut Silent).expect("compiled");
    assert_eq!(report.status, VerificationStatus::Passed);
    assert_eq!(report.after.ops.get("BatchNormalization"), None);
}
