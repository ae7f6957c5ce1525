//! Tests of blocks that are only fitted: what is found, which forms it offers, and by execution that each form fits in
//! its place.

use indexmap::IndexMap;
use updp_ir::{DataType, Dim, Model, Node, Tensor};
use updp_testkit::{ConvSpec, Micro, Val, conv, gemm, run};

use super::*;
use crate::blocks::BlockKind;

fn prepared(m: &Micro) -> Model {
    let mut model = m.build();
    pipeline::prepare(&mut model).expect("well formed");
    model
}

fn inputs(model: &Model) -> IndexMap<String, Tensor> {
    let graph = &model.graph;
    let drawn = graph.required_inputs().enumerate().map(|(seed, input)| {
        let ty = graph.value(input).declared().expect("declared");
        let dims: Vec<usize> = ty
            .shape
            .as_ref()
            .expect("a shape")
            .iter()
            .map(|dim| dim.known().unwrap_or(2))
            .collect();
        let values = updp_testkit::seeded(seed as u64 + 1, dims.iter().product());
        (
            graph.value(input).name().to_owned(),
            updp_testkit::tensor(DataType::Float, &dims, &values),
        )
    });
    drawn.collect()
}

fn dims(model: &Model) -> Vec<Vec<usize>> {
    run(model, &inputs(model)).values().map(|tensor| tensor.dims().to_vec()).collect()
}

fn offered(model: &Model, block: &Block) -> Vec<Site> {
    let all = with_context(model, |cx| sites(cx, block, Shrink::Auto));
    all.into_iter().filter_map(|(_, site)| site.ok()).collect()
}

/// Puts every offered form of every block in place and runs it; returns kind, why it is only fitted, and the forms.
fn proved(m: &Micro) -> Vec<(BlockKind, Option<&'static str>, Vec<&'static str>)> {
    let model = prepared(m);
    let wanted = dims(&model);
    let mut found = Vec::new();
    for block in blocks_of(&model).expect("no cycle") {
        assert_eq!(block.refusal, None, "{}", block.name);
        let sites = offered(&model, &block);
        for site in &sites {
            let mut placed = model.clone();
            let stand_in = stand_in(site).expect("a window of a convolution");
            substitute(&mut placed, site, &stand_in).expect("it fits");
            placed.validate().expect("well formed");
            assert_eq!(dims(&placed), wanted, "{} {}", block.name, site.form.name());
            pipeline::compile(&mut placed, &Options::default(), &mut |_, _| {})
                .expect("well formed");
            assert_eq!(dims(&placed), wanted, "{} {} merged", block.name, site.form.name());
            let mut part = part_of(&model, &block).expect("it can be cut out");
            fit_part(&mut part, site, &Options::default()).expect("it fits");
        }
        let forms = sites.iter().map(|site| site.form).filter(|form| form.is_depth());
        let reason = block.fit_only.as_ref().map(|it| it.reason);
        found.push((block.kind, reason, forms.map(Form::name).collect()));
    }
    found
}

fn squeezed(m: &mut Micro, x: &Val, gate: &str) -> Val {
    let pooled = m.unary("GlobalAveragePool", x);
    let a = m.conv(&pooled, &conv(4));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(x.channels));
    let b = m.unary(gate, &b);
    m.apply(Node::new("Mul"), &[x, &b])
}

fn silu(m: &mut Micro, x: &Val) -> Val {
    let gate = m.unary("Sigmoid", x);
    m.apply(Node::new("Mul"), &[x, &gate])
}

fn concat(m: &mut Micro, parts: &[&Val]) -> Val {
    let channels = parts.iter().map(|part| part.channels).sum();
    let y = m.apply(Node::new("Concat").with("axis", 1_i64), parts);
    Val { channels, ..y }
}

const ALL: [&str; 5] = ["conv", "dwpw", "pw", "low-rank", "drop"];

