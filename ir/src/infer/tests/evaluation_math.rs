//! Tests evaluated arithmetic and logic against results worked out by hand.

use super::{bools, f32s, i64s, run};
use crate::dtype::DataType;
use crate::node::Node;
use crate::tensor::Tensor;

fn two(op: &str, a: &Tensor, b: &Tensor) -> Option<Tensor> {
    run(&Node::new(op), 13, &[a, b])
}

#[test]
fn computes_integers_exactly_or_not_at_all() {
    let (a, b) = (i64s(&[2], &[-7, 7]), i64s(&[], &[2]));
    assert_eq!(two("Add", &a, &b), Some(i64s(&[2], &[-5, 9])));
    assert_eq!(two("Sub", &a, &b), Some(i64s(&[2], &[-9, 5])));
    assert_eq!(two("Mul", &a, &b), Some(i64s(&[2], &[-14, 14])));
    assert_eq!(two("Div", &a, &b), Some(i64s(&[2], &[-3, 3])));
    assert_eq!(two("Mod", &a, &b), Some(i64s(&[2], &[1, 1])));
    assert_eq!(two("Mod", &a, &i64s(&[], &[-4])), Some(i64s(&[2], &[-3, -1])));
    let fmod = Node::new("Mod").with("fmod", 1_i64);
    assert_eq!(run(&fmod, 13, &[&a, &i64s(&[], &[4])]), Some(i64s(&[2], &[-3, 3])));
    assert_eq!(two("Pow", &a, &b), Some(i64s(&[2], &[49, 49])));
    assert_eq!(two("Div", &a, &i64s(&[], &[0])), None);
    assert_eq!(two("Mod", &a, &i64s(&[], &[0])), None);
    assert_eq!(two("Div", &i64s(&[], &[i64::MIN]), &i64s(&[], &[-1])), None);
    assert_eq!(two("Add", &i64s(&[], &[i64::MAX]), &i64s(&[], &[1])), None);
    assert_eq!(run(&Node::new("Neg"), 13, &[&a]), Some(i64s(&[2], &[7, -7])));
    assert_eq!(run(&Node::new("Abs"), 13, &[&i64s(&[], &[i64::MIN])]), None);
    assert_eq!(run(&Node::new("Sqrt"), 13, &[&a]), None);
    assert_eq!(two("Add", &a, &f32s(&[], &[1.0])), None);
}

#[test]
fn broadcasts_both_ways_and_over_empty_axes() {
    let (row, column) = (i64s(&[1, 3], &[1, 2, 3]), i64s(&[2, 1], &[10, 20]));
    let table = i64s(&[2, 3], &[11, 12, 13, 21, 22, 23]);
    assert_eq!(two("Add", &row, &column), Some(table.clone()));
    assert_eq!(two("Add", &column, &row), Some(table));
    assert_eq!(two("Add", &row, &i64s(&[0, 1], &[])), Some(i64s(&[0, 3], &[])));
    assert_eq!(two("Add", &row, &i64s(&[2], &[1, 2])), None);
    assert_eq!(run(&Node::new("Add"), 6, &[&row, &column]), None);
}

#[test]
fn computes_floats_in_their_own_dtype() {
    let (a, b) = (f32s(&[1], &[0.1]), f32s(&[1], &[0.2]));
    assert_eq!(two("Add", &a, &b), Some(f32s(&[1], &[0.1 + 0.2])));
    assert_eq!(two("Div", &a, &b), Some(f32s(&[1], &[0.1 / 0.2])));
    assert_eq!(two("Pow", &b, &f32s(&[], &[2.0])), Some(f32s(&[1], &[0.2 * 0.2])));
    assert_eq!(two("Pow", &b, &f32s(&[], &[0.3])), None);
    let one = |op: &str, v: f32| run(&Node::new(op), 13, &[&f32s(&[], &[v])]);
    assert_eq!(one("Sqrt", 2.0), Some(f32s(&[], &[2.0_f32.sqrt()])));
    assert_eq!(one("Sqrt", -1.0), None);
    assert_eq!(one("Ceil", 1.2), Some(f32s(&[], &[2.0])));
    assert_eq!(one("Floor", -1.2), Some(f32s(&[], &[-2.0])));
    assert_eq!(one("Round", 2.5), Some(f32s(&[], &[2.0])));
    assert_eq!(one("Reciprocal", 3.0), Some(f32s(&[], &[1.0 / 3.0])));
    assert_eq!(one("Exp", 1.0), None);
    let half = |v: f64| Tensor::from_f64(DataType::Float16, vec![1], &[v]).expect("one value");
    assert_eq!(two("Add", &half(2048.0), &half(1.0)), Some(half(2048.0)));
}

