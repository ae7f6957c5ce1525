//! Tests of [`SwapTransposeAffine`].

use updp_ir::DataType;
use updp_ir::Node;
use updp_testkit::{Broadcast, Micro, Val};

use super::{Outcome, alone};
use crate::rewrite::SwapTransposeAffine;

const RULE: fn() -> SwapTransposeAffine = || SwapTransposeAffine;

/// Tokens [N, 4, 4], so that a wrong axis would still run.
fn tokens(build: impl FnOnce(&mut Micro, &Val) -> Val) -> Outcome {
    let mut m = Micro::new(1);
    let x = m.tokens("x", &[4, 4]);
    let y = build(&mut m, &x);
    m.output(&y);
    alone(&m, RULE)
}

#[test]
fn turns_batch_norm_into_channel_last_mul_and_add() {
    let done = tokens(|m, x| {
        let y = m.transpose(x, &[0, 2, 1]);
        let y = m.bn(&y);
        m.transpose(&y, &[0, 2, 1])
    });
    assert_eq!(done.reasons.len(), 0);
    insta::assert_snapshot!(done.text(), @r#"
    graph graph {
      input x: f32[N,4,4]
      init batchnormalization_2.weight: f32[4] = 1.0914305448532104 1.227452278137207 1.520481824874878 1.1562711000442505
      init batchnormalization_2.shift: f32[4] = 0.12263178080320358 0.16492199897766113 0.9004474878311157 -0.07576016336679459
      batchnormalization_2_out_scaled = Mul(x, batchnormalization_2.weight)  # batchnormalization_2.scale_mul
      transpose_3_out = Add(batchnormalization_2_out_scaled, batchnormalization_2.shift)  # batchnormalization_2
      output transpose_3_out: f32[..]
    }
    "#);
}

#[test]
fn leaves_out_what_changes_nothing() {
    for (op, is_first, expected) in [
        ("Mul", false, "Mul"),
        ("Div", false, "Mul"),
        ("Add", true, "Add"),
        ("Sub", false, "Add"),
        ("Sub", true, "Sub"),
    ] {
        for shape in [Broadcast::Channel, Broadcast::Scalar] {
            let done = tokens(|m, x| {
                let y = m.transpose(x, &[0, 2, 1]);
                let y = m.with_constant(op, &y, shape, is_first);
                m.transpose(&y, &[0, 2, 1])
            });
            assert_eq!(done.ops, expected, "{op} {shape:?}");
        }
    }
}

#[test]
fn moves_images_and_runs_of_affines() {
    let mut m = Micro::new(1);
    let x = m.tokens("x", &[3, 3, 3]);
    let y = m.transpose(&x, &[0, 3, 1, 2]);
    let y = m.with_constant("Mul", &y, Broadcast::Channel, false);
    let y = m.with_constant("Add", &y, Broadcast::Channel, false);
    let y = m.transpose(&y, &[0, 2, 3, 1]);
    let y = m.unary("Relu", &y);
    m.output(&y);
    assert_eq!(alone(&m, RULE).ops, "Mul Add Relu");
}

#[test]
fn keeps_transposes_that_do_not_undo_each_other() {
    let mut m = Micro::new(1);
    let x = m.tokens("x", &[3, 3, 3]);
    let y = m.transpose(&x, &[0, 3, 1, 2]);
    let y = m.bn(&y);
    let y = m.transpose(&y, &[0, 3, 1, 2]);
    m.output(&y);
    let done = alone(&m, RULE);
    assert_eq!(done.ops, "Transpose BatchNormalization Transpose");
    assert_eq!(done.reasons, ["not-inverse"]);
}

#[test]
fn keeps_what_is_read_between() {
    let done = tokens(|m, x| {
        let y = m.transpose(x, &[0, 2, 1]);
        let z = m.bn(&y);
        m.output(&z);
        m.transpose(&z, &[0, 2, 1])
    });
    assert_eq!(done.reasons, ["read-twice"]);
    let done = tokens(|m, x| {
        let y = m.transpose(x, &[0, 2, 1]);
        let z = m.bn(&y);
        let z = m.transpose(&z, &[0, 2, 1]);
        let y = m.unary("Relu", &y);
        m.output(&y);
        z
    });
    assert_eq!(done.reasons, ["read-twice"]);
}

#[test]
fn keeps_to_what_old_opsets_can_say() {
    let mut m = Micro::new(1).opset(6);
    let x = m.tokens("x", &[4, 4]);
    let y = m.transpose(&x, &[0, 2, 1]);
    let y = m.batch_norm(&y, Node::new("BatchNormalization").with("is_test", 1));
    let y = m.transpose(&y, &[0, 2, 1]);
    m.output(&y);
    assert_eq!(alone(&m, RULE).reasons, ["old-opset"]);
}

#[test]
fn moves_half_precision() {
    for dtype in [DataType::Float16, DataType::Double] {
        let mut m = Micro::new(1).dtype(dtype);
        let x = m.tokens("x", &[4, 4]);
        let y = m.transpose(&x, &[0, 2, 1]);
        let y = m.bn(&y);
        let y = m.transpose(&y, &[0, 2, 1]);
        m.output(&y);
        assert_eq!(alone(&m, RULE).ops, "Mul Add", "{dtype}");
    }
}
