//! Tests of which regions of a graph are blocks.

use updp_ir::infer::Shapes;
use updp_ir::{Model, Node, ValueId};
use updp_testkit::{Micro, Val, conv};

use super::{Activation, ActivationKind, Block, BlockKind, Flow, Norm, NormKind, find};
use crate::options::Options;
use crate::pipeline;
use crate::rule::Context;

fn looking<T>(model: &Model, look: impl FnOnce(&Context<'_>) -> T) -> T {
    let opset = model.opset("").expect("an opset");
    let shapes = Shapes::infer(&model.graph, opset);
    let options = Options::default();
    look(&Context { graph: &model.graph, shapes: &shapes, opset, options: &options })
}

fn blocks(m: &Micro) -> Vec<Block> {
    let mut model = m.build();
    pipeline::prepare(&mut model).expect("well formed");
    looking(&model, find).expect("no cycle")
}

fn kinds(m: &Micro) -> Vec<BlockKind> {
    blocks(m).iter().map(|block| block.kind).collect()
}

fn basic(m: &mut Micro, x: &Val) -> Val {
    let a = m.conv(x, &conv(6).kernel(3).pad(1));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(6).kernel(3).pad(1));
    let sum = m.add(x, &b);
    m.unary("Relu", &sum)
}

#[test]
fn a_global_shortcut_does_not_hide_the_blocks_inside() {
    let mut m = Micro::new(1);
    let x = m.input("x", &[6, 9, 9]);
    let first = basic(&mut m, &x);
    let second = basic(&mut m, &first);
    let y = m.add(&second, &x);
    m.output(&y);
    assert_eq!(kinds(&m), [BlockKind::Basic; 2]);
}

#[test]
fn blocks_of_a_backbone_may_give_features_to_several_heads() {
    let mut m = Micro::new(2);
    let x = m.input("x", &[6, 9, 9]);
    let first = basic(&mut m, &x);
    let second = basic(&mut m, &first);
    let head = m.unary("Sigmoid", &first);
    m.output(&head);
    m.output(&second);
    let found = blocks(&m);
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|block| block.refusal.is_none()), "{found:?}");
}

#[test]
fn a_single_conv_is_no_block_and_a_linear_one_is_left_to_exact_compilation() {
    let mut m = Micro::new(3);
    let x = m.input("x", &[6, 9, 9]);
    let a = m.conv(&x, &conv(6).kernel(3).pad(1));
    let y = m.unary("Relu", &a);
    m.output(&y);
    assert_eq!(kinds(&m), []);
    let mut m = Micro::new(4);
    let x = m.input("x", &[6, 9, 9]);
    let a = m.conv(&x, &conv(6).kernel(3).pad(1));
    let b = m.conv(&a, &conv(6).kernel(3).pad(1));
    m.output(&b);
    let found = blocks(&m);
    assert_eq!(found[0].fit_only.as_ref().map(|it| it.reason), Some("already-linear"));
    assert!(crate::surgery::forms(&found[0]).is_empty(), "exact surgery has nothing to do");
}

#[test]
fn a_branch_that_is_no_chain_is_of_no_family() {
    let mut m = Micro::new(5);
    let x = m.input("x", &[6, 9, 9]);
    let a = m.conv(&x, &conv(6).kernel(3).pad(1));
    let a = m.unary("Relu", &a);
    let left = m.conv(&a, &conv(3).kernel(3).pad(1));
    let left = m.unary("Relu", &left);
    let right = m.conv(&a, &conv(3));
    let right = m.unary("Relu", &right);
    let joined = m.node(Node::new("Concat").with("axis", 1_i64), &[&left.name, &right.name]);
    let joined = Val { name: joined, ..x.clone() };
    let b = m.conv(&joined, &conv(6));
    let y = m.add(&b, &x);
    m.output(&y);
    let found = blocks(&m);
    assert_eq!(found.iter().map(|b| b.kind).collect::<Vec<_>>(), [BlockKind::Other]);
    let fit_only = found[0].fit_only.as_ref().expect("exact surgery does not open it");
    assert_eq!(fit_only.reason, "unknown-form");
    assert!(fit_only.detail.contains("Concat"), "{fit_only:?}");
}

