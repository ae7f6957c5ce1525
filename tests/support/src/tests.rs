//! Tests of the kit itself: a proof holds for equal models and fails for a small difference.

use updp_exec::Runtime;
use updp_ir::{DataType, Model, Node, Tensor};

use crate::{
    Broadcast, Limit, Micro, Proof, Session, WeightForm, check, conv, conv_cases, draw_inputs,
    find_ort, gemm, node_total, op_counts, pool, prove, prove_rewrite, seeded, signature, skip,
};

/// Conv and Relu; the first weight of the Conv is multiplied by `factor`.
fn model_with_first_weight_times(factor: f64, dtype: DataType) -> Model {
    let mut m = Micro::new(3).dtype(dtype);
    let x = m.input("x", &[2, 7, 6]);
    let mut values = seeded(5, 4 * 2 * 9);
    values[0] *= factor;
    m.weight("w", &[4, 2, 3, 3], &values);
    let y = m.conv_with(&x, &conv(4).kernel(3).pad(1), "w", None);
    let y = m.unary("Relu", &y);
    m.output(&y);
    m.build()
}

#[test]
fn fails_when_one_weight_changes_by_one_percent() {
    let same = model_with_first_weight_times(1.0, DataType::Float);
    prove(&same, &model_with_first_weight_times(1.0, DataType::Float));
    let changed = model_with_first_weight_times(1.01, DataType::Float);
    let report = Proof::default().check(&same, &changed).expect_err("another function");
    assert!(report.contains("interior") && report.contains("worst at"), "{report}");
    let network = Proof { limit: Limit::WholeNetwork, ..Proof::default() };
    assert!(network.check(&same, &changed).is_err());
}

#[test]
fn every_runtime_at_hand_notices_the_change() {
    let same = model_with_first_weight_times(1.0, DataType::Float);
    let changed = model_with_first_weight_times(1.01, DataType::Float);
    let inputs = draw_inputs(&same, 2, 1, false);
    assert_eq!(inputs[0]["x"].dims(), [1, 2, 7, 6]);
    assert_eq!(inputs[1]["x"].dims(), [3, 2, 7, 6]);
    let mut runtimes = vec![Runtime::Tract];
    if find_ort().is_some() {
        runtimes.push(Runtime::Ort);
    } else {
        skip("every_runtime_at_hand_notices_the_change", "no ONNX Runtime library");
    }
    for runtime in runtimes {
        let run = |model: &Model| {
            let mut session = Session::open(model, runtime).expect("loads");
            session.run(&inputs[1]).expect("runs")
        };
        assert_ne!(run(&same), run(&changed), "{runtime:?}");
    }
}

#[test]
fn dtypes_no_runtime_computes_are_proved_in_f32() {
    for dtype in [DataType::Float16, DataType::Bfloat16, DataType::Double] {
        let same = model_with_first_weight_times(1.0, dtype);
        prove(&same, &model_with_first_weight_times(1.0, dtype));
        let changed = model_with_first_weight_times(3.0, dtype);
        assert!(Proof::default().check(&same, &changed).is_err(), "{dtype}");
    }
}

#[test]
fn refuses_another_signature_and_an_output_of_zeros() {
    let build = |name: &str, scale: f64| {
        let mut m = Micro::new(3);
        let x = m.input(name, &[2, 7, 6]);
        m.weight("scale", &[], &[scale]);
        let y = m.node(Node::new("Mul"), &[&x.name, "scale"]);
        m.output(&crate::Val { name: y, ..x });
        m.build()
    };
    assert!(Proof::default().check(&build("x", 1.0), &build("y", 1.0)).is_err());
    let report = Proof::default().check(&build("x", 0.0), &build("x", 0.0)).expect_err("zeros");
    assert!(report.contains("proves nothing"), "{report}");
}

#[test]
fn an_overridden_default_is_fed_too() {
    let Some(_) = find_ort() else {
        return skip("an_overridden_default_is_fed_too", "no ONNX Runtime library");
    };
    let build = |keeps_default: bool| {
        let mut m = Micro::new(3).weights(WeightForm::Listed);
        let x = m.input("x", &[2, 3]);
        m.weight("c", &[1], &[2.0]);
        m.set_weights(WeightForm::Initializer);
        m.weight("d", &[1], &[2.0]);
        let read = if keeps_default { "c" } else { "d" };
        let y = m.node(Node::new("Mul"), &[&x.name, read]);
        m.output(&crate::Val { name: y, ..x });
        m.build()
    };
    prove(&build(true), &build(true));
    assert!(Proof::default().check(&build(true), &build(false)).is_err());
}

#[test]
fn every_word_of_the_builder_makes_a_model_that_runs() {
    for form in
        [WeightForm::Initializer, WeightForm::ConstantNode, WeightForm::Aliased, WeightForm::Listed]
    {
        let mut m = Micro::new(9).weights(form);
        let x = m.input("x", &[4, 8, 8]);
        let a = m.conv(&x, &conv(4).kernels(&[3, 2]).pads(&[1, 0, 1, 1]).groups(2));
        let a = m.bn(&a);
        let b = m.average_pool(&x, pool(3).pad_counted(1));
        let sum = m.sum(&[&a, &b, &x]);
        let y = m.with_constant("Sub", &sum, Broadcast::Channel, true);
        let y = m.pad(&y, &[0, 0, 1, 1, 0, 0, 1, 1], "constant", Some(0.0));
        let y = m.conv_transpose(&y, &conv(3).kernel(2).stride(2));
        m.output(&y);
        let t = m.tokens("t", &[5, 6]);
        let u = m.matmul_add(&t, 4);
        let u = m.transpose(&u, &[0, 2, 1]);
        let u = m.bn(&u);
        m.output(&u);
        let f = m.tokens("f", &[6]);
        let f = m.gemm(&f, &gemm(3).factors(0.5, 2.0));
        m.output(&f);
        let model = prove_rewrite(&m.builder(), |_| ());
        assert_eq!(op_counts(&model.graph)["Conv"], 1);
        assert!(node_total(&model.graph) >= 12);
        assert_eq!(model.graph.required_inputs().count(), 3);
    }
}

#[test]
fn ir_3_lists_every_initializer_and_requires_only_real_inputs() {
    let mut m = Micro::new(9).ir3();
    let x = m.input("x", &[4, 8]);
    let y = m.conv(&x, &conv(4).kernel(3));
    m.output(&y);
    let model = prove_rewrite(&m.builder(), |_| ());
    assert_eq!(model.graph.inputs().count(), 3);
    assert_eq!(signature(&model).inputs.len(), 1);
    assert_eq!(model.ir_version(), 3);
}

#[test]
fn drawn_convolutions_run_and_repeat() {
    let draw = || {
        let seen = std::cell::RefCell::new(Vec::new());
        check(12, 1, &conv_cases(), |case| {
            let (mut m, x) = case.start();
            let y = m.conv(&x, &case.spec);
            m.output(&y);
            prove_rewrite(&m.builder(), |_| ());
            seen.borrow_mut().push(case);
        });
        seen.into_inner()
    };
    assert_eq!(draw(), draw());
}

#[test]
fn seeded_numbers_never_change() {
    assert_eq!(seeded(1, 2), [0.133_123_150_344_561_8, 0.491_563_514_525_402_26]);
    let tensor = crate::tensor(DataType::Float16, &[2], &[0.5, 1.0]);
    assert_eq!(Tensor::to_f64(&tensor), Some(vec![0.5, 1.0]));
}