#[test]
fn a_residual_block_with_a_gate_is_fitted_or_dropped() {
    for (opset, stride, gate) in
        [(11, 1, "Sigmoid"), (13, 1, "HardSigmoid"), (17, 2, "Sigmoid"), (14, 2, "HardSigmoid")]
    {
        let mut m = Micro::new(1).opset(opset);
        let x = m.input("x", &[6, 9, 11]);
        let a = m.conv(&x, &conv(18));
        let a = silu(&mut m, &a);
        let b = m.conv(&a, &conv(18).kernel(5).stride(stride).pad(2).groups(18));
        let b = silu(&mut m, &b);
        let b = squeezed(&mut m, &b, gate);
        let c = m.conv(&b, &conv(6));
        let y = if stride == 1 { m.add(&c, &x) } else { c };
        m.output(&y);
        let found = proved(&m);
        let forms = if stride == 1 { ALL.to_vec() } else { ALL[..4].to_vec() };
        assert_eq!(found, [(BlockKind::InvertedResidual, Some("not-affine"), forms)]);
    }
}

#[test]
fn a_gate_with_fully_connected_operators_and_a_mean_is_one_too() {
    let mut m = Micro::new(2).opset(13);
    let x = m.input("x", &[8, 7, 7]);
    let a = m.conv(&x, &conv(8).kernel(3).pad(1));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(8).kernel(3).pad(1));
    let mean = Node::new("ReduceMean").with("axes", vec![2_i64, 3]).with("keepdims", 0_i64);
    let pooled = Val { rank: 2, ..m.apply(mean, &[&b]) };
    let s = m.gemm(&pooled, &gemm(4));
    let s = m.unary("Relu", &s);
    let s = m.gemm(&s, &gemm(8));
    let s = m.unary("Sigmoid", &s);
    let shape = m.constant("shape", &Tensor::from_i64(vec![4], &[0, 8, 1, 1]).expect("fits"));
    let s = m.node(Node::new("Reshape"), &[&s.name, &shape]);
    let gated = m.node(Node::new("Mul"), &[&b.name, &s]);
    let gated = Val { name: gated, ..b.clone() };
    let sum = m.add(&gated, &x);
    let y = m.unary("Relu", &sum);
    m.output(&y);
    let found = proved(&m);
    assert_eq!(found, [(BlockKind::Basic, Some("not-affine"), ALL.to_vec())]);
}

#[test]
fn a_shortcut_that_pools_stays_and_its_branch_is_left_out() {
    for ceil in [0_i64, 1] {
        let mut m = Micro::new(3).opset(12);
        let x = m.input("x", &[6, 12, 12]);
        let a = m.conv(&x, &conv(6).kernel(3).stride(2).pads(&[1, 1, 1, 1]).groups(6));
        let a = m.conv(&a, &conv(8));
        let node = Node::new("MaxPool")
            .with("kernel_shape", vec![2_i64, 2])
            .with("strides", vec![2_i64, 2])
            .with("ceil_mode", ceil);
        let s = m.apply(node, &[&x]);
        let s = m.pad(&s, &[0, 0, 0, 0, 0, 2, 0, 0], "constant", None);
        let sum = m.add(&a, &Val { channels: 8, ..s });
        let y = m.unary("Relu", &sum);
        m.output(&y);
        let found = proved(&m);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].2, ALL, "ceil {ceil}");
        assert!(found[0].1.is_some());
    }
}

/// Convolutions with an activation and a pool between.
fn plain(opset: i64, activation: &str, kernel: usize, ceil: i64) -> Micro {
    let mut m = Micro::new(4).opset(opset);
    let x = m.input("x", &[3, 21, 17]);
    let mut at = x;
    for channels in [8, 12, 12] {
        at = m.conv(&at, &conv(channels).kernel(kernel).pad(kernel as i64 / 2));
        at = match activation {
            "PRelu" => {
                let slopes = m.numbers(channels, 0.1, 0.4);
                let slope = m.weight(&format!("slope{}", at.name), &[channels, 1, 1], &slopes);
                let name = m.node(Node::new("PRelu"), &[&at.name, &slope]);
                Val { name, ..at.clone() }
            }
            "Silu" => silu(&mut m, &at),
            op => m.unary(op, &at),
        };
        let node = Node::new("MaxPool")
            .with("kernel_shape", vec![2_i64, 2])
            .with("strides", vec![2_i64, 2])
            .with("ceil_mode", ceil);
        at = m.apply(node, &[&at]);
    }
    m.output(&at);
    m
}

