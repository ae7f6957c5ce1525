//! Predictions of models on images: accuracy, agreement, and the images whose class changes.

use std::path::{Path, PathBuf};

use updp_exec::{Optimizer, RuntimeOptions};
use updp_ir::Model;
use updp_passes::ModelSummary;
use updp_trainer::data::{Dataset, ModelInputs, Preprocess};
use updp_trainer::evaluator::FEW_CLASSES;
use updp_trainer::images::Images;
use updp_trainer::input_check::{PreprocessChoice, is_near_chance};
use updp_trainer::predictions::{Prediction, Predictions};

use super::input_check::{Checked, InputCheckOptions};
use super::inputs::{refuse_unknown_inputs, tell_inputs};
use super::prune::encode;
use super::shapes::fix_shapes;
use super::telling::Telling;
use super::{Error, Observer, Source};
use crate::model_file::ModelFile;

/// How models are evaluated.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// Name of a preset (imagenet, cifar, fashion-mnist, none), or the path of a file.
    /// `auto` takes the known preprocessing with the highest accuracy of the first model; it needs labels.
    pub preprocess: String,
    /// The input that takes the images, and constants for the other inputs, of both models.
    pub inputs: ModelInputs,
    /// The least accuracy of the first model, 0 to 1, within two standard errors; `None` = any.
    pub expect_accuracy: Option<f64>,
    /// Largest number of images to use; `None` = all.
    pub images: Option<usize>,
    /// Seed for drawing images, if not all are used.
    pub seed: u64,
    /// Input shapes to fix in both models: `NAME:1,3,224,224`.
    pub input_shapes: Vec<String>,
    /// How models are run.
    pub runtime: RuntimeOptions,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            preprocess: "imagenet".to_owned(),
            inputs: ModelInputs::default(),
            expect_accuracy: None,
            images: None,
            seed: 0,
            input_shapes: Vec::new(),
            runtime: RuntimeOptions::default(),
        }
    }
}

/// Predictions of one or two models on images. Shares are between 0 and 1.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateReport {
    /// Number of images that were read.
    pub images: usize,
    /// The images that could not be read, with the reasons.
    pub skipped: Vec<String>,
    /// Whether the class of each image is known.
    pub has_labels: bool,
    /// The models, in the given order.
    pub models: Vec<ModelScore>,
    /// Share of the images for which both models predict the same class; `None` with one model.
    pub agreement: Option<f64>,
    /// Classes that have images, in their order. They are grouped by label or, without labels, by the prediction of the
    /// first model.
    pub classes: Vec<ClassScore>,
    /// Images for which the models predict different classes, in the order of the data.
    pub flipped: Vec<FlippedImage>,
}

/// The accuracy of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelScore {
    /// The source of the model.
    pub path: PathBuf,
    /// Name and version of the runtime that ran it.
    pub runtime: String,
    /// Share of the images whose label is the top class of the model; `None` without labels.
    pub top1: Option<f64>,
    /// Share of the images whose label is among the top five classes; `None` without labels and with ten classes or
    /// fewer.
    pub top5: Option<f64>,
}

/// One class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassScore {
    /// Its name, or its number if it has no name.
    pub name: String,
    /// Number of its images.
    pub images: usize,
    /// Share of its images that each model predicts correctly; empty without labels.
    pub top1: Vec<f64>,
    /// Share of its images for which both models predict the same class; `None` with one model.
    pub agreement: Option<f64>,
}

/// An image for which two models predict different classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlippedImage {
    /// Path below the data set, or `FILE[ROW]`.
    pub name: String,
    /// Its label; `None` without labels.
    pub label: Option<String>,
    /// The class that the first model predicts; `None` if a score is not finite.
    pub first: Option<String>,
    /// The class that the second model predicts.
    pub second: Option<String>,
}

