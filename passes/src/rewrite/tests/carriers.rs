//! Tests of affines that move across reshaping nodes, pools, Resize, Pad, Slice and Concat.

use updp_ir::{DataType, Node, Tensor};
use updp_testkit::{Broadcast, Micro, PoolSpec, Val, conv, gemm, pool, tensor};

use super::{Outcome, alone};
use crate::rewrite::{
    DropEmptyOperands, FoldChannelAffine, FoldIntoConsumer, FoldThroughConcat, MergeReshapes,
    WriteSumAsProduct,
};

fn longs(m: &mut Micro, name: &str, values: &[i64]) -> String {
    m.constant(name, &Tensor::from_i64(vec![values.len()], values).expect("fits"))
}

/// A step with one operand by name and constants of its own.
type Step<'a> = &'a dyn Fn(&mut Micro, &Val) -> Val;

fn operator(node: Node) -> impl Fn(&mut Micro, &Val) -> Val {
    move |m, x| m.apply(node.bare_copy(), &[x])
}

fn with_list(
    op: &'static str,
    list: &'static [i64],
    rank: usize,
) -> impl Fn(&mut Micro, &Val) -> Val {
    move |m, x| {
        let list = longs(m, &format!("{op}_list"), list);
        let name = m.node(Node::new(op), &[&x.name, &list]);
        Val { name, rank, ..x.clone() }
    }
}

fn resize(mode: &'static str) -> impl Fn(&mut Micro, &Val) -> Val {
    move |m, x| {
        let scales = m.constant("scales", &tensor(DataType::Float, &[4], &[1.0, 1.0, 2.0, 2.0]));
        let node = Node::new("Resize")
            .with("mode", mode)
            .with("coordinate_transformation_mode", "asymmetric")
            .with("nearest_mode", "floor");
        Val { name: m.node(node, &[&x.name, "", &scales]), ..x.clone() }
    }
}

/// `Conv → step → BatchNormalization` on [N, 3, 6, 6].
fn backward(step: Step<'_>) -> Outcome {
    backward_on(Micro::new(11), &[3, 6, 6], step, &|m, x| m.bn(x))
}

fn backward_on(mut m: Micro, dims: &[usize], step: Step<'_>, affine: Step<'_>) -> Outcome {
    let x = m.input("x", dims);
    let y = m.conv(&x, &conv(4).of_rank(dims.len() - 1));
    let y = step(&mut m, &y);
    let y = affine(&mut m, &y);
    m.output(&y);
    alone(&m, || FoldChannelAffine)
}

/// `BatchNormalization → step → Conv or Gemm` on [N, 3, 6, 6].
fn forward(step: Step<'_>, ends_in_gemm: bool) -> Outcome {
    let mut m = Micro::new(12);
    let x = m.input("x", &[3, 6, 6]);
    let y = m.bn(&x);
    let y = step(&mut m, &y);
    let y = if ends_in_gemm { m.gemm(&y, &gemm(5)) } else { m.conv(&y, &conv(5)) };
    m.output(&y);
    alone(&m, || FoldIntoConsumer)
}

fn average(spec: PoolSpec) -> impl Fn(&mut Micro, &Val) -> Val {
    move |m, x| m.average_pool(x, spec)
}

/// Adds an operator to a network.
type OwnedStep = Box<dyn Fn(&mut Micro, &Val) -> Val>;

