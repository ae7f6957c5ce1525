//! Training steps.

use std::num::NonZeroUsize;

use bytes::Bytes;
use indexmap::IndexMap;
use updp_ir::proto::TensorProto;
use updp_ir::{DataType, Tensor};

use super::models::{D, bytes, model, node, value, weight, with_int};
use super::{code, ort_options, values};
use crate::{ModelSource, Options, StateSpec, StepSession};

/// SGD with momentum on `loss = mean((x·w − t)²)`: g = 2/n · xᵀ(x·w − t), m' = 0.9 m + g, w' = w − lr·m'.
///
/// x [batch, 2], t [batch, 1], lr [], w and m [2, 1].
fn regression() -> Bytes {
    let (batch, two, one) = (D::S("batch"), D::N(2), D::N(1));
    let float = DataType::Float;
    let nodes = vec![
        node("MatMul", &["x", "w"], &["y"]),
        node("Sub", &["y", "t"], &["d"]),
        node("Mul", &["d", "d"], &["dd"]),
        node("ReduceMean", &["dd"], &["mean"]),
        node("Squeeze", &["mean"], &["loss"]),
        node("Transpose", &["x"], &["xt"]),
        node("MatMul", &["xt", "d"], &["sum"]),
        node("Shape", &["x"], &["dims"]),
        node("Gather", &["dims", "first"], &["n"]),
        with_int(node("Cast", &["n"], &["nf"]), "to", 1),
        node("Div", &["two", "nf"], &["share"]),
        node("Mul", &["sum", "share"], &["g"]),
        node("Mul", &["m", "momentum"], &["kept"]),
        node("Add", &["kept", "g"], &["m_next"]),
        node("Mul", &["m_next", "lr"], &["change"]),
        node("Sub", &["w", "change"], &["w_next"]),
    ];
    let first = Tensor::from_i64(vec![], &[0]).expect("well formed");
    let first = TensorProto { name: Some("first".to_owned()), ..first.proto().clone() };
    bytes(&model(
        nodes,
        vec![
            value("x", float, &[batch, two]),
            value("t", float, &[batch, one]),
            value("w", float, &[two, one]),
            value("lr", float, &[]),
            value("m", float, &[two, one]),
        ],
        vec![
            value("w_next", float, &[two, one]),
            value("loss", float, &[]),
            value("m_next", float, &[two, one]),
        ],
        vec![weight("two", &[], &[2.0]), weight("momentum", &[], &[0.9]), first],
    ))
}

fn f32s(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(dims.to_vec(), values).expect("well formed")
}

fn states() -> Vec<StateSpec> {
    let spec = |input: &str, values| StateSpec {
        input: input.to_owned(),
        output: format!("{input}_next"),
        initial: f32s(&[2, 1], values),
    };
    vec![spec("m", &[0.0, 0.0]), spec("w", &[0.5, -0.25])]
}

/// Rows and targets of step `at`; `rows` of them.
fn data(at: usize, rows: usize) -> (Tensor, Tensor) {
    let number = |k: usize| ((at * 37 + k * 11) % 19) as f32 / 10.0 - 0.9;
    let x: Vec<f32> = (0..2 * rows).map(number).collect();
    let t: Vec<f32> = x.chunks(2).map(|row| 2.0 * row[0] - 3.0 * row[1]).collect();
    (f32s(&[rows, 2], &x), f32s(&[rows, 1], &t))
}

fn opened(options: &Options) -> StepSession {
    let options = Options { threads: NonZeroUsize::new(1), ..options.clone() };
    StepSession::open(ModelSource::Bytes(&regression()), &options, &states(), &["loss"])
        .expect("opens")
}

fn step(session: &mut StepSession, at: usize) -> f64 {
    let ((x, t), lr) = (data(at, 4), f32s(&[], &[0.1]));
    let results = session.step(&[("x", &x), ("t", &t), ("lr", &lr)]).expect("runs");
    assert_eq!(results.keys().collect::<Vec<_>>(), ["loss"]);
    values(&results, "loss")[0]
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{found} for {expected}");
}

