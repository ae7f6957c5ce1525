//! Training steps.

use updp_autodiff::step::{Distance, Features, Objective, Optimizer, Settled, StateKind};
use updp_autodiff::{StepSpec, TrainingStep};
use updp_ir::{DataType, ModelBuilder, Node, Tensor};
use updp_testkit::{Inputs, Micro, encode, known, run, tensor};

use crate::networks::{
    BATCH, CLASSES, Training, assert_close, batch, conv_net, has_runtime, transformer,
};

const LABELS: Objective = Objective::Labels { smoothing: 0.0 };

fn built(micro: &Micro, spec: &StepSpec) -> TrainingStep {
    TrainingStep::build(micro.build(), spec).unwrap_or_else(|e| panic!("{}: {e}", e.code()))
}

#[test]
fn loss_falls() {
    if !has_runtime("loss_falls") {
        return;
    }
    let sgd = StepSpec::new(LABELS);
    let adamw = StepSpec { weight_decay: 0.05, ..StepSpec::new(LABELS).with_adamw() };
    for (net, dims) in [(conv_net("Relu"), [2, 8, 8]), (transformer(), [2, 4, 4])] {
        for (spec, rate) in [(&sgd, 0.05), (&adamw, 0.03)] {
            let mut training = Training::new(built(&net, spec));
            let data = batch(&dims);
            let first = training.run(&data, rate);
            let first = training.loss(&first);
            let mut last = first;
            let mut correct = None;
            for _ in 0..40 {
                let outputs = training.run(&data, rate);
                last = training.loss(&outputs);
                correct = outputs["correct"].scalar_f64();
            }
            assert!(last < 0.2 * first, "{:?}: {first} -> {last}", spec.optimizer);
            assert_eq!(correct, Some(BATCH as f64));
        }
    }
}

