//! Pruning with data: what fitted operators are put in place of, and what they are worth.

mod command;
mod front;
mod inputs;
mod regions;
mod resume;
mod several;
mod split;
mod supernet;
mod train;

use std::num::NonZeroUsize;

use indexmap::IndexMap;
use updp_exec::{Optimizer, Runtime};
use updp_ir::Model;
use updp_passes::pipeline;
use updp_passes::surgery::{self, Form, Shrink, Site};
use updp_prune::fitter::place;
use updp_testkit::{op_counts, read_model};
use updp_trainer::activation_cache::{ActivationCache, Flow, Pair};
use updp_trainer::block_evaluator::{BatchShare, BlockEvaluator};
use updp_trainer::evaluator::Evaluator;
use updp_trainer::fit::{Fit, FitSettings, FittedForm};
use updp_trainer::images::{Images, is_same_by_image};
use updp_trainer::run::{Batch, BatchSource, CachedBatches, Runner};

use crate::fixtures::folder;
use crate::prune::{FIXTURES, fixture, networks, prepared};

/// Every site of every block of a prepared model.
fn sites(model: &Model) -> Vec<Site> {
    let blocks = surgery::blocks_of(model).expect("no cycle");
    surgery::with_context(model, |cx| {
        let of = |block| surgery::sites(cx, block, Shrink::Auto);
        blocks.iter().flat_map(of).filter_map(|(_, site)| site.ok()).collect()
    })
}

fn flow(original: &dyn BatchSource) -> Flow<'_> {
    Flow { original, current: None }
}

#[test]
fn every_fixture_offers_fitted_forms_of_every_block() {
    for (name, count, _) in FIXTURES {
        let sites = sites(&prepared(name));
        for block in 0..count {
            let forms: Vec<Form> =
                sites.iter().filter(|site| site.block == block).map(|site| site.form).collect();
            assert!(!forms.is_empty(), "{name}, block {block}");
            assert!(
                forms.iter().any(|form| *form != Form::Drop),
                "{name}, block {block}: {forms:?}"
            );
        }
    }
}

#[test]
fn fitted_operators_fit_where_they_are_put_and_merge_exactly() {
    for (name, ..) in FIXTURES {
        let model = prepared(name);
        for form in Form::ALL {
            let of_form: Vec<Site> =
                sites(&model).into_iter().filter(|site| site.form == form).collect();
            if of_form.is_empty() {
                continue;
            }
            let mut placed = model.clone();
            for site in &of_form {
                let stand_in = surgery::stand_in(site).expect("a window of a convolution");
                surgery::substitute(&mut placed, site, &stand_in)
                    .unwrap_or_else(|error| panic!("{name} {}: {error}", form.name()));
            }
            placed.validate().unwrap_or_else(|error| panic!("{name} {}: {error}", form.name()));
            let mut merged = placed.clone();
            pipeline::compile(&mut merged, &crate::compile::merge_all(), &mut |_, _| ())
                .expect("well formed");
            networks(1)
                .check(&placed, &merged)
                .unwrap_or_else(|report| panic!("{name} {}: {report}", form.name()));
        }
    }
}

