//! Weighted operators in a row.

use updp_testkit::{ConvSpec, Micro, Val, conv, gemm, op_counts};

use crate::compile::{becomes, becomes_when_all_is_merged};

/// Convolutions in a row over `[channels, …]`, a Relu around so that only they can merge.
fn row(dims: &[usize], specs: &[ConvSpec]) -> Micro {
    let mut m = Micro::new(21);
    let x = m.input("x", dims);
    let mut y = m.unary("Relu", &x);
    for spec in specs {
        y = m.conv(&y, spec);
    }
    let y = m.unary("Relu", &y);
    m.output(&y);
    m
}

#[test]
fn pointwise_then_spatial() {
    for dims in [&[8, 9][..], &[8, 9, 8], &[8, 5, 6, 7]] {
        becomes_when_all_is_merged(&row(dims, &[conv(8), conv(8).kernel(3)]), 3);
    }
    // Padding inserts zeros, not the bias: without a bias it is exact.
    becomes(&row(&[4, 9, 8], &[conv(16).no_bias(), conv(4).kernel(3).pad(1)]), 3);
}

#[test]
fn a_biased_pointwise_before_a_padded_conv_ends_as_conv_and_one_add() {
    let m = row(&[4, 9, 8], &[conv(16), conv(4).kernel(3).pad(1)]);
    let after = becomes_when_all_is_merged(&m, 4);
    let counts = op_counts(&after.graph);
    assert_eq!((counts["Conv"], counts["Add"]), (1, 1));
}

#[test]
fn spatial_then_pointwise() {
    for dims in [&[8, 9][..], &[8, 9, 8], &[8, 5, 6, 7]] {
        let specs = [conv(16).kernel(3).pad(1).stride(2), conv(8)];
        becomes_when_all_is_merged(&row(dims, &specs), 3);
    }
}

#[test]
fn spatial_then_spatial_unpadded() {
    let specs = [conv(4).kernel(3), conv(4).kernel(3)];
    becomes_when_all_is_merged(&row(&[4, 9, 8], &specs), 3);
    let specs = [conv(4).kernels(&[2, 3]).stride(2).pad(1), conv(6).kernel(2)];
    becomes_when_all_is_merged(&row(&[4, 9, 8], &specs), 3);
}

#[test]
fn depthwise_then_pointwise_and_back() {
    let depthwise = conv(8).kernel(3).groups(8);
    becomes_when_all_is_merged(&row(&[8, 9, 8], &[depthwise.clone().pad(1), conv(6)]), 3);
    becomes_when_all_is_merged(&row(&[8, 9, 8], &[conv(8), depthwise.clone()]), 3);
    let grouped = [conv(8).kernel(3).groups(2), conv(8).groups(4)];
    becomes_when_all_is_merged(&row(&[8, 9, 8], &grouped), 3);
    let multiplied = [conv(16).kernel(3).groups(8), conv(4)];
    becomes_when_all_is_merged(&row(&[8, 9, 8], &multiplied), 3);
}

/// A `MobileNetV2` block without activations: 1x1, depthwise 3x3, 1x1, a BN after each.
fn inverted_residual(pad: i64) -> Micro {
    let mut m = Micro::new(22);
    let x = m.input("x", &[8, 9, 8]);
    let mut y: Val = x;
    for spec in [conv(48), conv(48).kernel(3).pad(pad).groups(48), conv(8)] {
        y = m.conv(&y, &spec.no_bias());
        y = m.bn(&y);
    }
    m.output(&y);
    m
}

#[test]
fn mobilenet_block_without_activations() {
    becomes_when_all_is_merged(&inverted_residual(0), 1);
}

#[test]
fn mobilenet_block_without_activations_and_with_padding_keeps_its_border() {
    let after = becomes_when_all_is_merged(&inverted_residual(1), 2);
    assert_eq!(op_counts(&after.graph)["Add"], 1);
}

#[test]
fn gemm_then_gemm() {
    for (first, second) in [
        (gemm(16), gemm(4)),
        (gemm(16).plain_weight(), gemm(4).plain_weight().factors(0.5, 2.0)),
        (gemm(16).no_bias(), gemm(4).factors(2.0, 0.5)),
        (gemm(16).factors(0.25, 3.0), gemm(4).no_bias()),
    ] {
        let mut m = Micro::new(23);
        let x = m.tokens("x", &[8]);
        let y = m.gemm(&x, &first);
        let y = m.gemm(&y, &second);
        m.output(&y);
        becomes(&m, 1);
    }
}

#[test]
fn token_linear_then_token_linear() {
    for dims in [&[8][..], &[5, 8], &[3, 5, 8]] {
        let mut m = Micro::new(24);
        let x = m.tokens("x", dims);
        let y = m.matmul_add(&x, 32);
        let y = m.matmul_add(&y, 8);
        m.output(&y);
        // One Gemm for a matrix, MatMul and Add for tokens.
        becomes(&m, if dims.len() == 1 { 1 } else { 2 });
    }
}

#[test]
fn a_bottleneck_stays_by_default() {
    let mut m = Micro::new(25);
    let x = m.tokens("x", &[196, 256]);
    let y = m.matmul_add(&x, 4);
    let y = m.matmul_add(&y, 256);
    m.output(&y);
    // The two products stay; the first bias goes through the second weight into the second bias.
    becomes(&m, 3);
    becomes_when_all_is_merged(&m, 2);
}
