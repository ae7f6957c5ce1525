//! Tests of thin forms on small networks, by execution.

use ndarray::Axis;
use updp_ir::{DataType, Model, Node};
use updp_testkit::{Broadcast, Micro, Val, WeightForm, conv, gemm, prove};

use super::*;
use crate::rule::Context;

fn thin_sites(model: &Model, block: &Block) -> Vec<Site> {
    with_context(model, |cx| {
        let all = sites(cx, block, Shrink::Auto).into_iter();
        all.filter(|(form, _)| form.is_thin()).map(|(_, site)| site.expect("it exists")).collect()
    })
}

fn only(model: &Model) -> Block {
    let mut blocks = blocks_of(model).expect("no cycle");
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    blocks.remove(0)
}

/// Number of hidden channels that stay.
fn kept(site: &Site) -> Option<usize> {
    site.thin.map(|thin| thin.kept)
}

/// The hidden channels that stay, spread over all.
fn spread(site: &Site) -> Vec<usize> {
    let kept = site.thin.expect("a thin site").kept;
    (0..kept).map(|at| (at * site.in_channels + site.in_channels / 2) / kept).collect()
}

/// The network whose other hidden channels have no weight, and the network without them.
pub(super) fn dead_and_thin(model: &Model, site: &Site, kept: Vec<usize>) -> (Model, Model) {
    let mut map = with_context(model, |cx| thin_map(cx, site)).expect("the operator is there");
    let all: Vec<usize> = (0..site.in_channels).collect();
    for channel in all.iter().filter(|channel| !kept.contains(channel)) {
        map.weight.index_axis_mut(Axis(1), *channel).fill(0.0);
    }
    let last = AffineMap { weight: map.weight.select(Axis(1), &kept), ..map.clone() };
    let (mut dead, mut thin) = (model.clone(), model.clone());
    substitute(&mut dead, site, &Fitted::Thin { kept: all, last: map }).expect("all stay");
    substitute(&mut thin, site, &Fitted::Thin { kept, last }).expect("some stay");
    thin.validate().expect("well formed");
    (dead, thin)
}

/// Proves every thin form of the only block of a model, and that it stays a block of its kind. Returns the numbers of
/// channels that stay.
fn prove_thin(model: &Model) -> Vec<usize> {
    let block = only(model);
    assert_eq!(block.refusal, None);
    let sites = thin_sites(model, &block);
    for site in &sites {
        let (dead, thin) = dead_and_thin(model, site, spread(site));
        prove(&dead, &thin);
        let again = only(&thin);
        assert_eq!((again.kind, &again.name), (block.kind, &block.name));
        let next = thin_sites(&thin, &again);
        assert_eq!(next.is_empty(), kept(site) == Some(4), "{next:?}");
        assert!(next.iter().all(|next| Some(next.in_channels) == kept(site)));
        let mut part = part_of(model, &block).expect("it can be cut out");
        fit_part(&mut part, site, &Options::default()).expect("it is offered");
        part.validate().expect("well formed");
    }
    sites.iter().filter_map(kept).collect()
}

fn refusal(model: &Model, block: usize) -> &'static str {
    let blocks = blocks_of(model).expect("no cycle");
    let listed = with_context(model, |cx| sites(cx, &blocks[block], Shrink::Auto));
    assert!(!listed.iter().any(|(form, _)| form.is_thin()), "{listed:?}");
    let site = |cx: &Context<'_>| site(cx, &blocks[block], Form::Thin(4), Shrink::Auto);
    with_context(model, site).expect_err("it has no thin form").reason
}

/// Expansion, depthwise convolution and projection, with a stride and without a shortcut.
fn inverted(m: &mut Micro) -> Val {
    let x = m.input("x", &[12, 9, 9]);
    let a = m.conv(&x, &conv(40));
    let a = m.bn(&a);
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(40).kernel(3).stride(2).pad(1).groups(40));
    let b = m.bn(&b);
    let b = m.unary("HardSwish", &b);
    let y = m.conv(&b, &conv(16));
    m.bn(&y)
}

#[test]
fn the_forms_keep_multiples_that_are_nearest() {
    assert_eq!(thin::widths(16), [(6, 12), (4, 8), (2, 4)]);
    assert_eq!(thin::widths(8), [(4, 4)]);
    assert_eq!(thin::widths(4), []);
    assert_eq!(thin::widths(24), [(7, 20), (5, 16), (4, 12), (3, 8), (1, 4)]);
    assert_eq!(thin::widths(32), [(6, 24), (4, 16), (2, 8)]);
    let eighths: Vec<(u8, usize)> = (1..=7_u8).rev().map(|e| (e, 96 * usize::from(e))).collect();
    assert_eq!(thin::widths(768), eighths);
    for form in Form::ALL {
        assert_eq!(Form::named(form.name()), Some(form));
        assert_ne!(form.is_thin(), form.is_depth());
    }
    assert_eq!(Form::named("thin"), None);
}

