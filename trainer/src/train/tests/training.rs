//! Whole trainings of a softmax regression, its step written by hand.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use indexmap::IndexMap;
use tempfile::TempDir;
use updp_autodiff::StepNames;
use updp_exec::{ModelSource, Options, StateSpec, StepSession};
use updp_ir::{DataPlacement, DataType, ModelBuilder, Node, Tensor};
use updp_testkit::{find_ort, known, skip};

use super::{INPUT, plain, small};
use crate::data::Dataset;
use crate::error::TrainerError;
use crate::train::{
    Augment, End, Hooks, Loader, LoaderSettings, Progress, Ramp, Schedule, Shrink, TrainError,
    TrainOptions, Trained, train,
};

pub(super) const CLASSES: usize = 3;

fn f32s(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(dims.to_vec(), values).unwrap()
}

/// `loss = −mean Σ t·log softmax(x·w)`, g = xᵀ(p − t)/n, h = kept + share·g, w' = w − apply·lr·h; `kept'` is 0.5·h, a
/// momentum, or with accumulation (1 − apply)·h. The states `seen` and `count` hold λ and the number of the step.
fn step_model(batch: usize, accumulates: bool) -> ModelBuilder {
    let mut model = ModelBuilder::new(17);
    let float = DataType::Float;
    let inputs: [(&str, &[usize]); 8] = [
        ("x", &[batch, 1, 3, 4]),
        ("targets", &[batch, CLASSES]),
        ("updp_lambda", &[2]),
        ("learning_rate", &[]),
        ("step", &[]),
        ("w", &[12, CLASSES]),
        ("kept", &[12, CLASSES]),
        ("seen", &[2]),
    ];
    for (name, dims) in inputs {
        model.input(name, float, &known(dims));
    }
    model.input("count", float, &[]);
    for (name, value) in [
        ("one", 1.0),
        ("half", 0.5),
        ("inverse", 1.0 / batch as f32),
        ("minus", -1.0 / batch as f32),
    ] {
        model.initializer(name, &f32s(&[], &[value]));
    }
    if accumulates {
        model.input("apply", float, &[]).input("share", float, &[]);
    }
    let (apply, share) = if accumulates { ("apply", "share") } else { ("one", "one") };
    let whole = |op: &str| Node::new(op).with("keepdims", 0_i64);
    let first = || Node::new("ArgMax").with("axis", 1_i64).with("keepdims", 0_i64);
    model
        .node(Node::new("Flatten"), &["x"], &["f"])
        .node(Node::new("MatMul"), &["f", "w"], &["z"])
        .node(Node::new("Softmax").with("axis", -1_i64), &["z"], &["p"])
        .node(Node::new("LogSoftmax").with("axis", -1_i64), &["z"], &["log"])
        .node(Node::new("Mul"), &["log", "targets"], &["parts"])
        .node(whole("ReduceSum"), &["parts"], &["sum"])
        .node(Node::new("Mul"), &["sum", "minus"], &["loss"])
        .node(Node::new("Sub"), &["p", "targets"], &["d"])
        .node(Node::new("Transpose"), &["f"], &["ft"])
        .node(Node::new("MatMul"), &["ft", "d"], &["gs"])
        .node(Node::new("Mul"), &["gs", "inverse"], &["g"])
        .node(Node::new("Mul"), &["g", share], &["part"])
        .node(Node::new("Add"), &["kept", "part"], &["h"])
        .node(whole("ReduceSumSquare"), &["h"], &["square"])
        .node(Node::new("Sqrt"), &["square"], &["grad_norm"])
        .node(Node::new("Mul"), &["h", "learning_rate"], &["far"])
        .node(Node::new("Mul"), &["far", apply], &["change"])
        .node(Node::new("Sub"), &["w", "change"], &["w_next"])
        .node(Node::new("Sub"), &["one", apply], &["rest"])
        .node(Node::new("Mul"), &["h", if accumulates { "rest" } else { "half" }], &["kept_next"])
        .node(first(), &["z"], &["class"])
        .node(first(), &["targets"], &["label"])
        .node(Node::new("Equal"), &["class", "label"], &["same"])
        .node(Node::new("Cast").with("to", 1_i64), &["same"], &["right"])
        .node(whole("ReduceSum"), &["right"], &["correct"])
        .node(Node::new("Identity"), &["updp_lambda"], &["seen_next"])
        .node(Node::new("Identity"), &["step"], &["count_next"]);
    for name in ["loss", "correct", "grad_norm", "w_next", "kept_next", "seen_next", "count_next"] {
        model.output(name, float, None);
    }
    model
}

