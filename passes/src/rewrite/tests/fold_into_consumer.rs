//! Tests of [`FoldIntoConsumer`].

use updp_ir::{DataType, Node};
use updp_testkit::{Broadcast, Micro, Val, WeightForm, check, conv, conv_cases, gemm};

use super::{Outcome, alone, alone_under, planned};
use crate::options::Options;
use crate::rewrite::FoldIntoConsumer;

const RULE: fn() -> FoldIntoConsumer = || FoldIntoConsumer;

fn image(build: impl FnOnce(&mut Micro, &Val) -> Val) -> Outcome {
    let mut m = Micro::new(1);
    let x = m.input("x", &[4, 6, 7]);
    let y = build(&mut m, &x);
    m.output(&y);
    alone(&m, RULE)
}

#[test]
fn folds_batch_norm_into_unpadded_conv() {
    let done = image(|m, x| {
        let y = m.bn(x);
        m.conv(&y, &conv(3).kernel(3))
    });
    assert_eq!((done.ops.as_str(), done.reasons.len()), ("Conv", 0));
    insta::assert_snapshot!(done.text(), @r#"
    graph graph {
      input x: f32[N,4,6,7]
      init conv_2.weight: f32[3,4,3,3]
      init conv_2.bias: f32[3] = -0.18587735295295715 0.040867410600185394 -0.8461437821388245
      conv_2_out = Conv(x, conv_2.weight, conv_2.bias) {kernel_shape=[3, 3], strides=[1, 1], dilations=[1, 1], group=1, pads=[0, 0, 0, 0]}  # conv_2
      output conv_2_out: f32[..]
    }
    "#);
}

#[test]
fn turns_the_shift_into_a_border_map_behind_padding() {
    let done = image(|m, x| {
        let y = m.bn(x);
        m.conv(&y, &conv(3).kernel(3).pad(1).stride(2))
    });
    insta::assert_snapshot!(done.text(), @r#"
    graph graph {
      input x: f32[N,4,6,7]
      init conv_2.weight: f32[3,4,3,3]
      init conv_2.border: f32[1,3,3,4]
      conv_2_out_inner = Conv(x, conv_2.weight) {kernel_shape=[3, 3], strides=[2, 2], dilations=[1, 1], group=1, pads=[1, 1, 1, 1]}  # conv_2
      conv_2_out = Add(conv_2_out_inner, conv_2.border)  # conv_2.border_add
      output conv_2_out: f32[..]
    }
    "#);
}

#[test]
fn folds_over_drawn_shapes() {
    check(24, 3, &conv_cases(), |case| {
        let (mut m, x) = case.start();
        let y = m.bn(&x);
        let y = m.conv(&y, &case.spec);
        m.output(&y);
        let done = alone(&m, RULE);
        assert!(["Conv", "Conv Add"].contains(&done.ops.as_str()), "{}", done.ops);
    });
}

#[test]
fn folds_every_elementwise_form() {
    for (op, is_first) in [
        ("Mul", false),
        ("Mul", true),
        ("Add", false),
        ("Sub", false),
        ("Sub", true),
        ("Div", false),
    ] {
        for shape in [Broadcast::Channel, Broadcast::Scalar] {
            let done = image(|m, x| {
                let y = m.with_constant(op, x, shape, is_first);
                m.conv(&y, &conv(3).kernel(2).no_bias())
            });
            assert_eq!(done.ops, "Conv", "{op} {shape:?} {is_first}");
        }
    }
}

#[test]
fn folds_normalization_of_the_input() {
    let done = image(|m, x| {
        let y = m.with_constant("Sub", x, Broadcast::Channel, false);
        let y = m.with_constant("Div", &y, Broadcast::Channel, false);
        m.conv(&y, &conv(3).kernel(3))
    });
    assert_eq!(done.ops, "Conv");
}

#[test]
fn folds_a_scale_and_the_shift_after_it_as_one_border_map() {
    let done = image(|m, x| {
        let y = m.with_constant("Mul", x, Broadcast::Channel, false);
        let y = m.with_constant("Add", &y, Broadcast::Channel, false);
        m.conv(&y, &conv(3).kernel(3).pad(1))
    });
    assert_eq!(done.ops, "Conv Add");
}

#[test]
fn keeps_a_bare_shift_before_a_padded_conv() {
    let done = image(|m, x| {
        let y = m.with_constant("Add", x, Broadcast::Channel, false);
        m.conv(&y, &conv(3).kernel(3).pad(1))
    });
    assert_eq!((done.ops.as_str(), done.reasons), ("Add Conv", vec!["no-gain"]));
}

#[test]
fn folds_a_scale_into_a_padded_conv() {
    let done = image(|m, x| {
        let y = m.with_constant("Mul", x, Broadcast::Channel, false);
        m.conv(&y, &conv(6).kernel(3).pad(1).groups(2))
    });
    assert_eq!(done.ops, "Conv");
}

#[test]
fn folds_only_a_scale_into_conv_transpose() {
    let done = image(|m, x| {
        let y = m.with_constant("Mul", x, Broadcast::Channel, false);
        m.conv_transpose(&y, &conv(6).kernel(3).groups(2).stride(2))
    });
    assert_eq!(done.ops, "ConvTranspose");
    let done = image(|m, x| {
        let y = m.bn(x);
        m.conv_transpose(&y, &conv(3).kernel(3))
    });
    assert_eq!(done.reasons, ["transposed-shift"]);
}

#[test]
fn folds_into_gemm_with_factors() {
    for spec in
        [gemm(3).factors(0.5, 2.0), gemm(3).plain_weight().no_bias().factors(2.0, 1.0), gemm(3)]
    {
        let mut m = Micro::new(2);
        let x = m.input("x", &[5]);
        let y = m.bn(&x);
        let y = m.gemm(&y, &spec);
        m.output(&y);
        assert_eq!(alone(&m, RULE).ops, "Gemm");
    }
}

#[test]
fn folds_the_end_of_a_layer_norm_into_matmul() {
    for has_bias in [true, false] {
        let mut m = Micro::new(2);
        let x = m.tokens("x", &[3, 5]);
        let y = m.with_constant("Mul", &x, Broadcast::Channel, false);
        let y = m.with_constant("Add", &y, Broadcast::Channel, false);
        let y = if has_bias { m.matmul_add(&y, 4) } else { m.matmul(&y, 4) };
        m.output(&y);
        assert_eq!(alone(&m, RULE).ops, "MatMul Add");
    }
}

#[test]
fn folds_through_transposes() {
    let mut m = Micro::new(2);
    let x = m.input("x", &[5, 5]);
    let y = m.bn(&x);
    let y = m.transpose(&y, &[0, 2, 1]);
    let y = m.matmul_add(&y, 4);
    m.output(&y);
    assert_eq!(alone(&m, RULE).ops, "Transpose MatMul Add");
}

#[test]
fn checks_the_axis_not_the_length() {
    let mut m = Micro::new(2);
    let x = m.input("x", &[5, 5]);
    let y = m.bn(&x);
    let y = m.matmul(&y, 4);
    m.output(&y);
    let done = alone(&m, RULE);
    assert_eq!(
        (done.ops.as_str(), done.reasons),
        ("BatchNormalization MatMul", vec!["channel-axis"])
    );
}

#[test]
fn keeps_the_bias_of_a_matmul_before_a_bare_one() {
    let mut m = Micro::new(2);
    let x = m.tokens("x", &[3, 5]);
    let y = m.matmul_add(&x, 4);
    let y = m.matmul(&y, 3);
    m.output(&y);
    let done = alone(&m, RULE);
    assert_eq!((done.ops.as_str(), done.reasons), ("MatMul Add MatMul", vec!["no-gain"]));
}

#[test]
fn folds_into_every_reader() {
    let done = image(|m, x| {
        let y = m.bn(x);
        let weight = m.numbers(3 * 4, -1.0, 1.0);
        let weight = m.weight("shared", &[3, 4, 1, 1], &weight);
        let a = m.conv_with(&y, &conv(3).no_bias(), &weight, None);
        let b = m.conv_with(&y, &conv(3).no_bias(), &weight, None);
        let c = m.conv_with(x, &conv(3).no_bias().pads(&[0; 4]), "shared", None);
        let s = m.add(&a, &b);
        // The first input has no affine, so its weight must stay as it is.
        let _ = m.output(&c);
        s
    });
    assert_eq!(done.ops, "Conv Conv Conv Add");
    assert!(done.initializers().contains(&"shared"));
}

#[test]
fn keeps_affine_when_something_else_reads_it() {
    let done = image(|m, x| {
        let y = m.bn(x);
        let a = m.conv(&y, &conv(4));
        m.add(&a, &y)
    });
    assert_eq!(done.reasons, ["read-elsewhere"]);
    let done = image(|m, x| {
        let y = m.bn(x);
        m.output(&y);
        m.conv(&y, &conv(4))
    });
    assert_eq!(done.reasons, ["read-elsewhere"]);
}

#[test]
fn keeps_affine_when_one_of_two_readers_needs_a_border_map() {
    let done = image(|m, x| {
        let y = m.bn(x);
        let a = m.conv(&y, &conv(4));
        let b = m.conv(&y, &conv(4).kernel(3).pad(1));
        m.add(&a, &b)
    });
    assert_eq!(done.reasons, ["border-map"]);
}

#[test]
fn needs_a_known_size_and_a_small_map() {
    let build = |m: &mut Micro, x: &Val| {
        let y = m.bn(x);
        let y = m.conv(&y, &conv(3).kernel(3).pad(1));
        m.output(&y);
    };
    let mut m = Micro::new(1);
    let x = m.input("x", &[4, 6, 7]);
    build(&mut m, &x);
    let options = Options { border_bytes: 100, ..Options::default() };
    assert_eq!(alone_under(&m, RULE, &options).reasons, ["border-too-large"]);
    let mut m = Micro::new(1);
    let dims = ["N".into(), 4.into(), "H".into(), "W".into()];
    m.raw().input("x", DataType::Float, &dims);
    build(&mut m, &Val { name: "x".into(), channels: 4, rank: 4, axis: 1 });
    assert_eq!(alone(&m, RULE).reasons, ["symbolic-spatial"]);
}

#[test]
fn keeps_to_what_old_opsets_can_say() {
    let mut m = Micro::new(1).opset(6);
    let x = m.input("x", &[4, 6, 7]);
    let node = Node::new("BatchNormalization").with("is_test", 1);
    let y = m.batch_norm(&x, node);
    let y = m.conv(&y, &conv(3).kernel(3).pad(1));
    m.output(&y);
    assert_eq!(alone(&m, RULE).reasons, ["old-opset"]);
}

#[test]
fn keeps_weights_in_range() {
    let mut m = Micro::new(1).dtype(DataType::Float16);
    let x = m.input("x", &[1, 3, 3]);
    let factor = m.weight("factor", &[], &[60_000.0]);
    let y = Val { name: m.node(Node::new("Mul"), &["x", &factor]), ..x };
    let weight = m.weight("weight", &[1, 1, 1, 1], &[4.0]);
    let y = m.conv_with(&y, &conv(1).no_bias(), &weight, None);
    // Only the plan matters here: the model overflows by itself.
    m.output(&y);
    assert_eq!(planned(&m, RULE).reasons, ["overflow"]);
}

#[test]
fn keeps_batch_norm_before_an_overridable_weight() {
    let mut m = Micro::new(1);
    let x = m.input("x", &[4, 6, 7]);
    let y = m.bn(&x);
    m.set_weights(WeightForm::Listed);
    let y = m.conv(&y, &conv(3));
    m.output(&y);
    assert_eq!(alone(&m, RULE).ops, "BatchNormalization Conv");
}

#[test]
fn keeps_the_names_of_an_ir_3_model() {
    let mut m = Micro::new(1).ir3();
    let x = m.input("x", &[4, 6, 7]);
    let y = m.bn(&x);
    let y = m.conv(&y, &conv(3));
    m.output(&y);
    let done = planned(&m, RULE);
    assert_eq!(done.initializers(), ["conv_2.weight", "conv_2.bias"]);
}

#[test]
fn folds_weights_of_every_float() {
    for dtype in [DataType::Float16, DataType::Bfloat16, DataType::Double] {
        let mut m = Micro::new(1).dtype(dtype).opset(22);
        let x = m.input("x", &[4, 6, 7]);
        let y = m.bn(&x);
        let y = m.conv(&y, &conv(3).kernel(3).pad(1));
        m.output(&y);
        assert_eq!(alone(&m, RULE).ops, "Conv Add", "{dtype}");
    }
}
