//! Errors that are planted in compiled models must be found, and models without errors must pass.

use std::path::{Path, PathBuf};

use updp_testkit::{Fault, find_ort, skip};

use crate::fixtures::folder;

#[path = "../../examples/planted_errors.rs"]
#[expect(dead_code, reason = "the test calls what `main` calls")]
mod planted_errors;

/// Plants errors in a model: number of errors, and number of those found.
fn planted(model: &Path, seeds: u64) -> (usize, usize) {
    let outcome = planted_errors::run(model, seeds).unwrap_or_else(|error| panic!("{error}"));
    let name = model.display();
    assert_eq!(outcome.clean.failure(), None, "{name}: a false alarm");
    for trial in &outcome.trials {
        assert!(
            trial.is_found() || trial.finding == planted_errors::Finding::BelowRounding,
            "{name}: not found: {:?} {} {:?}",
            trial.fault,
            trial.place,
            trial.differences
        );
    }
    let found = outcome.trials.iter().filter(|trial| trial.is_found()).count();
    (outcome.trials.len(), found)
}

#[test]
fn planted_errors_are_found_in_the_fixtures() {
    if find_ort().is_none() {
        return skip("planted_errors_are_found_in_the_fixtures", "no ONNX Runtime library");
    }
    let models = [
        "trained/fmnist_resnet.bn.onnx",
        "trained/fmnist_repvgg.bn.onnx",
        "exported/timm_mobilenetv2_mini.legacy17-preserve.onnx",
        "exported/timm_deit_mini.legacy17-eval.onnx",
        "exported/tv_vgg_mini.legacy13-preserve.onnx",
    ];
    let (mut all, mut found) = (0, 0);
    for model in models {
        let (count, hits) = planted(&folder().join(model), 1);
        assert!(count >= Fault::ALL.len(), "{model}: {count} errors planted");
        all += count;
        found += hits;
    }
    assert!(found * 10 >= all * 8, "{found} of {all} errors found");
}

/// Trained models of others, where they are at hand.
#[test]
fn planted_errors_are_found_in_models_from_elsewhere() {
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/real");
    let names = ["winml__mnist_cntk.onnx", "stm32__mobilenet_v2_128_0.5.onnx"];
    let models: Vec<PathBuf> =
        names.iter().map(|name| real.join(name)).filter(|path| path.exists()).collect();
    if models.is_empty() || find_ort().is_none() {
        eprintln!("skipped planted_errors_are_found_in_models_from_elsewhere: no models");
        return;
    }
    for model in models {
        planted(&model, 2);
    }
}
