//! Convolutions, transposed convolutions and matrix products.

use updp_ir::Node;
use updp_testkit::{ConvCase, check, conv_cases};

use crate::gradcheck::{Case, Kind};

fn conv_case(case: &ConvCase) -> Case {
    let spec = case.spec.clone();
    let mut x = vec![2, case.in_channels];
    x.extend(&case.spatial);
    let mut weight = vec![spec.out_channels, case.in_channels / spec.groups];
    weight.extend(&spec.kernel);
    let (has_bias, out_channels) = (spec.bias, spec.out_channels);
    let operands: &[&str] = if has_bias { &["x", "w", "b"] } else { &["x", "w"] };
    let node = move || {
        Node::new("Conv")
            .with("kernel_shape", spec.kernel.as_slice())
            .with("strides", spec.stride.as_slice())
            .with("dilations", spec.dilation.as_slice())
            .with("group", spec.groups as i64)
            .with("pads", spec.pads.clone())
    };
    let check = Case::of_node(Kind::Multilinear, node, operands).seed(case.seed);
    let check = check.input("x", &x).input("w", &weight);
    if has_bias { check.input("b", &[out_channels]) } else { check }
}

#[test]
fn gradients_of_drawn_convolutions() {
    check(60, 31, &conv_cases(), |case| conv_case(&case).check());
}

fn conv(node: impl Fn() -> Node + 'static, x: &[usize], w: &[usize]) {
    Case::of_node(Kind::Multilinear, node, &["x", "w"]).input("x", x).input("w", w).check();
}

#[test]
fn gradients_of_convolutions_with_automatic_padding() {
    for mode in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        for stride in [1, 2, 3] {
            let node = move || {
                Node::new("Conv")
                    .with("auto_pad", mode)
                    .with("strides", &[stride, stride][..])
                    .with("kernel_shape", &[3, 2][..])
            };
            // No SAME padding is negative here: runtimes crop, each in its own way, and no gradient is written.
            conv(node, &[2, 2, 7, 8], &[3, 2, 3, 2]);
        }
    }
}

#[test]
fn gradients_of_pointwise_and_strided_pointwise_convolutions() {
    for (stride, pad) in [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)] {
        let node = move || {
            Node::new("Conv").with("strides", &[stride, stride][..]).with("pads", vec![pad; 4])
        };
        conv(node, &[2, 3, 7, 6], &[4, 3, 1, 1]);
    }
}

#[test]
fn gradients_where_the_stride_jumps_over_rows() {
    // The stride is longer than the kernel, and rows at the end are never seen.
    for (kernel, stride, size) in [(1, 4, 10), (2, 4, 11), (2, 3, 9)] {
        let node = move || Node::new("Conv").with("strides", &[stride, stride][..]);
        conv(node, &[2, 2, size, size], &[2, 2, kernel, kernel]);
        let node =
            move || Node::new("Conv").with("strides", &[stride, stride][..]).with("group", 3_i64);
        conv(node, &[2, 3, size, size], &[3, 1, kernel, kernel]);
    }
}

#[test]
fn gradients_with_padding_wider_than_the_kernel() {
    let node = || Node::new("Conv").with("pads", vec![3_i64, 0, 4, 5]);
    conv(node, &[1, 2, 4, 4], &[2, 2, 2, 3]);
    let node = || Node::new("Conv").with("pads", vec![3_i64, 0, 4, 5]).with("group", 2_i64);
    conv(node, &[2, 2, 4, 4], &[4, 1, 2, 3]);
}

#[test]
fn gradients_of_many_channels_by_the_transposed_form() {
    let node = || Node::new("Conv").with("pads", vec![1_i64, 1, 1, 0]);
    conv(node, &[1, 256, 3, 3], &[256, 256, 2, 2]);
}