#[test]
fn gradients_of_whole_networks() {
    if !has_runtime("gradients_of_whole_networks") {
        return;
    }
    let plain = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let spec = StepSpec { optimizer: plain, ..StepSpec::new(Objective::Labels { smoothing: 0.1 }) };
    let frozen = StepSpec { batch_norm_momentum: None, ..spec.clone() };
    for (net, dims, spec) in [
        (conv_net("Softplus"), [2, 8, 8], &spec),
        (conv_net("Tanh"), [2, 8, 8], &frozen),
        (transformer(), [2, 4, 4], &spec),
    ] {
        let step = built(&net, spec);
        let data = batch(&dims);
        let parameters: Vec<_> =
            step.states.iter().filter(|s| s.kind == StateKind::Parameter).cloned().collect();
        assert!(parameters.len() > 7, "{} parameters", parameters.len());
        let mut training = Training::new(step);
        let start = training.states.clone();
        let mut loss_at = |name: &str, moved: &Tensor| {
            training.states.clone_from(&start);
            training.states.insert(name.to_owned(), moved.clone());
            let outputs = training.run(&data, 1.0);
            (training.loss(&outputs), training.states[name].to_f64().expect("floats"))
        };
        for state in &parameters {
            let own = state.initial.to_f64().expect("floats");
            let (_, next) = loss_at(&state.input, &state.initial);
            let mut found = Vec::new();
            let mut expected = Vec::new();
            for element in (0..own.len()).step_by(own.len().div_ceil(6)) {
                let mut slope = |step: f64| {
                    let mut side = |sign: f64| {
                        let mut moved = own.clone();
                        moved[element] += sign * step;
                        let dims = state.initial.dims();
                        loss_at(&state.input, &tensor(DataType::Float, dims, &moved)).0
                    };
                    (side(1.0) - side(-1.0)) / (2.0 * step)
                };
                expected.push((4.0 * slope(0.03) - slope(0.06)) / 3.0);
                found.push(own[element] - next[element]);
            }
            let scale = expected.iter().fold(5e-3_f64, |most, v| most.max(v.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                let error = (found - expected).abs() / scale;
                assert!(error < 3e-3, "{}: {found} is not {expected}", state.source);
            }
        }
    }
}

#[test]
fn running_statistics_are_states_and_settle() {
    if !has_runtime("running_statistics") {
        return;
    }
    let net = conv_net("Relu");
    let spec = StepSpec { average: Some(0.5), ..StepSpec::new(LABELS) };
    let mut training = Training::new(built(&net, &spec));
    let kinds = |kind: StateKind| training.step.states.iter().filter(|s| s.kind == kind).count();
    assert_eq!(kinds(StateKind::Statistic), 6);
    // 5 weights, 3 scales and shifts, biases of a convolution and of the head.
    assert_eq!(kinds(StateKind::Parameter), 5 + 6 + 2);
    assert_eq!(kinds(StateKind::Average), 13 + 6);
    training.run(&batch(&[2, 8, 8]), 0.1);
    for (which, part) in [(Settled::Current, "current"), (Settled::Average, "average")] {
        let settled = training.step.settle(net.build(), &training.states, which).expect("settles");
        let graph = &settled.graph;
        for state in &training.step.states {
            let value = graph.find(&state.source).expect("the name stays");
            let name = format!("{part}.{}", state.source);
            let tensor = graph.constant_initializer(value).expect("an initializer");
            assert_eq!(tensor, &training.states[&name]);
            assert_ne!(tensor, &state.initial, "{} has not moved", state.source);
        }
    }
}

#[test]
fn a_settled_network_computes_what_the_step_saw() {
    if !has_runtime("a_settled_network") {
        return;
    }
    let net = transformer();
    let mut training = Training::new(built(&net, &StepSpec::new(LABELS)));
    let data = batch(&[2, 4, 4]);
    training.run(&data, 0.1);
    let settled = training.step.settle(net.build(), &training.states, Settled::Current);
    let images = Inputs::from_iter([("images".to_owned(), data["images"].clone())]);
    let alone = run(&settled.expect("settles"), &images);
    let seen = training.run(&data, 0.1);
    let output = &training.step.network_outputs[0];
    let seen = seen[output].to_f64().expect("floats");
    assert_close(&alone[output].to_f64().expect("floats"), &seen, "scores");
}

#[test]
fn distills_from_a_teacher() {
    if !has_runtime("distills_from_a_teacher") {
        return;
    }
    let soft = Objective::Teacher { temperature: 2.0 };
    let both = Objective::LabelsAndTeacher { smoothing: 0.1, temperature: 2.0, weight: 0.5 };
    let outputs = [Distance::MeanSquare, Distance::Cosine].map(Objective::Outputs);
    for objective in [soft, both, outputs[0], outputs[1]] {
        let mut training = Training::new(built(&conv_net("Relu"), &StepSpec::new(objective)));
        let mut data = batch(&[2, 8, 8]);
        let targets = data["targets"].to_f64().expect("floats");
        let teacher: Vec<f64> = targets.iter().map(|t| 4.0 * t - 1.0).collect();
        let teacher = tensor(DataType::Float, &[BATCH, CLASSES], &teacher);
        data.insert("teacher".to_owned(), teacher);
        if training.step.names.targets.is_none() {
            data.shift_remove("targets");
        }
        let first = training.run(&data, 0.02);
        let first = training.loss(&first);
        let mut last = first;
        for _ in 0..40 {
            let outputs = training.run(&data, 0.02);
            last = training.loss(&outputs);
        }
        assert!(last < 0.6 * first, "{objective:?}: {first} -> {last}");
    }
}

#[test]
fn follows_every_output_of_a_teacher() {
    if !has_runtime("follows_every_output") {
        return;
    }
    let mut m = Micro::new(9).batch(BATCH);
    let x = m.input("images", &[4]);
    let a = m.matmul_add(&x, 4);
    let b = m.matmul_add(&a, 2);
    m.output(&a);
    m.output(&b);
    let spec = StepSpec::new(Objective::Outputs(Distance::MeanSquare));
    let mut training = Training::new(built(&m, &spec));
    assert_eq!(training.step.names.teachers.len(), 2);
    assert_eq!(training.step.names.correct, None);
    let mut data = batch(&[4]);
    data.shift_remove("targets");
    // The loss of a teacher that is off by 1 everywhere is 1 an output.
    let images = Inputs::from_iter([("images".to_owned(), data["images"].clone())]);
    let outputs = run(&m.build(), &images);
    for (teacher, output) in training.step.names.teachers.clone().into_iter().zip(outputs.values())
    {
        let off: Vec<f64> = output.to_f64().expect("floats").iter().map(|v| v + 1.0).collect();
        data.insert(teacher, tensor(DataType::Float, output.dims(), &off));
    }
    let outputs = training.run(&data, 0.01);
    assert_close(&[training.loss(&outputs)], &[2.0], "loss");
}

#[test]
fn the_same_step_twice_gives_the_same_bytes() {
    if !has_runtime("the_same_step_twice") {
        return;
    }
    let spec = StepSpec { average: Some(0.9), ..StepSpec::new(LABELS).with_adamw() };
    let once = built(&conv_net("Relu"), &spec);
    let again = built(&conv_net("Relu"), &spec);
    assert_eq!(encode(&once.model), encode(&again.model));
    assert_eq!(once.states, again.states);
    let mut runs = [Training::new(once), Training::new(again)];
    let data = batch(&[2, 8, 8]);
    let [first, second] = &mut runs;
    for _ in 0..3 {
        assert_eq!(first.run(&data, 0.01), second.run(&data, 0.01));
    }
}

#[test]
fn the_runtimes_optimizer_changes_nothing() {
    if !has_runtime("the_runtimes_optimizer") {
        return;
    }
    let spec = StepSpec::new(LABELS).with_adamw();
    for (net, dims) in [(conv_net("Relu"), [2, 8, 8]), (transformer(), [2, 4, 4])] {
        let mut plain = Training::new(built(&net, &spec));
        let mut optimized = Training::optimized(built(&net, &spec));
        let data = batch(&dims);
        for _ in 0..5 {
            let (a, b) = (plain.run(&data, 0.003), optimized.run(&data, 0.003));
            let (a, b) = (plain.loss(&a), optimized.loss(&b));
            assert!((a - b).abs() < 1e-3 * a, "{a} is not {b}");
        }
    }
}

#[test]
fn every_node_of_a_step_is_of_use() {
    for net in [conv_net("Relu"), transformer()] {
        for spec in [StepSpec::new(LABELS), StepSpec::new(LABELS).with_adamw()] {
            let step = built(&net, &StepSpec { clip_norm: Some(1.0), ..spec });
            let graph = &step.model.graph;
            for node in graph.nodes() {
                let mut results = graph.results(node).into_iter().flatten();
                assert!(results.any(|v| graph.is_read(v)), "{}", graph.node(node).name());
            }
            for value in graph.initializers() {
                assert!(graph.is_read(value), "{}", graph.value(value).name());
            }
        }
    }
}

#[test]
fn lambda_stays_an_input_and_gates_the_gradient() {
    if !has_runtime("lambda_stays_an_input") {
        return;
    }
    let mut m = Micro::new(3).batch(BATCH);
    let x = m.input("images", &[4]);
    m.raw().input("lambda", DataType::Float, &known(&[1]));
    let y = m.matmul_add(&x, 4);
    let y = m.node(Node::new("Mul"), &[&y.name, "lambda"]);
    let x = m.node(Node::new("Add"), &[&x.name, &y]);
    let x = updp_testkit::Val { name: x, channels: 4, rank: 2, axis: 1 };
    let x = m.gemm(&x, &updp_testkit::gemm(CLASSES));
    m.output(&x);
    let mut training = Training::new(built(&m, &StepSpec::new(LABELS)));
    assert_eq!(training.step.network_inputs, ["images", "lambda"]);
    let mut data = batch(&[4]);
    data.insert("lambda".to_owned(), tensor(DataType::Float, &[1], &[0.0]));
    let before = training.state("current.matmul_1.weight");
    training.run(&data, 0.1);
    assert_eq!(training.state("current.matmul_1.weight"), before);
    data.insert("lambda".to_owned(), tensor(DataType::Float, &[1], &[1.0]));
    training.run(&data, 0.1);
    assert_ne!(training.state("current.matmul_1.weight"), before);
}

#[test]
fn trains_weights_and_leaves_masks_preprocessing_and_the_frozen_alone() {
    let mut builder = ModelBuilder::new(17);
    builder.input("x", DataType::Float, &known(&[BATCH, 3]));
    let constants: &[(&str, &[usize], &[f64])] = &[
        ("std", &[3], &[0.2, 0.3, 0.4]),
        ("w", &[3, 3], &[0.1, -0.2, 0.3, 0.4, 0.5, -0.6, 0.7, 0.8, 0.9]),
        ("tied", &[3, 3], &[0.1; 9]),
        ("mask", &[3], &[0.0, -100.0, 0.0]),
        ("gate", &[3], &[0.0, 1.0, 1.0]),
        ("gamma", &[3], &[0.5, 0.6, 0.7]),
        ("one", &[1], &[1.0]),
        ("frozen", &[3], &[0.5, 0.6, 0.7]),
        ("unused", &[3], &[0.5, 0.6, 0.7]),
    ];
    for (name, dims, values) in constants {
        builder.initializer(name, &tensor(DataType::Float, dims, values));
    }
    builder.node(Node::new("Mul"), &["x", "std"], &["n"]);
    builder.node(Node::new("MatMul"), &["n", "w"], &["a"]);
    builder.node(Node::new("Transpose"), &["tied"], &["tied_t"]);
    builder.node(Node::new("MatMul"), &["a", "tied_t"], &["b"]);
    for (op, constant, from, to) in [
        ("Add", "mask", "b", "c"),
        ("Mul", "gate", "c", "d"),
        ("Mul", "gamma", "d", "e"),
        ("Add", "one", "e", "f"),
        ("Add", "frozen", "f", "y"),
        ("Mul", "unused", "a", "aside"),
    ] {
        builder.node(Node::new(op), &[constant, from], &[to]);
    }
    builder.output("y", DataType::Float, None);
    let spec = StepSpec { frozen: vec!["frozen".to_owned()], ..StepSpec::new(LABELS) };
    let step = TrainingStep::build(builder.build().expect("well formed"), &spec).expect("a step");
    let mut trained: Vec<&str> = step
        .states
        .iter()
        .filter(|state| state.kind == StateKind::Parameter)
        .map(|state| state.source.as_str())
        .collect();
    trained.sort_unstable();
    assert_eq!(trained, ["gamma", "tied", "w"]);
}

#[test]
fn weights_in_constant_nodes_and_aliased_statistics_are_trained_apart() {
    if !has_runtime("weights_in_constant_nodes") {
        return;
    }
    let mut builder = ModelBuilder::new(17);
    builder.input("images", DataType::Float, &known(&[BATCH, 3]));
    let weight: Vec<f64> = (0..9).map(|at| f64::from(at) / 10.0 - 0.4).collect();
    builder.constant("w", tensor(DataType::Float, &[3, 3], &weight));
    for (name, value) in [("ones", 1.0), ("zeros", 0.0)] {
        builder.initializer(name, &tensor(DataType::Float, &[3], &[value; 3]));
    }
    builder.node(Node::new("Identity"), &["zeros"], &["alias"]);
    builder.node(Node::new("MatMul"), &["images", "w"], &["a"]);
    let norm = || Node::new("BatchNormalization");
    builder.node(norm(), &["a", "ones", "zeros", "zeros", "ones"], &["b"]);
    builder.node(Node::new("Tanh"), &["b"], &["c"]);
    builder.node(norm(), &["c", "ones", "alias", "alias", "ones"], &["y"]);
    builder.output("y", DataType::Float, None);
    let spec = StepSpec::new(LABELS);
    let build = || builder.build().expect("well formed");
    let mut training = Training::new(TrainingStep::build(build(), &spec).expect("a step"));
    let kinds = |kind: StateKind| training.step.states.iter().filter(|s| s.kind == kind).count();
    assert_eq!((kinds(StateKind::Parameter), kinds(StateKind::Statistic)), (5, 4));
    let graph = &training.step.model.graph;
    assert!(graph.initializers().all(|value| graph.is_read(value)), "the aliased tensor stays");
    let data = batch(&[3]);
    training.run(&data, 0.1);
    let settled = training.step.settle(build(), &training.states, Settled::Current);
    let settled = settled.expect("settles");
    for state in &training.step.states {
        let value = settled.graph.find(&state.source);
        let tensor = value.and_then(|value| settled.graph.constant_initializer(value));
        if matches!(state.kind, StateKind::Parameter | StateKind::Statistic) {
            assert_eq!(tensor, Some(&training.states[&state.input]), "{}", state.source);
        }
    }
}

#[test]
fn refuses_what_cannot_be_trained() {
    let code = |model: ModelBuilder, spec: &StepSpec| {
        let error = TrainingStep::build(model.build().expect("well formed"), spec);
        error.expect_err("it cannot be trained").code()
    };
    let mut bare = ModelBuilder::new(17);
    bare.input("x", DataType::Float, &known(&[2, 3]));
    bare.node(Node::new("Relu"), &["x"], &["y"]);
    bare.output("y", DataType::Float, None);
    assert_eq!(code(bare, &StepSpec::new(LABELS)), "T0307");

    let mut flat = ModelBuilder::new(17);
    flat.input("x", DataType::Float, &known(&[2, 3]));
    flat.initializer("w", &tensor(DataType::Float, &[3], &[1.0, 2.0, 3.0]));
    flat.node(Node::new("MatMul"), &["x", "w"], &["y"]);
    flat.output("y", DataType::Float, None);
    assert_eq!(code(flat.clone(), &StepSpec::new(LABELS)), "T0308");
    // The same model can follow a teacher.
    let follow = StepSpec::new(Objective::Outputs(Distance::MeanSquare));
    TrainingStep::build(flat.build().expect("well formed"), &follow).expect("a step");

    let mut half = ModelBuilder::new(17);
    half.input("x", DataType::Float16, &known(&[2, 3]));
    half.initializer("w", &tensor(DataType::Float16, &[3, 2], &[1.0; 6]));
    half.node(Node::new("MatMul"), &["x", "w"], &["y"]);
    half.output("y", DataType::Float16, None);
    assert_eq!(code(half, &StepSpec::new(LABELS)), "T0305");

    let without_weight = Features { value: "y".to_owned(), weight: 0.0 };
    for spec in [
        StepSpec { weight_decay: -1.0, ..StepSpec::new(LABELS) },
        StepSpec { clip_norm: Some(0.0), ..StepSpec::new(LABELS) },
        StepSpec { average: Some(1.0), ..StepSpec::new(LABELS) },
        StepSpec { batch_norm_momentum: Some(1.5), ..StepSpec::new(LABELS) },
        StepSpec::new(Objective::Labels { smoothing: 1.0 }),
        StepSpec::new(Objective::Teacher { temperature: 0.0 }),
        StepSpec { features: vec![without_weight], ..StepSpec::new(LABELS) },
    ] {
        assert_eq!(code(flat.clone(), &spec), "T0310", "{spec:?}");
    }
}
