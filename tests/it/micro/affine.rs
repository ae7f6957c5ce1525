//! Affine operators beside a weighted one.

use updp_ir::{DataType, Node};
use updp_testkit::{Broadcast, Micro, Val, conv, gemm};

use crate::compile::{becomes, becomes_when_all_is_merged};

/// A micro-model of one input `x` of 8 channels and one output.
fn over(dims: &[usize], body: impl Fn(&mut Micro, &Val) -> Val) -> Micro {
    let mut m = Micro::new(11);
    let x = m.input("x", dims);
    let y = body(&mut m, &x);
    m.output(&y);
    m
}

fn image(body: impl Fn(&mut Micro, &Val) -> Val) -> Micro {
    over(&[8, 7, 6], body)
}

#[test]
fn conv_and_batch_norm_in_every_rank_with_groups_and_without_bias() {
    for dims in [&[8, 9][..], &[8, 7, 6], &[8, 5, 4, 6]] {
        for groups in [1, 2, 8] {
            for bias in [true, false] {
                let mut spec = conv(8).kernel(3).pad(1).groups(groups);
                spec.bias = bias;
                let m = over(dims, |m, x| {
                    let y = m.conv(x, &spec);
                    m.bn(&y)
                });
                becomes(&m, 1);
            }
        }
    }
}

#[test]
fn conv_and_batch_norm_in_half_precision() {
    for dtype in [DataType::Float16, DataType::Bfloat16, DataType::Double] {
        let mut m = Micro::new(12).opset(22).dtype(dtype);
        let x = m.input("x", &[8, 7, 6]);
        let y = m.conv(&x, &conv(8).kernel(3).pad(1));
        let y = m.bn(&y);
        m.output(&y);
        let after = becomes(&m, 1);
        for id in after.graph.initializers() {
            let tensor = after.graph.value(id).tensor().expect("dense");
            assert_eq!(tensor.dtype(), dtype);
        }
    }
}

#[test]
fn conv_transpose_and_batch_norm() {
    for groups in [1, 2] {
        for bias in [true, false] {
            let mut spec = conv(6).kernel(3).stride(2).pad(1).groups(groups);
            spec.bias = bias;
            let m = image(|m, x| {
                let y = m.conv_transpose(x, &spec);
                m.bn(&y)
            });
            becomes(&m, 1);
        }
    }
}

#[test]
fn two_convs_that_share_a_weight_and_have_a_batch_norm_each() {
    let mut m = Micro::new(13);
    let x = m.input("x", &[4, 7, 6]);
    let values = m.numbers(4 * 4 * 9, -0.5, 0.5);
    m.weight("shared", &[4, 4, 3, 3], &values);
    let spec = conv(4).kernel(3).pad(1);
    let a = m.conv_with(&x, &spec, "shared", None);
    let a = m.bn(&a);
    let a = m.unary("Relu", &a);
    let b = m.conv_with(&a, &spec, "shared", None);
    let b = m.bn(&b);
    m.output(&b);
    becomes(&m, 3);
    let mut m = Micro::new(14);
    let x = m.input("x", &[4, 7, 6]);
    m.weight("shared", &[4, 4, 3, 3], &values);
    for _ in 0..2 {
        let y = m.conv_with(&x, &spec, "shared", None);
        let y = m.bn(&y);
        m.output(&y);
    }
    becomes(&m, 2);
}

#[test]
fn batch_norm_before_an_unpadded_conv() {
    for dims in [&[8, 9][..], &[8, 7, 6], &[8, 5, 4, 6]] {
        for groups in [1, 2, 8] {
            let m = over(dims, |m, x| {
                let y = m.bn(x);
                m.conv(&y, &conv(8).kernel(3).groups(groups))
            });
            becomes(&m, 1);
        }
    }
}

#[test]
fn batch_norm_before_a_padded_conv_leaves_one_add_of_the_border_map() {
    let m = image(|m, x| {
        let y = m.bn(x);
        m.conv(&y, &conv(8).kernel(3).pads(&[1, 0, 1, 2]))
    });
    becomes(&m, 2);
}

#[test]
fn batch_norm_and_batch_norm() {
    becomes(
        &image(|m, x| {
            let y = m.bn(x);
            m.bn(&y)
        }),
        1,
    );
}

#[test]
fn gemm_and_batch_norm_in_both_orders() {
    for spec in [
        gemm(6),
        gemm(6).plain_weight(),
        gemm(6).no_bias(),
        gemm(6).factors(0.5, 2.0),
        gemm(6).plain_weight().factors(-1.5, 0.25),
    ] {
        let after = over(&[8], |m, x| {
            let y = m.gemm(x, &spec);
            m.bn(&y)
        });
        becomes(&after, 1);
        let before = over(&[8], |m, x| {
            let y = m.bn(x);
            m.gemm(&y, &spec)
        });
        becomes(&before, 1);
    }
}