#[test]
fn an_affine_moves_across_what_copies_or_averages_elements() {
    let steps: Vec<(&str, OwnedStep)> = vec![
        ("AveragePool", Box::new(average(pool(2)))),
        ("AveragePool", Box::new(average(pool(3).stride(2)))),
        ("GlobalAveragePool", Box::new(operator(Node::new("GlobalAveragePool")))),
        ("ReduceMean", Box::new(operator(Node::new("ReduceMean").with("axes", vec![2, 3])))),
        ("Resize", Box::new(resize("nearest"))),
        ("Resize", Box::new(resize("linear"))),
        ("Reshape", Box::new(with_list("Reshape", &[-1, 4, 36], 3))),
        ("Reshape", Box::new(with_list("Reshape", &[0, 4, 9, 4], 4))),
        ("Unsqueeze", Box::new(with_list("Unsqueeze", &[2], 5))),
        (
            "Pad",
            Box::new(|m: &mut Micro, x: &Val| {
                let pads = longs(m, "pads", &[0, 0, 1, 2, 0, 0, 1, 0]);
                let node = Node::new("Pad").with("mode", "reflect");
                Val { name: m.node(node, &[&x.name, &pads]), ..x.clone() }
            }),
        ),
        (
            "Slice",
            Box::new(|m: &mut Micro, x: &Val| {
                let parts = [("from", 1), ("to", 5), ("axis", 2)];
                let parts = parts.map(|(name, value)| longs(m, name, &[value]));
                let name = m.node(Node::new("Slice"), &[&x.name, &parts[0], &parts[1], &parts[2]]);
                Val { name, ..x.clone() }
            }),
        ),
    ];
    for (op, step) in steps {
        assert_eq!(backward(&step).ops, format!("Conv {op}"));
        if !["Reshape", "Unsqueeze"].contains(&op) {
            assert_eq!(forward(&step, false).ops, format!("{op} Conv"));
        }
    }
}

#[test]
fn an_affine_moves_across_a_maximum_if_no_factor_is_negative() {
    let pooled = || Node::new("MaxPool").with("kernel_shape", vec![3, 3]).with("pads", vec![1; 4]);
    assert_eq!(backward(&operator(pooled())).ops, "Conv MaxPool");
    assert_eq!(forward(&operator(pooled()), false).ops, "MaxPool Conv");
    assert_eq!(backward(&operator(Node::new("GlobalMaxPool"))).ops, "Conv GlobalMaxPool");
    let negative = |m: &mut Micro, x: &Val| {
        let factor = m.weight("factor", &[4, 1, 1], &[1.0, 2.0, -1.0, 0.5]);
        Val { name: m.node(Node::new("Mul"), &[&x.name, &factor]), ..x.clone() }
    };
    let done = backward_on(Micro::new(1), &[3, 6, 6], &operator(pooled()), &negative);
    assert_eq!(
        (done.ops.as_str(), &done.reasons[..]),
        ("Conv MaxPool Mul", &["negative-scale"][..])
    );
    let done =
        backward_on(Micro::new(1), &[3, 6, 6], &operator(pooled()), &|m, x| m.unary("Neg", x));
    assert_eq!(done.reasons, ["negative-scale"]);
}

#[test]
fn zeros_that_count_in_a_mean_stop_a_summand_only() {
    let done = backward(&average(pool(3).pad_counted(1)));
    assert_eq!(done.reasons, ["padded-mean"]);
    let scale: Step<'_> = &|m, x| m.with_constant("Mul", x, Broadcast::Channel, false);
    let done = backward_on(Micro::new(2), &[3, 6, 6], &average(pool(3).pad_counted(1)), scale);
    assert_eq!(done.ops, "Conv AveragePool");
    let own = Node::new("AveragePool").with("kernel_shape", vec![3, 3]).with("pads", vec![1; 4]);
    assert_eq!(backward(&operator(own)).ops, "Conv AveragePool");
}

#[test]
fn a_reshape_that_mixes_channels_stops_an_affine() {
    // [N, 4, 36] as [N, 36, 4]: the four elements of axis 2 come from one channel, and axis 1 mixes them.
    let done = backward(&with_list("Reshape", &[-1, 2, 72], 3).then_channels(2));
    assert_eq!(done.ops, "Conv Reshape BatchNormalization");
    let other: Step<'_> = &|m, x| {
        let x = with_list("Reshape", &[-1, 36, 4], 3)(m, x);
        Val { channels: 36, ..x }
    };
    assert_eq!(backward(other).ops, "Conv Reshape BatchNormalization");
}

/// A step whose result has other channels.
trait ThenChannels {
    fn then_channels(self, channels: usize) -> OwnedStep;
}

impl<F: Fn(&mut Micro, &Val) -> Val + 'static> ThenChannels for F {
    fn then_channels(self, channels: usize) -> OwnedStep {
        Box::new(move |m, x| Val { channels, ..self(m, x) })
    }
}