#[test]
fn convolutions_with_pools_between_are_a_chain() {
    for (opset, activation, kernel, ceil) in [
        (10, "Relu", 3, 0),
        (11, "LeakyRelu", 5, 1),
        (13, "PRelu", 3, 1),
        (14, "HardSwish", 3, 0),
        (17, "Silu", 5, 0),
    ] {
        let found = proved(&plain(opset, activation, kernel, ceil));
        assert_eq!(found.len(), 1, "{activation}: {found:?}");
        let (kind, reason, forms) = &found[0];
        assert_eq!((*kind, *reason), (BlockKind::Chain, Some("not-affine")), "{activation}");
        assert!(forms.contains(&"conv") && !forms.contains(&"drop"), "{activation}: {forms:?}");
    }
}

#[test]
fn a_chain_without_padding_is_fitted_with_one_window() {
    let mut m = Micro::new(5);
    let x = m.input("x", &[4, 20, 20]);
    let a = m.conv(&x, &conv(8).kernel(3));
    let a = m.unary("LeakyRelu", &a);
    let y = m.conv(&a, &conv(8).kernel(3));
    m.output(&y);
    let found = proved(&m);
    assert_eq!(found[0].0, BlockKind::Chain);
    assert!(found[0].2.contains(&"low-rank"), "{found:?}");
}

#[test]
fn a_chain_that_keeps_its_size_can_be_left_out() {
    let mut m = Micro::new(6);
    let x = m.input("x", &[8, 9, 9]);
    let x = m.unary("Relu", &x);
    let a = m.conv(&x, &conv(8).kernel(3).pad(1).groups(8));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(8));
    let y = m.unary("Relu", &b);
    m.output(&y);
    let found = proved(&m);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].0, found[0].1), (BlockKind::Chain, None));
    assert!(found[0].2.contains(&"drop"), "{found:?}");
}

/// A stage whose ways part and join again: Inception, `SqueezeNet`, CSP.
fn forked(opset: i64, stride: usize, splits: bool) -> Micro {
    let mut m = Micro::new(7).opset(opset);
    let x = m.input("x", &[8, 13, 10]);
    let stem = m.conv(&x, &conv(16));
    let stem = m.unary("Relu", &stem);
    let [left, right] = if splits {
        let names = ["left", "right"];
        m.raw().node(Node::new("Split").with("axis", 1_i64), &[&stem.name], &names);
        names.map(|name| Val { name: name.to_owned(), channels: 8, ..stem.clone() })
    } else {
        [stem.clone(), stem]
    };
    let one = ConvSpec { ..conv(6).stride(stride) };
    let a = m.conv(&left, &one);
    let a = m.unary("Relu", &a);
    let b = m.conv(&right, &conv(10).kernel(3).stride(stride).pad(1));
    let b = m.unary("Relu", &b);
    let joined = concat(&mut m, &[&a, &b]);
    let y = m.conv(&joined, &conv(8));
    let y = m.unary("Relu", &y);
    m.output(&y);
    m
}

