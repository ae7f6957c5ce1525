//! Tests of attention that loses heads, by execution, in the spellings of exporters.

use ndarray::Axis;
use updp_ir::{DataType, Dim, Model, Node, Tensor};
use updp_testkit::{Micro, Val, prove, symbol};

use crate::blocks::{Block, BlockKind};
use crate::error::Declined;
use crate::options::Options;
use crate::pipeline;
use crate::surgery::{
    Fitted, Form, Shrink, Site, blocks_of, fit_part, part_of, site, substitute, thin_map,
    with_context,
};

/// Tokens, channels, heads and channels of a head.
const TOKENS: i64 = 5;
const WIDTH: i64 = 12;
const HEADS: i64 = 3;
const SIZE: i64 = 4;

/// How q, k and v come from the normalized tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Projections {
    /// Three operators.
    Apart,
    /// One operator; a Split of an axis of three.
    Split,
    /// One operator; a Gather for each of the three.
    Gather,
    /// One operator; slices of its channels before heads are made.
    Slice,
    /// One operator; a Split of its channels before heads are made.
    SplitChannels,
}

/// What the attention does between its projections.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Core {
    /// Products and a softmax.
    Plain,
    /// A bias of each head on the scores, and norms of q and k over the channels of a head.
    Biased,
    /// Keys are transposed with batch and heads in one dim.
    Merged,
    /// The operator of opset 23 on `[B, H, N, d]`.
    Operator,
    /// A convolution mixes the scores of all heads, so q and k keep them.
    TalkingHeads,
    /// The softmax runs over the heads.
    AcrossHeads,
}

struct Net {
    m: Micro,
    constants: usize,
    /// Batch and number of tokens `[1]`, where both are open.
    open: Option<[String; 2]>,
}

impl Net {
    fn ints(&mut self, dims: Vec<usize>, values: &[i64]) -> String {
        self.constants += 1;
        let tensor = Tensor::from_i64(dims, values).expect("fits");
        self.m.constant(&format!("ints{}", self.constants), &tensor)
    }

    /// Sizes as a constant, or put together from computed ones where some are open.
    fn reshape(&mut self, x: &str, dims: &[i64]) -> String {
        let dims = if let Some([batch, tokens]) = self.open.clone() {
            let parts: Vec<String> = dims
                .iter()
                .map(|dim| match *dim {
                    0 | -1 => batch.clone(),
                    TOKENS => tokens.clone(),
                    own => self.ints(vec![1], &[own]),
                })
                .collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            self.m.node(Node::new("Concat").with("axis", 0_i64), &parts)
        } else {
            self.ints(vec![dims.len()], dims)
        };
        self.m.node(Node::new("Reshape"), &[x, &dims])
    }

    fn transpose(&mut self, x: &str, perm: &[i64]) -> String {
        self.m.node(Node::new("Transpose").with("perm", perm.to_vec()), &[x])
    }

    fn heads(&mut self, x: &str) -> String {
        let x = self.reshape(x, &[0, TOKENS, HEADS, SIZE]);
        self.transpose(&x, &[0, 2, 1, 3])
    }

    fn norm(&mut self, x: &str, width: i64, at: usize) -> String {
        let scale = self.m.numbers(width as usize, 0.5, 1.5);
        let scale = self.m.weight(&format!("norm{at}"), &[width as usize], &scale);
        self.m.node(Node::new("LayerNormalization").with("axis", -1_i64), &[x, &scale])
    }

    /// q, k and v `[B, H, N, d]`.
    fn projected(&mut self, x: &Val, how: Projections) -> [String; 3] {
        if how == Projections::Apart {
            let own = [0, 1, 2].map(|_| self.m.matmul_add(x, WIDTH as usize).name);
            return own.map(|each| self.heads(&each));
        }
        let all = self.m.matmul_add(x, 3 * WIDTH as usize).name;
        match how {
            Projections::Split | Projections::Gather => {
                let all = self.reshape(&all, &[-1, TOKENS, 3, HEADS, SIZE]);
                let all = self.transpose(&all, &[2, 0, 3, 1, 4]);
                [0_i64, 1, 2].map(|at| {
                    if how == Projections::Gather {
                        let at = self.ints(vec![], &[at]);
                        return self.m.node(Node::new("Gather").with("axis", 0_i64), &[&all, &at]);
                    }
                    let [start, end, axis] = [at, at + 1, 0].map(|it| self.ints(vec![1], &[it]));
                    let part = self.m.node(Node::new("Slice"), &[&all, &start, &end, &axis]);
                    self.m.node(Node::new("Squeeze"), &[&part, &axis])
                })
            }
            Projections::Slice => [0_i64, 1, 2].map(|at| {
                let last = if at == 2 { i64::MAX } else { (at + 1) * WIDTH };
                let [start, end, axis] = [at * WIDTH, last, -1].map(|it| self.ints(vec![1], &[it]));
                let part = self.m.node(Node::new("Slice"), &[&all, &start, &end, &axis]);
                self.heads(&part)
            }),
            _ => {
                let sizes = self.ints(vec![3], &[WIDTH; 3]);
                let split = Node::new("Split").with("axis", -1_i64);
                let parts = ["q", "k", "v"];
                let raw = self.m.raw();
                raw.node(split, &[&all, &sizes], &parts);
                parts.map(|part| self.heads(part))
            }
        }
    }

