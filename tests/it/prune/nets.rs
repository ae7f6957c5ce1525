//! Pruning small networks with what real ones rarely hold: odd paddings, dilations, groups, other norms, shared
//! weights, results read elsewhere.

use updp_ir::{DataType, Model, Node, Tensor};
use updp_passes::blocks::BlockKind;
use updp_passes::pipeline;
use updp_passes::surgery::{self, Choice, Form, Shrink};
use updp_testkit::{Limit, Micro, Proof, Val, conv, op_counts};

use crate::compile::merge_all;

pub(super) fn prepared(micro: &Micro) -> Model {
    let mut model = micro.build();
    pipeline::prepare(&mut model).expect("well formed");
    model
}

fn kinds(micro: &Micro) -> Vec<BlockKind> {
    let blocks = surgery::blocks_of(&prepared(micro)).expect("no cycle");
    blocks.iter().map(|block| block.kind).collect()
}

/// The reasons of the blocks that cannot be pruned.
fn refusals(micro: &Micro) -> Vec<&'static str> {
    let blocks = surgery::blocks_of(&prepared(micro)).expect("no cycle");
    blocks.iter().filter_map(|block| Some(block.refusal.as_ref()?.reason)).collect()
}

fn pruned(micro: &Micro, form: Form, shrink: Shrink) -> Model {
    let mut model = prepared(micro);
    let choices = choices(&model, form);
    surgery::prune(&mut model, &choices, shrink).unwrap_or_else(|error| panic!("{error}"));
    model
}

pub(super) fn choices(model: &Model, form: Form) -> Vec<Choice> {
    let blocks = surgery::blocks_of(model).expect("no cycle");
    let offered = blocks.into_iter().filter(|block| surgery::forms(block).contains(&form));
    offered.map(|block| Choice { block, form }).collect()
}

/// Proves the expanded network at λ = 0 and the merged one against the settled one, in every form; gives
/// the operators left of the paper's form.
#[track_caller]
fn proves(micro: &Micro, shrink: Shrink) -> indexmap::IndexMap<String, usize> {
    let original = micro.build();
    let mut counts = indexmap::IndexMap::new();
    for form in Form::ALL {
        let mut expanded = prepared(micro);
        let choices = choices(&expanded, form);
        if choices.is_empty() {
            continue;
        }
        surgery::expand(&mut expanded, &choices, shrink).unwrap_or_else(|error| panic!("{error}"));
        surgery::fix_lambda(&mut expanded, 0.0).expect("it has a λ");
        let proof = Proof { limit: Limit::OneRewrite, runs: 2, ..Proof::default() };
        proof.check(&original, &expanded).unwrap_or_else(|r| panic!("{} at 0: {r}", form.name()));
        let settled = pruned(micro, form, shrink);
        let mut merged = pruned(micro, form, shrink);
        pipeline::compile(&mut merged, &merge_all(), &mut |_, _| ()).expect("well formed");
        proof.check(&settled, &merged).unwrap_or_else(|r| panic!("{}: {r}", form.name()));
        if form == Form::Conv {
            counts = op_counts(&merged.graph).into_iter().collect();
        }
    }
    counts
}

/// A small network around one block, so that its source is not a graph input.
pub(super) fn around(
    seed: u64,
    channels: usize,
    block: impl FnOnce(&mut Micro, &Val) -> Val,
) -> Micro {
    let mut m = Micro::new(seed);
    let x = m.input("x", &[3, 14, 14]);
    let x = m.conv(&x, &conv(channels).kernel(3).pad(1));
    let x = m.unary("Relu", &x);
    let y = block(&mut m, &x);
    let y = m.unary("Sigmoid", &y);
    m.output(&y);
    m
}

pub(super) fn basic(
    m: &mut Micro,
    x: &Val,
    first: &updp_testkit::ConvSpec,
    second: &updp_testkit::ConvSpec,
) -> Val {
    let a = m.conv(x, first);
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, second);
    let sum = m.add(&b, x);
    m.unary("Relu", &sum)
}