#[test]
fn zero_pad_and_conv() {
    for auto_pad in [None, Some("VALID"), Some("NOTSET")] {
        let m = image(|m, x| {
            let y = m.pad(x, &[0, 0, 1, 0, 0, 0, 2, 1], "constant", None);
            let spec = conv(4).kernel(3);
            m.conv(&y, &auto_pad.map_or(spec.clone(), |mode| spec.clone().auto_pad(mode)))
        });
        becomes(&m, 1);
    }
    let padded_twice = image(|m, x| {
        let y = m.pad(x, &[0, 0, 1, 1, 0, 0, 1, 1], "constant", Some(0.0));
        m.conv(&y, &conv(4).kernel(3).dilation(2).pads(&[1, 2, 0, 1]).groups(2))
    });
    becomes(&padded_twice, 1);
}

#[test]
fn zero_pad_that_feeds_two_convs() {
    let mut m = Micro::new(15);
    let x = m.input("x", &[4, 7, 6]);
    let x = m.pad(&x, &[0, 0, 1, 1, 0, 0, 1, 1], "constant", Some(0.0));
    let a = m.conv(&x, &conv(4).kernel(3));
    let b = m.conv(&x, &conv(4).kernel(2).stride(2));
    let b = m.conv_transpose(&b, &conv(4).kernel(2).stride(2));
    let b = m.unary("Relu", &b);
    m.output(&a);
    m.output(&b);
    becomes(&m, 4);
    let mut m = Micro::new(16);
    let x = m.input("x", &[4, 7, 6]);
    let x = m.pad(&x, &[0, 0, 1, 1, 0, 0, 1, 1], "constant", Some(0.0));
    let a = m.conv(&x, &conv(4).kernel(3));
    let b = m.conv(&x, &conv(4).kernel(3));
    let a = m.unary("Relu", &a);
    let y = m.add(&a, &b);
    m.output(&y);
    becomes(&m, 4);
}

#[test]
fn conv_and_bias_of_every_shape_and_operand_order() {
    for shape in [Broadcast::Scalar, Broadcast::One, Broadcast::Channel, Broadcast::Full] {
        for is_first in [false, true] {
            for bias in [false, true] {
                for op in ["Add", "Sub", "Mul"] {
                    let m = image(|m, x| {
                        let mut spec = conv(8).kernel(3).pad(1).groups(2);
                        spec.bias = bias;
                        let y = m.conv(x, &spec);
                        m.with_constant(op, &y, shape, is_first)
                    });
                    becomes(&m, 1);
                }
            }
        }
        let m = image(|m, x| {
            let y = m.conv(x, &conv(8).kernel(3).pad(1));
            m.with_constant("Div", &y, shape, false)
        });
        becomes(&m, 1);
    }
}

#[test]
fn conv_and_one_dimensional_bias_that_lies_along_the_width() {
    let m = image(|m, x| {
        let y = m.conv(x, &conv(4).kernel(3).pad(1));
        m.weight("b", &[6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let name = m.node(Node::new("Add"), &[&y.name, "b"]);
        Val { name, ..y }
    });
    becomes(&m, 2);
}

#[test]
fn conv_and_two_affines() {
    let scalar = image(|m, x| {
        let y = m.conv(x, &conv(4).kernel(3).pad(1));
        let y = m.with_constant("Mul", &y, Broadcast::Scalar, false);
        m.with_constant("Add", &y, Broadcast::Scalar, false)
    });
    becomes(&scalar, 1);
    let channel = image(|m, x| {
        let y = m.conv(x, &conv(4).kernel(3).pad(1));
        let y = m.with_constant("Sub", &y, Broadcast::Channel, false);
        m.with_constant("Div", &y, Broadcast::Full, false)
    });
    becomes(&channel, 1);
}

#[test]
fn input_scale_before_a_padded_conv() {
    for shape in [Broadcast::Scalar, Broadcast::Channel, Broadcast::Full] {
        for is_first in [false, true] {
            let m = image(|m, x| {
                let y = m.with_constant("Mul", x, shape, is_first);
                m.conv(&y, &conv(4).kernel(3).pad(1).groups(2))
            });
            becomes(&m, 1);
        }
    }
}

#[test]
fn input_normalization_before_an_unpadded_conv() {
    for shape in [Broadcast::Channel, Broadcast::Full, Broadcast::Scalar] {
        let m = image(|m, x| {
            let y = m.with_constant("Sub", x, shape, false);
            let y = m.with_constant("Div", &y, shape, false);
            m.conv(&y, &conv(4).kernel(3))
        });
        becomes(&m, 1);
    }
}

#[test]
fn layer_scale_after_a_token_linear() {
    for is_first in [false, true] {
        let mut m = Micro::new(17);
        let x = m.tokens("x", &[5, 8]);
        let y = m.matmul_add(&x, 6);
        let y = m.with_constant("Mul", &y, Broadcast::Channel, is_first);
        m.output(&y);
        becomes(&m, 2);
    }
}

#[test]
fn a_long_mixed_chain_folds_into_one_conv() {
    let m = image(|m, x| {
        let y = m.with_constant("Mul", x, Broadcast::Full, false);
        let y = m.conv(&y, &conv(4).kernel(3).pad(1).no_bias());
        let y = m.bn(&y);
        let y = m.with_constant("Add", &y, Broadcast::Channel, true);
        let y = m.unary("Identity", &y);
        let y = m.bn(&y);
        m.with_constant("Sub", &y, Broadcast::Scalar, true)
    });
    becomes_when_all_is_merged(&m, 1);
}
