//! Steps whose convolutions and products are computed in half precision.

use updp_autodiff::step::{Objective, StateKind};
use updp_autodiff::{Precision, StepSpec, TrainingStep, set_precision};
use updp_ir::{DataType, Model, Node, Tensor, infer::Shapes};
use updp_testkit::{Micro, Val, conv, gemm, tensor};

use crate::networks::{BATCH, CLASSES, Training, batch, conv_net, has_runtime, transformer};

fn built(network: &Micro, spec: &StepSpec, precision: Precision) -> TrainingStep {
    let step = TrainingStep::build(network.build(), spec);
    let mut step = step.unwrap_or_else(|error| panic!("{error}"));
    set_precision(&mut step.model, precision).unwrap_or_else(|error| panic!("{error}"));
    step.model.validate().expect("valid");
    step
}

fn spec(scales_loss: bool) -> StepSpec {
    let clip_norm = Some(1.0);
    StepSpec { scales_loss, clip_norm, ..StepSpec::new(Objective::Labels { smoothing: 0.1 }) }
}

/// Every operand of a product has this type, and no other operator computes in it.
fn assert_types(model: &Model, dtype: DataType) {
    let shapes = Shapes::infer(&model.graph, model.opset("").unwrap_or(0));
    let products = ["Conv", "ConvTranspose", "Gemm", "MatMul"];
    let others = [
        "BatchNormalization",
        "LayerNormalization",
        "Softmax",
        "ReduceSum",
        "Exp",
        "Sqrt",
        "Add",
        "Mul",
        "Sub",
        "Where",
    ];
    let mut seen = 0;
    for node in model.graph.nodes() {
        let op = model.graph.node(node).op_type();
        for value in model.graph.operands(node).into_iter().flatten() {
            let found = shapes
                .dtype(value)
                .or_else(|| model.graph.value(value).tensor().map(Tensor::dtype));
            if products.contains(&op) {
                assert_eq!(found, Some(dtype), "{op}");
                seen += 1;
            }
            assert!(!others.contains(&op) || found != Some(dtype), "{op}");
        }
    }
    assert!(seen > 0);
}

#[test]
fn products_of_f16_train_as_those_of_f32_do() {
    if !has_runtime("products_of_f16") {
        return;
    }
    let cases: [(Micro, &[usize], StepSpec); 3] = [
        (conv_net("Relu"), &[2, 8, 8], spec(true)),
        (transformer(), &[2, 4, 4], spec(true).with_adamw()),
        (conv_net("Tanh"), &[2, 8, 8], StepSpec { average: Some(0.9), ..spec(true) }),
    ];
    for (at, (network, dims, spec)) in cases.into_iter().enumerate() {
        let plain = StepSpec { scales_loss: false, ..spec.clone() };
        let step = built(&network, &spec, Precision::Half);
        assert_types(&step.model, DataType::Float16);
        let full = built(&network, &plain, Precision::Single);
        assert_eq!(step.states.len(), full.states.len() + 2, "the scale and what it goes by");
        let mut runs = [Training::new(full), Training::new(step)];
        let data = batch(dims);
        for _ in 0..5 {
            let losses = runs.each_mut().map(|run| {
                let outputs = run.run(&data, 0.02);
                run.loss(&outputs)
            });
            assert!((losses[0] - losses[1]).abs() < 1e-2, "case {at}: {losses:?}");
        }
        assert_eq!(runs[1].state("current.good_batches"), [5.0], "case {at}");
        assert_eq!(runs[1].state("current.loss_scale"), [65_536.0], "case {at}");
        assert!(runs[1].states.values().all(|state| state.dtype() == DataType::Float));
    }
}

#[test]
fn a_scaled_loss_gives_the_gradients_of_the_plain_one() {
    if !has_runtime("a_scaled_loss") {
        return;
    }
    let network = conv_net("Tanh");
    let step = |scales| Training::new(built(&network, &spec(scales), Precision::Single));
    let (mut plain, mut scaled) = (step(false), step(true));
    let data = batch(&[2, 8, 8]);
    for _ in 0..3 {
        plain.run(&data, 0.05);
        scaled.run(&data, 0.05);
    }
    for (name, state) in &plain.states {
        let (a, b) = (state.to_f64().expect("floats"), scaled.state(name));
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= 1e-5 * a.abs().max(1e-2), "{name}: {a} and {b}");
        }
    }
}