#[test]
fn a_basic_block_becomes_one_conv() {
    let k3 = conv(6).kernel(3).pad(1);
    let micro = around(1, 6, |m, x| basic(m, x, &k3.clone().no_bias(), &k3));
    assert_eq!(kinds(&micro), [BlockKind::Basic]);
    assert_eq!(proves(&micro, Shrink::Auto)["Conv"], 2);
    assert_eq!(proves(&micro, Shrink::None)["Conv"], 2);
}

#[test]
fn a_strided_block_with_a_projection_becomes_one_conv() {
    let micro = around(2, 6, |m, x| {
        let a = m.conv(x, &conv(8).kernel(3).stride(2).pad(1));
        let a = m.unary("Relu", &a);
        let b = m.conv(&a, &conv(8).kernel(3).pad(1));
        let shortcut = m.conv(x, &conv(8).stride(2));
        let sum = m.add(&b, &shortcut);
        m.unary("Relu", &sum)
    });
    assert_eq!(kinds(&micro), [BlockKind::Basic]);
    assert_eq!(proves(&micro, Shrink::Auto)["Conv"], 2);
    assert_eq!(proves(&micro, Shrink::None)["Conv"], 2);
}

#[test]
fn an_option_a_shortcut_merges_too() {
    let micro = around(3, 6, |m, x| {
        let a = m.conv(x, &conv(8).kernel(3).stride(2).pad(1));
        let a = m.unary("Relu", &a);
        let b = m.conv(&a, &conv(8).kernel(3).pad(1));
        let ints = |m: &mut Micro, name: &str, values: &[i64]| {
            m.constant(name, &Tensor::from_i64(vec![values.len()], values).expect("fits"))
        };
        let names = [
            ints(m, "starts", &[0, 0]),
            ints(m, "ends", &[i64::MAX, i64::MAX]),
            ints(m, "axes", &[2, 3]),
            ints(m, "steps", &[2, 2]),
        ];
        let operands = [&x.name, &names[0], &names[1], &names[2], &names[3]].map(String::as_str);
        let sliced = Val { name: m.node(Node::new("Slice"), &operands), ..x.clone() };
        let shortcut = m.pad(&sliced, &[0, 1, 0, 0, 0, 1, 0, 0], "constant", Some(0.0));
        let sum = m.add(&b, &shortcut);
        m.unary("Relu", &sum)
    });
    assert_eq!(kinds(&micro), [BlockKind::Basic]);
    let counts = proves(&micro, Shrink::Auto);
    assert_eq!((counts["Conv"], counts.get("Slice"), counts.get("Pad")), (2, None, None));
}

#[test]
fn asymmetric_paddings_dilations_and_groups_move() {
    let cases = [
        (conv(6).kernel(3).stride(2).pads(&[0, 0, 1, 1]), conv(6).kernel(3).pad(1), true),
        (conv(6).kernel(3).pads(&[2, 0, 0, 2]), conv(6).kernel(3).pads(&[0, 2, 2, 0]), false),
        (conv(6).kernel(3).pad(2).dilation(2), conv(6).kernel(3).pad(2).dilation(2), false),
        (conv(6).kernel(3).pad(1).groups(2), conv(6).kernel(3).pad(1).groups(3), false),
        (
            conv(6).kernels(&[3, 5]).pads(&[1, 2, 1, 2]),
            conv(6).kernels(&[5, 3]).pads(&[2, 1, 2, 1]),
            false,
        ),
    ];
    for (seed, (first, second, is_strided)) in cases.into_iter().enumerate() {
        let micro = around(10 + seed as u64, 6, |m, x| {
            let a = m.conv(x, &first);
            let a = m.unary("Relu", &a);
            let b = m.conv(&a, &second);
            let shortcut = if is_strided { m.conv(x, &conv(6).stride(2)) } else { x.clone() };
            let sum = m.add(&b, &shortcut);
            m.unary("Relu", &sum)
        });
        assert_eq!(kinds(&micro), [BlockKind::Basic], "case {seed}");
        assert_eq!(proves(&micro, Shrink::Auto)["Conv"], 2, "case {seed}");
        proves(&micro, Shrink::None);
    }
}