#[test]
fn a_fork_and_its_join_are_one_region() {
    for (opset, stride, splits) in [(11, 1, false), (12, 2, false), (12, 1, true), (11, 2, true)] {
        // Half of the weighted operators may belong to one region, so a second stage stands behind.
        let mut m = forked(opset, stride, splits);
        let at = Val {
            name: m.build().graph.value(output(&m)).name().to_owned(),
            channels: 8,
            rank: 4,
            axis: 1,
        };
        let mut tail = at;
        for _ in 0..5 {
            tail = m.conv(&tail, &conv(8).kernel(3).pad(1));
            tail = m.unary("Sigmoid", &tail);
        }
        m.output(&tail);
        let found = proved(&m);
        let region = found.iter().find(|(kind, ..)| *kind == BlockKind::Other);
        let (_, reason, forms) = region.unwrap_or_else(|| panic!("no region: {found:?}"));
        assert_eq!(*reason, Some("unknown-form"));
        let wanted = if stride == 1 { ALL.to_vec() } else { ALL[..4].to_vec() };
        assert_eq!(*forms, wanted, "stride {stride}, split {splits}");
    }
}

fn output(m: &Micro) -> updp_ir::ValueId {
    m.build().graph.outputs().next().expect("one")
}

#[test]
fn a_fused_convolution_may_lie_inside() {
    let mut m = Micro::new(8);
    let x = m.input("x", &[8, 9, 9]);
    m.raw().opset("com.microsoft", 1);
    let weights = m.numbers(8 * 8 * 9, -0.3, 0.3);
    let weight = m.weight("fused.weight", &[8, 8, 3, 3], &weights);
    let fused = Node::new("FusedConv")
        .in_domain("com.microsoft")
        .with("activation", "Relu")
        .with("kernel_shape", vec![3_i64, 3])
        .with("pads", vec![1_i64, 1, 1, 1]);
    let a = m.node(fused, &[&x.name, &weight]);
    let b = m.conv(&Val { name: a, ..x.clone() }, &conv(8).kernel(3).pad(1));
    let y = m.add(&b, &x);
    m.output(&y);
    let found = proved(&m);
    assert_eq!(found, [(BlockKind::Other, Some("unknown-form"), ALL.to_vec())]);
}

#[test]
fn an_attention_half_alone_is_fitted_along_its_channels() {
    let mut m = Micro::new(9);
    let x = m.tokens("x", &[5, 8]);
    let q = m.matmul_add(&x, 8);
    let k = m.matmul_add(&x, 8);
    let v = m.matmul_add(&x, 8);
    let k = m.transpose(&k, &[0, 2, 1]);
    let scores = m.node(Node::new("MatMul"), &[&q.name, &k.name]);
    let shares = m.node(Node::new("Softmax").with("axis", -1_i64), &[&scores]);
    let mixed = m.node(Node::new("MatMul"), &[&shares, &v.name]);
    let out = m.matmul_add(&Val { name: mixed, ..x.clone() }, 8);
    let y = m.add(&out, &x);
    m.output(&y);
    let found = proved(&m);
    assert_eq!(found, [(BlockKind::Other, Some("unknown-form"), vec!["conv", "low-rank", "drop"])]);
}

#[test]
fn a_region_that_something_else_reads_is_left_alone() {
    let mut m = Micro::new(10);
    let x = m.input("x", &[6, 8, 8]);
    let a = m.conv(&x, &conv(6).kernel(3).pad(1));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(6).kernel(3).pad(1));
    let b = squeezed(&mut m, &b, "Sigmoid");
    let y = m.add(&b, &x);
    m.output(&y);
    m.output(&a);
    let blocks = blocks_of(&prepared(&m)).expect("no cycle");
    let reasons: Vec<_> = blocks.iter().map(|it| it.refusal.as_ref().map(|r| r.reason)).collect();
    assert_eq!(reasons, [Some("read-outside")]);
}

