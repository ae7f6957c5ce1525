//! The optimizers against what they are in PyTorch, on a network small enough to be done by hand.

use updp_autodiff::step::{Features, Objective, Optimizer, Settled};
use updp_autodiff::{StepSpec, TrainingStep};
use updp_ir::{DataType, ModelBuilder, Node};
use updp_testkit::{Inputs, known, tensor};

use crate::networks::{Training, assert_close, has_runtime};

const LABELS: Objective = Objective::Labels { smoothing: 0.0 };

/// y = x·W with x [3, 2], W [2, 3], cross-entropy: small enough to be done by hand.
struct ByHand {
    x: Vec<f64>,
    t: Vec<f64>,
    w: Vec<f64>,
}

impl ByHand {
    fn new() -> Self {
        Self {
            x: vec![0.5, -1.0, 1.5, 0.25, -0.75, 1.0],
            t: vec![1.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 1.0],
            w: vec![0.1, -0.2, 0.3, 0.4, 0.5, -0.6],
        }
    }

    fn step(&self, spec: &StepSpec) -> TrainingStep {
        self.step_in(17, spec)
    }

    fn step_in(&self, opset: i64, spec: &StepSpec) -> TrainingStep {
        let mut builder = ModelBuilder::new(opset);
        builder.input("x", DataType::Float, &known(&[3, 2]));
        builder.initializer("w", &tensor(DataType::Float, &[2, 3], &self.w));
        builder.node(Node::new("MatMul"), &["x", "w"], &["y"]);
        builder.output("y", DataType::Float, Some(&known(&[3, 3])));
        TrainingStep::build(builder.build().expect("well formed"), spec).expect("a step")
    }

    fn data(&self) -> Inputs {
        Inputs::from_iter([
            ("x".to_owned(), tensor(DataType::Float, &[3, 2], &self.x)),
            ("targets".to_owned(), tensor(DataType::Float, &[3, 3], &self.t)),
        ])
    }

    /// Loss and gradient at `w`: xᵀ·(softmax(x·w) − t)/3.
    fn gradient(&self, w: &[f64]) -> (f64, Vec<f64>) {
        let mut loss = 0.0;
        let mut gradient = vec![0.0; 6];
        for row in 0..3 {
            let x = &self.x[2 * row..2 * row + 2];
            let t = &self.t[3 * row..3 * row + 3];
            let z: Vec<f64> = (0..3).map(|c| x[0] * w[c] + x[1] * w[3 + c]).collect();
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            for c in 0..3 {
                loss -= t[c] * (z[c] - sum.ln()) / 3.0;
                for i in 0..2 {
                    gradient[3 * i + c] += x[i] * (z[c].exp() / sum - t[c]) / 3.0;
                }
            }
        }
        (loss, gradient)
    }
}

#[test]
fn sgd_is_that_of_torch() {
    if !has_runtime("sgd_is_that_of_torch") {
        return;
    }
    let hand = ByHand::new();
    for nesterov in [false, true] {
        let optimizer = Optimizer::Sgd { momentum: 0.9, nesterov };
        let spec = StepSpec { optimizer, weight_decay: 0.1, ..StepSpec::new(LABELS) };
        let mut training = Training::new(hand.step(&spec));
        let (mut w, mut m) = (hand.w.clone(), vec![0.0; 6]);
        for _ in 0..4 {
            let outputs = training.run(&hand.data(), 0.3);
            let (loss, gradient) = hand.gradient(&w);
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            for i in 0..6 {
                let d = gradient[i] + 0.1 * w[i];
                m[i] = 0.9 * m[i] + d;
                w[i] -= 0.3 * if nesterov { d + 0.9 * m[i] } else { m[i] };
            }
            assert_close(&[training.loss(&outputs)], &[loss], "loss");
            assert_close(&outputs["grad_norm"].to_f64().expect("a number"), &[norm], "norm");
            assert_close(&training.state("current.w"), &w, "w");
            assert_close(&training.state("momentum.w"), &m, "m");
        }
    }
}

#[test]
fn first_step_without_momentum_is_rate_times_gradient() {
    if !has_runtime("first_step_without_momentum") {
        return;
    }
    let hand = ByHand::new();
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let spec = StepSpec { optimizer, clip_norm: Some(9.0), ..StepSpec::new(LABELS) };
    // Reductions and softmax change their form at 13 and 18.
    for opset in [11, 12, 13, 17, 18, 21] {
        let step = hand.step_in(opset, &spec);
        assert_eq!(step.states.len(), 1, "no moment is kept");
        let mut training = Training::new(step);
        training.run(&hand.data(), 0.5);
        let (_, gradient) = hand.gradient(&hand.w);
        let expected: Vec<f64> = hand.w.iter().zip(&gradient).map(|(w, g)| w - 0.5 * g).collect();
        assert_close(&training.state("current.w"), &expected, "w");
    }
}