#[test]
fn chains_of_three_and_more_are_cut_and_merged() {
    for (convs, blocks) in [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
        let mut m = Micro::new(40 + convs);
        let mut x = m.input("x", &[3, 12, 12]);
        for _ in 0..convs {
            x = m.conv(&x, &conv(4).kernel(3).pad(1));
            x = m.bn(&x);
            x = m.unary("Relu", &x);
        }
        m.output(&x);
        assert_eq!(kinds(&m), vec![BlockKind::Chain; blocks], "{convs} convs");
        assert_eq!(proves(&m, Shrink::Auto)["Conv"], blocks, "{convs} convs");
        assert_eq!(proves(&m, Shrink::None)["Conv"], blocks, "{convs} convs");
    }
}

#[test]
fn unpadded_chains_keep_their_kernels() {
    let mut m = Micro::new(50);
    let x = m.input("x", &[3, 12, 12]);
    let a = m.conv(&x, &conv(4).kernel(3));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(4).kernel(3));
    let b = m.unary("Relu", &b);
    m.output(&b);
    let mut model = prepared(&m);
    let choices = choices(&model, Form::Conv);
    let error = surgery::prune(&mut model, &choices, Shrink::Auto).expect_err("no padding to take");
    assert_eq!(error.code(), "P0004");
    assert!(error.to_string().contains("padding"), "{error}");
    let settled = pruned(&m, Form::Conv, Shrink::None);
    let mut merged = pruned(&m, Form::Conv, Shrink::None);
    pipeline::compile(&mut merged, &merge_all(), &mut |_, _| ()).expect("well formed");
    Proof::default().assert(&settled, &merged);
    assert_eq!(op_counts(&merged.graph)["Conv"], 1);
}

#[test]
fn group_and_instance_norms_become_batch_norms() {
    let norm = |m: &mut Micro, x: &Val, node: Node, size: usize| {
        let scale = m.numbers(size, 0.5, 1.5);
        let shift = m.numbers(size, -0.5, 0.5);
        let scale = m.weight(&format!("{}.scale", x.name), &[size], &scale);
        let shift = m.weight(&format!("{}.shift", x.name), &[size], &shift);
        Val { name: m.node(node, &[&x.name, &scale, &shift]), ..x.clone() }
    };
    for (opset, name, size) in [
        (18, "GroupNormalization", 2),
        (21, "GroupNormalization", 6),
        (17, "InstanceNormalization", 6),
    ] {
        let mut m = Micro::new(60 + opset as u64).opset(opset);
        let x = m.input("x", &[6, 10, 10]);
        let node = || {
            let node = Node::new(name);
            if name == "GroupNormalization" { node.with("num_groups", 2_i64) } else { node }
        };
        let a = m.conv(&x, &conv(6).kernel(3).pad(1).no_bias());
        let a = norm(&mut m, &a, node(), size);
        let a = m.unary("Relu", &a);
        let b = m.conv(&a, &conv(6).kernel(3).pad(1).no_bias());
        let b = norm(&mut m, &b, node(), size);
        let sum = m.add(&b, &x);
        let y = m.unary("Relu", &sum);
        m.output(&y);
        assert_eq!(kinds(&m), [BlockKind::Basic], "{name} of opset {opset}");
        let settled = pruned(&m, Form::Conv, Shrink::Auto);
        let mut merged = pruned(&m, Form::Conv, Shrink::Auto);
        pipeline::compile(&mut merged, &merge_all(), &mut |_, _| ()).expect("well formed");
        let proof = Proof { runs: 2, one_runtime: true, ..Proof::default() };
        proof.assert(&settled, &merged);
        let counts = op_counts(&merged.graph);
        assert_eq!((counts["Conv"], counts.get(name)), (1, None), "{counts:?}");
    }
}

