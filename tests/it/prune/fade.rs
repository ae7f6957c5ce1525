//! Kernels that shrink little by little: whole at s = 0, shrunk at s = 1, settled and merged as if they had shrunk at once.

use updp_ir::{DataType, Model, NewResult, Node, TensorType};
use updp_passes::blocks::{Block, BlockKind};
use updp_passes::pipeline;
use updp_passes::surgery::{self, Choice, Form, Shrink};
use updp_testkit::{Micro, Proof, conv};

use super::nets::{around, basic};
use super::{FIXTURES, networks};
use crate::compile::merge_all;

/// Prunes a prepared model with kernels that fade; gives it expanded, and how many kernels fade.
fn faded(prepared: &Model, choices: &[Choice]) -> (Model, usize) {
    let mut model = prepared.clone();
    let kernels = surgery::fade_kernels(&mut model, choices, Shrink::Auto)
        .unwrap_or_else(|error| panic!("{error}"));
    surgery::expand(&mut model, choices, Shrink::Auto).unwrap_or_else(|error| panic!("{error}"));
    model.validate().unwrap_or_else(|error| panic!("{error}"));
    (model, kernels)
}

/// λ and s fixed.
fn at(expanded: &Model, lambda: f32, s: f32) -> Model {
    let mut model = expanded.clone();
    surgery::fix_lambda(&mut model, lambda).expect("it has a λ");
    surgery::fix_shrink(&mut model, s).expect("it has an s");
    model
}

/// With every kernel whole, whatever s is.
fn unmasked(expanded: &Model) -> Model {
    let mut model = expanded.clone();
    for node in model.graph.nodes() {
        if model.graph.node(node).name().strip_suffix(".faded").is_some() {
            let weight = model.graph.operand(node, 0).expect("the weight");
            let result = model.graph.sole_result(node).expect("one result");
            model.graph.redirect_uses(result, weight).expect("it can be bypassed");
        }
    }
    model
}

fn choices(model: &Model, form: Form) -> Vec<Choice> {
    let blocks = surgery::blocks_of(model).expect("no cycle");
    let offers = |block: &Block| surgery::forms(block).contains(&form);
    blocks.into_iter().filter(offers).map(|block| Choice { block, form }).collect()
}

/// Holds a network whose blocks fade against what it has to be at both ends; gives how many kernels fade.
#[track_caller]
fn proves(place: &str, prepared: &Model, proof: Proof) -> usize {
    let choices = choices(prepared, Form::Conv);
    let (expanded, kernels) = faded(prepared, &choices);
    let mut settled = expanded.clone();
    surgery::settle(&mut settled).unwrap_or_else(|error| panic!("{place}: {error}"));
    let inputs = settled.graph.required_inputs().count();
    assert_eq!(inputs, prepared.graph.required_inputs().count(), "{place}");
    let mut at_once = prepared.clone();
    surgery::prune(&mut at_once, &choices, Shrink::Auto).expect("it prunes");
    let mut merged = settled.clone();
    pipeline::compile(&mut merged, &merge_all(), &mut |_, _| ()).expect("well formed");
    let holds = |what: &str, a: &Model, b: &Model| {
        proof.check(a, b).unwrap_or_else(|report| panic!("{place}, {what}: {report}"));
    };
    holds("settled against shrunk at once", &at_once, &settled);
    holds("merged against settled", &settled, &merged);
    if kernels == 0 {
        assert!(expanded.graph.find(surgery::SHRINK_INPUT).is_none(), "{place}");
        return 0;
    }
    holds("at 1 against settled", &settled, &at(&expanded, 1.0, 1.0));
    holds("at 0 against no mask", &at(&unmasked(&expanded), 0.0, 0.0), &at(&expanded, 0.0, 0.0));
    kernels
}

#[test]
fn kernels_of_every_family_fade_to_what_shrinking_at_once_makes() {
    for (name, _, kind) in FIXTURES {
        let prepared = super::prepared(name);
        let count = super::opened(&prepared).len();
        let kernels = proves(name, &prepared, networks(2));
        match kind {
            BlockKind::ConvNext => assert_eq!(kernels, count, "{name}"),
            BlockKind::Basic | BlockKind::Chain => assert!(kernels >= count, "{name}: {kernels}"),
            _ => assert_eq!(kernels, 0, "{name}"),
        }
    }
}

#[test]
fn every_block_whose_kernels_fade_settles_and_merges_alone() {
    for (name, _, kind) in FIXTURES {
        if !matches!(kind, BlockKind::ConvNext | BlockKind::Basic | BlockKind::Chain) {
            continue;
        }
        let model = super::prepared(name);
        for block in super::opened(&model) {
            let part = surgery::part_of(&model, &block).expect("it can be cut out");
            let proof = Proof { runs: 2, one_runtime: true, ..Proof::default() };
            let place = format!("{name}, block {}", block.index);
            assert!(proves(&place, &part, proof) > 0, "{place}");
        }
    }
}

#[test]
fn at_zero_a_network_has_moved_paddings_and_nothing_else() {
    for (name, _, kind) in FIXTURES {
        let prepared = super::prepared(name);
        let choices = choices(&prepared, Form::Conv);
        let (expanded, _) = faded(&prepared, &choices);
        match kind {
            // A depthwise convolution has all of the padding: nothing moves.
            BlockKind::ConvNext => {
                networks(2).assert(&prepared, &at(&expanded, 0.0, 0.0));
            }
            BlockKind::Basic => {
                let mut moved = prepared.clone();
                surgery::move_geometry(&mut moved, &choices, Shrink::None).expect("it moves");
                networks(2).assert(&moved, &at(&expanded, 0.0, 0.0));
            }
            _ => {}
        }
    }
}