/// Runs one or two classifiers over images. Reports top-1 and top-5 accuracy if there are labels, the agreement of both
/// models, each class separately, and the images whose class changes.
///
/// # Errors
/// C0001 for one model without labels, C0007 if the models have different numbers of classes, T0001 and T0107 if a
/// model takes no images, T0003 if its output is not a row of class scores, other T01 codes if the data cannot be read, C0031 if
/// no image gets finite scores.
pub fn evaluate<'a>(
    model: impl Into<Source<'a>>,
    other: Option<Source<'a>>,
    data: &Path,
    options: &EvaluateOptions,
    observer: &mut dyn Observer,
) -> Result<EvaluateReport, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let dataset = Dataset::open(data)?.with_inputs(options.inputs.clone());
    if other.is_none() && !dataset.has_labels() {
        let detail = "the images have no labels, so one model cannot be compared with anything: give a second model";
        return Err(Error::Usage { detail: detail.to_owned() });
    }
    let dataset = match options.images {
        Some(count) if count < dataset.len() => dataset.sample(count, options.seed),
        _ => dataset,
    };
    updp_trainer::use_threads(options.runtime.threads);
    let first = opened(model.into(), options)?;
    refuse_unknown_inputs(&first.model, &options.inputs)?;
    let preprocess = checked(&first.model, &dataset, options, observer)?;
    tell_inputs(&first.model, &dataset, &preprocess, observer)?;
    let mut models = vec![run(first, &dataset, &preprocess, options, observer)?];
    if let Some(other) = other {
        models.push(run(opened(other, options)?, &dataset, &preprocess, options, observer)?);
    }
    let classes = models[0].predictions.classes;
    if let Some(second) = models.get(1).filter(|second| second.predictions.classes != classes) {
        return Err(Error::DifferentSignature {
            what: "number of classes",
            first: classes.to_string(),
            second: second.predictions.classes.to_string(),
        });
    }
    if let Some(silent) = models.iter().find(|it| it.predictions.is_never_finite()) {
        let path = silent.path.display().to_string();
        let detail = format!("{path:?} answers every image with scores that are not finite");
        return Err(Error::ProvesNothing { detail });
    }
    // Labels beyond the classes of the model belong to another set of classes.
    let labels = |it: &Prediction| it.label.is_some_and(|label| label < classes);
    let has_labels = dataset.has_labels() && models[0].predictions.images.iter().all(labels);
    if dataset.has_labels() && !has_labels && models.len() == 1 {
        let detail = "the labels name classes that the model does not have, so one model cannot be compared with anything: give images with labels of the model, or a second model";
        return Err(Error::Usage { detail: detail.to_owned() });
    }
    if dataset.has_labels() && !has_labels {
        observer
            .warning("the labels name classes that the model does not have: accuracy is left out");
    }
    let report = Evaluation { models: &models, names: dataset.classes(), has_labels }.report();
    if report.models[0].top1.is_some_and(|top1| is_near_chance(top1, classes)) {
        observer.warning(
            "the first model is near chance; a wrong --preprocess is the usual cause, and --preprocess auto tries the known ones",
        );
    }
    Ok(report)
}

/// A model that was run.
struct Ran {
    path: PathBuf,
    runtime: String,
    predictions: Predictions,
}

/// A model with the requested input shapes.
fn opened(model: Source<'_>, options: &EvaluateOptions) -> Result<ModelFile, Error> {
    let mut file = model.open()?;
    if !options.input_shapes.is_empty() {
        fix_shapes(&options.input_shapes, &mut file.model)?;
        let bytes = encode(&file.model)?;
        file = ModelFile::read(&file.source.path, bytes)?;
    }
    Ok(file)
}

/// The preprocessing. Scores the first model on a few images only if that decides something: the evaluation itself
/// gives its accuracy.
fn checked(
    model: &Model,
    dataset: &Dataset,
    options: &EvaluateOptions,
    observer: &mut dyn Observer,
) -> Result<Preprocess, Error> {
    if let (PreprocessChoice::Given(preprocess), None) =
        (PreprocessChoice::parse(&options.preprocess)?, options.expect_accuracy)
    {
        return Ok(preprocess);
    }
    let check = Checked {
        model,
        macs: ModelSummary::of(model, 0).macs,
        preprocess: &options.preprocess,
        seed: options.seed,
        runtime: &options.runtime,
    };
    let asked =
        InputCheckOptions { expect_accuracy: options.expect_accuracy, allow_low_accuracy: true };
    Ok(check.run(dataset, None, asked, observer)?.chosen)
}