#[test]
fn torchs_group_norm_of_two_reshapes_is_recognized() {
    let micro = around(70, 6, |m, x| {
        let group = |m: &mut Micro, x: &Val| {
            let there = m.constant(
                &format!("{}.there", x.name),
                &Tensor::from_i64(vec![3], &[0, 2, -1]).expect("fits"),
            );
            let back = m.constant(
                &format!("{}.back", x.name),
                &Tensor::from_i64(vec![4], &[-1, 6, 14, 14]).expect("fits"),
            );
            let ones = m.weight(&format!("{}.ones", x.name), &[2], &[1.0; 2]);
            let zeros = m.weight(&format!("{}.zeros", x.name), &[2], &[0.0; 2]);
            let grouped = m.node(Node::new("Reshape"), &[&x.name, &there]);
            let normed = m.node(Node::new("InstanceNormalization"), &[&grouped, &ones, &zeros]);
            let y = Val { name: m.node(Node::new("Reshape"), &[&normed, &back]), ..x.clone() };
            let y = m.with_constant("Mul", &y, updp_testkit::Broadcast::Channel, false);
            m.with_constant("Add", &y, updp_testkit::Broadcast::Channel, false)
        };
        let a = m.conv(x, &conv(6).kernel(3).pad(1));
        let a = group(m, &a);
        let a = m.unary("Relu", &a);
        let b = m.conv(&a, &conv(6).kernel(3).pad(1));
        let b = group(m, &b);
        let sum = m.add(&b, x);
        m.unary("Relu", &sum)
    });
    assert_eq!(kinds(&micro), [BlockKind::Basic]);
    let counts = proves(&micro, Shrink::Auto);
    assert_eq!((counts["Conv"], counts.get("InstanceNormalization")), (2, None));
}

type Act<'a> = &'a dyn Fn(&mut Micro, &Val) -> Val;

fn inverted(m: &mut Micro, x: &Val, act: Act<'_>) -> Val {
    let a = m.conv(x, &conv(18));
    let a = act(m, &a);
    let b = m.conv(&a, &conv(18).kernel(3).pad(1).groups(18));
    let b = act(m, &b);
    let c = m.conv(&b, &conv(6));
    m.add(&c, x)
}

