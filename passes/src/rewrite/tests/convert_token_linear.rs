//! Tests of [`ConvertTokenLinear`].

use updp_ir::{DataType, Model};
use updp_testkit::{Micro, Val, WeightForm, check};

use super::alone;
use crate::rewrite::ConvertTokenLinear;

const RULE: fn() -> ConvertTokenLinear = || ConvertTokenLinear;

fn wrapped(m: &mut Micro, x: &Val, has_bias: bool) -> Val {
    let y = m.transpose(x, &[0, 2, 3, 1]);
    let y = if has_bias { m.matmul_add(&y, 5) } else { m.matmul(&y, 5) };
    m.transpose(&y, &[0, 3, 1, 2])
}

fn shared_bias(model: &Model) -> bool {
    model.graph.find("add_3.bias").is_some()
}

#[test]
fn turns_matmul_between_transposes_into_conv() {
    for has_bias in [true, false] {
        let mut m = Micro::new(1);
        let x = m.input("x", &[3, 2, 4]);
        let y = wrapped(&mut m, &x, has_bias);
        m.output(&y);
        let done = alone(&m, RULE);
        assert_eq!((done.ops.as_str(), done.reasons.len()), ("Conv", 0));
        assert_eq!(shared_bias(&done.model), has_bias);
    }
}

#[test]
fn names_the_conv_after_the_matmul() {
    let mut m = Micro::new(1);
    let x = m.input("x", &[3, 2, 4]);
    let y = wrapped(&mut m, &x, true);
    m.output(&y);
    let done = alone(&m, RULE);
    insta::assert_snapshot!(done.text(), @r#"
    graph graph {
      input x: f32[N,3,2,4]
      init matmul_2.weight: f32[5,3,1,1]
      init add_3.bias: f32[5] = -0.6659300327301025 0.2906692922115326 0.6307011842727661 0.36340993642807007 0.7686491012573242
      transpose_4_out = Conv(x, matmul_2.weight, add_3.bias) {dilations=[1, 1], group=1, kernel_shape=[1, 1], pads=[0, 0, 0, 0], strides=[1, 1]}  # matmul_2
      output transpose_4_out: f32[..]
    }
    "#);
}

#[test]
fn converts_over_drawn_shapes() {
    check(16, 5, &(1_usize..4, 1_usize..4, 1_usize..4, 0_u64..99), |(c, h, w, seed)| {
        let mut m = Micro::new(seed);
        let x = m.input("x", &[c, h, w]);
        let y = wrapped(&mut m, &x, seed % 2 == 0);
        let y = m.unary("Relu", &y);
        let z = m.add(&y, &y);
        m.output(&z);
        assert_eq!(alone(&m, RULE).ops, "Conv Relu Add");
    });
}

#[test]
fn keeps_matmul_whose_neighbours_are_read_elsewhere() {
    for place in 0..2 {
        let mut m = Micro::new(1);
        let x = m.input("x", &[3, 2, 4]);
        let y = m.transpose(&x, &[0, 2, 3, 1]);
        let z = m.matmul_add(&y, 3);
        m.output(if place == 0 { &y } else { &z });
        let out = m.transpose(&z, &[0, 3, 1, 2]);
        m.output(&out);
        assert_eq!(alone(&m, RULE).reasons, ["read-twice"], "{place}");
    }
}

#[test]
fn keeps_tokens() {
    let mut m = Micro::new(1);
    let x = m.input("x", &[3, 4]);
    let y = m.transpose(&x, &[0, 2, 1]);
    let y = m.matmul_add(&y, 5);
    let y = m.transpose(&y, &[0, 2, 1]);
    m.output(&y);
    assert_eq!(alone(&m, RULE).reasons, ["rank"]);
}

#[test]
fn keeps_a_matmul_over_another_axis() {
    let mut m = Micro::new(1);
    let x = m.input("x", &[4, 4, 4]);
    let y = m.transpose(&x, &[0, 1, 3, 2]);
    let y = m.matmul_add(&Val { channels: 4, ..y }, 4);
    let y = m.transpose(&y, &[0, 1, 3, 2]);
    m.output(&y);
    assert_eq!(alone(&m, RULE).ops, "Transpose MatMul Add Transpose");
}

#[test]
fn keeps_dtypes_that_conv_lacks() {
    for (dtype, reasons) in [
        (DataType::Double, vec!["dtype"]),
        (DataType::Bfloat16, vec!["dtype"]),
        (DataType::Float16, vec![]),
    ] {
        let mut m = Micro::new(1).dtype(dtype);
        let x = m.input("x", &[3, 2, 4]);
        let y = wrapped(&mut m, &x, true);
        m.output(&y);
        assert_eq!(alone(&m, RULE).reasons, reasons, "{dtype}");
    }
}

#[test]
fn keeps_matmul_with_an_overridable_weight() {
    let mut m = Micro::new(1).weights(WeightForm::Listed);
    let x = m.input("x", &[3, 2, 4]);
    let y = wrapped(&mut m, &x, false);
    m.output(&y);
    assert_eq!(alone(&m, RULE).ops, "Transpose MatMul Transpose");
}