#[test]
fn a_window_sees_what_the_operators_saw() {
    let of = |kernel: usize, stride: usize, pad: i64, dilation: usize| {
        let mut m = Micro::new(11);
        let x = m.input("x", &[4, 32, 32]);
        let a = m.conv(&x, &conv(4).kernel(kernel).stride(stride).pad(pad).dilation(dilation));
        let b = m.conv(&a, &conv(4));
        let b = squeezed(&mut m, &b, "Sigmoid");
        let y = m.conv(&b, &conv(6));
        m.output(&y);
        let model = prepared(&m);
        let block = blocks_of(&model).expect("no cycle").remove(0);
        let site = offered(&model, &block).into_iter().find(|site| site.form == Form::Conv);
        site.map(|site| (site.window.kernel[0], site.window.stride[0], site.window.pads()))
    };
    assert_eq!(of(3, 1, 1, 1), Some((3, 1, vec![1; 4])));
    assert_eq!(of(1, 1, 0, 1), Some((1, 1, vec![0; 4])));
    assert_eq!(of(5, 1, 2, 1), Some((3, 1, vec![1; 4])));
    assert_eq!(of(3, 1, 2, 2), Some((3, 1, vec![1; 4])));
    // 32 pixels in steps of 2: the last window ends at the border.
    assert_eq!(of(3, 2, 1, 1), Some((3, 2, vec![1, 1, 0, 0])));
    // Without padding, 5 taps have their centre where the 5 taps of the region have it.
    assert_eq!(of(5, 1, 0, 1), Some((5, 1, vec![0; 4])));
    assert_eq!(of(3, 4, 0, 1), Some((3, 4, vec![0; 4])));
}

#[test]
fn sizes_that_are_not_known_are_followed_too() {
    let mut m = Micro::new(12);
    let name = "x";
    let free = |symbol: &str| Dim::Symbol(symbol.into());
    m.raw().input(name, DataType::Float, &[free("N"), Dim::Known(6), free("H"), free("W")]);
    let x = Val { name: name.to_owned(), channels: 6, rank: 4, axis: 1 };
    let a = m.conv(&x, &conv(12).kernel(3).stride(2).pad(1));
    let a = m.unary("Relu", &a);
    let a = squeezed(&mut m, &a, "Sigmoid");
    let y = m.conv(&a, &conv(6).kernel(3).stride(2).pad(1));
    m.output(&y);
    let model = prepared(&m);
    let block = blocks_of(&model).expect("no cycle").remove(0);
    let forms = offered(&model, &block).into_iter().map(|site| site.form);
    let forms: Vec<&str> = forms.filter(|form| form.is_depth()).map(Form::name).collect();
    assert_eq!(forms, ALL[..4]);
    for site in offered(&model, &block) {
        let mut placed = model.clone();
        substitute(&mut placed, &site, &stand_in(&site).expect("a window")).expect("it fits");
        for (height, width) in [(16, 16), (17, 23), (5, 7), (1, 64)] {
            let dims = [1, 6, height, width];
            let values = updp_testkit::seeded(3, dims.iter().product());
            let x = updp_testkit::tensor(DataType::Float, &dims, &values);
            let given = IndexMap::from([(name.to_owned(), x)]);
            let sizes = |model: &Model| run(model, &given)[0].dims().to_vec();
            assert_eq!(sizes(&placed), sizes(&model), "{} of {height}x{width}", site.form.name());
        }
    }
}

#[test]
fn a_chain_that_is_left_out_passes_on_what_it_reads() {
    let mut m = Micro::new(13);
    let x = m.input("x", &[8, 9, 9]);
    let a = m.conv(&x, &conv(8).kernel(3).pad(1));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(8).kernel(3).pad(1));
    m.output(&b);
    let model = prepared(&m);
    let block = blocks_of(&model).expect("no cycle").remove(0);
    let site = offered(&model, &block).into_iter().find(|site| site.form == Form::Drop);
    let site = site.expect("it keeps its size");
    assert_eq!((site.shortcut.as_deref(), site.bypass()), (None, "x"));
    let mut dropped = model.clone();
    substitute(&mut dropped, &site, &Fitted::Drop).expect("it fits");
    let given = inputs(&dropped);
    assert_eq!(run(&dropped, &given)[0].bytes(), given["x"].bytes());
    // Blended in fully, it is the same.
    let mut blended = model.clone();
    blend(&mut blended, &[(&site, &Fitted::Drop)]).expect("it can be mixed");
    fix_lambda(&mut blended, 1.0).expect("there is a factor");
    assert_eq!(run(&blended, &given)[0].bytes(), given["x"].bytes());
}