#[test]
fn adamw_is_that_of_torch_with_clipping_and_average() {
    if !has_runtime("adamw_is_that_of_torch") {
        return;
    }
    let hand = ByHand::new();
    let spec = StepSpec {
        weight_decay: 0.1,
        clip_norm: Some(0.2),
        average: Some(0.75),
        ..StepSpec::new(LABELS).with_adamw()
    };
    let mut training = Training::new(hand.step(&spec));
    let mut w = hand.w.clone();
    let (mut m, mut v, mut e) = (vec![0.0; 6], vec![0.0; 6], w.clone());
    for t in 1..=5 {
        training.run(&hand.data(), 0.01);
        let (_, gradient) = hand.gradient(&w);
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!(norm > 0.2, "nothing is clipped");
        let factor = (0.2 / (norm + 1e-6)).min(1.0);
        let unbiased = [0.9_f64, 0.999].map(|beta| 1.0 - beta.powi(t));
        for i in 0..6 {
            let g = gradient[i] * factor;
            w[i] -= 0.01 * 0.1 * w[i];
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            let size = (v[i] / unbiased[1]).sqrt() + 1e-8;
            w[i] -= 0.01 * (m[i] / unbiased[0]) / size;
            e[i] = 0.75 * e[i] + 0.25 * w[i];
        }
        assert_close(&training.state("current.w"), &w, "w");
        assert_close(&training.state("average.w"), &e, "average");
    }
}

#[test]
fn accumulated_batches_make_the_update_of_one() {
    if !has_runtime("accumulated_batches") {
        return;
    }
    let hand = ByHand::new();
    for spec in [StepSpec::new(LABELS), StepSpec::new(LABELS).with_adamw()] {
        let spec = StepSpec { weight_decay: 0.1, average: Some(0.5), ..spec };
        let mut whole = Training::new(hand.step(&spec));
        let mut parts = Training::new(hand.step(&StepSpec { accumulates: true, ..spec }));
        for update in 1..=3 {
            whole.run(&hand.data(), 0.1);
            for (apply, share) in [(0.0, 0.25), (1.0, 0.75)] {
                let mut data = hand.data();
                let number = |value: f64| tensor(DataType::Float, &[], &[value]);
                data.insert("apply".to_owned(), number(apply));
                data.insert("share".to_owned(), number(share));
                parts.updates = update - 1;
                let before = parts.state("current.w");
                parts.run(&data, 0.1);
                if apply == 0.0 {
                    assert_eq!(parts.state("current.w"), before, "no update yet");
                }
            }
            assert!(parts.state("gradient.w").iter().all(|g| *g == 0.0));
            for (name, tensor) in &whole.states {
                assert_close(&parts.state(name), &tensor.to_f64().expect("floats"), name);
            }
        }
    }
}

#[test]
fn the_divergence_from_an_equal_teacher_is_zero() {
    if !has_runtime("the_divergence") {
        return;
    }
    let hand = ByHand::new();
    let spec = StepSpec::new(Objective::Teacher { temperature: 3.0 });
    let mut training = Training::new(hand.step(&spec));
    let mut data = hand.data();
    data.shift_remove("targets");
    let scores: Vec<f64> = (0..9)
        .map(|at| hand.x[at / 3 * 2] * hand.w[at % 3] + hand.x[at / 3 * 2 + 1] * hand.w[3 + at % 3])
        .collect();
    data.insert("teacher".to_owned(), tensor(DataType::Float, &[3, 3], &scores));
    let outputs = training.run(&data, 0.1);
    assert_close(&[training.loss(&outputs)], &[0.0], "loss");
    assert_close(&training.state("current.w"), &hand.w, "w");
    assert_eq!(outputs["correct"].scalar_f64(), Some(3.0));
}