    fn mixed(&mut self, [q, k, v]: &[String; 3], core: Core) -> String {
        if core == Core::Operator {
            return self.m.node(Node::new("Attention"), &[q, k, v]);
        }
        let [mut q, mut k] = [q.clone(), k.clone()];
        if core == Core::Biased {
            (q, k) = (self.norm(&q, SIZE, 1), self.norm(&k, SIZE, 2));
        }
        let k = if core == Core::Merged {
            let k = self.reshape(&k, &[-1, TOKENS, SIZE]);
            let k = self.transpose(&k, &[0, 2, 1]);
            self.reshape(&k, &[-1, HEADS, SIZE, TOKENS])
        } else {
            self.transpose(&k, &[0, 1, 3, 2])
        };
        let mut scores = self.m.node(Node::new("MatMul"), &[&q, &k]);
        if core == Core::Biased {
            let dims = [1, HEADS as usize, TOKENS as usize, TOKENS as usize];
            let bias = self.m.numbers(dims.iter().product(), -1.0, 1.0);
            let bias = self.m.weight("bias", &dims, &bias);
            scores = self.m.node(Node::new("Add"), &[&scores, &bias]);
        }
        if core == Core::TalkingHeads {
            let mix = self.m.numbers((HEADS * HEADS) as usize, -1.0, 1.0);
            let mix = self.m.weight("mix", &[HEADS as usize, HEADS as usize, 1, 1], &mix);
            scores = self.m.node(Node::new("Conv"), &[&scores, &mix]);
        }
        let axis = if core == Core::AcrossHeads { 1_i64 } else { -1 };
        let shares = self.m.node(Node::new("Softmax").with("axis", axis), &[&scores]);
        self.m.node(Node::new("MatMul"), &[&shares, v])
    }
}

/// `x + Attention(Norm(x))`, with a scale of each channel behind the projection.
fn attention(how: Projections, core: Core) -> Model {
    let opset = if core == Core::Operator { 23 } else { 17 };
    let m = Micro::new(7 + how as u64).opset(opset);
    let mut net = Net { m, constants: 0, open: None };
    let x = net.m.tokens("x", &[TOKENS as usize, WIDTH as usize]);
    net.finish(&x, how, core)
}

/// The same where batch and number of tokens are open, so that the sizes are computed.
fn open_attention(how: Projections) -> Model {
    let mut net = Net { m: Micro::new(31), constants: 0, open: None };
    let dims = [symbol("N"), symbol("T"), Dim::Known(WIDTH as usize)];
    net.m.raw().input("x", DataType::Float, &dims);
    let x = Val { name: "x".to_owned(), channels: WIDTH as usize, rank: 3, axis: 2 };
    let shape = net.m.node(Node::new("Shape"), &["x"]);
    net.open = Some([0_i64, 1].map(|at| {
        let at = net.ints(vec![1], &[at]);
        net.m.node(Node::new("Gather").with("axis", 0_i64), &[&shape, &at])
    }));
    net.finish(&x, how, Core::Plain)
}

impl Net {
    fn finish(mut self, x: &Val, how: Projections, core: Core) -> Model {
        let net = &mut self;
        let normed = Val { name: net.norm(&x.name, WIDTH, 0), ..x.clone() };
        let parts = net.projected(&normed, how);
        let mixed = net.mixed(&parts, core);
        let mixed = net.transpose(&mixed, &[0, 2, 1, 3]);
        let mixed = Val { name: net.reshape(&mixed, &[0, TOKENS, WIDTH]), ..x.clone() };
        let out = net.m.matmul_add(&mixed, WIDTH as usize);
        let scale = net.m.numbers(WIDTH as usize, 0.5, 1.5);
        let scale = net.m.weight("layer_scale", &[WIDTH as usize], &scale);
        let out = Val { name: net.m.node(Node::new("Mul"), &[&out.name, &scale]), ..out };
        let y = net.m.add(x, &out);
        net.m.output(&y);
        net.m.build()
    }
}