#[test]
fn an_update_that_overflows_is_left_out_and_halves_the_scale() {
    if !has_runtime("an_update_that_overflows") {
        return;
    }
    for spec in [
        StepSpec { average: Some(0.9), ..spec(true) },
        StepSpec { average: Some(0.9), ..spec(true).with_adamw() },
    ] {
        let mut run = Training::new(built(&conv_net("Relu"), &spec, Precision::Half));
        let data = batch(&[2, 8, 8]);
        run.run(&data, 0.02);
        // A scale that no gradient of f16 survives.
        let huge = tensor(DataType::Float, &[], &[f64::from(2.0_f32.powi(100))]);
        run.states.insert("current.loss_scale".to_owned(), huge);
        let before = run.states.clone();
        let outputs = run.run(&data, 0.02);
        let norm = outputs[&run.step.names.gradient_norm].scalar_f64().expect("a number");
        assert!(!norm.is_finite(), "{norm}");
        assert!(run.loss(&outputs).is_finite(), "the loss itself is not scaled");
        for state in &run.step.states {
            if state.kind != StateKind::Scale {
                assert_eq!(run.states[&state.input], before[&state.input], "{}", state.input);
            }
        }
        assert_eq!(run.state("current.loss_scale"), [f64::from(2.0_f32.powi(99))]);
        assert_eq!(run.state("current.good_batches"), [0.0]);
    }
}

#[test]
fn the_scale_doubles_after_many_good_batches_and_ends_at_its_bounds() {
    if !has_runtime("the_scale_doubles") {
        return;
    }
    let mut run = Training::new(built(&conv_net("Tanh"), &spec(true), Precision::Single));
    let data = batch(&[2, 8, 8]);
    let number = |value: f64| tensor(DataType::Float, &[], &[value]);
    for (scale, good, next) in [
        (1024.0, 1998.0, (1024.0, 1999.0)),
        (1024.0, 1999.0, (2048.0, 0.0)),
        (16_777_216.0, 1999.0, (16_777_216.0, 0.0)),
    ] {
        run.states.insert("current.loss_scale".to_owned(), number(scale));
        run.states.insert("current.good_batches".to_owned(), number(good));
        run.run(&data, 0.01);
        let found = (run.state("current.loss_scale")[0], run.state("current.good_batches")[0]);
        assert_eq!(found, next);
    }
}

#[test]
fn a_batch_that_overflows_adds_nothing_to_what_is_accumulated() {
    if !has_runtime("a_batch_that_overflows") {
        return;
    }
    let spec = StepSpec { accumulates: true, ..spec(true) };
    let mut run = Training::new(built(&conv_net("Relu"), &spec, Precision::Half));
    let number = |value: f64| tensor(DataType::Float, &[], &[value]);
    let with = |apply: f64| {
        let mut data = batch(&[2, 8, 8]);
        data.insert("apply".to_owned(), number(apply));
        data.insert("share".to_owned(), number(0.5));
        data
    };
    run.run(&with(0.0), 0.02);
    let held = run.states.clone();
    run.states.insert("current.loss_scale".to_owned(), number(f64::from(2.0_f32.powi(100))));
    run.run(&with(0.0), 0.02);
    for state in &run.step.states {
        if matches!(state.kind, StateKind::Gradient | StateKind::Statistic) {
            assert_eq!(run.states[&state.input], held[&state.input], "{}", state.input);
        }
    }
    run.states.insert("current.loss_scale".to_owned(), number(1024.0));
    let outputs = run.run(&with(1.0), 0.02);
    let norm = outputs[&run.step.names.gradient_norm].scalar_f64().expect("a number");
    assert!(norm.is_finite() && norm > 0.0, "{norm}");
}

/// A convolution and a head, of this opset.
fn small(opset: i64) -> Micro {
    let mut m = Micro::new(41).opset(opset).batch(BATCH);
    let x = m.input("images", &[2, 8, 8]);
    let x = m.conv(&x, &conv(4).kernel(3));
    let x = m.unary("Tanh", &x);
    let x = m.unary("GlobalAveragePool", &x);
    let x = m.apply(Node::new("Flatten"), &[&x]);
    let x = m.gemm(&Val { rank: 2, ..x }, &gemm(CLASSES));
    m.output(&x);
    m
}

#[test]
fn bf16_is_for_products_and_from_opset_22_on_for_convolutions() {
    // The processor has no such kernels: types alone are looked at.
    let step = built(&small(22), &spec(false), Precision::Brain);
    assert_types(&step.model, DataType::Bfloat16);
    let older = built(&small(17), &spec(false), Precision::Brain);
    let graph = &older.model.graph;
    let shapes = Shapes::infer(graph, 17);
    for node in graph.nodes() {
        let y = graph.results(node)[0].expect("a result");
        match graph.node(node).op_type() {
            "Conv" => assert_eq!(shapes.dtype(y), Some(DataType::Float)),
            "MatMul" | "Gemm" => assert_eq!(shapes.dtype(y), Some(DataType::Bfloat16)),
            _ => {}
        }
    }
    let step = TrainingStep::build(small(12).build(), &spec(false));
    let error = set_precision(&mut step.expect("builds").model, Precision::Brain);
    assert_eq!(error.expect_err("too old").code(), "T0304");
}