#[test]
fn inverted_residuals_know_every_spelling_of_their_activation() {
    let scalar = |m: &mut Micro, name: &str, value: f64| m.weight(name, &[], &[value]);
    let relu6 = |m: &mut Micro, x: &Val| {
        let low = m.weight(&format!("{}.low", x.name), &[], &[0.0]);
        let high = m.weight(&format!("{}.high", x.name), &[], &[6.0]);
        Val { name: m.node(Node::new("Clip"), &[&x.name, &low, &high]), ..x.clone() }
    };
    let hard_swish = |m: &mut Micro, x: &Val| m.unary("HardSwish", x);
    let paddle = |m: &mut Micro, x: &Val| {
        let three = scalar(m, &format!("{}.three", x.name), 3.0);
        let (zero, six) = (
            scalar(m, &format!("{}.zero", x.name), 0.0),
            scalar(m, &format!("{}.six", x.name), 6.0),
        );
        let shifted = m.node(Node::new("Add"), &[&x.name, &three]);
        let clipped = m.node(Node::new("Clip"), &[&shifted, &zero, &six]);
        let gated = m.node(Node::new("Mul"), &[&x.name, &clipped]);
        Val { name: m.node(Node::new("Div"), &[&gated, &six]), ..x.clone() }
    };
    let silu = |m: &mut Micro, x: &Val| {
        let gate = m.unary("Sigmoid", x);
        Val { name: m.node(Node::new("Mul"), &[&x.name, &gate.name]), ..x.clone() }
    };
    let activations: [Act<'_>; 4] = [&relu6, &hard_swish, &paddle, &silu];
    for (seed, act) in activations.into_iter().enumerate() {
        let micro = around(80 + seed as u64, 6, |m, x| inverted(m, x, act));
        assert_eq!(kinds(&micro), [BlockKind::InvertedResidual], "spelling {seed}");
        assert_eq!(proves(&micro, Shrink::Auto)["Conv"], 2, "spelling {seed}");
    }
}

/// One transformer layer with q, k and v projected apart, as Hugging Face exports it; `norm_first` = the norm
/// stands before the attention.
fn separate_attention(seed: u64, norm_first: bool) -> Micro {
    let mut m = Micro::new(seed);
    let x = m.tokens("x", &[5, 8]);
    let norm = |m: &mut Micro, x: &Val| {
        let (scale, shift) = (m.numbers(8, 0.5, 1.5), m.numbers(8, -0.5, 0.5));
        let scale = m.weight(&format!("{}.scale", x.name), &[8], &scale);
        let shift = m.weight(&format!("{}.shift", x.name), &[8], &shift);
        let node = Node::new("LayerNormalization").with("axis", -1_i64);
        Val { name: m.node(node, &[&x.name, &scale, &shift]), ..x.clone() }
    };
    let shape = |m: &mut Micro, name: &str, values: &[i64]| {
        m.constant(name, &Tensor::from_i64(vec![values.len()], values).expect("fits"))
    };
    let heads = shape(&mut m, "heads", &[0, 5, 2, 4]);
    let joined = shape(&mut m, "joined", &[0, 5, 8]);
    let normed = if norm_first { norm(&mut m, &x) } else { x.clone() };
    let project = |m: &mut Micro, perm: Vec<i64>| {
        let y = m.matmul_add(&normed, 8);
        let y = m.node(Node::new("Reshape"), &[&y.name, &heads]);
        m.node(Node::new("Transpose").with("perm", perm), &[&y])
    };
    let key = project(&mut m, vec![0, 2, 3, 1]);
    let value = project(&mut m, vec![0, 2, 1, 3]);
    let query = project(&mut m, vec![0, 2, 1, 3]);
    let scores = m.node(Node::new("MatMul"), &[&query, &key]);
    let shares = m.node(Node::new("Softmax").with("axis", -1_i64), &[&scores]);
    let mixed = m.node(Node::new("MatMul"), &[&shares, &value]);
    let mixed = m.node(Node::new("Transpose").with("perm", vec![0, 2, 1, 3]), &[&mixed]);
    let mixed = m.node(Node::new("Reshape"), &[&mixed, &joined]);
    let mixed = Val { name: mixed, ..x.clone() };
    let out = m.matmul_add(&mixed, 8);
    let half = m.add(&out, &x);
    let half = if norm_first { half } else { norm(&mut m, &half) };
    let inner = if norm_first { norm(&mut m, &half) } else { half.clone() };
    let hidden = m.matmul_add(&inner, 32);
    let gate = m.unary("Sigmoid", &hidden);
    let hidden = Val { name: m.node(Node::new("Mul"), &[&hidden.name, &gate.name]), ..hidden };
    let out = m.matmul_add(&hidden, 8);
    let y = m.add(&half, &out);
    m.output(&y);
    m
}

#[test]
fn attention_with_separate_projections_is_a_layer() {
    let micro = separate_attention(71, true);
    assert_eq!(kinds(&micro), [BlockKind::Attention, BlockKind::VitLayer]);
    let counts = proves(&micro, Shrink::Auto);
    // q, k, v, two products of the attention, its projection, one FC.
    assert_eq!((counts["MatMul"], counts.get("LayerNormalization")), (7, None), "{counts:?}");
    // Post-norm layers have no norm that could fold into the projections.
    let post = separate_attention(72, false);
    assert_eq!(kinds(&post), [BlockKind::Other, BlockKind::Mlp]);
}

#[test]
fn clips_with_attributes_are_relu6_too() {
    let mut m = Micro::new(90).opset(9);
    let x = m.input("x", &[6, 9, 9]);
    let y = inverted(&mut m, &x, &|m, x| {
        m.apply(Node::new("Clip").with("min", 0.0_f32).with("max", 6.0_f32), &[x])
    });
    m.output(&y);
    assert_eq!(kinds(&m), [BlockKind::InvertedResidual]);
    assert_eq!(proves(&m, Shrink::Auto)["Conv"], 1);
}

#[test]
fn gates_are_named_and_not_opened_by_exact_surgery() {
    let micro = around(91, 6, |m, x| {
        let a = m.conv(x, &conv(18));
        let a = m.unary("Relu", &a);
        let b = m.conv(&a, &conv(18).kernel(3).pad(1).groups(18));
        let b = m.unary("Relu", &b);
        let pooled = m.unary("GlobalAveragePool", &b);
        let squeezed = m.conv(&pooled, &conv(4));
        let squeezed = m.unary("Relu", &squeezed);
        let excited = m.conv(&squeezed, &conv(18));
        let gate = m.unary("Sigmoid", &excited);
        let gated = m.apply(Node::new("Mul"), &[&b, &gate]);
        let c = m.conv(&gated, &conv(6));
        m.add(&c, x)
    });
    assert_eq!(kinds(&micro), [BlockKind::InvertedResidual]);
    assert!(refusals(&micro).is_empty());
    let blocks = surgery::blocks_of(&prepared(&micro)).expect("no cycle");
    let fit_only = blocks[0].fit_only.as_ref().expect("only fitted");
    assert_eq!(fit_only.reason, "not-affine");
    assert!(fit_only.detail.contains("squeeze-and-excitation"), "{fit_only:?}");
    assert!(surgery::forms(&blocks[0]).is_empty());
}

#[test]
fn values_read_outside_stop_a_block() {
    let k3 = conv(6).kernel(3).pad(1);
    let mut m = Micro::new(92);
    let x = m.input("x", &[6, 8, 8]);
    let a = m.conv(&x, &k3);
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &k3);
    let sum = m.add(&b, &x);
    let y = m.unary("Relu", &sum);
    m.output(&y);
    // The inner activation is a graph output as well.
    m.output(&a);
    assert_eq!(refusals(&m), ["read-outside"]);
    let mut n = Micro::new(93);
    let x = n.input("x", &[6, 8, 8]);
    let a = n.conv(&x, &k3);
    let a = n.unary("Relu", &a);
    let b = n.conv(&a, &k3);
    let sum = n.add(&b, &x);
    let y = n.unary("Relu", &sum);
    let other = n.unary("Sigmoid", &b);
    let z = n.add(&y, &other);
    n.output(&z);
    let blocks = surgery::blocks_of(&prepared(&n)).expect("no cycle");
    // Both ways together make one region, which is only fitted.
    assert!(blocks.iter().all(|block| surgery::forms(block).is_empty()));
    assert_eq!(blocks.iter().map(|block| block.kind).collect::<Vec<_>>(), [BlockKind::Other]);
    assert!(blocks[0].shortcut.is_none());
}