#[test]
fn finds_extremes_and_clips() {
    let (a, b) = (f32s(&[2], &[1.0, 5.0]), f32s(&[1], &[3.0]));
    assert_eq!(two("Min", &a, &b), Some(f32s(&[2], &[1.0, 3.0])));
    assert_eq!(two("Max", &a, &b), Some(f32s(&[2], &[3.0, 5.0])));
    assert_eq!(two("Max", &a, &f32s(&[], &[f32::NAN])), None);
    assert_eq!(run(&Node::new("Sum"), 13, &[&a, &b, &b]), Some(f32s(&[2], &[7.0, 11.0])));
    let old = Node::new("Clip").with("min", 2.0_f32);
    assert_eq!(run(&old, 6, &[&a]), Some(f32s(&[2], &[2.0, 5.0])));
    let (low, high) = (i64s(&[], &[0]), i64s(&[], &[6]));
    let clipped = run(&Node::new("Clip"), 12, &[&i64s(&[3], &[-1, 3, 9]), &low, &high]);
    assert_eq!(clipped, Some(i64s(&[3], &[0, 3, 6])));
}

#[test]
fn compares_joins_and_selects() {
    let (a, b) = (i64s(&[3], &[1, 2, 3]), i64s(&[], &[2]));
    assert_eq!(two("Equal", &a, &b), Some(bools(&[3], &[0, 1, 0])));
    assert_eq!(two("Less", &a, &b), Some(bools(&[3], &[1, 0, 0])));
    assert_eq!(two("Greater", &a, &b), Some(bools(&[3], &[0, 0, 1])));
    assert_eq!(two("LessOrEqual", &a, &b), Some(bools(&[3], &[1, 1, 0])));
    assert_eq!(two("GreaterOrEqual", &a, &b), Some(bools(&[3], &[0, 1, 1])));
    let (x, y) = (bools(&[2], &[0, 1]), bools(&[], &[1]));
    assert_eq!(two("And", &x, &y), Some(x.clone()));
    assert_eq!(two("Or", &x, &y), Some(bools(&[2], &[1, 1])));
    assert_eq!(two("Xor", &x, &y), Some(bools(&[2], &[1, 0])));
    assert_eq!(run(&Node::new("Not"), 13, &[&x]), Some(bools(&[2], &[1, 0])));
    assert_eq!(two("And", &x, &a), None);
    let (left, right) = (i64s(&[1, 1], &[5]), i64s(&[2], &[7, 8]));
    let chosen = run(&Node::new("Where"), 13, &[&x, &left, &right]);
    assert_eq!(chosen, Some(i64s(&[1, 2], &[7, 5])));
}

#[test]
fn reduces_over_named_or_all_axes() {
    let data = i64s(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    let flat = |op: &str| Node::new(op).with("keepdims", 0_i64);
    let axes = |node: Node, axes: Vec<i64>| node.with("axes", axes);
    assert_eq!(run(&axes(flat("ReduceSum"), vec![0]), 11, &[&data]), Some(i64s(&[3], &[5, 7, 9])));
    assert_eq!(run(&axes(flat("ReduceProd"), vec![-1]), 11, &[&data]), Some(i64s(&[2], &[6, 120])));
    assert_eq!(run(&Node::new("ReduceMax"), 13, &[&data]), Some(i64s(&[1, 1], &[6])));
    assert_eq!(run(&flat("ReduceMin"), 13, &[&data]), Some(i64s(&[], &[1])));
    let by_operand = run(&Node::new("ReduceSum"), 13, &[&data, &i64s(&[1], &[1])]);
    assert_eq!(by_operand, Some(i64s(&[2, 1], &[6, 15])));
    let noop = Node::new("ReduceSum").with("noop_with_empty_axes", 1_i64);
    assert_eq!(run(&noop, 13, &[&data]), Some(data.clone()));
    let empty = i64s(&[0, 2], &[]);
    let by_rows = |op: &str| run(&axes(flat(op), vec![0]), 11, &[&empty]);
    assert_eq!(by_rows("ReduceSum"), Some(i64s(&[2], &[0, 0])));
    assert_eq!(by_rows("ReduceMax"), None);
    assert_eq!(run(&Node::new("ReduceSum"), 11, &[&f32s(&[2], &[0.1, 0.2])]), None);
    assert_eq!(run(&axes(flat("ReduceSum"), vec![0, -2]), 11, &[&data]), None);
}

#[test]
fn counts_ranges() {
    let range = |spec: [i64; 3]| {
        let [start, limit, delta] = spec.map(|v| i64s(&[], &[v]));
        run(&Node::new("Range"), 11, &[&start, &limit, &delta])
    };
    assert_eq!(range([0, 5, 2]), Some(i64s(&[3], &[0, 2, 4])));
    assert_eq!(range([3, 0, -2]), Some(i64s(&[2], &[3, 1])));
    assert_eq!(range([3, 0, 1]), Some(i64s(&[0], &[])));
    assert_eq!(range([0, 3, 0]), None);
    let floats = [0.0, 2.0, 1.0].map(|v| f32s(&[], &[v]));
    let counted = run(&Node::new("Range"), 11, &[&floats[0], &floats[1], &floats[2]]);
    assert_eq!(counted, Some(f32s(&[2], &[0.0, 1.0])));
}

#[test]
fn leaves_other_domains_alone() {
    let mut node = Node::new("Add");
    node.proto.domain = Some("com.example".into());
    assert_eq!(run(&node, 13, &[&i64s(&[], &[1]), &i64s(&[], &[1])]), None);
}
