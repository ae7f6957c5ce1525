//! Fitted operators mixed in by λ, with weights of no meaning in their places.

use indexmap::IndexMap;
use updp_ir::{Model, Tensor};
use updp_passes::surgery::{self, Fitted, Form, Shrink, Site};
use updp_testkit::{op_counts, read_model};

use super::{FIXTURES, fixture, networks, prepared};

/// Every block's site of a form, where it has one, with operators in it.
fn fits(model: &Model, form: Form) -> Vec<(Site, Fitted)> {
    let blocks = surgery::blocks_of(model).expect("no cycle");
    let sites: Vec<Site> = surgery::with_context(model, |cx| {
        let site = |block| surgery::site(cx, block, form, Shrink::Auto).ok();
        let sites = blocks.iter().filter_map(site);
        sites.filter(|site| form != Form::Drop || site.shortcut.is_some()).collect()
    });
    let with_fit = |site: Site| {
        let fitted = surgery::stand_in(&site).expect("it has a window");
        (site, fitted)
    };
    sites.into_iter().map(with_fit).collect()
}

fn blended(name: &str, fits: &[(Site, Fitted)]) -> Model {
    let mut model = prepared(name);
    let fits: Vec<(&Site, &Fitted)> = fits.iter().map(|(site, fitted)| (site, fitted)).collect();
    surgery::blend(&mut model, &fits).unwrap_or_else(|error| panic!("{name}: {error}"));
    model.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
    model
}

#[test]
fn a_blend_is_the_original_at_lambda_zero_and_the_fitted_network_at_one() {
    let mut seen = 0;
    for (name, ..) in FIXTURES {
        for form in [Form::Conv, Form::DepthwisePointwise, Form::Drop] {
            let fits = fits(&prepared(name), form);
            if fits.is_empty() {
                continue;
            }
            seen += 1;
            let original = read_model(&fixture(name));
            let mut at_zero = blended(name, &fits);
            surgery::fix_lambda(&mut at_zero, 0.0).expect("it has a λ");
            networks(1)
                .check(&original, &at_zero)
                .unwrap_or_else(|report| panic!("{name} {}: {report}", form.name()));
            let mut placed = prepared(name);
            for (site, fitted) in &fits {
                surgery::substitute(&mut placed, site, fitted).expect("it fits");
            }
            let (mut at_one, mut settled) = (blended(name, &fits), blended(name, &fits));
            surgery::fix_lambda(&mut at_one, 1.0).expect("it has a λ");
            assert_eq!(surgery::settle(&mut settled).expect("it settles"), fits.len());
            for model in [&at_one, &settled] {
                networks(1)
                    .check(&placed, model)
                    .unwrap_or_else(|report| panic!("{name} {}: {report}", form.name()));
            }
        }
    }
    assert!(seen > FIXTURES.len(), "{seen}");
}

#[test]
fn a_network_is_blended_once() {
    let name = "fmnist_resnet.bn";
    let fits = fits(&prepared(name), Form::Conv);
    let mut model = blended(name, &fits[..1]);
    let again: Vec<(&Site, &Fitted)> = fits[1..].iter().map(|(s, f)| (s, f)).collect();
    let error = surgery::blend(&mut model, &again).expect_err("it has a λ already");
    assert_eq!(error.code(), "P0009");
}

/// The outputs of a blend given a λ, and of a network without it.
fn run(model: &Model, lambda: Option<&[f32]>, seed: usize) -> IndexMap<String, Tensor> {
    let name = |value| model.graph.value(value).name().to_owned();
    let mut names = model.graph.required_inputs().map(name);
    let input = names.find(|name| name != surgery::LAMBDA_INPUT).expect("one input");
    let pixel = |at: usize| ((at * 7 + seed * 13) % 23) as f32 / 11.0 - 1.0;
    let values: Vec<f32> = (0..4 * 28 * 28).map(pixel).collect();
    let images = Tensor::from_f32(vec![4, 1, 28, 28], &values).expect("it fits");
    let mut inputs = IndexMap::from([(input, images)]);
    if let Some(lambda) = lambda {
        let tensor = Tensor::from_f32(vec![lambda.len()], lambda).expect("it fits");
        inputs.insert(surgery::LAMBDA_INPUT.to_owned(), tensor);
    }
    let runner = crate::fit::runner();
    runner.open(model).expect("it loads").run(&inputs).expect("it runs")
}

#[test]
fn a_subnet_cut_out_gives_what_the_supernet_gives_at_its_lambda() {
    for name in
        ["fmnist_resnet.bn", "fmnist_mobilenetv2.bn", "fmnist_convnext.bn", "fmnist_deit.bn"]
    {
        // Every block in one form, each third of another kind.
        let model = prepared(name);
        let [drops, convs] = [Form::Drop, Form::Conv].map(|form| fits(&model, form));
        let is_dropped = |site: &Site| site.block % 3 == 1;
        let mut all: Vec<(Site, Fitted)> =
            drops.into_iter().filter(|(site, _)| is_dropped(site)).collect();
        let taken: Vec<usize> = all.iter().map(|(site, _)| site.block).collect();
        all.extend(convs.into_iter().filter(|(site, _)| !taken.contains(&site.block)));
        all.sort_by_key(|(site, _)| site.block);
        let supernet = blended(name, &all);
        assert_eq!(surgery::lambda_entries(&supernet), all.len(), "{name}");
        for (number, genome) in
            [0b0110_1001_0110_u32, 0b1000_0000_0001, 0, 0xfff].iter().enumerate()
        {
            let pruned: Vec<bool> = (0..all.len()).map(|at| (genome >> at) & 1 == 1).collect();
            let lambda: Vec<f32> = pruned.iter().copied().map(f32::from).collect();
            let mut subnet = supernet.clone();
            surgery::subnet(&mut subnet, &pruned).expect("each entry has its mixes");
            subnet.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(subnet.graph.find(surgery::LAMBDA_INPUT).is_none());
            let expected = run(&supernet, Some(&lambda), number);
            let found = run(&subnet, None, number);
            for (output, expected) in &expected {
                let difference = updp_exec::compare_tensors(expected, &found[output]);
                assert!(difference.is_within(1e-5), "{name} {pruned:?}: {difference:?}");
            }
            // Only the operators of its blocks are left.
            let mut placed = prepared(name);
            for ((site, fitted), _) in all.iter().zip(&pruned).filter(|(_, is)| **is) {
                surgery::substitute(&mut placed, site, fitted).expect("it fits");
            }
            let convs = |model: &Model| op_counts(&model.graph).get("Conv").copied();
            let mut clean = placed.clone();
            updp_passes::pipeline::prepare(&mut clean).expect("well formed");
            updp_passes::pipeline::prepare(&mut subnet).expect("well formed");
            assert_eq!(convs(&subnet), convs(&clean), "{name} {pruned:?}");
        }
    }
}

#[test]
fn a_genome_has_an_entry_for_each_block_of_the_supernet() {
    let name = "fmnist_resnet.bn";
    let fits = fits(&prepared(name), Form::Conv);
    let mut supernet = blended(name, &fits);
    for pruned in [vec![true; fits.len() - 1], vec![true; fits.len() + 1]] {
        let error = surgery::subnet(&mut supernet, &pruned).expect_err("another length");
        assert_eq!(error.code(), "P0010");
    }
    let error = surgery::subnet(&mut prepared(name), &[true]).expect_err("it has no λ");
    assert_eq!(error.code(), "P0010");
    assert_eq!(surgery::subnet(&mut prepared(name), &[]).expect("nothing to do"), 0);
}
