//! Networks as exporters write them: the step builds, its loss falls, and every weight is trained.

use std::path::{Path, PathBuf};

use updp_autodiff::step::{Objective, StateKind};
use updp_autodiff::{StepSpec, TrainingStep};
use updp_ir::{DataType, Model};
use updp_testkit::{Inputs, Random, read_model, tensor};

use crate::networks::{Training, has_runtime};

/// A folder of fixtures.
pub fn fixtures(folder: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures")).join(folder)
}

fn models(folder: &str) -> Vec<PathBuf> {
    let folder = fixtures(folder);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "onnx")).collect();
    paths.sort();
    paths
}

/// The model with a batch of 4 where its batch is open.
fn bound(path: &Path) -> (Model, Vec<usize>) {
    let mut model = read_model(path);
    let input = model.graph.required_inputs().next().expect("an image input");
    let declared = model.graph.value(input).declared().expect("a type").clone();
    let dims: Vec<usize> =
        declared.shape.expect("a shape").iter().map(|dim| dim.known().unwrap_or(4)).collect();
    model.graph.set_input_dims(input, &dims).expect("an input");
    (model, dims)
}

fn train(path: &Path) {
    let (model, dims) = bound(path);
    let input = model.graph.required_inputs().next().expect("an image input");
    let input = model.graph.value(input).name().to_owned();
    let (batch, classes) = (dims[0], 10);
    let spec = StepSpec::new(Objective::Labels { smoothing: 0.1 }).with_adamw();
    let step = TrainingStep::build(model, &spec)
        .unwrap_or_else(|error| panic!("{}: {}: {error}", path.display(), error.code()));
    let mut random = Random::new(3);
    let images = random.many(dims.iter().product(), -1.0, 1.0);
    let mut targets = vec![0.0; batch * classes];
    for (at, row) in targets.chunks_mut(classes).enumerate() {
        row[(at * 7 + 3) % classes] = 1.0;
    }
    let data = Inputs::from_iter([
        (input, tensor(DataType::Float, &dims, &images)),
        ("targets".to_owned(), tensor(DataType::Float, &[batch, classes], &targets)),
    ]);
    let mut training = Training::new(step);
    let losses: Vec<f64> = (0..12)
        .map(|_| {
            let outputs = training.run(&data, 0.003);
            training.loss(&outputs)
        })
        .collect();
    println!("{}: {} states, {losses:.3?}", path.display(), training.step.states.len());
    assert!(losses.iter().all(|loss| loss.is_finite()), "{}: {losses:?}", path.display());
    assert!(losses[11] < 0.95 * losses[0], "{}: {losses:?}", path.display());
    for state in &training.step.states {
        let has_moved = training.states[&state.input] != state.initial;
        let is_moved = matches!(state.kind, StateKind::Parameter | StateKind::Statistic);
        assert!(has_moved || !is_moved, "{}: {} stands still", path.display(), state.source);
    }
}

#[test]
fn networks_of_all_exporters_train() {
    if !has_runtime("networks_of_all_exporters_train") {
        return;
    }
    for path in models("exported") {
        if path.to_string_lossy().contains("legacy17-train") {
            continue;
        }
        train(&path);
    }
}

#[test]
fn trained_networks_train_on() {
    if !has_runtime("trained_networks_train_on") {
        return;
    }
    for path in models("trained") {
        train(&path);
    }
}

#[test]
fn networks_in_training_form_are_refused() {
    let path = models("exported")
        .into_iter()
        .find(|path| path.to_string_lossy().contains("legacy17-train"))
        .expect("the fixture");
    let (model, _) = bound(&path);
    let spec = StepSpec::new(Objective::Labels { smoothing: 0.0 });
    let error = TrainingStep::build(model, &spec).expect_err("it is in training form");
    assert_eq!(error.code(), "T0302");
}
