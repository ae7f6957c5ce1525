//! Tests of [`MergeTransposes`].

use updp_ir::{DataType, ModelBuilder, Node};
use updp_testkit::{Micro, Val};

use super::{Outcome, alone};
use crate::rewrite::MergeTransposes;

const RULE: fn() -> MergeTransposes = || MergeTransposes;

fn image(build: impl FnOnce(&mut Micro, &Val) -> Val) -> Outcome {
    let mut m = Micro::new(1);
    let x = m.input("x", &[2, 3, 4]);
    let y = build(&mut m, &x);
    m.output(&y);
    alone(&m, RULE)
}

#[test]
fn merges_two_into_one() {
    let done = image(|m, x| {
        let y = m.transpose(x, &[0, 2, 3, 1]);
        m.transpose(&y, &[1, 0, 2, 3])
    });
    insta::assert_snapshot!(done.text(), @r#"
    graph graph {
      input x: f32[N,2,3,4]
      transpose_2_out = Transpose(x) {perm=[2, 0, 3, 1]}  # transpose_2
      output transpose_2_out: f32[..]
    }
    "#);
}

#[test]
fn removes_two_that_undo_each_other() {
    let done = image(|m, x| {
        let y = m.unary("Relu", x);
        let y = m.transpose(&y, &[0, 2, 3, 1]);
        let y = m.transpose(&y, &[0, 3, 1, 2]);
        let a = m.unary("Sigmoid", &y);
        m.add(&a, &y)
    });
    assert_eq!(done.ops, "Relu Sigmoid Add");
}

#[test]
fn merges_a_reversal_without_perm() {
    let done = image(|m, x| {
        let y = m.apply(Node::new("Transpose"), &[x]);
        let y = m.apply(Node::new("Transpose"), &[&y]);
        m.unary("Relu", &y)
    });
    assert_eq!(done.ops, "Relu");
}

#[test]
fn keeps_the_name_of_an_output() {
    let done = image(|m, x| {
        let y = m.transpose(x, &[0, 2, 3, 1]);
        m.transpose(&y, &[0, 3, 1, 2])
    });
    assert_eq!(done.ops, "Identity");
}

#[test]
fn keeps_the_first_for_other_readers() {
    let done = image(|m, x| {
        let y = m.transpose(x, &[0, 2, 3, 1]);
        m.output(&y);
        let y = m.transpose(&y, &[0, 3, 1, 2]);
        m.unary("Relu", &y)
    });
    assert_eq!(done.ops, "Transpose Relu");
    let done = image(|m, x| {
        let y = m.transpose(x, &[0, 2, 3, 1]);
        m.output(&y);
        m.transpose(&y, &[0, 2, 3, 1])
    });
    assert_eq!(done.ops, "Transpose Transpose");
}

#[test]
fn merges_a_long_run() {
    let done = image(|m, x| {
        let mut y = x.clone();
        for _ in 0..6 {
            y = m.transpose(&y, &[0, 2, 3, 1]);
        }
        m.unary("Relu", &y)
    });
    assert_eq!(done.ops, "Relu");
}

#[test]
fn keeps_the_name_that_a_body_reads() {
    let mut m = Micro::new(1).batch(1);
    let x = m.input("x", &[2, 2, 2]);
    let y = m.transpose(&x, &[0, 2, 3, 1]);
    let y = m.transpose(&y, &[0, 3, 1, 2]);
    m.raw().input("flag", DataType::Bool, &[]);
    let body = |op: &str| {
        let mut body = ModelBuilder::new(17);
        let out = format!("{op}_in_body");
        body.node(Node::new(op), &[&y.name], &[&out]);
        body.output(&out, DataType::Float, None);
        body
    };
    let bodies = vec![("then_branch", body("Relu")), ("else_branch", body("Neg"))];
    m.raw().node_with_bodies(Node::new("If"), bodies, &["flag"], &["z"]);
    m.output(&Val { name: "z".into(), ..x });
    assert_eq!(alone(&m, RULE).ops, "Identity If");
}