#[test]
fn an_inverted_residual_that_ends_narrower_than_it_starts_stays_one() {
    for opset in [14, 17] {
        let mut m = Micro::new(1).opset(opset);
        let y = inverted(&mut m);
        m.output(&y);
        let model = m.build();
        assert_eq!(only(&model).kind, blocks::BlockKind::InvertedResidual);
        assert_eq!(prove_thin(&model), [32, 24, 16, 8]);
    }
}

#[test]
fn weights_of_any_kind_and_storage_are_cut() {
    for form in [WeightForm::Initializer, WeightForm::ConstantNode, WeightForm::Aliased] {
        let mut m = Micro::new(2).weights(form);
        let y = inverted(&mut m);
        m.output(&y);
        let mut model = m.build();
        pipeline::prepare(&mut model).expect("well formed");
        assert_eq!(prove_thin(&model), [32, 24, 16, 8], "{form:?}");
    }
    let mut m = Micro::new(3).dtype(DataType::Float16);
    let x = m.input("x", &[8, 6, 6]);
    let a = m.conv(&x, &conv(16).kernel(3).pad(1));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(8).kernel(3).pad(1));
    let y = m.add(&x, &b);
    m.output(&y);
    assert_eq!(prove_thin(&m.build()), [12, 8, 4]);
}

#[test]
fn a_basic_block_with_a_projection_and_a_bottleneck_lose_channels_of_their_last_pair() {
    let mut m = Micro::new(4);
    let x = m.input("x", &[8, 9, 9]);
    let a = m.conv(&x, &conv(16).kernel(3).pad(1));
    let a = m.with_constant("Mul", &a, Broadcast::Channel, true);
    let a = m.unary("Relu", &a);
    let a = m.with_constant("Sub", &a, Broadcast::Channel, true);
    let b = m.conv(&a, &conv(12).kernel(3).stride(2).pad(1));
    let b = m.bn(&b);
    let shortcut = m.conv(&x, &conv(12).stride(2));
    let sum = m.add(&b, &shortcut);
    let y = m.unary("Relu", &sum);
    m.output(&y);
    assert_eq!(prove_thin(&m.build()), [12, 8, 4]);

    let mut m = Micro::new(5);
    let x = m.input("x", &[16, 7, 7]);
    let a = m.conv(&x, &conv(8));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(12).kernel(3).pad(1));
    let b = m.unary("Relu", &b);
    let c = m.conv(&b, &conv(16));
    let sum = m.add(&c, &x);
    let y = m.unary("Relu", &sum);
    m.output(&y);
    assert_eq!(prove_thin(&m.build()), [8, 4]);
}

#[test]
fn slopes_of_channels_are_cut_and_one_slope_for_all_stays() {
    for dims in [vec![16, 1, 1], vec![1, 16, 1, 1], vec![1], vec![1, 1, 1]] {
        let mut m = Micro::new(6);
        let x = m.input("x", &[8, 6, 6]);
        let a = m.conv(&x, &conv(16).kernel(3).pad(1));
        let slopes = m.numbers(dims.iter().product(), -0.9, 0.9);
        let slopes = m.weight("slopes", &dims, &slopes);
        let name = m.node(Node::new("PRelu"), &[&a.name, &slopes]);
        let b = m.conv(&Val { name, ..a }, &conv(8).kernel(3).pad(1));
        let y = m.add(&x, &b);
        m.output(&y);
        assert_eq!(prove_thin(&m.build()), [12, 8, 4], "{dims:?}");
    }
}

#[test]
fn channels_are_followed_through_transpositions_and_the_scale_of_the_layer() {
    let mut m = Micro::new(7);
    let x = m.input("x", &[8, 5, 6]);
    let a = m.conv(&x, &conv(16));
    let a = m.transpose(&a, &[0, 2, 3, 1]);
    let a = m.with_constant("Add", &a, Broadcast::Channel, false);
    let slopes = m.numbers(16, -0.9, 0.9);
    let slopes = m.weight("slopes", &[16], &slopes);
    let name = m.node(Node::new("PRelu"), &[&a.name, &slopes]);
    let b = m.matmul_add(&Val { name, ..a }, 8);
    let b = m.with_constant("Mul", &b, Broadcast::Channel, false);
    let b = m.with_constant("Mul", &b, Broadcast::Scalar, false);
    let b = m.transpose(&b, &[0, 3, 1, 2]);
    let y = m.add(&x, &b);
    m.output(&y);
    let model = m.build();
    assert_eq!(prove_thin(&model), [12, 8, 4]);
    let site = &thin_sites(&model, &only(&model))[0];
    assert_eq!((site.channel_axis, site.end_axis, site.window.rank()), (3, 1, 0));
}