#[test]
fn blocks_may_share_weights_and_stand_at_the_end() {
    let mut m = Micro::new(94);
    let x = m.input("x", &[6, 8, 8]);
    let weights = m.numbers(6 * 6 * 9, -0.3, 0.3);
    let weight = m.weight("shared.weight", &[6, 6, 3, 3], &weights);
    let spec = conv(6).kernel(3).pad(1);
    let mut at = x;
    for _ in 0..2 {
        let a = m.conv_with(&at, &spec, &weight, None);
        let a = m.unary("Relu", &a);
        let b = m.conv_with(&a, &spec, &weight, None);
        let sum = m.add(&b, &at);
        at = m.unary("Relu", &sum);
    }
    m.output(&at);
    assert_eq!(kinds(&m), [BlockKind::Basic; 2]);
    assert_eq!(proves(&m, Shrink::Auto)["Conv"], 2);
}

#[test]
fn halves_and_doubles_are_pruned_in_their_own_dtype() {
    for dtype in [DataType::Float16, DataType::Double] {
        let mut m = Micro::new(95).dtype(dtype);
        let x = m.input("x", &[6, 8, 8]);
        let y = basic(&mut m, &x, &conv(6).kernel(3).pad(1), &conv(6).kernel(3).pad(1));
        m.output(&y);
        assert_eq!(kinds(&m), [BlockKind::Basic]);
        let settled = pruned(&m, Form::Conv, Shrink::Auto);
        let mut merged = pruned(&m, Form::Conv, Shrink::Auto);
        pipeline::compile(&mut merged, &merge_all(), &mut |_, _| ()).expect("well formed");
        Proof { limit: Limit::WholeNetwork, ..Proof::default() }.assert(&settled, &merged);
    }
}
