//! Training the whole model on images, without changing its structure and without a deep-learning framework.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use updp_autodiff::step::TrainingStep;
use updp_exec::{Optimizer, RuntimeOptions};
use updp_ir::Model;
use updp_passes::{ModelSummary, surgery};
use updp_prune::config::{DEFAULT_WORK_WAIT, DataConfig};
use updp_prune::context::with_open_batch;
use updp_prune::estimate::{TrainingEstimate, of_training};
use updp_prune::finetune::tell_stopped;
use updp_prune::{PruneError, work_folder};
use updp_trainer::data::{Dataset, Preprocess};
use updp_trainer::evaluator::{Evaluator, Score};
use updp_trainer::finetune::{FinetuneSettings, Finetuned, Finetuning, TrainingConfig};
use updp_trainer::hash::Fnv;
use updp_trainer::images::Images;
use updp_trainer::run::{BatchSource, Runner};
use updp_trainer::train::End;

use super::input_check::{Checked, InputCheckOptions, refuse_unknown_frozen};
use super::prune::encode;
use super::shapes::fix_shapes;
use super::telling::Telling;
use super::weights::{FreezeWeights, freeze_weights, tell_overridable};
use super::{Error, Observer, Source};
use crate::model_file::{self, ModelFile};
use crate::write;

/// How a model is trained.
#[derive(Clone, Debug)]
pub struct FinetuneOptions {
    /// Output file for the trained model; `None` = the report contains its bytes.
    pub output: Option<PathBuf>,
    /// Images: a folder (with labels: one subfolder per class), `.npz`, `.npy`, IDX or `.tar`.
    pub data: PathBuf,
    /// Images for scoring; `None` = a share of the images is held out.
    pub validation: Option<PathBuf>,
    /// How images become inputs: a preset, or a JSON file in the format that Hugging Face and timm publish beside a
    /// model.
    /// `auto` takes the known preprocessing with the highest accuracy; it needs labels.
    pub preprocess: String,
    /// The least accuracy of the input model on the images, 0 to 1, within two standard errors; `None` = any. A model
    /// near chance is a warning, since training may be meant to change that.
    pub expect_accuracy: Option<f64>,
    /// How the images are used. `images` limits the number of training images; `None` = all of them.
    pub use_of_data: DataConfig,
    /// Number of epochs.
    pub epochs: usize,
    /// Settings of the training.
    pub training: TrainingConfig,
    /// Input shapes to fix: `NAME:1,3,224,224`.
    pub input_shapes: Vec<String>,
    /// The weights that are also inputs and become constants; others are not trained.
    pub freeze_weights: FreezeWeights,
    /// Folder for checkpoints, so that the same call can resume; `None` = nothing is kept.
    pub work: Option<PathBuf>,
    /// How long to wait for another process that is in that folder.
    pub work_wait: Duration,
    /// How models are run; training needs ONNX Runtime.
    pub runtime: RuntimeOptions,
}

impl FinetuneOptions {
    /// The defaults for images.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            output: None,
            data: data.into(),
            validation: None,
            preprocess: "imagenet".to_owned(),
            expect_accuracy: None,
            use_of_data: DataConfig::default(),
            epochs: 10,
            training: TrainingConfig::default(),
            input_shapes: Vec::new(),
            freeze_weights: FreezeWeights::None,
            work: None,
            work_wait: DEFAULT_WORK_WAIT,
            runtime: RuntimeOptions::default(),
        }
    }
}

/// The report of a training.
#[derive(Debug)]
pub struct FinetuneReport {
    /// The trained model; `None` if it was written to a file.
    pub model: Option<Bytes>,
    /// Score of the input model.
    pub before: Score,
    /// The training: scores, steps and progress over time.
    pub trained: Finetuned,
}

/// The estimate of a training: its work and its duration.
#[derive(Clone, Debug, PartialEq)]
pub struct FinetuneEstimate {
    /// Number of training images.
    pub training_images: usize,
    /// Number of images for scoring.
    pub validation_images: usize,
    /// Score of the input model.
    pub before: Score,
    /// Epochs, steps and times.
    pub training: TrainingEstimate,
}