#[test]
fn layers_put_back_with_their_own_weights_change_nothing() {
    for (name, ..) in FIXTURES {
        let model = prepared(name);
        let layers = surgery::with_context(&model, |cx| {
            let blocks = surgery::blocks_of(&model).expect("no cycle");
            let mut layers: Vec<_> =
                blocks.iter().flat_map(|block| surgery::layers(cx, block)).collect();
            {
                let blocks: Vec<_> = blocks.iter().collect();
                layers.extend(
                    surgery::outer_layers(cx, &blocks)
                        .expect("no cycle")
                        .pop()
                        .map(|(_, head)| head),
                );
            }
            layers
        });
        assert!(!layers.is_empty(), "{name}");
        let mut placed = model.clone();
        for layer in layers {
            let same = surgery::Fitted::Maps(vec![layer.map]);
            surgery::substitute(&mut placed, &layer.site, &same)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        networks(1).check(&model, &placed).unwrap_or_else(|report| panic!("{name}: {report}"));
        // A head that is one operator stays one.
        let gemms = |model: &Model| op_counts(&model.graph)["Gemm"];
        assert_eq!(gemms(&placed), gemms(&model), "{name}");
        assert!(gemms(&model) > 0, "{name}");
    }
}

pub(crate) fn runner() -> Runner {
    let (optimizer, threads) = (Optimizer::All, NonZeroUsize::new(1));
    let options = updp_exec::Options { optimizer, threads, ..updp_exec::Options::default() };
    Runner { runtime: Runtime::Auto, options }
}

/// Images of the Fashion-MNIST test set, as the trained fixtures take them.
fn fashion(model: &Model, count: usize) -> CachedBatches {
    let data = folder().join("fmnist_test_1000.npz");
    let dataset = updp_trainer::data::Dataset::open(&data).expect("a fixture").sample(count, 1);
    let preprocess = updp_trainer::data::Preprocess::parse("fashion-mnist").expect("a preset");
    CachedBatches::of(&Images::new(model, dataset, &preprocess).expect("images")).expect("read")
}

#[test]
fn a_fitted_block_is_nearer_than_a_dropped_one_and_a_larger_form_nearer_than_a_smaller_one() {
    for name in
        ["fmnist_resnet.bn", "fmnist_mobilenetv2.bn", "fmnist_convnext.bn", "fmnist_deit.bn"]
    {
        let model = prepared(name);
        let images = fashion(&model, 300);
        let settings = FitSettings::default();
        let runner = runner();
        let fit = Fit {
            runner: &runner,
            original: &model,
            current: &model,
            cut: &[],
            calibration: flow(&images),
            settings: &settings,
            fisher: None,
        };
        for block in [1, 4] {
            let is_own = |site: &Site| site.block == block && site.form.is_depth();
            let own: Vec<Site> = sites(&model).into_iter().filter(is_own).collect();
            let candidates = fit.block(&own).unwrap_or_else(|error| panic!("{name}: {error}"));
            let error = |form: Form| {
                let found = candidates.iter().find(|c| c.site.form == form);
                found.map(|candidate| candidate.output_error)
            };
            assert_eq!(candidates.len(), own.len(), "{name}");
            let conv = error(Form::Conv).expect("every family has it");
            assert!(conv < 0.9, "{name}, block {block}: {conv}");
            for smaller in [Form::Pointwise, Form::LowRank, Form::Drop] {
                if let Some(other) = error(smaller) {
                    assert!(
                        conv <= other,
                        "{name}, block {block}: {conv} {} {other}",
                        smaller.name()
                    );
                }
            }
        }
    }
}

#[test]
fn a_network_run_on_from_a_block_gives_what_it_gives_from_its_inputs() {
    for name in
        ["fmnist_resnet.bn", "fmnist_mobilenetv2.bn", "fmnist_convnext.bn", "fmnist_deit.bn"]
    {
        let model = prepared(name);
        let images = fashion(&model, 200);
        let (runner, settings) = (runner(), FitSettings::default());
        let evaluator = Evaluator::new(&runner, &model, images.clone()).expect("it runs");
        let inputs = &images as &dyn BatchSource;
        let mut stage = ActivationCache::default();
        let mut pruned = model.clone();
        for block in [1, 4] {
            let is_own = |site: &Site| site.block == block && site.form == Form::Conv;
            let own: Vec<Site> = sites(&model).into_iter().filter(is_own).collect();
            let current = (block > 1).then_some(&pruned);
            let networks = Pair { original: &model, current, outputs: evaluator.outputs() };
            stage.advance(&runner, networks, &own[0].source, inputs).expect("it runs");
            assert_eq!(stage.cut(), [own[0].source.clone()], "{name}");
            let solve = |cut: &[String], calibration: Flow<'_>| {
                let (runner, settings, original) = (&runner, &settings, &model);
                let current = &pruned;
                let fit =
                    Fit { runner, original, current, cut, calibration, settings, fisher: None };
                fit.block(&own).expect("solved").remove(0)
            };
            let whole = solve(&[], flow(inputs));
            let part = solve(stage.cut(), stage.flow(inputs));
            let difference = (whole.output_error - part.output_error).abs();
            assert!(difference < 1e-4, "{name}, block {block}: {difference}");
            let result = part.site.result.as_str();
            let alone = FittedForm { folds: Vec::new(), ..part.clone() };
            let mut behind = BlockEvaluator::open(
                &runner,
                &evaluator,
                evaluator.source(),
                &stage,
                &pruned,
                result,
            )
            .expect("it opens");
            let score = behind.score(&alone, BatchShare { round: 1, step: 1 }).expect("it runs");
            place(&mut pruned, [&part]).expect("it fits");
            let (whole, part) = (evaluator.score(&runner, &pruned).expect("it runs"), score);
            assert!((whole.overlap - part.overlap).abs() < 1e-4, "{name}: {whole:?} {part:?}");
            assert!((whole.kl - part.kl).abs() < 1e-4, "{name}: {whole:?} {part:?}");
            assert!(whole.overlap < 0.999_99, "{name}: pruning changed something");
        }
    }
}