#[test]
fn refuses_states_of_another_shape_or_network() {
    let hand = ByHand::new();
    let step = hand.step(&StepSpec::new(LABELS));
    let network = |name: &str| {
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &known(&[3, 2]));
        builder.initializer(name, &tensor(DataType::Float, &[2, 3], &hand.w));
        builder.node(Node::new("MatMul"), &["x", name], &["y"]);
        builder.output("y", DataType::Float, None);
        builder.build().expect("well formed")
    };
    let states = |dims: &[usize]| {
        let tensor = tensor(DataType::Float, dims, &[0.0; 6]);
        Inputs::from_iter([("current.w".to_owned(), tensor)])
    };
    let settle = |name: &str, dims: &[usize]| {
        let settled = step.settle(network(name), &states(dims), Settled::Current);
        settled.expect_err("it does not fit")
    };
    assert!(step.settle(network("w"), &states(&[2, 3]), Settled::Current).is_ok());
    let shape = settle("w", &[3, 2]);
    assert_eq!(shape.code(), "T0309");
    assert!(shape.to_string().contains("f32[3, 2], not f32[2, 3]"), "{shape}");
    assert!(settle("other", &[2, 3]).to_string().contains("no initializer \"w\""));
}

/// A network x·A = f, f·B = y whose features f are matched with those of a teacher.
#[test]
fn features_are_matched_relative_to_their_spread_over_the_images() {
    if !has_runtime("features_are_matched") {
        return;
    }
    let x = [0.5, -1.0, 1.5, 0.25, -0.75, 1.0];
    let (a, b) = ([0.2, 0.1, -0.4, 0.3], [0.1, -0.2, 0.3, 0.4, 0.5, -0.6]);
    let product = |x: &[f64], w: &[f64], wide: usize| -> Vec<f64> {
        let of = |at: usize| {
            let row = &x[at / wide * 2..at / wide * 2 + 2];
            row[0] * w[at % wide] + row[1] * w[wide + at % wide]
        };
        (0..3 * wide).map(of).collect()
    };
    let features = product(&x, &a, 2);
    let scores = product(&features, &b, 3);
    let step = |value: &str| {
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &known(&[3, 2]));
        builder.initializer("a", &tensor(DataType::Float, &[2, 2], &a));
        builder.initializer("b", &tensor(DataType::Float, &[2, 3], &b));
        builder.node(Node::new("MatMul"), &["x", "a"], &["f"]);
        builder.node(Node::new("MatMul"), &["f", "b"], &["y"]);
        builder.output("y", DataType::Float, Some(&known(&[3, 3])));
        let features = vec![Features { value: value.to_owned(), weight: 0.5 }];
        let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false };
        let plain = StepSpec::new(Objective::Teacher { temperature: 1.0 });
        TrainingStep::build(builder.build().unwrap(), &StepSpec { features, optimizer, ..plain })
    };
    let built = step("f").expect("a step");
    assert_eq!(built.names.features, ["teacher.features"]);
    let mut training = Training::new(built);
    // The scores are those of the teacher, so the features alone make loss and gradient.
    let wanted: Vec<f64> = features.iter().enumerate().map(|(at, f)| f + 0.1 * at as f64).collect();
    let data = Inputs::from_iter([
        ("x".to_owned(), tensor(DataType::Float, &[3, 2], &x)),
        ("teacher".to_owned(), tensor(DataType::Float, &[3, 3], &scores)),
        ("teacher.features".to_owned(), tensor(DataType::Float, &[3, 2], &wanted)),
    ]);
    let mean = |column: usize| (0..3).map(|row| wanted[2 * row + column]).sum::<f64>() / 3.0;
    let means = [mean(0), mean(1)];
    let spread: f64 =
        wanted.iter().enumerate().map(|(at, u)| (u - means[at % 2]).powi(2)).sum::<f64>();
    let apart: Vec<f64> = features.iter().zip(&wanted).map(|(f, u)| f - u).collect();
    let square: f64 = apart.iter().map(|d| d * d).sum();
    let outputs = training.run(&data, 0.1);
    assert_close(&[training.loss(&outputs)], &[0.5 * square / spread], "loss");
    // dA = xᵀ·(f − u) · 2·weight / spread; B is not touched.
    let gradient = |row: usize, column: usize| -> f64 {
        (0..3).map(|image| x[2 * image + row] * apart[2 * image + column]).sum::<f64>() / spread
    };
    let next: Vec<f64> = (0..4).map(|at| a[at] - 0.1 * gradient(at / 2, at % 2)).collect();
    assert_close(&training.state("current.a"), &next, "a");
    assert_close(&training.state("current.b"), &b, "b");
    assert_eq!(step("nowhere").expect_err("no such value").code(), "T0308");
}