/// Trains a model on images and writes it.
///
/// # Errors
/// C0001 for an expanded network; C0011 if the observer cancels; C0003 if the result cannot be written; T codes for
/// images and training; X codes without ONNX Runtime.
pub fn finetune<'a>(
    model: impl Into<Source<'a>>,
    options: &FinetuneOptions,
    observer: &mut dyn Observer,
) -> Result<FinetuneReport, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let mut setup = Setup::open(model.into(), options, observer)?;
    let Some(written) = setup.written.take() else { return Err(expanded()) };
    let mut lock = None;
    if let (Some(work), Some(folder)) = (&options.work, &setup.settings.folder) {
        lock = Some(work_folder::enter(work, options.work_wait, observer)?);
        if folder.exists() {
            observer.message(&format!("resuming with the results in {}", work.display()));
        }
        work_folder::enter_job(folder)?;
    }
    let before = setup.evaluator.baseline();
    observer.stage(STAGES, STAGES, "training the network");
    observer.message(&format!("training with {} images; before: {before}", setup.dataset.len()));
    let trained = setup.finetuning().run(&setup.model, observer)?;
    if trained.end == End::Stopped {
        tell_stopped(options.work.as_deref(), trained.steps, observer);
        return Err(PruneError::Interrupted.into());
    }
    drop(lock);
    let bytes = encode(&trained.put_into(written)?)?;
    // The written model can be read.
    ModelFile::read(&setup.path, bytes.clone())?;
    let model = match &options.output {
        Some(output) => {
            write::model(output, &bytes)?;
            None
        }
        None => Some(bytes),
    };
    Ok(FinetuneReport { model, before, trained })
}

/// Estimates the work and the duration of [`finetune`] from a few measured steps. Writes nothing.
///
/// # Errors
/// As [`finetune`].
pub fn estimate_finetune<'a>(
    model: impl Into<Source<'a>>,
    options: &FinetuneOptions,
    observer: &mut dyn Observer,
) -> Result<FinetuneEstimate, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let setup = Setup::open(model.into(), options, observer)?;
    if setup.written.is_none() {
        return Err(expanded());
    }
    Ok(FinetuneEstimate {
        training_images: setup.dataset.len(),
        validation_images: setup.validation_images,
        before: setup.evaluator.baseline(),
        training: of_training(&setup.finetuning(), &setup.model, observer)?,
    })
}

/// The training step of [`finetune`] as a graph. An expanded network also has a training step.
///
/// # Errors
/// T0301 to T0310 if the network cannot be differentiated; T codes for images.
pub fn training_step<'a>(
    model: impl Into<Source<'a>>,
    options: &FinetuneOptions,
    observer: &mut dyn Observer,
) -> Result<TrainingStep, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let setup = Setup::open(model.into(), options, observer)?;
    Ok(setup.finetuning().step(&setup.model)?)
}

fn expanded() -> Error {
    Error::Usage {
        detail: "an expanded network is trained while it is pruned: --blocks LIST --epochs N --method progressive; its step can be written with --emit-step".to_owned(),
    }
}

/// Everything that a training needs, already open.
struct Setup {
    path: PathBuf,
    /// The network that is trained. Its batch is open if every image then keeps its result.
    model: Model,
    /// The network that is written, with its original batch; `None` for an expanded network.
    written: Option<Model>,
    runner: Runner,
    dataset: Dataset,
    validation_images: usize,
    preprocess: Preprocess,
    teacher: Model,
    evaluator: Evaluator,
    settings: FinetuneSettings,
}

/// The values that distinguish one training from another.
#[derive(Serialize)]
struct JobKey<'a> {
    work_version: u32,
    program: &'static str,
    model: String,
    images: u64,
    preprocess: &'a Preprocess,
    runtime: &'a RuntimeOptions,
    settings: &'a FinetuneSettings,
}

/// Stages of a training: scoring the input, reading data, training.
const STAGES: usize = 3;

/// Version of the contents of a work folder for a training.
const WORK_VERSION: u32 = 2;