/// The names in [`step_model`].
fn names(accumulates: bool) -> StepNames {
    let input = |name: &str| Some(name.to_owned());
    StepNames {
        features: Vec::new(),
        targets: input("targets"),
        teachers: Vec::new(),
        learning_rate: "learning_rate".to_owned(),
        step: input("step"),
        apply: input("apply").filter(|_| accumulates),
        share: input("share").filter(|_| accumulates),
        loss: "loss".to_owned(),
        correct: Some("correct".to_owned()),
        gradient_norm: "grad_norm".to_owned(),
    }
}

pub(super) fn session(batch: usize, accumulates: bool) -> StepSession {
    let model = step_model(batch, accumulates).build().unwrap();
    let bytes = model.encode(&DataPlacement::Inline).unwrap().model_to_bytes();
    let spec = |name: &str, dims: &[usize]| StateSpec {
        input: name.to_owned(),
        output: format!("{name}_next"),
        initial: f32s(dims, &vec![0.0; dims.iter().product()]),
    };
    let weights: &[usize] = &[12, CLASSES];
    let states =
        [spec("w", weights), spec("kept", weights), spec("seen", &[2]), spec("count", &[])];
    let threads = NonZeroUsize::new(1);
    let options = Options { library: find_ort(), threads, ..Options::default() };
    let names = names(accumulates);
    StepSession::open(ModelSource::Bytes(&bytes), &options, &states, &names.results()).unwrap()
}

/// Whether ONNX Runtime is there; prints the skip.
pub(super) fn has_runtime(test: &str) -> bool {
    let has = find_ort().is_some();
    if !has {
        skip(test, "no ONNX Runtime");
    }
    has
}

const EPOCHS: usize = 4;

pub(super) fn schedule(steps_per_epoch: usize) -> Schedule {
    Schedule {
        epochs: EPOCHS,
        steps_per_epoch,
        speed: 2.0,
        ramp: Ramp::Linear,
        shrink: Shrink::WithLambda,
        peak: 0.5,
        floor: 0.0,
        warm_up_epochs: 1.0,
    }
}

fn settings() -> LoaderSettings {
    let augment = Augment { mixup: 0.2, ..Augment::light(1) };
    LoaderSettings { augment, ..LoaderSettings::new(4, CLASSES, 7) }
}

pub(super) fn options(folder: Option<&Path>) -> TrainOptions {
    TrainOptions {
        folder: folder.map(Path::to_owned),
        checkpoint_every: 3,
        fingerprint: BTreeMap::from([("model".to_owned(), "softmax".to_owned())]),
        images: "x".to_owned(),
        names: names(false),
        pruned: vec![1.0, 0.5],
        accumulate: 1,
        scales_loss: false,
    }
}

/// Sees everything, and stops or fails where it is told to.
#[derive(Default)]
struct Seen {
    progress: Vec<Progress>,
    notices: Vec<String>,
    stop_after: Option<u64>,
    /// As if the process were killed in this step: nothing is saved.
    fail_in: Option<u64>,
    /// The learning rate of this step is NaN.
    spoil_in: Option<u64>,
    steps: u64,
}

impl Hooks for Seen {
    fn progress(&mut self, progress: &Progress) {
        self.progress.push(*progress);
        self.steps = progress.done;
    }

    fn notice(&mut self, text: &str) {
        self.notices.push(text.to_owned());
    }

    fn is_stopped(&mut self) -> bool {
        self.stop_after.is_some_and(|after| self.steps >= after)
    }

    fn inputs(
        &mut self,
        _images: &Tensor,
        point: &crate::train::Point,
        _batch: u64,
    ) -> Result<IndexMap<String, Tensor>, TrainerError> {
        let step = (point.epoch * 5.0).round() as u64;
        if self.fail_in == Some(step) {
            return Err(TrainerError::NoOutput);
        }
        let rate = (self.spoil_in == Some(step)).then(|| f32s(&[], &[f32::NAN]));
        Ok(rate.map(|rate| ("learning_rate".to_owned(), rate)).into_iter().collect())
    }