fn only(model: &Model) -> Block {
    let mut blocks = blocks_of(model).expect("no cycle");
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    blocks.remove(0)
}

/// The thin sites of the only block, or why there is none.
fn thin_sites(model: &Model) -> Result<Vec<Site>, Declined> {
    let block = only(model);
    with_context(model, |cx| {
        let thin = Form::ALL.into_iter().filter(|form| form.is_thin());
        let found: Vec<Result<Site, Declined>> =
            thin.map(|form| site(cx, &block, form, Shrink::Auto)).collect();
        match found.iter().find_map(|it| it.as_ref().err().filter(|e| e.reason != "too-narrow")) {
            Some(declined) => Err(declined.clone()),
            None => Ok(found.into_iter().flatten().collect()),
        }
    })
}

/// The network whose last operator gives the other heads no weight, and the network without them.
fn dead_and_thin(model: &Model, site: &Site, heads: &[usize]) -> (Model, Model) {
    let group = site.thin.expect("a thin site").group;
    let kept = heads.iter().flat_map(|head| head * group..(head + 1) * group).collect();
    super::super::tests::dead_and_thin(model, site, kept)
}

#[test]
fn heads_without_weight_leave_exactly_in_every_spelling() {
    use Projections::{Apart, Gather, Slice, Split, SplitChannels};
    let cores = [Core::Plain, Core::Biased, Core::Merged, Core::Operator, Core::TalkingHeads];
    for how in [Apart, Split, Gather, Slice, SplitChannels] {
        for core in cores {
            if core == Core::TalkingHeads && how != Apart {
                continue; // q and k keep all heads, so they cannot share an operator with v
            }
            let mut model = attention(how, core);
            pipeline::prepare(&mut model).expect("well formed");
            assert_eq!(only(&model).kind, BlockKind::Attention, "{how:?} {core:?}");
            let sites =
                thin_sites(&model).unwrap_or_else(|error| panic!("{how:?} {core:?}: {error:?}"));
            let kept: Vec<usize> = sites.iter().filter_map(|it| Some(it.thin?.kept)).collect();
            assert_eq!(kept, [8, 4], "{how:?} {core:?}");
            for (site, heads) in sites.iter().zip([&[0, 2][..], &[1][..]]) {
                assert_eq!(site.thin.map(|thin| thin.group), Some(4));
                let (dead, thin) = dead_and_thin(&model, site, heads);
                prove(&dead, &thin);
                let again = only(&thin);
                assert_eq!(again.kind, BlockKind::Attention);
                let mut part = part_of(&model, &only(&model)).expect("it can be cut out");
                fit_part(&mut part, site, &Options::default()).expect("it is offered");
            }
        }
    }
}

#[test]
fn computed_sizes_shrink_too() {
    for how in [Projections::Apart, Projections::Split, Projections::SplitChannels] {
        let mut model = open_attention(how);
        pipeline::prepare(&mut model).expect("well formed");
        let sites = thin_sites(&model).unwrap_or_else(|error| panic!("{how:?}: {error:?}"));
        for (site, heads) in sites.iter().zip([&[0, 2][..], &[1][..]]) {
            let (dead, thin) = dead_and_thin(&model, site, heads);
            prove(&dead, &thin);
        }
        assert_eq!(sites.len(), 2, "{how:?}");
    }
}

#[test]
fn heads_that_meet_stay_and_one_head_is_too_few() {
    let mut model = attention(Projections::Apart, Core::AcrossHeads);
    pipeline::prepare(&mut model).expect("well formed");
    let declined = thin_sites(&model).expect_err("the softmax mixes the heads");
    assert_eq!(declined.reason, "heads", "{declined:?}");
    let mut model = attention(Projections::Apart, Core::Plain);
    pipeline::prepare(&mut model).expect("well formed");
    let site = &thin_sites(&model).expect("it has heads")[1];
    let (_, thin) = dead_and_thin(&model, site, &[2]);
    assert_eq!(thin_sites(&thin).expect_err("one head is left").reason, "one-head");
    // Channels of two heads do not leave apart from their heads.
    let mut map = with_context(&model, |cx| thin_map(cx, site)).expect("the operator is there");
    map.weight = map.weight.select(Axis(1), &[0, 1, 4, 5]);
    let halves = Fitted::Thin { kept: vec![0, 1, 4, 5], last: map };
    let error = substitute(&mut model.clone(), site, &halves).expect_err("no whole head");
    assert!(error.to_string().contains("whole heads"), "{error}");
}
