//! Pruning blocks: detection, the expanded network at λ = 0, and merged against settled networks.

mod blend;
pub(crate) mod command;
mod expanded;
mod fade;
mod nets;
mod thin;

use std::path::PathBuf;

use updp_ir::Model;
use updp_passes::blocks::{Block, BlockKind};
use updp_passes::pipeline;
use updp_passes::surgery::{self, Choice, Form, Shrink};
use updp_testkit::{Limit, Proof, op_counts, read_model};

use crate::compile::merge_all;
use crate::fixtures::folder;

pub(crate) fn fixture(name: &str) -> PathBuf {
    let part = if name.starts_with("fmnist") { "trained" } else { "exported" };
    folder().join(part).join(format!("{name}.onnx"))
}

pub(crate) fn prepared(name: &str) -> Model {
    let mut model = read_model(&fixture(name));
    pipeline::prepare(&mut model).expect("well formed");
    model
}

/// Every fixture with blocks: how many, and of which kind.
pub(crate) const FIXTURES: [(&str, usize, BlockKind); 26] = [
    ("timm_convnext_atto_mini.dynamo18-eval", 8, BlockKind::ConvNext),
    ("timm_convnext_atto_mini.legacy17-eval", 8, BlockKind::ConvNext),
    ("timm_convnext_mini.dynamo20-eval-dyn", 8, BlockKind::ConvNext),
    ("timm_convnext_mini.legacy13-eval", 8, BlockKind::ConvNext),
    ("timm_convnext_mini.legacy17-eval-nofold", 8, BlockKind::ConvNext),
    ("timm_convnext_mini.legacy17-eval", 8, BlockKind::ConvNext),
    ("timm_deit_mini.dynamo18-eval", 4, BlockKind::VitLayer),
    ("timm_deit_mini.dynamo20-eval-dyn", 4, BlockKind::VitLayer),
    ("timm_deit_mini.dynamo23-eval", 4, BlockKind::VitLayer),
    ("timm_deit_mini.legacy17-eval-dyn", 4, BlockKind::VitLayer),
    ("timm_deit_mini.legacy17-eval", 4, BlockKind::VitLayer),
    ("timm_mobilenetv2_mini.dynamo20-eval-dyn", 8, BlockKind::InvertedResidual),
    ("timm_mobilenetv2_mini.legacy17-preserve", 8, BlockKind::InvertedResidual),
    ("timm_mobileone_mini.legacy17-preserve", 3, BlockKind::Chain),
    ("timm_repvgg_mini.legacy17-eval", 3, BlockKind::Chain),
    ("timm_repvgg_mini.legacy17-preserve", 3, BlockKind::Chain),
    ("tv_resnet18_mini.dynamo18-eval", 8, BlockKind::Basic),
    ("tv_resnet18_mini.legacy17-eval", 8, BlockKind::Basic),
    ("tv_resnet18_mini.legacy17-preserve", 8, BlockKind::Basic),
    ("tv_resnet34_mini.legacy17-preserve", 16, BlockKind::Basic),
    ("tv_vgg_mini.legacy13-preserve", 3, BlockKind::Chain),
    ("fmnist_convnext.bn", 7, BlockKind::ConvNext),
    ("fmnist_deit.bn", 6, BlockKind::VitLayer),
    ("fmnist_mobilenetv2.bn", 8, BlockKind::InvertedResidual),
    ("fmnist_resnet.bn", 11, BlockKind::Basic),
    ("fmnist_vgg.bn", 3, BlockKind::Chain),
];

#[test]
fn every_fixture_shows_its_blocks() {
    for (name, count, kind) in FIXTURES {
        let blocks = surgery::blocks_of(&prepared(name)).expect("no cycle");
        let found: Vec<BlockKind> = blocks.iter().map(|block| block.kind).collect();
        // In front of each transformer layer stands its attention half, a block of its own.
        let wanted = match kind {
            BlockKind::VitLayer => [BlockKind::Attention, kind].repeat(count),
            _ => vec![kind; count],
        };
        assert_eq!(found, wanted, "{name}");
        assert!(blocks.iter().all(|block| block.refusal.is_none()), "{name}");
        // Halves come last in the numbers, so that layers keep theirs.
        let (halves, whole): (Vec<&Block>, Vec<&Block>) = blocks.iter().partition(|it| it.is_half);
        let numbers = whole.iter().chain(&halves).map(|block| block.index);
        assert!(numbers.eq(0..blocks.len()), "{name}");
    }
}

/// The blocks that exact surgery opens; all except attention and the chain over a pool at the start of a VGG.
pub(crate) fn opened(model: &Model) -> Vec<Block> {
    let all = surgery::blocks_of(model).expect("no cycle");
    let found: Vec<Block> = all.iter().filter(|it| it.fit_only.is_none()).cloned().collect();
    let attention = all.iter().filter(|it| it.kind == BlockKind::Attention).count();
    assert!(found.len() + 1 + attention >= all.len());
    found
}

/// Whole networks held against each other, in one runtime.
pub(crate) fn networks(runs: usize) -> Proof {
    Proof { limit: Limit::WholeNetwork, runs, one_runtime: true, ..Proof::default() }
}

fn choices(model: &Model, form: Form) -> Vec<Choice> {
    let blocks = surgery::blocks_of(model).expect("no cycle");
    let offers = |block: &Block| surgery::forms(block).contains(&form);
    blocks.into_iter().filter(offers).map(|block| Choice { block, form }).collect()
}

