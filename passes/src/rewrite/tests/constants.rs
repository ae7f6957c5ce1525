//! Tests of [`EvaluateConstants`] and [`ChooseBranch`].

use indexmap::IndexMap;
use updp_ir::{DataType, Model, ModelBuilder, Node, Tensor};
use updp_testkit::{Micro, Val, conv, run as run_model, tensor};

use super::{Outcome, alone, alone_under};
use crate::rewrite::{ChooseBranch, EvaluateConstants};
use crate::{ConstantEvaluator, Evaluator, Options};

/// The runtimes of the tests.
struct Runtime;

impl ConstantEvaluator for Runtime {
    fn evaluate(&self, model: &Model) -> Result<Vec<Tensor>, String> {
        Ok(run_model(model, &IndexMap::new()).into_values().collect())
    }
}

/// A runtime that computes nothing.
struct Broken;

impl ConstantEvaluator for Broken {
    fn evaluate(&self, _: &Model) -> Result<Vec<Tensor>, String> {
        Err("it is broken".to_owned())
    }
}

fn options() -> Options {
    Options { evaluator: Some(Evaluator::new(Runtime)), ..Options::default() }
}

/// A Conv on [N, 4, 5, 5] with a weight [6, 4, 3, 3] that `build` makes of `v` of this shape.
fn weighted(opset: i64, build: impl Fn(&mut Micro, &str) -> String) -> Micro {
    let mut m = Micro::new(9).opset(opset);
    let x = m.input("x", &[4, 5, 5]);
    let values = m.numbers(6 * 4 * 9, -0.5, 0.5);
    let v = m.weight("v", &[6, 4, 3, 3], &values);
    let weight = build(&mut m, &v);
    let y = m.conv_with(&x, &conv(6).kernel(3), &weight, None);
    m.output(&y);
    m
}

fn computed(opset: i64, build: impl Fn(&mut Micro, &str) -> String) -> Outcome {
    alone_under(&weighted(opset, build), || EvaluateConstants, &options())
}

/// `g · v / ‖v‖` over all axes but the first.
fn weight_norm(m: &mut Micro, v: &str, opset: i64) -> String {
    let norm = if opset < 18 {
        m.node(Node::new("ReduceL2").with("axes", vec![1, 2, 3]), &[v])
    } else {
        let axes = m.constant("axes", &Tensor::from_i64(vec![3], &[1, 2, 3]).expect("fits"));
        m.node(Node::new("ReduceL2"), &[v, &axes])
    };
    let unit = m.node(Node::new("Div"), &[v, &norm]);
    let g = m.weight("g", &[6, 1, 1, 1], &[1.0, 0.5, 2.0, 1.5, 0.75, 1.25]);
    m.node(Node::new("Mul"), &[&unit, &g])
}

#[test]
fn weight_normalization_is_computed_at_once() {
    for opset in [9, 13, 17, 18] {
        let done = computed(opset, |m, v| weight_norm(m, v, opset));
        assert_eq!(done.ops, "Conv", "opset {opset}");
        assert_eq!(done.initializers().len(), 1, "what it was made of goes");
    }
}

#[test]
fn einsum_and_products_of_weights_are_computed() {
    let done = computed(17, |m, v| {
        let q = m.numbers(36, -1.0, 1.0);
        let q = m.weight("q", &[6, 6], &q);
        m.node(Node::new("Einsum").with("equation", "oihw,op->pihw"), &[v, &q])
    });
    assert_eq!(done.ops, "Conv");
    let done = computed(17, |m, v| {
        let (a, b) = (m.numbers(6 * 2, -1.0, 1.0), m.numbers(2 * 36, -1.0, 1.0));
        let (a, b) = (m.weight("a", &[6, 2], &a), m.weight("b", &[2, 36], &b));
        let low = m.node(Node::new("MatMul"), &[&a, &b]);
        let shape = Tensor::from_i64(vec![4], &[6, 4, 3, 3]).expect("fits");
        let shape = m.constant("shape", &shape);
        let low = m.node(Node::new("Reshape"), &[&low, &shape]);
        m.node(Node::new("Add"), &[v, &low])
    });
    assert_eq!(done.ops, "Conv");
}

#[test]
fn a_group_that_data_enter_stays() {
    let mut m = Micro::new(9);
    let x = m.input("x", &[4, 5, 5]);
    let y = m.unary("Exp", &x);
    let c = m.weight("c", &[1], &[2.0]);
    let c = m.node(Node::new("Exp"), &[&c]);
    let y = Val { name: m.node(Node::new("Mul"), &[&y.name, &c]), ..y };
    m.output(&y);
    assert_eq!(alone_under(&m, || EvaluateConstants, &options()).ops, "Exp Mul");
}

#[test]
fn without_a_runtime_nothing_happens() {
    let m = weighted(17, |m, v| weight_norm(m, v, 17));
    let done = alone(&m, || EvaluateConstants);
    assert_eq!((done.ops.as_str(), done.reasons.len()), ("ReduceL2 Div Mul Conv", 0));
    let options = Options { evaluator: Some(Evaluator::new(Broken)), ..Options::default() };
    assert_eq!(alone_under(&m, || EvaluateConstants, &options).reasons, ["no-runtime"]);
}