    fn validate(
        &mut self,
        state: &IndexMap<String, Tensor>,
        epoch: u64,
    ) -> Result<Option<f64>, TrainerError> {
        let sum: f64 = state["w"].to_f64().unwrap().iter().map(|w| w * w).sum();
        Ok(epoch.is_multiple_of(2).then_some(sum))
    }
}

/// Trains with 22 images: five steps an epoch.
fn run(data: &Dataset, folder: Option<&Path>, seen: &mut Seen) -> Result<Trained, TrainerError> {
    let loader = Loader::new(data, &plain(), &INPUT, settings())?;
    let plan = schedule(loader.steps_per_epoch());
    train(&mut session(4, false), &loader, &plan, &options(folder), seen)
}

/// All files of a folder with their bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

fn of_training(error: TrainerError) -> TrainError {
    match error {
        TrainerError::Train(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn the_loss_falls_and_the_step_is_given_lambda_and_its_number() {
    if !has_runtime("the_loss_falls_and_the_step_is_given_lambda_and_its_number") {
        return;
    }
    let (_data, dataset) = small(22, CLASSES);
    let mut seen = Seen::default();
    let trained = run(&dataset, None, &mut seen).unwrap();
    assert_eq!((trained.end, trained.snapshot.steps), (End::Finished, 20));
    let loss = |at: usize| seen.progress[at].row.loss;
    assert!((loss(0) - 3_f64.ln()).abs() < 1e-6, "{}", loss(0));
    let mean = |from: usize| (from..from + 5).map(loss).sum::<f64>() / 5.0;
    assert!(mean(15) < mean(0), "{} {}", mean(15), mean(0));
    for (at, progress) in seen.progress.iter().enumerate() {
        assert_eq!(
            (progress.done, progress.steps, progress.row.step),
            (at as u64 + 1, 20, at as u64)
        );
        assert_eq!(progress.row.lambda, (at as f64 / 10.0).min(1.0));
        assert!(progress.row.accuracy.is_some_and(|share| (0.0..=1.0).contains(&share)));
        assert!(progress.row.gradient_norm.is_some_and(|norm| norm > 0.0));
        assert!(progress.images_per_second > 0.0 && progress.seconds_left >= 0.0);
    }
    let state = &trained.snapshot.state;
    assert_eq!(state["seen"].to_f64().unwrap(), [1.0, 0.5]);
    assert_eq!(state["count"].to_f64().unwrap(), [20.0]);
    let epochs: Vec<_> = trained.snapshot.validations.iter().map(|v| (v.epoch, v.steps)).collect();
    assert_eq!(epochs, [(2, 10), (4, 20)]);
}

#[test]
fn a_training_killed_anywhere_and_started_again_ends_with_the_same_bytes() {
    if !has_runtime("a_training_killed_anywhere_and_started_again_ends_with_the_same_bytes") {
        return;
    }
    let (_data, dataset) = small(22, CLASSES);
    let undisturbed = TempDir::new().unwrap();
    run(&dataset, Some(undisturbed.path()), &mut Seen::default()).unwrap();
    let expected = files(undisturbed.path());
    let names: Vec<_> = expected.keys().map(String::as_str).collect();
    let checkpoints = ["step-0000000018.safetensors", "step-0000000020.safetensors"];
    assert_eq!(names, [&["journal.jsonl"], &checkpoints[..], &["steps.csv"]].concat());
    for kills in [&[1][..], &[5, 7, 9], &[10], &[14, 14, 19]] {
        let folder = TempDir::new().unwrap();
        for kill in kills {
            let mut seen = Seen { fail_in: Some(*kill), ..Seen::default() };
            let error = run(&dataset, Some(folder.path()), &mut seen).unwrap_err();
            assert_eq!(error.code(), "T0003");
        }
        let mut seen = Seen::default();
        let trained = run(&dataset, Some(folder.path()), &mut seen).unwrap();
        assert_eq!(trained.end, End::Finished);
        let last = kills[kills.len() - 1];
        assert_eq!(seen.progress[0].row.step, last / 3 * 3);
        assert!(files(folder.path()) == expected, "killed in {kills:?}");
        // Once more there is nothing to do.
        let mut seen = Seen::default();
        run(&dataset, Some(folder.path()), &mut seen).unwrap();
        assert!(seen.progress.is_empty() && files(folder.path()) == expected);
    }
    let csv = String::from_utf8(expected["steps.csv"].clone()).unwrap();
    let steps: Vec<_> = csv.lines().skip(1).map(|l| l.split(',').next().unwrap()).collect();
    assert_eq!(steps, (0..20).map(|step| step.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_training_that_is_stopped_finishes_its_step_and_keeps_it() {
    if !has_runtime("a_training_that_is_stopped_finishes_its_step_and_keeps_it") {
        return;
    }
    let (_data, dataset) = small(22, CLASSES);
    let folder = TempDir::new().unwrap();
    let mut seen = Seen { stop_after: Some(7), ..Seen::default() };
    let stopped = run(&dataset, Some(folder.path()), &mut seen).unwrap();
    assert_eq!((stopped.end, stopped.snapshot.steps, seen.progress.len()), (End::Stopped, 7, 7));
    let mut seen = Seen::default();
    let resumed = run(&dataset, Some(folder.path()), &mut seen).unwrap();
    assert_eq!(seen.progress[0].row.step, 7);
    let undisturbed = run(&dataset, None, &mut Seen::default()).unwrap();
    let bytes = |trained: &Trained, name: &str| trained.snapshot.state[name].bytes().clone();
    for name in ["w", "kept", "seen", "count"] {
        assert_eq!(bytes(&resumed, name), bytes(&undisturbed, name), "{name}");
    }
    assert_eq!(resumed.snapshot.validations, undisturbed.snapshot.validations);
}

#[test]
fn a_checkpoint_of_another_training_is_refused_and_says_what_differs() {
    if !has_runtime("a_checkpoint_of_another_training_is_refused_and_says_what_differs") {
        return;
    }
    let (_data, dataset) = small(22, CLASSES);
    let folder = TempDir::new().unwrap();
    run(&dataset, Some(folder.path()), &mut Seen::default()).unwrap();
    let other = LoaderSettings { seed: 8, ..settings() };
    let loader = Loader::new(&dataset, &plain(), &INPUT, other).unwrap();
    let mut options = options(Some(folder.path()));
    options.fingerprint.insert("model".to_owned(), "other".to_owned());
    let plan = schedule(5);
    let error = train(&mut session(4, false), &loader, &plan, &options, &mut Seen::default());
    let TrainError::OtherTraining { path, differs } = of_training(error.unwrap_err()) else {
        panic!("another error");
    };
    assert!(path.ends_with("step-0000000020.safetensors"));
    assert_eq!(differs, ["model was softmax, is other", "seed was 7, is 8"]);
}

#[test]
fn a_damaged_checkpoint_is_named_and_trained_again_also_where_all_are_damaged() {
    if !has_runtime("a_damaged_checkpoint_is_named_and_trained_again_also_where_all_are_damaged") {
        return;
    }
    let (_data, dataset) = small(22, CLASSES);
    let folder = TempDir::new().unwrap();
    run(&dataset, Some(folder.path()), &mut Seen::default()).unwrap();
    let expected = files(folder.path());
    let newest = folder.path().join("step-0000000020.safetensors");
    let whole = fs::read(&newest).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damage in [&whole[..whole.len() / 2], &flipped, b"", b"no checkpoint at all"] {
        fs::write(&newest, damage).unwrap();
        fs::write(folder.path().join("step-x.safetensors"), "of somebody else").unwrap();
        let mut seen = Seen::default();
        run(&dataset, Some(folder.path()), &mut seen).unwrap();
        assert_eq!(seen.progress[0].row.step, 18);
        assert!(seen.notices.len() == 1 && seen.notices[0].contains("step-0000000020"));
        fs::remove_file(folder.path().join("step-x.safetensors")).unwrap();
        assert!(files(folder.path()) == expected);
    }
    for name in expected.keys().filter(|name| name.ends_with(".safetensors")) {
        fs::write(folder.path().join(name), "damaged").unwrap();
    }
    let mut seen = Seen::default();
    run(&dataset, Some(folder.path()), &mut seen).unwrap();
    assert_eq!(seen.progress[0].row.step, 0, "it starts anew");
    let [notice] = &seen.notices[..] else { panic!("one warning: {:?}", seen.notices) };
    assert!(notice.contains("step-0000000018") && notice.contains("step-0000000020"), "{notice}");
    assert!(files(folder.path()) == expected);
}

#[test]
fn a_training_that_diverges_ends_with_a_diagnosis_and_keeps_the_last_good_state() {
    if !has_runtime("a_training_that_diverges_ends_with_a_diagnosis_and_keeps_the_last_good_state")
    {
        return;
    }
    let (_data, dataset) = small(22, CLASSES);
    let folder = TempDir::new().unwrap();
    // Step 7 makes the weights NaN, which its own loss does not show.
    for every in [1, 3, 0] {
        let loader = Loader::new(&dataset, &plain(), &INPUT, settings()).unwrap();
        let folder = folder.path().join(every.to_string());
        let options = TrainOptions { checkpoint_every: every, ..options(Some(&folder)) };
        let mut seen = Seen { spoil_in: Some(7), ..Seen::default() };
        let plan = schedule(5);
        let error = train(&mut session(4, false), &loader, &plan, &options, &mut seen);
        let error = of_training(error.unwrap_err());
        let text = error.to_string();
        let TrainError::Diverged { step, loss, lambda, states, checkpoint, .. } = error else {
            panic!("{text}");
        };
        assert_eq!((loss.is_finite(), lambda), (every == 1, step as f64 / 10.0), "{text}");
        let (at, spoilt) = if every == 1 { (7, &["w"][..]) } else { (8, &["w", "kept"][..]) };
        assert_eq!((step, states), (at, spoilt.iter().map(ToString::to_string).collect()));
        let last_good = match every {
            1 => Some("step-0000000007.safetensors"),
            3 => Some("step-0000000006.safetensors"),
            _ => None,
        };
        assert_eq!(checkpoint, last_good.map(|name| folder.join(name)), "{text}");
        assert!(checkpoint.is_none_or(|path| path.exists()));
    }
}

#[test]
fn batches_that_are_accumulated_make_the_update_of_one_large_batch() {
    if !has_runtime("batches_that_are_accumulated_make_the_update_of_one_large_batch") {
        return;
    }
    let (_data, dataset) = small(24, CLASSES);
    let trained = |batch: usize, accumulate: u64| {
        let settings = LoaderSettings::new(batch, CLASSES, 7);
        let loader = Loader::new(&dataset, &plain(), &INPUT, settings).unwrap();
        let names = names(true);
        let options = TrainOptions { names, accumulate, ..options(None) };
        let mut session = session(batch, true);
        let mut seen = Seen::default();
        let plan = schedule(3);
        let trained = train(&mut session, &loader, &plan, &options, &mut seen).unwrap();
        let losses: Vec<f64> = seen.progress.iter().map(|progress| progress.row.loss).collect();
        (trained.snapshot.state["w"].to_f64().unwrap(), losses)
    };
    let (one, two) = (trained(8, 1), trained(4, 2));
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(one.0.len() == 36 && near(&one.0, &two.0), "{:?} {:?}", one.0, two.0);
    assert!(one.1.len() == 12 && near(&one.1, &two.1), "{:?} {:?}", one.1, two.1);
    assert!(one.0.iter().any(|w| w.abs() > 0.01));
}

#[test]
fn steps_and_settings_that_do_not_fit_are_refused_before_the_first_step() {
    if !has_runtime("steps_and_settings_that_do_not_fit_are_refused_before_the_first_step") {
        return;
    }
    let (_data, dataset) = small(22, CLASSES);
    let loader = Loader::new(&dataset, &plain(), &INPUT, settings()).unwrap();
    let code = |plan: &Schedule, options: &TrainOptions| {
        let mut session = session(4, false);
        train(&mut session, &loader, plan, options, &mut Seen::default()).unwrap_err().code()
    };
    let plan = schedule(5);
    let images = TrainOptions { images: "y".to_owned(), ..options(None) };
    assert_eq!(code(&plan, &images), "T0402");
    assert_eq!(code(&plan, &TrainOptions { accumulate: 2, ..options(None) }), "T0402");
    let named = TrainOptions { names: names(true), accumulate: 2, ..options(None) };
    assert_eq!(code(&plan, &named), "T0402");
    assert_eq!(code(&plan, &TrainOptions { accumulate: 0, ..options(None) }), "T0401");
    assert_eq!(code(&Schedule { epochs: 0, ..plan.clone() }, &options(None)), "T0401");
    let beyond = TrainOptions { pruned: vec![1.0, 1.5], ..options(None) };
    assert_eq!(code(&plan, &beyond), "T0401");
    // λ of three blocks for a step of two.
    let three = TrainOptions { pruned: vec![1.0; 3], ..options(None) };
    assert_eq!(code(&plan, &three), "X0303");
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(code(&plan, &options(Some(file.path()))), "T0006");
}