#[test]
fn ten_steps_give_what_a_loop_gives() {
    let Some(options) = ort_options("ten_steps_give_what_a_loop_gives") else { return };
    let mut session = opened(&options);
    assert_eq!(session.input_names(), ["x", "t", "lr"]);
    assert_eq!(session.output_names(), ["loss"]);
    assert_eq!(session.state_names().collect::<Vec<_>>(), ["m", "w"]);
    let (mut w, mut m) = ([0.5_f64, -0.25], [0.0_f64; 2]);
    for at in 0..10 {
        let (x, t) = data(at, 4);
        let (x, t) = (x.to_f64().expect("floats"), t.to_f64().expect("floats"));
        let (mut g, mut loss) = ([0.0; 2], 0.0);
        for (row, target) in x.chunks(2).zip(&t) {
            let d = row[0] * w[0] + row[1] * w[1] - target;
            loss += d * d / 4.0;
            g = [g[0] + d * row[0] / 2.0, g[1] + d * row[1] / 2.0];
        }
        let read = w;
        for k in 0..2 {
            m[k] = 0.9 * m[k] + g[k];
            w[k] -= 0.1 * m[k];
        }
        close(step(&mut session, at), loss);
        let previous = session.previous_state().expect("state");
        (0..2).for_each(|k| close(values(&previous, "w")[k], read[k]));
        let state = session.state().expect("state");
        for k in 0..2 {
            close(values(&state, "w")[k], w[k]);
            close(values(&state, "m")[k], m[k]);
        }
    }
}

#[test]
fn a_state_set_again_goes_on_with_the_same_bits() {
    let Some(options) = ort_options("a_state_set_again_goes_on_with_the_same_bits") else { return };
    // After an odd and an even number of steps: either set of buffers is the current one.
    for kept_at in [3, 4] {
        let mut undisturbed = opened(&options);
        for at in 0..kept_at {
            step(&mut undisturbed, at);
        }
        let kept = undisturbed.state().expect("state");
        let mut other = opened(&options);
        for at in 50..55 {
            step(&mut other, at);
        }
        let reversed: IndexMap<_, _> = kept.clone().into_iter().rev().collect();
        other.set_state(&reversed).expect("fits");
        for (name, tensor) in other.state().expect("state") {
            assert_eq!(tensor.bytes(), kept[&name].bytes());
        }
        for at in kept_at..9 {
            assert_eq!(step(&mut undisturbed, at).to_bits(), step(&mut other, at).to_bits());
        }
        for (name, tensor) in other.state().expect("state") {
            assert_eq!(tensor.bytes(), undisturbed.state().expect("state")[&name].bytes());
        }
    }
}

#[test]
fn the_batch_may_change_from_step_to_step() {
    let Some(options) = ort_options("the_batch_may_change_from_step_to_step") else { return };
    let (mut session, lr) = (opened(&options), f32s(&[], &[0.0]));
    let mut losses = Vec::new();
    for rows in [1, 4, 4, 2] {
        let (x, t) = data(0, rows);
        let results = session.step(&[("lr", &lr), ("t", &t), ("x", &x)]).expect("runs");
        losses.push(values(&results, "loss")[0]);
        let (x, t) = (x.to_f64().expect("floats"), t.to_f64().expect("floats"));
        let errors = x.chunks(2).zip(&t).map(|(row, t)| 0.5 * row[0] - 0.25 * row[1] - t);
        close(losses[losses.len() - 1], errors.map(|d| d * d).sum::<f64>() / rows as f64);
    }
    assert_eq!(losses[1].to_bits(), losses[2].to_bits());
}

#[cfg(target_os = "linux")]
#[test]
fn memory_stays_flat_over_ten_thousand_steps() {
    let Some(options) = ort_options("memory_stays_flat_over_ten_thousand_steps") else { return };
    let resident_kb = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim_end_matches("kB").trim().parse::<usize>().expect("a number")
    };
    // One step's data are 24 kB, so keeping them all would take 240 MB.
    let rows = 2048;
    let (mut session, lr) = (opened(&options), f32s(&[], &[0.01]));
    let (x, t) = data(0, rows);
    let mut run = |steps: usize| {
        for _ in 0..steps {
            session.step(&[("x", &x), ("t", &t), ("lr", &lr)]).expect("runs");
        }
    };
    run(500);
    let before = resident_kb();
    run(10_000);
    let grown = resident_kb().saturating_sub(before);
    assert!(grown < 48 << 10, "{grown} kB more");
}