#[test]
fn expanded_networks_equal_their_originals_at_lambda_zero() {
    for (name, ..) in FIXTURES {
        for form in [Form::Conv, Form::DepthwisePointwise, Form::Norm, Form::Drop] {
            let original = read_model(&fixture(name));
            let mut expanded = prepared(name);
            let choices = choices(&expanded, form);
            if choices.is_empty() {
                continue;
            }
            surgery::expand(&mut expanded, &choices, Shrink::Auto)
                .unwrap_or_else(|error| panic!("{name} {}: {error}", form.name()));
            expanded.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
            surgery::fix_lambda(&mut expanded, 0.0).expect("it has a λ");
            networks(2)
                .check(&original, &expanded)
                .unwrap_or_else(|report| panic!("{name} {}: {report}", form.name()));
        }
    }
}

/// Prunes one block cut out of its network; gives the settled part and the merged one.
fn pruned_part(model: &Model, block: &Block, form: Form, shrink: Shrink) -> (Model, Model) {
    let part = || surgery::part_of(model, block).expect("it can be cut out");
    let settle = |part: &mut Model| {
        let mut own = surgery::blocks_of(part).expect("no cycle");
        own.retain(|own| own.kind != BlockKind::Attention);
        assert_eq!(own.len(), 1, "{}", block.name);
        assert_eq!(own[0].kind, block.kind, "{}", block.name);
        let choice = Choice { block: own.into_iter().next().expect("one"), form };
        surgery::prune(part, &[choice], shrink)
            .unwrap_or_else(|error| panic!("{}: {error}", block.name));
    };
    let mut settled = part();
    settle(&mut settled);
    let mut merged = part();
    settle(&mut merged);
    pipeline::compile(&mut merged, &merge_all(), &mut |_, _| ()).expect("well formed");
    (settled, merged)
}

#[test]
fn every_block_alone_merges_to_one_operator() {
    for (name, ..) in FIXTURES {
        let model = prepared(name);
        for block in opened(&model) {
            let (settled, merged) = pruned_part(&model, &block, Form::Conv, Shrink::Auto);
            let counts = op_counts(&merged.graph);
            let count = |op: &str| counts.get(op).copied().unwrap_or(0);
            let place = format!("{name}, block {} ({}): {counts:?}", block.index, block.name);
            println!("{place}");
            if block.kind == BlockKind::VitLayer {
                // Attention keeps its own products; the MLP is one FC without its shortcut.
                assert_eq!(
                    count("Conv") + count("LayerNormalization") + count("Sqrt"),
                    0,
                    "{place}"
                );
            } else {
                assert_eq!(count("Conv"), 1, "{place}");
                assert_eq!(count("MatMul") + count("Gemm"), 0, "{place}");
            }
            let proof = Proof { runs: 2, one_runtime: true, ..Proof::default() };
            proof.check(&settled, &merged).unwrap_or_else(|report| panic!("{place}\n{report}"));
        }
    }
}

#[test]
fn every_form_of_every_block_merges_exactly() {
    for (name, ..) in FIXTURES {
        let model = prepared(name);
        for block in surgery::blocks_of(&model).expect("no cycle") {
            for form in surgery::forms(&block) {
                let (settled, merged) = pruned_part(&model, &block, form, Shrink::None);
                if form == Form::Drop {
                    assert_eq!(merged.graph.node_count(), 1, "an Identity keeps the output's name");
                    continue;
                }
                let place = format!("{name}, block {} as {}", block.index, form.name());
                let proof = Proof { runs: 2, one_runtime: true, ..Proof::default() };
                proof.check(&settled, &merged).unwrap_or_else(|report| panic!("{place}\n{report}"));
            }
        }
    }
}

#[test]
fn all_blocks_together_merge_exactly() {
    for (name, ..) in FIXTURES {
        for form in [Form::Conv, Form::DepthwisePointwise] {
            let pruned = || {
                let mut model = prepared(name);
                let choices = choices(&model, form);
                surgery::prune(&mut model, &choices, Shrink::Auto)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                model
            };
            let (settled, mut merged) = (pruned(), pruned());
            pipeline::compile(&mut merged, &merge_all(), &mut |_, _| ()).expect("well formed");
            networks(2)
                .check(&settled, &merged)
                .unwrap_or_else(|report| panic!("{name} {}\n{report}", form.name()));
        }
    }
}

#[test]
fn what_was_compiled_exactly_can_be_pruned_to_the_same_network() {
    for name in [
        "timm_convnext_mini.legacy17-eval",
        "timm_deit_mini.legacy17-eval",
        "tv_resnet18_mini.legacy17-preserve",
    ] {
        let pruned = |compiles_first: bool| {
            let mut model = read_model(&fixture(name));
            if compiles_first {
                crate::compile::compile(&mut model);
            }
            pipeline::prepare(&mut model).expect("well formed");
            let choices = choices(&model, Form::Conv);
            assert!(!choices.is_empty(), "{name}");
            surgery::prune(&mut model, &choices, Shrink::Auto)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            model
        };
        let proof =
            Proof { limit: Limit::WholeNetwork, runs: 2, one_runtime: true, ..Proof::default() };
        proof
            .check(&pruned(false), &pruned(true))
            .unwrap_or_else(|report| panic!("{name}\n{report}"));
    }
}