#[test]
fn results_that_outgrow_their_parts_stay() {
    let product = |m: &mut Micro, _: &str| {
        let (a, b) = (m.numbers(12, -1.0, 1.0), m.numbers(2 * 36 * 4, -1.0, 1.0));
        let (a, b) = (m.weight("a", &[6, 2], &a), m.weight("b", &[2, 144], &b));
        let low = m.node(Node::new("MatMul"), &[&a, &b]);
        let shape = Tensor::from_i64(vec![4], &[6, 4, 6, 6]).expect("fits");
        let shape = m.constant("shape", &shape);
        m.node(Node::new("Reshape"), &[&low, &shape])
    };
    let mut m = Micro::new(9);
    let x = m.input("x", &[4, 7, 7]);
    let weight = product(&mut m, "");
    let y = m.conv_with(&x, &conv(6).kernel(6), &weight, None);
    m.output(&y);
    assert_eq!(alone_under(&m, || EvaluateConstants, &options()).reasons, ["grows"]);
    let large = Options { model_bytes: 1 << 20, ..options() };
    assert_eq!(alone_under(&m, || EvaluateConstants, &large).ops, "Conv");
}

#[test]
fn what_is_drawn_or_quantized_is_not_computed() {
    let done = alone_under(
        &weighted(17, |m, v| m.node(Node::new("Dropout"), &[v])),
        || EvaluateConstants,
        &options(),
    );
    assert_eq!(done.ops, "Dropout Conv");
    let quantized = weighted(17, |m, _| {
        let values = vec![3_u8; 6 * 4 * 9];
        let codes = Tensor::new(DataType::Int8, vec![6, 4, 3, 3], values.into()).expect("fits");
        let codes = m.constant("codes", &codes);
        let scale = m.weight("scale", &[6], &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
        m.node(Node::new("DequantizeLinear").with("axis", 0), &[&codes, &scale])
    });
    let done = alone_under(&quantized, || EvaluateConstants, &options());
    assert_eq!(done.ops, "DequantizeLinear Conv");
}

#[test]
fn outputs_and_overridable_weights_stay() {
    let mut m = weighted(17, |m, v| m.node(Node::new("Exp"), &[v]));
    m.raw().output("exp_1_out", DataType::Float, None);
    assert_eq!(alone_under(&m, || EvaluateConstants, &options()).ops, "Exp Conv");
    let mut m = Micro::new(9).weights(updp_testkit::WeightForm::Listed);
    let x = m.input("x", &[4, 5, 5]);
    let values = m.numbers(24, -0.5, 0.5);
    let v = m.weight("v", &[6, 4, 1, 1], &values);
    let weight = m.node(Node::new("Exp"), &[&v]);
    let y = m.conv_with(&x, &conv(6), &weight, None);
    m.output(&y);
    assert_eq!(alone_under(&m, || EvaluateConstants, &options()).ops, "Exp Conv");
}

/// `If(condition) { Relu(x) + k } else { Neg(x) }`, then Sigmoid.
fn choice(opset: i64, condition: &Tensor) -> ModelBuilder {
    let mut m = Micro::new(3).opset(opset);
    let x = m.input("x", &[4]);
    let mut yes = ModelBuilder::new(opset);
    yes.initializer("k", &tensor(DataType::Float, &[4], &[1.0, 2.0, 3.0, 4.0]));
    yes.node(Node::new("Relu"), &["x"], &["r"]);
    yes.node(Node::new("Add"), &["r", "k"], &["yes"]);
    yes.output("yes", DataType::Float, None);
    let mut no = ModelBuilder::new(opset);
    no.node(Node::new("Neg"), &["x"], &["no"]);
    no.output("no", DataType::Float, None);
    let condition = m.constant("condition", condition);
    let bodies = vec![("then_branch", yes), ("else_branch", no)];
    m.raw().node_with_bodies(Node::new("If").named("choice"), bodies, &[&condition], &["chosen"]);
    let y = m.unary("Sigmoid", &Val { name: "chosen".into(), ..x });
    m.output(&y);
    m.builder()
}

#[test]
fn the_branch_that_always_runs_takes_the_place_of_an_if() {
    for opset in [11, 13, 17] {
        for (dims, value, expected) in [
            (vec![], 1_u8, "Relu Add Sigmoid"),
            (vec![], 0, "Neg Sigmoid"),
            (vec![1], 1, "Relu Add Sigmoid"),
        ] {
            let bytes = vec![value].into();
            let condition = Tensor::new(DataType::Bool, dims, bytes).expect("fits");
            let builder = choice(opset, &condition);
            let model = updp_testkit::prove_rewrite(&builder, |model| {
                let phases =
                    vec![crate::Phase { name: "test", rules: vec![Box::new(ChooseBranch)] }];
                let log = crate::run(model, &phases, &Options::default(), &mut |_, _| ());
                assert_eq!(log.expect("the rule runs").rewrites.len(), 1);
            });
            assert_eq!(updp_testkit::ops(&model.graph).join(" "), expected);
        }
    }
}
