//! Tests of [`MergeAffinePair`].

use updp_ir::{DataType, Node};
use updp_testkit::{Broadcast, Micro, Val, tensor};

use super::{Outcome, alone, planned};
use crate::rewrite::MergeAffinePair;

const RULE: fn() -> MergeAffinePair = || MergeAffinePair;

fn image(build: impl FnOnce(&mut Micro, &Val) -> Val) -> Outcome {
    let mut m = Micro::new(1);
    let x = m.input("x", &[4, 3, 2]);
    let y = build(&mut m, &x);
    m.output(&y);
    alone(&m, RULE)
}

#[test]
fn merges_two_batch_norms() {
    let done = image(|m, x| {
        let y = m.bn(x);
        let y = m.bn(&y);
        m.bn(&y)
    });
    assert_eq!(done.reasons.len(), 0);
    insta::assert_snapshot!(done.text(), @r#"
    graph graph {
      input x: f32[N,4,3,2]
      init batchnormalization_3.weight: f32[4] = 1.2999032735824585 1.070382833480835 1.4226186275482178 1.9475630521774292
      init batchnormalization_3.bias: f32[4] = -0.4559131860733032 0.1863795518875122 1.675918698310852 -1.304720401763916
      init batchnormalization_3.mean: f32[4] = 0 0 0 0
      init batchnormalization_3.var: f32[4] = 0.9999899864196777 0.9999899864196777 0.9999899864196777 0.9999899864196777
      batchnormalization_3_out = BatchNormalization(x, batchnormalization_3.weight, batchnormalization_3.bias, batchnormalization_3.mean, batchnormalization_3.var) {epsilon=0.00001}  # batchnormalization_3
      output batchnormalization_3_out: f32[..]
    }
    "#);
    let variance = done.model.graph.find("batchnormalization_3.var").expect("keeps its name");
    let variance = done.model.graph.value(variance).tensor().expect("a tensor").to_f64();
    assert_eq!(variance, Some(vec![f64::from(1.0_f32 - 1e-5); 4]));
}

#[test]
fn merges_batch_norm_with_every_elementwise_form() {
    for (op, is_first) in
        [("Mul", false), ("Add", true), ("Sub", false), ("Sub", true), ("Div", false)]
    {
        for shape in [Broadcast::Channel, Broadcast::Scalar] {
            let done = image(|m, x| {
                let y = m.bn(x);
                m.with_constant(op, &y, shape, is_first)
            });
            assert_eq!(done.ops, "BatchNormalization", "after: {op} {shape:?}");
            let done = image(|m, x| {
                let y = m.with_constant(op, x, shape, is_first);
                m.bn(&y)
            });
            assert_eq!(done.ops, "BatchNormalization", "before: {op} {shape:?}");
        }
    }
}

#[test]
fn merges_elementwise_pairs_of_one_kind() {
    for (first, second, merged) in [
        ("Mul", "Mul", "Mul"),
        ("Mul", "Div", "Mul"),
        ("Add", "Sub", "Add"),
        ("Add", "Add", "Add"),
        ("Mul", "Add", "Mul Add"),
        ("Sub", "Div", "Sub Div"),
    ] {
        let done = image(|m, x| {
            let y = m.with_constant(first, x, Broadcast::Channel, false);
            m.with_constant(second, &y, Broadcast::Scalar, false)
        });
        assert_eq!(done.ops, merged, "{first} {second}");
    }
}

#[test]
fn merges_subtractions_from_a_constant() {
    let done = image(|m, x| {
        let y = m.with_constant("Sub", x, Broadcast::Channel, true);
        m.with_constant("Add", &y, Broadcast::Channel, false)
    });
    assert_eq!(done.ops, "Sub");
    let done = image(|m, x| {
        let y = m.with_constant("Sub", x, Broadcast::Channel, true);
        m.with_constant("Sub", &y, Broadcast::Scalar, true)
    });
    assert_eq!(done.ops, "Add");
}

#[test]
fn keeps_affines_along_different_axes() {
    let mut m = Micro::new(1);
    let x = m.input("x", &[4, 4]);
    let y = m.bn(&x);
    let last = m.weight("last", &[4], &[1.0, 2.0, 3.0, 4.0]);
    let y = Val { name: m.node(Node::new("Mul"), &[&y.name, &last]), ..y };
    m.output(&y);
    assert_eq!(alone(&m, RULE).ops, "BatchNormalization Mul");
}

#[test]
fn keeps_both_when_the_first_is_read_twice_or_an_output() {
    let done = image(|m, x| {
        let y = m.bn(x);
        let z = m.bn(&y);
        m.add(&y, &z)
    });
    assert_eq!(done.reasons, ["read-twice"]);
    let done = image(|m, x| {
        let y = m.bn(x);
        m.output(&y);
        m.bn(&y)
    });
    assert_eq!(done.reasons, ["read-twice"]);
}

#[test]
fn keeps_batch_norm_in_training_form() {
    let done = image(|m, x| {
        let y = m.with_constant("Mul", x, Broadcast::Channel, false);
        m.batch_norm(&y, Node::new("BatchNormalization").with("training_mode", 1))
    });
    assert_eq!(done.ops, "Mul BatchNormalization");
}

#[test]
fn keeps_numbers_in_range() {
    let mut m = Micro::new(1).dtype(DataType::Float16);
    let x = m.input("x", &[1, 3]);
    let large = m.constant("large", &tensor(DataType::Float16, &[], &[60_000.0]));
    let y = Val { name: m.node(Node::new("Mul"), &["x", &large]), ..x };
    let y = Val { name: m.node(Node::new("Mul"), &[&y.name, &large]), ..y };
    m.output(&y);
    assert_eq!(planned(&m, RULE).reasons, ["overflow"]);
}

#[test]
fn merges_in_every_float_and_keeps_shared_constants() {
    for dtype in [DataType::Float16, DataType::Bfloat16, DataType::Double] {
        let mut m = Micro::new(1).dtype(dtype);
        let x = m.input("x", &[4, 3]);
        let y = m.bn(&x);
        let factor = m.weight("factor", &[4, 1], &[0.5, 1.0, 1.5, 2.0]);
        let y = Val { name: m.node(Node::new("Mul"), &[&y.name, &factor]), ..y };
        let other = Val { name: m.node(Node::new("Mul"), &["x", &factor]), ..x };
        m.output(&y);
        m.output(&other);
        let done = alone(&m, RULE);
        assert_eq!(done.ops, "BatchNormalization Mul", "{dtype}");
        assert!(done.initializers().contains(&"factor"));
    }
}

#[test]
fn keeps_the_names_of_an_ir_3_model() {
    let mut m = Micro::new(1).ir3();
    let x = m.input("x", &[4, 6, 7]);
    let y = m.bn(&x);
    let y = m.bn(&y);
    m.output(&y);
    let done = planned(&m, RULE);
    let names = ["weight", "bias", "mean", "var"].map(|p| format!("batchnormalization_2.{p}"));
    assert_eq!(done.initializers(), names);
}
