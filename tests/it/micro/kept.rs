//! What opsets require and what the sign of a zero tells is kept.

use updp_ir::{Model, Node};
use updp_testkit::{Broadcast, Micro, Val, conv, gemm, ops};

use crate::compile::{becomes, compile_with, merge_all, stays, stays_unrun};

/// The number of operands of each Gemm.
fn gemm_operands(model: &Model) -> Vec<usize> {
    let graph = &model.graph;
    let gemms = graph.nodes().into_iter().filter(|node| graph.node(*node).is("Gemm"));
    gemms.map(|node| graph.operands(node).into_iter().flatten().count()).collect()
}

/// A model of this opset whose weights need not be inputs.
fn old(seed: u64, opset: i64) -> Micro {
    let mut m = Micro::new(seed).opset(opset);
    if opset < 9 {
        m.raw().ir_version(4);
    }
    m
}

#[test]
fn a_gemm_keeps_its_summand_where_the_opset_requires_one() {
    for opset in [7, 8, 9, 10, 11, 13, 17] {
        for trans_b in [false, true] {
            for (beta, bias) in [(1.0_f32, 0.0_f64), (0.0, 2.0), (0.5, 0.0)] {
                for dims in [vec![5], vec![1, 5], vec![1], vec![]] {
                    let mut m = old(91, opset);
                    let x = m.input("x", &[4]);
                    let weights = m.numbers(20, -1.0, 1.0);
                    m.weight("w", if trans_b { &[5, 4] } else { &[4, 5] }, &weights);
                    m.weight("c", &dims, &vec![bias; dims.iter().product()]);
                    let node =
                        Node::new("Gemm").with("beta", beta).with("transB", i64::from(trans_b));
                    let y = Val { name: m.node(node, &[&x.name, "w", "c"]), channels: 5, ..x };
                    let y = m.with_constant("Mul", &y, Broadcast::Channel, false);
                    m.output(&y);
                    let after = becomes(&m, 1);
                    let expected = if opset < 11 { 3 } else { 2 };
                    assert_eq!(gemm_operands(&after), [expected], "opset {opset}, {dims:?}");
                }
            }
        }
    }
}

#[test]
fn gemms_in_a_row_keep_a_summand_of_the_right_size() {
    for opset in [7, 9, 10, 11] {
        let mut m = old(92, opset);
        let mut y = m.input("x", &[6]);
        for (at, (i, o)) in [(6, 5), (5, 3)].into_iter().enumerate() {
            let weights = m.numbers(i * o, -1.0, 1.0);
            m.weight(&format!("w{at}"), &[i, o], &weights);
            m.weight(&format!("c{at}"), &[o], &vec![0.0; o]);
            let operands = [y.name.clone(), format!("w{at}"), format!("c{at}")];
            let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
            y = Val { name: m.node(Node::new("Gemm"), &operands), channels: o, ..y };
        }
        m.output(&y);
        let after = becomes(&m, 1);
        assert_eq!(gemm_operands(&after), [if opset < 11 { 3 } else { 2 }]);
    }
    let mut m = Micro::new(92).opset(9);
    let x = m.input("x", &[6]);
    let y = m.gemm(&x, &gemm(5));
    let y = m.with_constant("Sub", &y, Broadcast::Channel, true);
    m.output(&y);
    becomes(&m, 1);
}

/// `f(x + c)`, where the constant stands on the given side.
fn shifted(op: &str, constant: f64, is_first: bool, reader: &str) -> Micro {
    let mut m = Micro::new(93);
    let x = m.input("x", &[3, 4]);
    m.weight("c", &[], &[constant]);
    let operands = if is_first { ["c", "x"] } else { ["x", "c"] };
    let y = Val { name: m.node(Node::new(op), &operands), ..x };
    let y = m.unary(reader, &y);
    m.output(&y);
    m
}

#[test]
fn adding_zero_stays_where_the_sign_of_a_zero_shows() {
    for is_first in [false, true] {
        stays(&shifted("Add", 0.0, is_first, "Reciprocal"));
        becomes(&shifted("Add", -0.0, is_first, "Reciprocal"), 1);
        becomes(&shifted("Mul", 1.0, is_first, "Reciprocal"), 1);
    }
    becomes(&shifted("Sub", 0.0, false, "Reciprocal"), 1);
    stays(&shifted("Sub", -0.0, false, "Reciprocal"));
    becomes(&shifted("Div", 1.0, false, "Reciprocal"), 1);
    // A graph output shows it, and so do operators that this program does not know.
    stays(&shifted("Add", 0.0, false, "Relu"));
    stays(&shifted("Add", 0.0, false, "Sign"));
}

