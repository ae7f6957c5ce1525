//! Fitted operators mixed in by λ, with weights of no meaning in their places.

use updp_ir::Model;
use updp_passes::surgery::{self, Fitted, Form, Shrink, Site};
use updp_testkit::read_model;

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