#[test]
fn fully_connected_layers_of_every_layout_are_cut() {
    for trans_b in [true, false] {
        let mut m = Micro::new(8);
        let x = m.tokens("x", &[8]);
        let spec = |features: usize| {
            let spec = gemm(features).factors(0.5, 2.0);
            if trans_b { spec } else { spec.plain_weight() }
        };
        let a = m.gemm(&x, &spec(16));
        let a = m.unary("Relu", &a);
        let b = m.gemm(&a, &spec(8));
        let y = m.add(&x, &b);
        m.output(&y);
        assert_eq!(prove_thin(&m.build()), [12, 8, 4]);
    }
    // One number is the bias of all channels; the other operator has none.
    let mut m = Micro::new(9);
    let x = m.tokens("x", &[5, 8]);
    let a = m.matmul(&x, 16);
    let a = m.with_constant("Add", &a, Broadcast::Scalar, false);
    let a = m.unary("Tanh", &a);
    let b = m.matmul(&a, 8);
    let y = m.add(&x, &b);
    m.output(&y);
    assert_eq!(prove_thin(&m.build()), [12, 8, 4]);
}

#[test]
fn weights_that_other_nodes_share_stay_for_these() {
    let mut m = Micro::new(10);
    let x = m.input("x", &[8, 6, 6]);
    let values = m.numbers(16 * 8 * 9, -0.2, 0.2);
    let weight = m.weight("shared.weight", &[16, 8, 3, 3], &values);
    let values = m.numbers(16, -1.0, 1.0);
    let bias = m.weight("shared.bias", &[16], &values);
    let mut at = x;
    for _ in 0..2 {
        let a = m.conv_with(&at, &conv(16).kernel(3).pad(1), &weight, Some(&bias));
        let a = m.with_constant("Mul", &a, Broadcast::Channel, false);
        let a = m.unary("Relu", &a);
        let b = m.conv(&a, &conv(8).kernel(3).pad(1));
        at = m.add(&at, &b);
    }
    m.output(&at);
    let model = m.build();
    let blocks = blocks_of(&model).expect("no cycle");
    assert_eq!(blocks.len(), 2);
    for block in &blocks {
        let site = &thin_sites(&model, block)[1];
        let (dead, thin) = dead_and_thin(&model, site, spread(site));
        prove(&dead, &thin);
        let weight = thin.graph.find("shared.weight").expect("another block reads it");
        assert_eq!(thin.graph.constant_initializer(weight).expect("constant").dims()[0], 16);
    }
}

#[test]
fn only_channels_without_weight_can_leave_unnoticed() {
    let mut m = Micro::new(11);
    let x = m.input("x", &[8, 6, 6]);
    let a = m.conv(&x, &conv(16).kernel(3).pad(1));
    let a = m.unary("Relu", &a);
    // The weights of channels 3 and 8 are zeros.
    let mut values = m.numbers(8 * 16, -0.3, 0.3);
    for row in values.chunks_mut(16) {
        (row[3], row[8]) = (0.0, 0.0);
    }
    let weight = m.weight("last.weight", &[8, 16, 1, 1], &values);
    let b = m.conv_with(&a, &conv(8), &weight, None);
    let y = m.add(&x, &b);
    m.output(&y);
    let model = m.build();
    let site = &thin_sites(&model, &only(&model))[0];
    let without = |gone: [usize; 2]| {
        let kept: Vec<usize> = (0..16).filter(|channel| !gone.contains(channel)).collect();
        let map = with_context(&model, |cx| thin_map(cx, site)).expect("there");
        let last = AffineMap { weight: map.weight.select(Axis(1), &kept), ..map };
        let mut thin = model.clone();
        substitute(&mut thin, site, &Fitted::Thin { kept, last }).expect("it fits");
        thin
    };
    prove(&model, &without([3, 8]));
    let report = updp_testkit::Proof::default().check(&model, &without([3, 9]));
    assert!(report.is_err(), "channel 9 has weights");
}

