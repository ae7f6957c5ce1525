//! Graph boundary, bodies and readings that forbid a rewrite.

use updp_ir::{DataType, Dim, Node};
use updp_testkit::{Micro, Val, conv, op_counts};

use crate::compile::becomes_when_all_is_merged;

#[test]
fn conv_and_batch_norm_inside_an_if_branch() {
    let mut then = Micro::new(81);
    let x = Val { name: "seen".into(), channels: 4, rank: 4, axis: 1 };
    let y = then.conv(&x, &conv(4).kernel(3).pad(1));
    let y = then.bn(&y);
    then.output(&y);
    let mut other = Micro::new(82);
    let z = other.unary("Abs", &x);
    let z = other.unary("Neg", &z);
    other.output(&Val { name: z.name, ..x.clone() });
    let mut m = Micro::new(83);
    let input = m.input("x", &[4, 7, 6]);
    m.raw().input("condition", DataType::Bool, &[] as &[Dim]);
    m.raw().node(Node::new("Relu"), &[&input.name], &["seen"]);
    m.raw().node_with_bodies(
        Node::new("If"),
        vec![("then_branch", then.builder()), ("else_branch", other.builder())],
        &["condition"],
        &["y"],
    );
    m.output(&Val { name: "y".into(), ..x });
    let after = becomes_when_all_is_merged(&m, 5);
    assert!(!op_counts(&after.graph).contains_key("BatchNormalization"));
}

#[test]
fn a_value_a_body_reads_is_a_barrier() {
    let mut then = Micro::new(84);
    let x = Val { name: "seen".into(), channels: 4, rank: 4, axis: 1 };
    let y = then.unary("Abs", &x);
    then.output(&y);
    let mut other = Micro::new(85);
    let z = other.conv(&x, &conv(4));
    other.output(&z);
    let mut m = Micro::new(86);
    let input = m.input("x", &[4, 7, 6]);
    m.raw().input("condition", DataType::Bool, &[] as &[Dim]);
    let values = m.numbers(16, -1.0, 1.0);
    m.weight("w", &[4, 4, 1, 1], &values);
    m.raw().node(Node::new("Conv"), &[&input.name, "w"], &["seen"]);
    let bn = m.bn(&x);
    m.raw().node_with_bodies(
        Node::new("If"),
        vec![("then_branch", then.builder()), ("else_branch", other.builder())],
        &["condition"],
        &["y"],
    );
    m.output(&bn);
    m.output(&Val { name: "y".into(), ..x });
    becomes_when_all_is_merged(&m, 5);
}

#[test]
fn a_result_read_twice_keeps_its_producer() {
    let mut m = Micro::new(87);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let a = m.bn(&y);
    let b = m.unary("Relu", &y);
    m.output(&a);
    m.output(&b);
    becomes_when_all_is_merged(&m, 3);
}

#[test]
fn a_graph_output_in_the_middle_keeps_its_producer() {
    let mut m = Micro::new(88);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let a = m.bn(&y);
    m.output(&y);
    m.output(&a);
    becomes_when_all_is_merged(&m, 2);
}

#[test]
fn a_branch_that_is_a_graph_output_stays() {
    let mut m = Micro::new(89);
    let x = m.input("x", &[8, 7, 6]);
    let a = m.conv(&x, &conv(8).kernel(3).pad(1));
    let b = m.conv(&x, &conv(8));
    let y = m.add(&a, &b);
    m.output(&a);
    m.output(&y);
    becomes_when_all_is_merged(&m, 3);
}

#[test]
fn the_same_output_listed_under_two_producers_keeps_both_names() {
    let mut m = Micro::new(90);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let z = m.unary("Identity", &y);
    m.output(&y);
    m.output(&z);
    becomes_when_all_is_merged(&m, 2);
}

#[test]
fn an_input_that_is_passed_through_stays() {
    let mut m = Micro::new(91);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.unary("Identity", &x);
    m.output(&y);
    becomes_when_all_is_merged(&m, 1);
}

#[test]
fn symbolic_spatial_dims_fold_what_needs_no_border() {
    let mut m = Micro::new(92);
    let dims: Vec<Dim> = vec!["N".into(), 4.into(), "H".into(), "W".into()];
    m.raw().input("x", DataType::Float, &dims);
    let x = Val { name: "x".into(), channels: 4, rank: 4, axis: 1 };
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let y = m.bn(&y);
    let y = m.unary("Relu", &y);
    let y = m.conv(&y, &conv(8));
    let y = m.conv(&y, &conv(4).kernel(3).pad(1));
    m.output(&y);
    // The border map of the last two would need H and W.
    becomes_when_all_is_merged(&m, 4);
}
