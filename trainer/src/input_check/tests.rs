//! A classifier of brightness that takes pixels of −1 to 1, on small grey images.

use tempfile::TempDir;
use updp_exec::{Optimizer, Options, Runtime};
use updp_ir::{DataType, Model, ModelBuilder, Node};
use updp_testkit::{known, tensor};

use super::*;
use crate::run::Runner;

/// Number of images.
const COUNT: usize = 120;

/// Grey images of 3×4 pixels. All pixels of an image are equal, and their quarter of 0 to 255 is the class.
fn images(has_labels: bool) -> (TempDir, Dataset) {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, dims: &[u32], elements: Vec<u8>| {
        let header: Vec<u8> = [0, 0, 8, dims.len() as u8]
            .into_iter()
            .chain(dims.iter().flat_map(|dim| dim.to_be_bytes()))
            .collect();
        std::fs::write(folder.path().join(name), [header, elements].concat()).unwrap();
    };
    let pixel = |at: usize| (at % 4 * 64 + at * 13 % 64) as u8;
    let pixels = (0..COUNT).flat_map(|at| [pixel(at); 12]).collect();
    write("train-images-idx3-ubyte", &[COUNT as u32, 3, 4], pixels);
    if has_labels {
        let labels = (0..COUNT).map(|at| (at % 4) as u8).collect();
        write("train-labels-idx1-ubyte", &[COUNT as u32], labels);
    }
    let dataset = Dataset::open(folder.path()).unwrap();
    (folder, dataset)
}

/// The nearest of the mean brightnesses −0.75, −0.25, 0.25, 0.75: scores `2 c x − c²`.
fn model() -> Model {
    let mut builder = ModelBuilder::new(17);
    builder.input("images", DataType::Float, &known(&[8, 1, 3, 4]));
    builder.node(Node::new("GlobalAveragePool"), &["images"], &["mean"]);
    builder.node(Node::new("Flatten"), &["mean"], &["flat"]);
    let centers = [-0.75, -0.25, 0.25, 0.75];
    let weight = centers.map(|center| 2.0 * center);
    let bias = centers.map(|center: f64| -center * center);
    builder.initializer("weight", &tensor(DataType::Float, &[1, 4], &weight));
    builder.initializer("bias", &tensor(DataType::Float, &[4], &bias));
    builder.node(Node::new("Gemm"), &["flat", "weight", "bias"], &["scores"]);
    builder.output("scores", DataType::Float, None);
    builder.build().unwrap()
}

#[derive(Default)]
struct Told {
    messages: Vec<String>,
    warnings: Vec<String>,
}

impl Observer for Told {
    fn message(&mut self, text: &str) {
        self.messages.push(text.to_owned());
    }

    fn warning(&mut self, text: &str) {
        self.warnings.push(text.to_owned());
    }
}

fn check(text: &str) -> InputCheck<'_> {
    InputCheck {
        preprocess: text,
        expected: None,
        near_chance: NearChance::Refuse,
        seed: 0,
        macs: 1000,
    }
}

fn run(check: &InputCheck<'_>, has_labels: bool) -> (Result<CheckedInput, TrainerError>, Told) {
    let (_folder, dataset) = images(has_labels);
    let model = model();
    let options = Options { optimizer: Optimizer::All, ..Options::default() };
    let mut executor = Runner { runtime: Runtime::Tract, options }.open(&model).unwrap();
    let mut told = Told::default();
    let mut subject = Subject { model: &model, executor: executor.as_mut(), dataset: &dataset };
    (check.run(&mut subject, &mut told), told)
}

#[test]
fn the_right_preprocessing_passes_and_its_accuracy_is_told() {
    let (checked, told) = run(&check("symmetric"), true);
    let checked = checked.unwrap();
    let score = checked.score.unwrap();
    assert_eq!((score.images, score.accuracy, score.predicted_classes), (COUNT, Some(1.0), 4));
    assert!(checked.tried.is_empty() && told.warnings.is_empty(), "{:?}", told.warnings);
    assert!(told.messages[0].starts_with("input model: accuracy 100.0 %"), "{:?}", told.messages);
}

#[test]
fn a_model_near_chance_is_refused_with_what_the_others_give() {
    let (checked, _) = run(&check("unit"), true);
    let error = checked.expect_err("chance");
    assert_eq!(error.code(), "T0007");
    let text = error.to_string();
    assert!(text.contains("25.0 % on 120 images with --preprocess unit"), "{text}");
    assert!(text.contains("tried: symmetric 100.0 %, ") && text.contains("none 25.0 %"), "{text}");
    assert!(error.help().is_some_and(|help| help.starts_with("--preprocess symmetric; ")));
    let asked = InputCheck { near_chance: NearChance::Warn, ..check("unit") };
    let (checked, told) = run(&asked, true);
    let checked = checked.unwrap();
    assert_eq!(checked.tried[0].preprocess, "symmetric");
    assert_eq!(checked.chosen, Preprocess::parse("unit").unwrap());
    assert!(told.warnings[0].contains("near the chance of 4 classes"), "{:?}", told.warnings);
}

#[test]
fn auto_takes_the_preprocessing_with_the_highest_accuracy() {
    let (checked, told) = run(&check("auto"), true);
    let checked = checked.unwrap();
    assert_eq!(checked.preprocess, "symmetric");
    assert_eq!(checked.chosen, Preprocess::parse("symmetric").unwrap());
    assert_eq!(checked.tried.len(), 5);
    let shares: Vec<f64> = checked.tried.iter().map(|trial| trial.accuracy).collect();
    assert!(shares[0] > shares[1] && shares[1..].is_sorted_by(|a, b| a >= b), "{shares:?}");
    assert!(told.messages.iter().any(|text| text.starts_with("preprocessings tried: symmetric ")));
}

#[test]
fn an_expected_accuracy_holds_within_two_standard_errors() {
    let expects = |text, share| run(&InputCheck { expected: Some(share), ..check(text) }, true).0;
    let found = run(&check("fashion-mnist"), true).0.unwrap().score.unwrap();
    let accuracy = found.accuracy.unwrap();
    assert!((0.4..0.9).contains(&accuracy), "{accuracy}");
    let error = score::standard_error(accuracy, COUNT);
    assert!(expects("fashion-mnist", accuracy + error).is_ok());
    let refused = expects("fashion-mnist", accuracy + 3.0 * error).expect_err("below");
    assert_eq!(refused.code(), "T0008");
    assert!(refused.to_string().contains("two standard errors"), "{refused}");
}

#[test]
fn without_labels_nothing_can_be_chosen_or_expected() {
    let (checked, _) = run(&check("auto"), false);
    assert_eq!(checked.expect_err("no labels").code(), "T0009");
    let (checked, _) = run(&InputCheck { expected: Some(0.5), ..check("symmetric") }, false);
    assert_eq!(checked.expect_err("no labels").code(), "T0009");
    let (checked, told) = run(&check("symmetric"), false);
    let score = checked.unwrap().score.unwrap();
    assert_eq!((score.accuracy, score.predicted_classes), (None, 4));
    assert!(told.warnings.is_empty() && told.messages[0].contains("without labels"));
    // Pixels of 0 to 255 look like one class.
    let (checked, told) = run(&check("none"), false);
    assert!(checked.is_ok_and(|checked| checked.score.is_some_and(|it| it.most_frequent > 0.9)));
    assert!(told.warnings[0].contains("one class for"), "{:?}", told.warnings);
}