#[test]
fn channels_that_others_read_or_mix_do_not_leave() {
    let block = |between: &dyn Fn(&mut Micro, &Val) -> Val, last_groups: usize| {
        let mut m = Micro::new(12);
        let x = m.input("x", &[8, 6, 6]);
        let a = m.conv(&x, &conv(16).kernel(3).pad(1));
        let a = m.unary("Relu", &a);
        let a = between(&mut m, &a);
        let b = m.conv(&a, &conv(8).kernel(3).pad(1).groups(last_groups));
        let y = m.add(&x, &b);
        m.output(&y);
        m.build()
    };
    let same = |_: &mut Micro, a: &Val| a.clone();
    assert_eq!(refusal(&block(&same, 2), 0), "grouped");
    let grouped = |m: &mut Micro, a: &Val| m.conv(a, &conv(16).kernel(3).pad(1).groups(4));
    assert_eq!(refusal(&block(&grouped, 1), 0), "grouped");
    let output = |m: &mut Micro, a: &Val| {
        m.output(a);
        a.clone()
    };
    assert_eq!(refusal(&block(&output, 1), 0), "read-outside");
    let shape = |m: &mut Micro, a: &Val| {
        let shape = m.node(Node::new("Shape"), &[&a.name]);
        m.raw().output(&shape, DataType::Int64, None);
        a.clone()
    };
    assert_eq!(refusal(&block(&shape, 1), 0), "read-outside");
    let norm = |m: &mut Micro, a: &Val| {
        let (scale, shift) = (m.numbers(16, 0.5, 1.5), m.numbers(16, -1.0, 1.0));
        let scale = m.weight("norm.scale", &[16], &scale);
        let shift = m.weight("norm.shift", &[16], &shift);
        let name = m.node(Node::new("InstanceNormalization"), &[&a.name, &scale, &shift]);
        Val { name, ..a.clone() }
    };
    assert_eq!(refusal(&block(&norm, 1), 0), "norm");
    let gate = |m: &mut Micro, a: &Val| {
        let pooled = m.unary("GlobalAveragePool", a);
        let gate = m.conv(&pooled, &conv(16).groups(4));
        let gate = m.unary("Sigmoid", &gate);
        m.apply(Node::new("Mul"), &[a, &gate])
    };
    assert_eq!(refusal(&block(&gate, 1), 0), "grouped");
    let closed = |m: &mut Micro, a: &Val| m.apply(Node::new("Softmax").with("axis", 1_i64), &[a]);
    assert_eq!(refusal(&block(&closed, 1), 0), "not-affine");
}

#[test]
fn a_block_without_channels_of_its_own_or_too_few_has_no_thin_form() {
    let mut m = Micro::new(13);
    let x = m.input("x", &[8, 6, 6]);
    let a = m.conv(&x, &conv(8).kernel(3).pad(1).groups(8));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(8));
    let y = m.add(&x, &b);
    m.output(&y);
    assert_eq!(refusal(&m.build(), 0), "no-hidden-channels");
    let mut m = Micro::new(14);
    let x = m.input("x", &[8, 6, 6]);
    let a = m.conv(&x, &conv(4).kernel(3).pad(1));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(8).kernel(3).pad(1));
    let y = m.add(&x, &b);
    m.output(&y);
    assert_eq!(refusal(&m.build(), 0), "too-narrow");
}

#[test]
fn what_does_not_fit_and_what_thin_forms_cannot_do_is_refused() {
    let mut m = Micro::new(15);
    let y = inverted(&mut m);
    m.output(&y);
    let model = m.build();
    let block = only(&model);
    let site = thin_sites(&model, &block).remove(0);
    let refused = |fitted: Fitted| {
        let error = substitute(&mut model.clone(), &site, &fitted).expect_err("it does not fit");
        assert_eq!(error.code(), "P0004");
        error.to_string()
    };
    let Fitted::Thin { kept, last } = stand_in(&site).expect("a window") else { panic!() };
    for wrong in [vec![], vec![1, 0], vec![2, 2], vec![39, 40]] {
        let text = refused(Fitted::Thin { kept: wrong, last: last.clone() });
        assert!(text.contains("ascending"), "{text}");
    }
    let text = refused(Fitted::Thin { kept: kept[1..].to_vec(), last: last.clone() });
    assert!(text.contains("maps 32 to 16, not 31 to 16"), "{text}");
    let strided = AffineMap { stride: vec![2, 2], ..last.clone() };
    assert!(refused(Fitted::Thin { kept: kept.clone(), last: strided }).contains("window"));
    let fitted = Fitted::Thin { kept, last };
    // In another network, the values of the site are not those of a segment.
    let elsewhere = Site { features: site.source.clone(), ..site.clone() };
    let error = substitute(&mut model.clone(), &elsewhere, &fitted).expect_err("no segment");
    assert_eq!(error.code(), "P0004");
    assert!(with_context(&model, |cx| thin_map(cx, &elsewhere)).is_none());
    let error = blend(&mut model.clone(), &[(&site, &fitted)]).expect_err("not little by little");
    assert!(error.to_string().contains("at once"), "{error}");
    let choices = [Choice { block, form: site.form }];
    let error = prune(&mut model.clone(), &choices, Shrink::Auto).expect_err("only fitted");
    assert!(error.to_string().contains("at once"), "{error}");
}