#[test]
fn inputs_that_do_not_fit_are_refused_and_leave_the_state() {
    let test = "inputs_that_do_not_fit_are_refused_and_leave_the_state";
    let Some(options) = ort_options(test) else { return };
    let mut session = opened(&options);
    step(&mut session, 0);
    let before = session.state().expect("state");
    let ((x, t), lr) = (data(0, 4), f32s(&[], &[0.1]));
    let wide = f32s(&[4, 3], &[0.0; 12]);
    let doubles = Tensor::from_f64(DataType::Double, vec![4, 2], &[0.0; 8]).expect("well formed");
    let short = f32s(&[3, 1], &[0.0; 3]);
    for (inputs, expected) in [
        (vec![("x", &x), ("t", &t)], "X0301"),
        (vec![("x", &x), ("t", &t), ("lr", &lr), ("q", &lr)], "X0302"),
        (vec![("x", &x), ("t", &t), ("lr", &lr), ("w", &before["w"])], "X0302"),
        (vec![("x", &wide), ("t", &t), ("lr", &lr)], "X0303"),
        (vec![("x", &doubles), ("t", &t), ("lr", &lr)], "X0303"),
        (vec![("x", &x), ("t", &t), ("lr", &lr), ("x", &x)], "X0309"),
        (vec![("x", &x), ("t", &short), ("lr", &lr)], "X0401"),
    ] {
        assert_eq!(code(session.step(&inputs)), expected);
    }
    let mut missing = before.clone();
    missing.swap_remove("w");
    let mut unknown = before.clone();
    unknown.insert("v".to_owned(), lr.clone());
    let mut other = before.clone();
    other.insert("w".to_owned(), f32s(&[1, 2], &[0.0; 2]));
    for (state, expected) in [(missing, "X0301"), (unknown, "X0302"), (other, "X0303")] {
        assert_eq!(code(session.set_state(&state)), expected);
    }
    for (name, tensor) in session.state().expect("state") {
        assert_eq!(tensor.bytes(), before[&name].bytes(), "{name}");
    }
    // It still runs, and from the same state.
    let mut same = opened(&options);
    step(&mut same, 0);
    assert_eq!(step(&mut session, 1).to_bits(), step(&mut same, 1).to_bits());
}

#[test]
fn states_that_are_not_the_models_are_refused() {
    let Some(options) = ort_options("states_that_are_not_the_models_are_refused") else { return };
    let open = |states: &[StateSpec]| {
        code(StepSession::open(ModelSource::Bytes(&regression()), &options, states, &["loss"]))
    };
    let with = |change: &dyn Fn(&mut StateSpec)| {
        let mut states = states();
        change(&mut states[1]);
        open(&states)
    };
    assert_eq!(open(&states()), "no error");
    assert_eq!(with(&|s| s.input = "v".to_owned()), "X0302");
    assert_eq!(with(&|s| s.initial = f32s(&[3, 1], &[0.0; 3])), "X0303");
    assert_eq!(with(&|s| s.output = "v_next".to_owned()), "X0307");
    let scalar = |s: &mut StateSpec| {
        *s = StateSpec {
            input: "lr".to_owned(),
            output: "w_next".to_owned(),
            initial: f32s(&[], &[0.0]),
        };
    };
    assert_eq!(with(&scalar), "X0308");
    assert_eq!(with(&|s| s.input = "m".to_owned()), "X0309");
    assert_eq!(with(&|s| s.output = "m_next".to_owned()), "X0309");
    let model_bytes = regression();
    let unknown = StepSession::open(ModelSource::Bytes(&model_bytes), &options, &states(), &["y"]);
    assert_eq!(code(unknown), "X0307");
    let bool = DataType::Bool;
    let flag = bytes(&model(
        vec![node("Not", &["b"], &["b_next"])],
        vec![value("b", bool, &[D::N(1)])],
        vec![value("b_next", bool, &[D::N(1)])],
        vec![],
    ));
    let state = StateSpec {
        input: "b".to_owned(),
        output: "b_next".to_owned(),
        initial: Tensor::new(bool, vec![1], vec![1].into()).expect("well formed"),
    };
    let opened = StepSession::open(ModelSource::Bytes(&flag), &options, &[state], &[]);
    assert_eq!(code(opened), "X0304");
}
