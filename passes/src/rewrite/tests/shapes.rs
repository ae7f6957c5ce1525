//! Tests of [`ShareEqualNodes`], [`BypassExpand`] and [`CopyReshapeDims`].

use updp_ir::{DataType, Node, Tensor};
use updp_testkit::{Micro, Val, symbol};

use super::alone;
use crate::rewrite::{BypassExpand, CopyReshapeDims, ShareEqualNodes};

fn longs(m: &mut Micro, name: &str, values: &[i64]) -> String {
    m.constant(name, &Tensor::from_i64(vec![values.len()], values).expect("fits"))
}

/// Two Slices of rows `from..5` of [N, 4, 6, 5], added.
fn two_slices(from: [i64; 2], is_output: bool) -> String {
    let mut m = Micro::new(5);
    let x = m.input("x", &[4, 6, 5]);
    let slices = from.map(|from| {
        let id = m.numbers(1, 0.0, 1.0)[0];
        let parts = [("from", from), ("to", from + 2), ("axis", 2)];
        let parts = parts.map(|(name, value)| longs(&mut m, &format!("{name}{id}"), &[value]));
        m.node(Node::new("Slice"), &[&x.name, &parts[0], &parts[1], &parts[2]])
    });
    let one = m.node(Node::new("Relu"), &[&slices[0]]);
    let two = m.node(Node::new("Sigmoid"), &[&slices[1]]);
    let name = m.node(Node::new("Add"), &[&one, &two]);
    m.output(&Val { name, ..x.clone() });
    if is_output {
        m.output(&Val { name: slices[1].clone(), ..x });
    }
    alone(&m, || ShareEqualNodes).ops
}

#[test]
fn equal_slices_are_made_once() {
    assert_eq!(two_slices([1, 1], false), "Slice Relu Sigmoid Add");
    assert_eq!(two_slices([1, 2], false), "Slice Slice Relu Sigmoid Add");
    assert_eq!(two_slices([1, 1], true), "Slice Slice Relu Sigmoid Add");
}

#[test]
fn equal_operators_with_other_attributes_or_weights_stay() {
    let mut m = Micro::new(5);
    let x = m.input("x", &[4, 4, 4]);
    let a = m.transpose(&x, &[0, 2, 1, 3]);
    let b = m.transpose(&x, &[0, 1, 3, 2]);
    let c = m.transpose(&x, &[0, 1, 3, 2]);
    let sum = m.add(&a, &b);
    let sum = m.sub(&sum, &c);
    m.output(&sum);
    assert_eq!(alone(&m, || ShareEqualNodes).ops, "Transpose Transpose Add Sub");
    let mut m = Micro::new(5);
    let x = m.input("x", &[4, 4, 4]);
    let (a, b) = (m.unary("Relu", &x), m.unary("Relu", &x));
    let sum = m.add(&a, &b);
    m.output(&sum);
    assert_eq!(alone(&m, || ShareEqualNodes).ops, "Relu Relu Add");
}

fn expanded(op: &str, is_first: bool, target: &[i64], is_read: bool) -> super::Outcome {
    let mut m = Micro::new(6).batch(2);
    let x = m.input("x", &[4, 6, 5]);
    let y = m.unary("Relu", &x);
    let c = m.weight("c", &[4, 1, 1], &[1.0, -2.0, 0.5, 3.0]);
    let shape = longs(&mut m, "shape", target);
    let c = m.node(Node::new("Expand"), &[&c, &shape]);
    let operands = if is_first { [&c[..], &y.name] } else { [&y.name[..], &c] };
    let name = m.node(Node::new(op), &operands);
    m.output(&Val { name, ..y.clone() });
    if is_read {
        m.output(&Val { name: c, ..y });
    }
    alone(&m, || BypassExpand)
}

#[test]
fn an_expand_before_a_broadcast_goes() {
    for op in ["Add", "Sub", "Mul", "Div", "Max"] {
        for is_first in [true, false] {
            assert_eq!(expanded(op, is_first, &[4, 6, 5], false).ops, format!("Relu {op}"));
        }
    }
    assert_eq!(expanded("PRelu", false, &[2, 4, 6, 5], false).ops, "Relu PRelu");
    assert_eq!(expanded("PRelu", false, &[4, 6, 1], false).ops, "Relu PRelu");
}

#[test]
fn an_expand_that_widens_or_is_read_elsewhere_stays() {
    assert_eq!(expanded("Mul", false, &[3, 1, 4, 6, 5], false).ops, "Relu Expand Mul");
    assert_eq!(expanded("Mul", false, &[4, 6, 5], true).reasons, ["read-elsewhere"]);
    assert_eq!(expanded("Pow", false, &[4, 6, 5], false).ops, "Relu Expand Pow");
}

/// `Reshape(x [N, 4, L], Concat(Shape(x)[0:1], rest))`.
fn reshaped(rest: &[i64], from: i64, allows_zero: bool) -> super::Outcome {
    let mut m = Micro::new(7);
    m.raw().input("x", DataType::Float, &[symbol("N"), 4.into(), symbol("L")]);
    let x = Val { name: "x".into(), channels: 4, rank: 3, axis: 1 };
    let shape = m.node(Node::new("Shape"), &["x"]);
    let parts = [("from", from), ("to", from + 1)];
    let parts = parts.map(|(name, value)| longs(&mut m, name, &[value]));
    let size = m.node(Node::new("Slice"), &[&shape, &parts[0], &parts[1]]);
    let rest = longs(&mut m, "rest", rest);
    let shape = m.node(Node::new("Concat").with("axis", 0), &[&size, &rest]);
    let node = Node::new("Reshape").with("allowzero", i64::from(allows_zero));
    let name = m.node(node, &["x", &shape]);
    m.output(&Val { name, ..x });
    alone(&m, || CopyReshapeDims)
}

#[test]
fn kept_dims_of_a_reshape_are_written_as_zero() {
    for rest in [&[-1][..], &[2, -1], &[-1, 2, 1]] {
        assert_eq!(reshaped(rest, 0, false).ops, "Reshape", "{rest:?}");
    }
    assert_eq!(reshaped(&[-1], 0, true).reasons, ["allow-zero"]);
    // The length of axis 2 does not stand at its own place.
    assert_eq!(reshaped(&[-1], 2, false).ops, "Shape Slice Concat Reshape");
}