fn run(
    file: ModelFile,
    dataset: &Dataset,
    preprocess: &Preprocess,
    options: &EvaluateOptions,
    observer: &mut dyn Observer,
) -> Result<Ran, Error> {
    let images = Images::new(&file.model, dataset.clone(), preprocess)?;
    let mut executor = options.runtime.open(file.source.for_runtime(), Optimizer::All)?;
    let what = format!("running {}", file.source.path.display());
    let total = dataset.len();
    observer.progress(&what, 0, total);
    let predictions = Predictions::of(executor.as_mut(), &images, &mut |done| {
        observer.progress(&what, done, total);
        !observer.is_cancelled()
    })?;
    let predictions = predictions.ok_or(Error::Cancelled)?;
    Ok(Ran { path: file.source.path, runtime: executor.name(), predictions })
}

/// Models with their predictions.
struct Evaluation<'a> {
    models: &'a [Ran],
    /// Names of the classes, if there are any.
    names: &'a [String],
    has_labels: bool,
}

impl Evaluation<'_> {
    fn report(&self) -> EvaluateReport {
        let first = &self.models[0].predictions;
        let everything: Vec<usize> = (0..first.images.len()).collect();
        EvaluateReport {
            images: first.images.len(),
            skipped: first.skipped.clone(),
            has_labels: self.has_labels,
            models: self.models.iter().map(|model| self.score(model)).collect(),
            agreement: self.agreement(&everything),
            classes: self.classes(),
            flipped: everything.iter().filter_map(|at| self.flipped(*at)).collect(),
        }
    }

    fn score(&self, model: &Ran) -> ModelScore {
        let Predictions { classes, images, .. } = &model.predictions;
        let count = |is: &dyn Fn(&Prediction) -> bool| {
            share(images.iter().filter(|it| is(it)).count(), images.len())
        };
        let has_many = *classes > FEW_CLASSES;
        ModelScore {
            path: model.path.clone(),
            runtime: model.runtime.clone(),
            top1: self.has_labels.then(|| count(&Prediction::is_right)),
            top5: (self.has_labels && has_many).then(|| count(&|it| it.is_among_five)),
        }
    }

    /// The classes that the two models predict for an image; `None` with one model.
    fn both(&self, at: usize) -> Option<(Option<usize>, Option<usize>)> {
        let class = |model: &Ran| model.predictions.images.get(at).and_then(|it| it.class);
        Some((class(&self.models[0]), class(self.models.get(1)?)))
    }

    fn agreement(&self, images: &[usize]) -> Option<f64> {
        self.models.get(1)?;
        let is_same = |at: &&usize| self.both(**at).is_some_and(|(a, b)| a == b && a.is_some());
        Some(share(images.iter().filter(is_same).count(), images.len()))
    }

    fn classes(&self) -> Vec<ClassScore> {
        let first = &self.models[0].predictions;
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); first.classes];
        for (at, image) in first.images.iter().enumerate() {
            let class = if self.has_labels { image.label } else { image.class };
            if let Some(list) = class.and_then(|class| members.get_mut(class)) {
                list.push(at);
            }
        }
        let used = members.iter().enumerate().filter(|(_, images)| !images.is_empty());
        used.map(|(class, images)| {
            let right = |model: &Ran| {
                let is_right = |at: &&usize| model.predictions.images[**at].is_right();
                share(images.iter().filter(is_right).count(), images.len())
            };
            ClassScore {
                name: self.name(class),
                images: images.len(),
                top1: self.models.iter().filter(|_| self.has_labels).map(right).collect(),
                agreement: self.agreement(images),
            }
        })
        .collect()
    }

    fn flipped(&self, at: usize) -> Option<FlippedImage> {
        let (first, second) = self.both(at).filter(|(a, b)| a != b)?;
        let predictions = &self.models[0].predictions;
        let label = predictions.images[at].label.filter(|_| self.has_labels);
        Some(FlippedImage {
            name: predictions.names.get(at).cloned().unwrap_or_default(),
            label: label.map(|class| self.name(class)),
            first: first.map(|class| self.name(class)),
            second: second.map(|class| self.name(class)),
        })
    }

    fn name(&self, class: usize) -> String {
        self.names.get(class).cloned().unwrap_or_else(|| class.to_string())
    }
}

fn share(count: usize, of: usize) -> f64 {
    count as f64 / of.max(1) as f64
}