#[test]
fn a_squeeze_with_an_open_length_carries_the_axis() {
    for opset in [11, 13, 17] {
        let mut m = Micro::new(21).opset(opset);
        m.raw().input(
            "x",
            DataType::Float,
            &[updp_testkit::symbol("N"), 3.into(), 1.into(), updp_testkit::symbol("L")],
        );
        let x = Val { name: "x".into(), channels: 3, rank: 4, axis: 1 };
        let y = m.conv(&x, &conv(4).kernels(&[1, 3]).pads(&[0, 1, 0, 1]));
        let name = if opset < 13 {
            m.node(Node::new("Squeeze").with("axes", vec![2]), &[&y.name])
        } else {
            let axes = longs(&mut m, "axes", &[2]);
            m.node(Node::new("Squeeze"), &[&y.name, &axes])
        };
        let y = m.bn(&Val { name, rank: 3, ..y });
        m.output(&y);
        assert_eq!(alone(&m, || FoldChannelAffine).ops, "Conv Squeeze", "opset {opset}");
    }
}

#[test]
fn a_norm_before_pooling_and_flattening_folds_into_a_gemm() {
    let step: Step<'_> = &|m, x| {
        let y = m.unary("GlobalAveragePool", x);
        let y = m.apply(Node::new("Flatten"), &[&y]);
        Val { rank: 2, ..y }
    };
    assert_eq!(forward(step, true).ops, "GlobalAveragePool Flatten Gemm");
}

#[test]
fn a_scale_with_a_norm_above_follows_the_axis_of_the_norm() {
    // The number that is added serves every element, but the norm above acts on axis 1, which the
    // Transpose moves away from the channels of the Conv.
    let mut m = Micro::new(31);
    let x = m.input("x", &[3, 3, 3]);
    let y = m.bn(&x);
    let y = m.with_constant("Add", &y, Broadcast::Scalar, false);
    let y = m.transpose(&y, &[0, 2, 1, 3]);
    let y = m.conv(&Val { channels: 3, axis: 1, ..y }, &conv(4).kernel(3).pad(1));
    m.output(&y);
    let done = alone(&m, || FoldIntoConsumer);
    assert_eq!(done.ops, "BatchNormalization Add Transpose Conv");
}

fn joined(axis: i64, second: Step<'_>, affine: Step<'_>) -> Outcome {
    let mut m = Micro::new(41);
    let x = m.input("x", &[3, 6, 6]);
    let a = m.conv(&x, &conv(4).kernel(3).pad(1));
    let b = second(&mut m, &x);
    let node = Node::new("Concat").with("axis", axis);
    let y = m.apply(node, &[&a, &b]);
    let channels = if axis == 1 || axis == -3 { a.channels + b.channels } else { a.channels };
    let y = affine(&mut m, &Val { channels, ..y });
    m.output(&y);
    alone(&m, || FoldThroughConcat)
}

#[test]
fn an_affine_behind_a_concat_folds_into_every_operand() {
    let small: Step<'_> = &|m, x| m.conv(x, &conv(2).no_bias());
    let same: Step<'_> = &|m, x| m.conv(x, &conv(4));
    let norm: Step<'_> = &|m, x| m.bn(x);
    assert_eq!(joined(1, small, norm).ops, "Conv Conv Concat");
    assert_eq!(joined(-3, small, norm).ops, "Conv Conv Concat");
    // Joined rows: every operand has all channels.
    assert_eq!(joined(2, same, norm).ops, "Conv Conv Concat");
    for op in ["Mul", "Add", "Div"] {
        for shape in [Broadcast::Channel, Broadcast::Scalar] {
            let affine: Step<'_> = &|m, x| m.with_constant(op, x, shape, false);
            assert_eq!(joined(1, small, affine).ops, "Conv Conv Concat", "{op} {shape:?}");
        }
    }
    let pooled: Step<'_> = &|m, x| {
        let y = m.conv(x, &conv(2));
        let node = Node::new("MaxPool").with("kernel_shape", vec![3, 3]).with("pads", vec![1; 4]);
        m.apply(node, &[&y])
    };
    assert_eq!(joined(1, pooled, norm).ops, "Conv Conv MaxPool Concat");
}

#[test]
fn an_operand_without_weights_or_with_other_readers_keeps_the_affine() {
    let norm: Step<'_> = &|m, x| m.bn(x);
    let plain: Step<'_> = &|m, x| m.unary("Relu", x);
    assert_eq!(joined(1, plain, norm).reasons, ["concat-operand"]);
    let read_twice: Step<'_> = &|m, x| {
        let y = m.conv(x, &conv(2));
        let z = m.unary("Relu", &y);
        m.output(&z);
        y
    };
    assert_eq!(joined(1, read_twice, norm).reasons, ["read-twice"]);
}

