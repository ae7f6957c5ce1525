//! Tests of [`FusePad`].

use updp_ir::{Node, Tensor};
use updp_testkit::{Micro, Val, WeightForm, check, conv, conv_cases, pool};

use super::{Outcome, alone};
use crate::rewrite::FusePad;

const RULE: fn() -> FusePad = || FusePad;
const ROUND: [i64; 8] = [0, 0, 1, 2, 0, 0, 0, 1];

fn image(build: impl FnOnce(&mut Micro, &Val) -> Val) -> Outcome {
    let mut m = Micro::new(1);
    let x = m.input("x", &[2, 6, 6]);
    let y = build(&mut m, &x);
    m.output(&y);
    alone(&m, RULE)
}

#[test]
fn adds_the_pads_of_a_conv() {
    let done = image(|m, x| {
        let y = m.pad(x, &ROUND, "constant", Some(0.0));
        m.conv(&y, &conv(3).kernel(3).pads(&[1, 0, 1, 0]))
    });
    assert_eq!((done.ops.as_str(), done.reasons.len()), ("Conv", 0));
    insta::assert_snapshot!(done.text(), @r#"
    graph graph {
      input x: f32[N,2,6,6]
      init conv_2.weight: f32[3,2,3,3]
      init conv_2.bias: f32[3] = -0.21267569065093994 -0.8245383501052856 0.2140994668006897
      conv_2_out = Conv(x, conv_2.weight, conv_2.bias) {kernel_shape=[3, 3], strides=[1, 1], dilations=[1, 1], group=1, pads=[2, 2, 1, 1]}  # conv_2
      output conv_2_out: f32[..]
    }
    "#);
}

#[test]
fn counts_valid_as_no_padding() {
    let done = image(|m, x| {
        let y = m.pad(x, &ROUND, "constant", None);
        m.conv(&y, &conv(3).kernel(3).auto_pad("VALID"))
    });
    assert_eq!(done.ops, "Conv");
}

#[test]
fn fuses_over_drawn_shapes() {
    check(16, 4, &conv_cases(), |case| {
        let (mut m, x) = case.start();
        let rank = case.spatial.len();
        let side = [vec![0; 2], vec![1; rank]].concat();
        let y = m.pad(&x, &[side.clone(), side].concat(), "constant", None);
        let y = m.conv(&y, &case.spec);
        m.output(&y);
        assert_eq!(alone(&m, RULE).ops, "Conv");
    });
}

#[test]
fn fuses_into_every_reader_and_shares_weights() {
    let done = image(|m, x| {
        let y = m.pad(x, &ROUND, "constant", None);
        let weight = m.numbers(3 * 2, -1.0, 1.0);
        let weight = m.weight("shared", &[3, 2, 1, 1], &weight);
        let a = m.conv_with(&y, &conv(3).no_bias(), &weight, None);
        let b = m.conv_with(&y, &conv(3).no_bias(), &weight, None);
        m.add(&a, &b)
    });
    assert_eq!(done.ops, "Conv Conv Add");
    assert_eq!(done.initializers(), ["shared"]);
}

#[test]
fn needs_no_constant_weight() {
    let mut m = Micro::new(1).opset(13);
    let x = m.input("x", &[2, 6, 6]);
    let y = m.pad(&x, &ROUND, "constant", None);
    m.set_weights(WeightForm::Listed);
    let y = m.conv(&y, &conv(3));
    m.output(&y);
    assert_eq!(alone(&m, RULE).ops, "Conv");
}

#[test]
fn fuses_into_average_pool_that_counts_padding() {
    let spec = pool(3).stride(2);
    for spec in [spec, spec.pad_counted(1)] {
        let done = image(|m, x| {
            let y = m.pad(x, &[0, 0, 1, 1, 0, 0, 0, 1], "constant", None);
            m.average_pool(&y, spec)
        });
        assert_eq!(done.ops, "AveragePool");
    }
    let done = image(|m, x| {
        let y = m.pad(x, &[0, 0, 2, 2, 0, 0, 2, 2], "constant", None);
        m.average_pool(&y, pool(2))
    });
    assert_eq!(done.reasons, ["pool-form"]);
}

#[test]
fn keeps_what_is_no_zero_padding_of_space() {
    for (pads, mode, value, reason) in [
        (ROUND, "reflect", None, "pad-mode"),
        (ROUND, "edge", None, "pad-mode"),
        (ROUND, "constant", Some(1.5), "pad-value"),
        ([0, 0, -1, 0, 0, 0, 1, 0], "constant", None, "negative-pad"),
        ([0, 1, 0, 0, 0, 1, 0, 0], "constant", None, "channel-pad"),
    ] {
        let mut m = Micro::new(1);
        let x = m.input("x", &[2, 6, 6]);
        let y = m.pad(&x, &pads, mode, value);
        let channels = if reason == "channel-pad" { 4 } else { 2 };
        let y = m.conv(&Val { channels, ..y }, &conv(3));
        m.output(&y);
        let done = alone(&m, RULE);
        assert_eq!((done.ops.as_str(), done.reasons), ("Pad Conv", vec![reason]));
    }
}

#[test]
fn keeps_pads_that_are_not_constant() {
    let mut m = Micro::new(1);
    let x = m.input("x", &[2, 6, 6]);
    let half = Tensor::from_i64(vec![8], &[0, 0, 1, 0, 0, 0, 1, 0]).expect("eight pads");
    let half = m.constant("half", &half);
    let pads = m.node(Node::new("Add"), &[&half, &half]);
    let y = Val { name: m.node(Node::new("Pad"), &["x", &pads]), ..x };
    let y = m.conv(&y, &conv(3));
    m.output(&y);
    assert_eq!(alone(&m, RULE).reasons, ["dynamic-pads"]);
}

#[test]
fn keeps_pad_that_others_read() {
    let done = image(|m, x| {
        let y = m.pad(x, &ROUND, "constant", None);
        m.output(&y);
        m.conv(&y, &conv(3))
    });
    assert_eq!(done.reasons, ["read-elsewhere"]);
    let done = image(|m, x| {
        let y = m.pad(x, &ROUND, "constant", None);
        let z = m.conv(&y, &conv(2));
        m.add(&y, &z)
    });
    assert_eq!(done.reasons, ["read-elsewhere"]);
    let done = image(|m, x| {
        let y = m.pad(x, &ROUND, "constant", None);
        m.unary("Relu", &y)
    });
    assert_eq!((done.ops.as_str(), done.reasons.len()), ("Pad Relu", 0));
}

#[test]
fn keeps_pad_before_a_conv_that_pads_by_size() {
    let done = image(|m, x| {
        let y = m.pad(x, &ROUND, "constant", None);
        m.conv(&y, &conv(3).kernel(3).auto_pad("SAME_UPPER").stride(2))
    });
    assert_eq!(done.reasons, ["auto-pad"]);
}