#[test]
fn dominators_join_where_ways_part() {
    let mut m = Micro::new(6);
    let x = m.input("x", &[4, 5, 5]);
    let fork = m.unary("Relu", &x);
    let left = m.unary("Sigmoid", &fork);
    let right = m.unary("Tanh", &fork);
    let right = m.unary("Abs", &right);
    let y = m.add(&left, &right);
    m.output(&y);
    let model = m.build();
    looking(&model, |cx| {
        let flow = Flow::of(cx).expect("no cycle");
        let value = |val: &Val| cx.graph.find(&val.name).expect("there");
        assert_eq!(flow.dominator(value(&y)), Some(value(&fork)));
        assert_eq!(flow.common(value(&left), value(&right)), Some(value(&fork)));
        assert_eq!(flow.common(value(&fork), value(&right)), Some(value(&fork)));
        assert_eq!(flow.between(cx, value(&fork), value(&y)).len(), 4);
        assert_eq!(flow.leak(cx, &flow.between(cx, value(&x), value(&y)), value(&y)), None);
        let half = flow.between(cx, value(&x), value(&left));
        assert_eq!(flow.leak(cx, &half, value(&left)), Some(value(&fork)));
    });
}

/// The activation that ends in the last value built.
fn activation(build: impl FnOnce(&mut Micro, &Val) -> Val) -> Option<ActivationKind> {
    let mut m = Micro::new(7).opset(13);
    let x = m.input("x", &[4, 5, 5]);
    let y = build(&mut m, &x);
    m.output(&y);
    let model = m.build();
    looking(&model, |cx| {
        let flow = Flow::of(cx).expect("no cycle");
        let output: ValueId = cx.graph.outputs().next().expect("one");
        Some(Activation::ending_in(cx, &flow, output)?.kind)
    })
}

fn scalar(m: &mut Micro, name: &str, value: f64) -> String {
    m.weight(name, &[], &[value])
}