#[test]
fn neg_and_sums_with_constants_are_affines() {
    let mut m = Micro::new(51);
    let x = m.input("x", &[3, 6, 6]);
    let y = m.conv(&x, &conv(4));
    let y = m.unary("Neg", &y);
    m.output(&y);
    assert_eq!(alone(&m, || FoldChannelAffine).ops, "Conv");
    for op in ["Sum", "Mean"] {
        for opset in [8, 13, 17] {
            for count in [1, 2] {
                let mut m = Micro::new(52).opset(opset);
                let x = m.input("x", &[3, 6, 6]);
                let y = m.conv(&x, &conv(4));
                let one = m.weight("one", &[4, 1, 1], &[1.0, -2.0, 0.5, 3.0]);
                let mut operands = vec![one, y.name.clone()];
                if count == 2 {
                    operands.push(m.weight("two", &[1, 1, 1, 1], &[0.25]));
                }
                let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
                let name = m.node(Node::new(op), &operands);
                let name = m.node(Node::new("Neg"), &[&name]);
                m.output(&Val { name, ..y });
                assert_eq!(alone(&m, || FoldChannelAffine).ops, "Conv", "{op} {opset} {count}");
            }
        }
    }
    let mut m = Micro::new(53);
    let x = m.input("x", &[3, 6, 6]);
    let y = m.unary("Neg", &x);
    let y = m.conv(&y, &conv(4).kernel(3).pad(1));
    m.output(&y);
    assert_eq!(alone(&m, || FoldIntoConsumer).ops, "Conv");
}

#[test]
fn a_sum_of_a_value_with_itself_becomes_a_product_beside_weights_only() {
    for (op, count) in [("Add", 2), ("Sum", 2), ("Sum", 3)] {
        for is_before in [true, false] {
            let mut m = Micro::new(61);
            let mut y = m.input("x", &[3, 6, 6]);
            if !is_before {
                y = m.conv(&y, &conv(4));
            }
            y = m.apply(Node::new(op), &vec![&y; count]);
            if is_before {
                y = m.conv(&y, &conv(4));
            }
            m.output(&y);
            let expected = if is_before { "Mul Conv" } else { "Conv Mul" };
            assert_eq!(alone(&m, || WriteSumAsProduct).ops, expected, "{op} {count}");
        }
    }
    let mut m = Micro::new(62);
    let x = m.input("x", &[3, 6, 6]);
    let y = m.add(&x, &x);
    let y = m.unary("Relu", &y);
    m.output(&y);
    assert_eq!(alone(&m, || WriteSumAsProduct).ops, "Add Relu");
}

#[test]
fn a_reshape_reads_in_front_of_the_reshape_before_it() {
    let chain = |second: &'static [i64], allows_zero: bool| {
        let mut m = Micro::new(71);
        let x = m.input("x", &[4, 6, 5]);
        let y = with_list("Reshape", &[-1, 24, 5], 3)(&mut m, &x);
        let shape = longs(&mut m, "second", second);
        let node = Node::new("Reshape").with("allowzero", i64::from(allows_zero));
        let name = m.node(node, &[&y.name, &shape]);
        m.output(&Val { name, ..y });
        alone(&m, || MergeReshapes)
    };
    assert_eq!(chain(&[-1, 120], false).ops, "Reshape");
    assert_eq!(chain(&[0, 120], false).reasons, ["copied-dim"]);
    assert_eq!(chain(&[-1, 120], true).ops, "Reshape");
}

#[test]
fn empty_operands_of_a_concat_go() {
    let mut m = Micro::new(81).batch(1);
    let x = m.input("x", &[4, 6, 5]);
    let y = m.unary("Relu", &x);
    let empty = m.constant("empty", &tensor(DataType::Float, &[1, 0, 6, 5], &[]));
    let node = Node::new("Concat").with("axis", 1);
    let name = m.node(node, &[&x.name, &empty, &y.name]);
    m.output(&Val { name, channels: 8, ..x });
    let done = alone(&m, || DropEmptyOperands);
    assert_eq!(done.ops, "Relu Concat");
    assert_eq!(done.initializers(), Vec::<&str>::new());
}