#[test]
fn odd_paddings_dilations_groups_and_strides_fade() {
    let cases = [
        (conv(6).kernel(3).pad(1).no_bias(), conv(6).kernel(3).pad(1), 1),
        (conv(6).kernel(3).stride(2).pads(&[0, 0, 1, 1]), conv(6).kernel(3).pad(1), 2),
        (conv(6).kernel(3).pads(&[2, 0, 0, 2]), conv(6).kernel(3).pads(&[0, 2, 2, 0]), 1),
        (conv(6).kernel(3).pad(2).dilation(2), conv(6).kernel(3).pad(2).dilation(2), 1),
        (conv(6).kernel(3).pad(1).groups(2), conv(6).kernel(3).pad(1).groups(3), 1),
        (
            conv(6).kernels(&[3, 5]).pads(&[1, 2, 1, 2]),
            conv(6).kernels(&[5, 3]).pads(&[2, 1, 2, 1]),
            1,
        ),
    ];
    for (seed, (first, second, stride)) in cases.into_iter().enumerate() {
        let micro = around(110 + seed as u64, 6, |m, x| {
            if stride == 1 {
                return basic(m, x, &first, &second);
            }
            let a = m.conv(x, &first);
            let a = m.unary("Relu", &a);
            let b = m.conv(&a, &second);
            let shortcut = m.conv(x, &conv(6).stride(stride));
            let sum = m.add(&b, &shortcut);
            m.unary("Relu", &sum)
        });
        let place = format!("case {seed}");
        let kernels = proves(&place, &super::nets::prepared(&micro), Proof::default());
        assert_eq!(kernels, 1, "{place}");
    }
}

#[test]
fn every_kernel_of_a_long_chain_but_the_last_fades() {
    for (convs, kernels) in [(2, 1), (3, 2), (4, 2), (5, 3)] {
        let mut m = Micro::new(130 + convs);
        let mut x = m.input("x", &[3, 12, 12]);
        for _ in 0..convs {
            x = m.conv(&x, &conv(4).kernel(3).pad(1));
            x = m.unary("Relu", &x);
        }
        m.output(&x);
        let place = format!("{convs} convs");
        let prepared = super::nets::prepared(&m);
        assert_eq!(proves(&place, &prepared, Proof::default()), kernels, "{place}");
    }
}

#[test]
fn kernels_of_other_types_fade_in_their_own() {
    for dtype in [DataType::Float16, DataType::Double] {
        let mut m = Micro::new(150).dtype(dtype);
        let x = m.input("x", &[6, 10, 10]);
        let k3 = conv(6).kernel(3).pad(1);
        let y = basic(&mut m, &x, &k3, &k3);
        m.output(&y);
        let proof = Proof { one_runtime: true, ..Proof::default() };
        let prepared = super::nets::prepared(&m);
        assert_eq!(proves(&dtype.to_string(), &prepared, proof), 1);
    }
}

/// A basic block whose kernels fade, and what was chosen in it.
fn one_block() -> (Model, Vec<Choice>) {
    let k3 = conv(6).kernel(3).pad(1);
    let micro = around(140, 6, |m, x| basic(m, x, &k3, &k3));
    let prepared = super::nets::prepared(&micro);
    let choices = choices(&prepared, Form::Conv);
    (faded(&prepared, &choices).0, choices)
}

#[test]
fn a_network_whose_kernels_fade_settles_from_its_file() {
    let (expanded, _) = one_block();
    let bytes = updp_testkit::encode(&expanded);
    let mut read = Model::decode(bytes, &mut updp_ir::no_external_data).expect("valid");
    let input = read.graph.find(surgery::SHRINK_INPUT).expect("it has an s");
    let declared = read.graph.value(input).declared().expect("typed").clone();
    assert_eq!(declared, TensorType::fixed(DataType::Float, &[]));
    assert_eq!(surgery::settle(&mut read).expect("settles"), 2);
    assert!(read.graph.find(surgery::SHRINK_INPUT).is_none());
    Proof::default().assert(&at(&expanded, 1.0, 1.0), &read);
}

#[test]
fn between_the_ends_the_outer_taps_are_scaled() {
    // λ and s are apart: the paper shrinks kernels long after λ has reached 1.
    let (expanded, _) = one_block();
    let half = at(&expanded, 1.0, 0.5);
    let proof = Proof { runs: 1, ..Proof::default() };
    for other in [at(&expanded, 1.0, 1.0), at(&expanded, 1.0, 0.0)] {
        assert!(proof.check(&half, &other).is_err(), "s = 0.5 is neither end");
    }
}

#[test]
fn an_s_that_something_else_reads_or_that_is_there_already_is_refused() {
    let (mut expanded, choices) = one_block();
    let error = surgery::fade_kernels(&mut expanded, &choices, Shrink::Auto);
    assert_eq!(error.expect_err("faded already").code(), "P0009");
    let s = expanded.graph.find(surgery::SHRINK_INPUT).expect("there");
    let output = expanded.graph.outputs().next().expect("one");
    let (anchor, _) = expanded.graph.producer(output).expect("a node");
    let fresh = [NewResult::Fresh("stray".into())];
    let stray = expanded.graph.add_node(Node::new("Identity"), anchor, &[Some(s)], &fresh);
    let stray = stray.expect("added").1[0].expect("a value");
    expanded.graph.add_output(stray, &TensorType::fixed(DataType::Float, &[])).expect("added");
    let error = surgery::settle(&mut expanded).expect_err("s is read elsewhere");
    assert_eq!(error.code(), "P0005");
    assert!(error.to_string().contains("updp_shrink"), "{error}");
}