#[test]
fn activations_are_known_by_what_they_compute() {
    let gelu = activation(|m, x| {
        let root = scalar(m, "root", std::f64::consts::SQRT_2);
        let (one, half) = (scalar(m, "one", 1.0), scalar(m, "half", 0.5));
        let scaled = m.node(Node::new("Div"), &[&x.name, &root]);
        let erf = m.node(Node::new("Erf"), &[&scaled]);
        let shifted = m.node(Node::new("Add"), &[&one, &erf]);
        let halved = m.node(Node::new("Mul"), &[&half, &shifted]);
        Val { name: m.node(Node::new("Mul"), &[&halved, &x.name]), ..x.clone() }
    });
    assert_eq!(gelu, Some(ActivationKind::Gelu));
    let tanh_gelu = activation(|m, x| {
        let (cubed, three) = (scalar(m, "c", 0.044_715), scalar(m, "three", 3.0));
        let (root, one, half) =
            (scalar(m, "r", 0.797_884_560_8), scalar(m, "one", 1.0), scalar(m, "half", 0.5));
        let cube = m.node(Node::new("Pow"), &[&x.name, &three]);
        let cube = m.node(Node::new("Mul"), &[&cube, &cubed]);
        let sum = m.node(Node::new("Add"), &[&x.name, &cube]);
        let inner = m.node(Node::new("Mul"), &[&sum, &root]);
        let tanh = m.node(Node::new("Tanh"), &[&inner]);
        let shifted = m.node(Node::new("Add"), &[&tanh, &one]);
        let gated = m.node(Node::new("Mul"), &[&x.name, &shifted]);
        Val { name: m.node(Node::new("Mul"), &[&gated, &half]), ..x.clone() }
    });
    assert_eq!(tanh_gelu, Some(ActivationKind::Gelu));
    let clip = activation(|m, x| {
        let (low, high) = (scalar(m, "low", 0.0), scalar(m, "high", 6.0));
        Val { name: m.node(Node::new("Clip"), &[&x.name, &low, &high]), ..x.clone() }
    });
    assert_eq!(clip, Some(ActivationKind::Relu6));
    let by_max = activation(|m, x| {
        let zero = scalar(m, "zero", 0.0);
        Val { name: m.node(Node::new("Max"), &[&x.name, &zero]), ..x.clone() }
    });
    assert_eq!(by_max, Some(ActivationKind::Relu));
    // The half of a GELU may have gone into the next weights.
    let twice = activation(|m, x| {
        let (root, one) = (scalar(m, "root", std::f64::consts::SQRT_2), scalar(m, "one", 1.0));
        let scaled = m.node(Node::new("Div"), &[&x.name, &root]);
        let erf = m.node(Node::new("Erf"), &[&scaled]);
        let shifted = m.node(Node::new("Add"), &[&erf, &one]);
        Val { name: m.node(Node::new("Mul"), &[&x.name, &shifted]), ..x.clone() }
    });
    assert_eq!(twice, Some(ActivationKind::Gelu));
    let quick = activation(|m, x| {
        let steep = scalar(m, "steep", 1.702);
        let scaled = m.node(Node::new("Mul"), &[&x.name, &steep]);
        let gate = m.node(Node::new("Sigmoid"), &[&scaled]);
        Val { name: m.node(Node::new("Mul"), &[&x.name, &gate]), ..x.clone() }
    });
    assert_eq!(quick, Some(ActivationKind::QuickGelu));
    // Affine, or a function of more than one value: no activation.
    assert_eq!(activation(|m, x| m.add(x, x)), None);
    assert_eq!(
        activation(|m, x| {
            let conv = m.conv(x, &conv(4));
            let gate = m.unary("Sigmoid", &conv);
            Val { name: m.node(Node::new("Mul"), &[&x.name, &gate.name]), ..x.clone() }
        }),
        None
    );
}

#[test]
fn a_spelled_out_layer_norm_is_one_norm_along_its_axis() {
    for opset in [13, 18] {
        let mut m = Micro::new(8).opset(opset);
        let x = m.tokens("x", &[7, 12]);
        let axes = m.constant("axes", &updp_ir::Tensor::from_i64(vec![1], &[-1]).expect("fits"));
        let (two, epsilon) = (scalar(&mut m, "two", 2.0), scalar(&mut m, "epsilon", 1e-6));
        let mean = |m: &mut Micro, of: &str| {
            if opset >= 18 {
                m.node(Node::new("ReduceMean"), &[of, &axes])
            } else {
                m.node(Node::new("ReduceMean").with("axes", vec![-1]), &[of])
            }
        };
        let average = mean(&mut m, &x.name);
        let centred = m.node(Node::new("Sub"), &[&x.name, &average]);
        let square = m.node(Node::new("Pow"), &[&centred, &two]);
        let variance = mean(&mut m, &square);
        let shifted = m.node(Node::new("Add"), &[&variance, &epsilon]);
        let root = m.node(Node::new("Sqrt"), &[&shifted]);
        let y = m.node(Node::new("Div"), &[&centred, &root]);
        m.output(&Val { name: y.clone(), ..x.clone() });
        let model = m.build();
        looking(&model, |cx| {
            let flow = Flow::of(cx).expect("no cycle");
            let norm = Norm::ending_in(cx, &flow, cx.graph.find(&y).expect("there"));
            let norm = norm.expect("recognized");
            assert_eq!((norm.kind, norm.axis, norm.channels), (NormKind::Layer, 2, 12));
            assert!((norm.epsilon - 1e-6).abs() < 1e-9);
        });
    }
}