#[test]
fn gradients_of_large_depthwise_kernels() {
    let node = || Node::new("Conv").with("pads", vec![3_i64; 4]).with("group", 3_i64);
    conv(node, &[2, 3, 8, 8], &[3, 1, 7, 7]);
    let node = || {
        Node::new("Conv")
            .with("pads", vec![2_i64, 5, 1, 0])
            .with("dilations", &[1_usize, 2][..])
            .with("group", 2_i64)
    };
    conv(node, &[2, 2, 6, 7], &[2, 1, 5, 5]);
    // A stride, or two outputs a channel, take the other form.
    let node = || Node::new("Conv").with("strides", &[2_usize, 2][..]).with("group", 2_i64);
    conv(node, &[2, 2, 8, 7], &[2, 1, 5, 5]);
    let node = || Node::new("Conv").with("group", 2_i64);
    conv(node, &[2, 2, 6, 7], &[4, 1, 5, 5]);
}

#[test]
fn gradients_of_transposed_convolutions() {
    for (stride, dilation, extra, pads, group) in [
        (1, 1, 0, [0, 0, 0, 0], 1),
        (2, 1, 1, [1, 0, 1, 1], 1),
        (2, 2, 0, [1, 2, 0, 1], 2),
        (3, 1, 2, [0, 1, 1, 0], 2),
        (1, 2, 0, [2, 2, 2, 2], 1),
    ] {
        let node = move || {
            Node::new("ConvTranspose")
                .with("strides", &[stride, stride][..])
                .with("dilations", &[dilation, dilation][..])
                .with("output_padding", &[extra, extra][..])
                .with("pads", pads.to_vec())
                .with("group", group)
        };
        Case::of_node(Kind::Multilinear, node, &["x", "w", "b"])
            .input("x", &[2, 4, 4, 3])
            .input("w", &[4, 3, 3, 2])
            .input("b", &[3 * group as usize])
            .check();
    }
    for mode in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        let node = move || {
            Node::new("ConvTranspose").with("strides", &[2_usize, 2][..]).with("auto_pad", mode)
        };
        conv(node, &[1, 2, 4, 3], &[2, 3, 3, 3]);
    }
    let node = || {
        Node::new("ConvTranspose")
            .with("strides", &[2_usize, 2][..])
            .with("output_shape", &[8_usize, 6][..])
    };
    conv(node, &[1, 2, 4, 3], &[2, 3, 3, 3]);
}

#[test]
fn gradients_of_products_of_any_rank() {
    for (a, b) in [
        (&[2, 3][..], &[3, 4][..]),
        (&[2, 5, 3], &[3, 4]),
        (&[2, 2, 5, 3], &[2, 2, 3, 4]),
        (&[2, 1, 5, 3], &[4, 3, 2]),
        (&[5, 3], &[2, 3, 4]),
        (&[3], &[3, 4]),
        (&[2, 5, 3], &[3]),
        (&[3], &[3]),
        (&[3], &[2, 3, 4]),
        (&[1, 5, 3], &[6, 3, 2]),
    ] {
        Case::of_node(Kind::Multilinear, || Node::new("MatMul"), &["a", "b"])
            .input("a", a)
            .input("b", b)
            .check();
    }
}

#[test]
fn gradients_of_gemm_in_all_forms() {
    for trans_a in [false, true] {
        for trans_b in [false, true] {
            for c in [None, Some(&[4][..]), Some(&[2, 1]), Some(&[]), Some(&[2, 4])] {
                let node = move || {
                    Node::new("Gemm")
                        .with("alpha", 0.5_f32)
                        .with("beta", 2.0_f32)
                        .with("transA", i64::from(trans_a))
                        .with("transB", i64::from(trans_b))
                };
                let operands: &[&str] = if c.is_some() { &["a", "b", "c"] } else { &["a", "b"] };
                let case = Case::of_node(Kind::Multilinear, node, operands)
                    .input("a", if trans_a { &[3, 2] } else { &[2, 3] })
                    .input("b", if trans_b { &[4, 3] } else { &[3, 4] });
                let case = if let Some(c) = c { case.input("c", c) } else { case };
                case.check();
            }
        }
    }
}
