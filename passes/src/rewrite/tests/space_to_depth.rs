//! Tests of [`FoldSpaceToDepth`].

use updp_ir::{Node, Tensor};
use updp_testkit::{ConvSpec, Micro, Val, conv};

use super::{Outcome, alone};
use crate::rewrite::FoldSpaceToDepth;

fn longs(m: &mut Micro, name: &str, values: &[i64]) -> String {
    m.constant(name, &Tensor::from_i64(vec![values.len()], values).expect("fits"))
}

/// Every `step`-th element of an axis from `start` on.
fn every(m: &mut Micro, x: &str, axis: i64, (start, step, end): (i64, i64, i64)) -> String {
    let name = format!("{x}.{axis}.{}", m.numbers(1, 0.0, 1.0)[0]);
    let parts = [("from", start), ("to", end), ("axis", axis), ("step", step)];
    let parts = parts.map(|(part, value)| longs(m, &format!("{name}.{part}"), &[value]));
    m.node(Node::new("Slice"), &[x, &parts[0], &parts[1], &parts[2], &parts[3]])
}

/// Slices with these offsets, joined.
fn focus(m: &mut Micro, x: &Val, step: i64, offsets: &[(i64, i64)]) -> Val {
    let parts: Vec<String> = offsets
        .iter()
        .map(|(row, column)| {
            let rows = every(m, &x.name, 2, (*row, step, i64::MAX));
            every(m, &rows, 3, (*column, step, i64::MAX))
        })
        .collect();
    let names: Vec<&str> = parts.iter().map(String::as_str).collect();
    let name = m.node(Node::new("Concat").with("axis", 1), &names);
    Val { name, channels: x.channels * offsets.len(), ..x.clone() }
}

const FOCUS: &[(i64, i64)] = &[(0, 0), (1, 0), (0, 1), (1, 1)];

fn folded(dims: &[usize], spec: &ConvSpec, build: impl Fn(&mut Micro, &Val) -> Val) -> Outcome {
    let mut m = Micro::new(17);
    let x = m.input("x", dims);
    let y = build(&mut m, &x);
    let y = m.conv(&y, spec);
    m.output(&y);
    alone(&m, || FoldSpaceToDepth)
}

#[test]
fn focus_becomes_one_strided_conv() {
    for spec in [
        conv(5),
        conv(5).kernel(3).pad(1),
        conv(5).kernel(3).pads(&[1, 0, 2, 1]).stride(2).no_bias(),
        conv(5).kernels(&[1, 2]),
    ] {
        for dims in [[3, 8, 12], [1, 6, 4]] {
            let done = folded(&dims, &spec, |m, x| focus(m, x, 2, FOCUS));
            assert_eq!(done.ops, "Conv", "{dims:?}");
        }
    }
    let all: Vec<(i64, i64)> = (0..9).map(|at| (at % 3, at / 3)).collect();
    let done = folded(&[2, 9, 6], &conv(4).kernel(2), |m, x| focus(m, x, 3, &all));
    assert_eq!(done.ops, "Conv");
}

#[test]
fn space_to_depth_becomes_one_strided_conv() {
    for block in [2, 3] {
        for spec in [conv(5).kernel(3).pad(1), conv(5).kernels(&[2, 1]).stride(2)] {
            let done = folded(&[2, 12, 6], &spec, |m, x| {
                let y = m.apply(Node::new("SpaceToDepth").with("blocksize", block), &[x]);
                let channels = x.channels * (block * block) as usize;
                Val { channels, ..y }
            });
            assert_eq!(done.ops, "Conv", "{block}");
        }
    }
}

#[test]
fn an_image_of_open_size_needs_the_first_and_last_place_of_a_block() {
    let mut m = Micro::new(18);
    let open = updp_testkit::symbol;
    m.raw().input("x", updp_ir::DataType::Float, &[open("N"), 3.into(), open("H"), open("W")]);
    let x = Val { name: "x".into(), channels: 3, rank: 4, axis: 1 };
    let y = focus(&mut m, &x, 2, FOCUS);
    let y = m.conv(&y, &conv(4).kernel(3).pad(1));
    m.output(&y);
    // Inputs of odd sizes do not run in the original, so the proof draws none: the rule alone is looked at.
    assert_eq!(super::planned(&m, || FoldSpaceToDepth).ops, "Conv");
}

#[test]
fn it_declines_what_would_not_be_one_conv() {
    let dims = [3, 8, 8];
    let grouped = folded(&dims, &conv(4).groups(4), |m, x| focus(m, x, 2, FOCUS));
    assert_eq!(grouped.reasons, ["groups"]);
    let dilated = folded(&dims, &conv(4).kernel(2).dilation(2), |m, x| focus(m, x, 2, FOCUS));
    assert_eq!(dilated.reasons, ["dilation"]);
    let half = folded(&dims, &conv(4), |m, x| focus(m, x, 2, &FOCUS[..2]));
    assert_eq!(half.reasons, ["slower"]);
    let odd = folded(&[3, 7, 7], &conv(4), |m, x| focus(m, x, 2, &[(0, 0), (0, 0)]));
    assert_eq!(odd.reasons, ["open-size"]);
    let shared = folded(&dims, &conv(4), |m, x| {
        let y = focus(m, x, 2, FOCUS);
        let z = m.unary("Relu", &y);
        m.output(&z);
        y
    });
    assert_eq!(shared.reasons, ["read-twice"]);
}

#[test]
fn slices_that_cut_something_off_are_no_blocks() {
    let done = folded(&[3, 8, 8], &conv(4), |m, x| {
        let parts: Vec<String> = FOCUS
            .iter()
            .map(|(row, column)| {
                let rows = every(m, &x.name, 2, (*row, 2, 6));
                every(m, &rows, 3, (*column, 2, 6))
            })
            .collect();
        let names: Vec<&str> = parts.iter().map(String::as_str).collect();
        let name = m.node(Node::new("Concat").with("axis", 1), &names);
        Val { name, channels: 12, ..x.clone() }
    });
    assert!(done.ops.contains("Concat"), "{}", done.ops);
}