impl Setup {
    fn open(
        model: Source<'_>,
        options: &FinetuneOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let ModelFile { source: model_file::Source { path, .. }, mut model } = model.open()?;
        fix_shapes(&options.input_shapes, &mut model)?;
        freeze_weights(&options.freeze_weights, &mut model)?;
        tell_overridable(&model, observer);
        let has_lambda = model.graph.find(surgery::LAMBDA_INPUT).is_some();
        let seed = options.use_of_data.seed;
        let Data { preprocess, dataset, validation } = Data::open(&model, options, observer)?;
        let runner = Runner {
            runtime: options.runtime.runtime,
            options: options.runtime.session(Optimizer::All),
        };
        observer.progress("running the model", 0, 0);
        let (model, written) = if has_lambda {
            (model, None)
        } else {
            (opened(&model, &runner, &dataset, &preprocess, observer)?, Some(model))
        };
        let mut teacher = model.clone();
        if has_lambda {
            surgery::fix_lambda(&mut teacher, 0.0)?;
        }
        let validation = Images::new(&model, validation, &preprocess)?;
        let validation_images = validation.images();
        let evaluator = Evaluator::new(&runner, &teacher, validation.clone())?;
        say_other_classes(&evaluator, &dataset, observer);
        let skipped = validation.skipped()?;
        if let Some(first) = skipped.first() {
            let count = skipped.len();
            observer.message(&format!(
                "images that are left out of the validation: {count}, such as {first}"
            ));
        }
        let images = Images::new(&model, dataset.clone(), &preprocess)?;
        let mut settings = options.training.settings(&model, &images, options.epochs, seed);
        settings.folder = match &options.work {
            Some(work) => {
                let key = JobKey {
                    work_version: WORK_VERSION,
                    program: env!("CARGO_PKG_VERSION"),
                    model: format!("{:016x}", Fnv::of(&encode(&model)?)),
                    images: dataset.fingerprint(),
                    preprocess: &preprocess,
                    runtime: &options.runtime,
                    settings: &settings,
                };
                Some(work_folder::job(work, &key))
            }
            None => None,
        };
        Ok(Self {
            path,
            model,
            written,
            runner,
            dataset,
            validation_images,
            preprocess,
            teacher,
            evaluator,
            settings,
        })
    }

    fn finetuning(&self) -> Finetuning<'_> {
        Finetuning {
            runner: &self.runner,
            dataset: &self.dataset,
            preprocess: &self.preprocess,
            evaluator: &self.evaluator,
            teacher: &self.teacher,
            settings: &self.settings,
        }
    }
}

/// Says that labels are not used if the model has no class for some of them.
fn say_other_classes(evaluator: &Evaluator, dataset: &Dataset, observer: &mut dyn Observer) {
    let Some(classes) = evaluator.classes() else { return };
    let labels = dataset.labels().unwrap_or_default();
    if let Some(beyond) = labels.iter().find(|label| **label >= classes) {
        observer.message(&format!(
            "the labels are not used: an image is of class {beyond}, and the model has {classes} classes; the input model is the teacher"
        ));
    }
}

/// The images and how they become inputs.
struct Data {
    preprocess: Preprocess,
    /// The images to train with.
    dataset: Dataset,
    /// The images for scoring.
    validation: Dataset,
}

impl Data {
    /// Opens the images, scores the input model on a few of them, and divides them.
    fn open(
        model: &Model,
        options: &FinetuneOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        refuse_unknown_frozen(model, &options.training.frozen)?;
        observer.stage(1, STAGES, "scoring the input model");
        let DataConfig { held_out_share, images, seed } = options.use_of_data;
        let dataset = Dataset::open(&options.data)?;
        let validation = options.validation.as_deref().map(Dataset::open).transpose()?;
        let check = Checked {
            model,
            macs: ModelSummary::of(model, 0).macs,
            preprocess: &options.preprocess,
            seed,
            runtime: &options.runtime,
        };
        let asked = InputCheckOptions {
            expect_accuracy: options.expect_accuracy,
            allow_low_accuracy: true,
        };
        let preprocess = check.run(&dataset, validation.as_ref(), asked, observer)?.chosen;
        Images::new(model, dataset.sample(1, 0), &preprocess)?.refuse_others()?;
        observer.stage(2, STAGES, "reading data");
        let (dataset, held_out) = dataset.split(held_out_share, seed);
        let dataset = images.map_or_else(|| dataset.clone(), |count| dataset.sample(count, seed));
        Ok(Self { preprocess, dataset, validation: validation.unwrap_or(held_out) })
    }
}

/// The model with its batch open, if every image then keeps its result.
fn opened(
    model: &Model,
    runner: &Runner,
    dataset: &Dataset,
    preprocess: &Preprocess,
    observer: &mut dyn Observer,
) -> Result<Model, Error> {
    let (working, opened) = with_open_batch(model, runner, dataset, preprocess)?;
    let batch = Images::new(&working, dataset.clone(), preprocess)?.fixed_batch();
    if let (None, Some(batch)) = (opened, batch) {
        observer.message(&format!(
            "the batch of the model is fixed at {batch}, and it is trained with that"
        ));
    }
    Ok(working)
}