#[test]
fn adding_zero_goes_where_nothing_sees_the_sign() {
    for reader in ["Sigmoid", "Exp", "Abs"] {
        becomes(&shifted("Add", 0.0, false, reader), 1);
        becomes(&shifted("Sub", -0.0, false, reader), 1);
    }
    let mut m = Micro::new(94);
    let x = m.input("x", &[3, 6, 6]);
    m.weight("zeros", &[3, 1, 1], &[0.0; 3]);
    let y = Val { name: m.node(Node::new("Add"), &["x", "zeros"]), ..x };
    let y = m.unary("Relu", &y);
    let y = m.conv(&y, &conv(2).kernel(3).pad(1));
    m.output(&y);
    becomes(&m, 2);
}

#[test]
fn a_zero_that_is_added_is_not_lost_in_a_pair() {
    // The last column says whether an Add stays.
    for (first, constant, second, factor, nodes, stays) in [
        ("Add", 0.0, "Mul", 2.0, 3, true),
        ("Add", -0.0, "Mul", 2.0, 2, false),
        ("Mul", 2.0, "Add", 0.0, 3, true),
        ("Mul", 2.0, "Mul", -3.0, 2, false),
        ("Add", 0.0, "Add", -0.0, 2, true),
        ("Add", 0.0, "Add", 0.0, 2, true),
        ("Sub", 0.0, "Mul", -1.0, 2, false),
    ] {
        let mut m = Micro::new(95);
        let x = m.input("x", &[3, 4]);
        m.weight("c", &[], &[constant]);
        m.weight("k", &[], &[factor]);
        let y = m.node(Node::new(first), &[&x.name, "c"]);
        let y = m.node(Node::new(second), &[&y, "k"]);
        let y = m.unary("Reciprocal", &Val { name: y, ..x });
        m.output(&y);
        let after = becomes(&m, nodes);
        let has_add = ops(&after.graph).contains(&"Add");
        assert_eq!(has_add, stays, "{first} {constant:?}, {second} {factor:?}");
    }
}

#[test]
fn same_padding_that_crops_is_left_alone() {
    for upper in ["SAME_UPPER", "SAME_LOWER"] {
        // (spatial dims, kernel, stride)
        let rows: [(&[usize], &[usize], &[usize]); 4] = [
            (&[20], &[5], &[10]),
            (&[20, 14], &[5, 6], &[10, 2]),
            (&[7, 20], &[3, 2], &[1, 7]),
            (&[8, 9, 20], &[3, 3, 1], &[2, 1, 6]),
        ];
        for (dims, kernel, stride) in rows {
            let mut m = Micro::new(96).batch(1);
            let x = m.input("x", &[&[4], dims].concat());
            let y = m.bn(&x);
            let weights = m.numbers(16 * kernel.iter().product::<usize>(), -1.0, 1.0);
            m.weight("w", &[&[4, 4], kernel].concat(), &weights);
            let ints = |list: &[usize]| list.iter().map(|n| *n as i64).collect::<Vec<i64>>();
            let node = Node::new("Conv").with("auto_pad", upper).with("strides", ints(stride));
            let y = Val { name: m.node(node, &[&y.name, "w"]), ..y };
            let y = m.conv(&y, &conv(3));
            m.output(&y);
            stays_unrun(m.build());
        }
    }
}

#[test]
fn same_padding_of_a_large_stride_that_pads_is_resolved() {
    for upper in ["SAME_UPPER", "SAME_LOWER"] {
        let mut m = Micro::new(97).batch(1);
        let x = m.input("x", &[4, 21, 8]);
        let y = m.bn(&x);
        let y = m.conv(&y, &conv(4).kernels(&[3, 3]).stride(5).auto_pad(upper));
        m.output(&y);
        let before = m.build();
        let mut after = m.build();
        compile_with(&mut after, &merge_all());
        updp_testkit::prove(&before, &after);
        assert!(after.graph.node_count() <= 2);
    }
}