#[test]
fn the_original_agrees_with_itself_and_equations_without_rows_are_an_error() {
    let model = prepared("fmnist_resnet.bn");
    let images = fashion(&model, 200);
    let runner = runner();
    let evaluator = Evaluator::new(&runner, &model, images.clone()).expect("it runs");
    let score = evaluator.score(&runner, &model).expect("it runs");
    assert_eq!(score.agreement, Some(1.0));
    assert!(score.overlap > 0.999_999);
    assert!(score.accuracy.is_some_and(|accuracy| accuracy > 0.8));
    let is_own = |site: &Site| site.block == 0 && site.form.is_depth();
    let own: Vec<Site> = sites(&model).into_iter().filter(is_own).collect();

    let (settings, none) = (FitSettings::default(), CachedBatches::default());
    let fit = Fit {
        runner: &runner,
        original: &model,
        current: &model,
        cut: &[],
        calibration: flow(&none),
        settings: &settings,
        fisher: None,
    };
    assert_eq!(fit.block(&own).expect_err("no rows").code(), "T0005");
    let empty = Evaluator::new(&runner, &model, none).err().expect("no images");
    assert_eq!(empty.code(), "T0004");
}

#[test]
fn a_fixed_batch_is_opened_where_every_image_keeps_its_result() {
    for name in ["tv_resnet18_mini.legacy17-eval", "tv_resnet18_mini.dynamo18-eval"] {
        let fixed = prepared(name);
        let mut opened = fixed.clone();
        let input = fixed.graph.required_inputs().next().expect("one input");
        let value = fixed.graph.value(input);
        let is_opened = surgery::open_batch(&mut opened, &[value.name()]).expect("one input");
        assert!(is_opened, "{name} has a fixed batch");
        let dims = value.declared().and_then(updp_ir::TensorType::known_dims).expect("fixed");
        let batch = |seed: usize| {
            let count: usize = dims.iter().product();
            let values: Vec<f32> =
                (0..count).map(|at| ((at * 7 + seed * 13) % 19) as f32 / 9.0 - 1.0).collect();
            let tensor = updp_ir::Tensor::from_f32(dims.clone(), &values).expect("fits");
            let inputs = IndexMap::from([(value.name().to_owned(), tensor)]);
            Batch::new(inputs, None)
        };
        let images = CachedBatches { batches: vec![batch(1), batch(2)] };
        assert_eq!(images.images(), 2 * dims[0]);
        assert!(is_same_by_image(&runner(), &fixed, &opened, &images).expect("it runs"), "{name}");
    }
    // A network that mixes its images does not pass.
    let symbolic = read_model(&fixture("fmnist_resnet.bn"));
    let mut same = symbolic.clone();
    let input = same.graph.required_inputs().next().expect("one input");
    let name = same.graph.value(input).name().to_owned();
    assert!(!surgery::open_batch(&mut same, &[&name]).expect("one input"));
}
