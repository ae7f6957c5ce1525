//! Training a network on images: from the network to the trained network, through one training step.

mod config;
mod diagnosis;
mod features;
mod history;
mod hooks;
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use updp_autodiff::step::{
    Distance, Features, Objective, Optimizer, Settled, State, StateKind, StepNames, StepSpec,
    TrainingStep,
};
use updp_autodiff::{Precision, set_precision};
use updp_exec::{StateSpec, find_library};
use updp_ir::{Model, Tensor};
use updp_passes::surgery::part_between;

use crate::data::{Dataset, Preprocess, Skipped};
use crate::error::TrainerError;
use crate::evaluator::Evaluator;
use crate::evaluator::Score;
use crate::images::Images;
use crate::observer::{Observer, TrainingEvent};
use crate::run::Runner;
use crate::train::sandwich::SUBNETS;
use crate::train::{
    Augment, ClassWeights, End, Loader, LoaderSettings, Ramp, Schedule, Shrink, TrainError,
    TrainOptions, Validation, train,
};
pub use config::{Augmentation, OptimizerChoice, TrainingConfig};
use history::History;
pub use history::{Course, EpochSummary, StepSummary};
use hooks::{Taught, Watch};

/// Number of steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 200;

/// The settings for training a network.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct FinetuneSettings {
    /// Total number of epochs.
    pub epochs: usize,
    /// Images per step. A network with a fixed batch keeps its own batch size.
    pub batch: usize,
    /// Number of batches whose gradients make one update, at least 1. A supernet uses [`SUBNETS`].
    pub accumulate: usize,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Learning rate after the warm-up; it falls along half a cosine to `floor`.
    pub peak: f64,
    /// Learning rate at the end.
    pub floor: f64,
    /// Number of epochs in which the learning rate rises from 0.
    pub warm_up_epochs: f64,
    /// Weight decay. Norms and biases have none.
    pub weight_decay: f64,
    /// Gradients with a larger common norm are scaled down to this norm.
    pub clip_norm: Option<f64>,
    /// ε of label smoothing.
    pub smoothing: f64,
    /// Weight of the teacher relative to the labels, 0 to 1; without labels it is 1.
    pub distill: f64,
    /// T, the temperature of the teacher's distribution.
    pub temperature: f64,
    /// d of the moving average of the parameters. If it is set, the average is the result.
    pub average: Option<f64>,
    /// How images are changed.
    pub augment: Augment,
    /// How much images of each class count.
    pub weights: ClassWeights,
    /// Initializers that are not trained, by name.
    pub frozen: Vec<String>,
    /// Whether activations are computed again in the backward pass instead of being stored for it.
    pub recompute: bool,
    /// The number format for convolutions and matrix products.
    pub precision: Precision,
    /// Final λ of each block, 0 or 1; empty for a network without λ.
    pub pruned: Vec<f32>,
    /// K: λ reaches its final value after 1/K of the epochs; ∞ = from the first step on.
    pub speed: f64,
    /// Shape of this ramp.
    pub ramp: Ramp,
    /// When kernels shrink, for a network whose kernels shrink gradually.
    pub shrink: Shrink,
    /// Whether λ follows the sandwich rule instead, with one subnet per batch ([`sandwich`](crate::train::sandwich)).
    /// BatchNormalizations then keep their statistics, because the statistics of a batch would belong to its subnet
    /// only.
    pub is_sandwich: bool,
    /// Whether BatchNormalizations use and keep their running statistics instead of those of the batch.
    pub keeps_statistics: bool,
    /// Weight of each value that is matched with that of the teacher besides the scores: the features before the head and
    /// [`Self::matched`]. `None` = scores only.
    pub features: Option<f64>,
    /// Names of inner values that are matched too, where network and teacher have one of that name and shape.
    pub matched: Vec<String>,
    /// d of a moving average of the parameters that is scored at the end. It is the result if it is closer to the teacher
    /// than the last state.
    pub contender: Option<f64>,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Folder for checkpoints and the journal.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
}

impl FinetuneSettings {
    /// Multiplies the learning rate at its peak and at its end by a factor.
    pub fn scale_rate(&mut self, factor: f64) {
        self.peak *= factor;
        self.floor *= factor;
    }
}

/// A network, its teacher and the images.
pub struct Finetuning<'a> {
    /// The settings for running networks. Training needs ONNX Runtime.
    pub runner: &'a Runner,
    /// Images for training.
    pub dataset: &'a Dataset,
    /// How images are prepared.
    pub preprocess: &'a Preprocess,
    /// Scores the network after each epoch. It knows the classes and whether labels are useful.
    pub evaluator: &'a Evaluator,
    /// The network to imitate. It is needed without labels and for [`FinetuneSettings::distill`].
    pub teacher: &'a Model,
    /// The settings of the training.
    pub settings: &'a FinetuneSettings,
}

/// The trained network.
#[derive(Debug)]
pub struct Finetuned {
    /// The network with the trained tensors under their original names.
    pub model: Model,
    /// Its score on the evaluator's images.
    pub score: Score,
    /// Whether it was trained to the end.
    pub end: End,
    /// Number of updates that were made.
    pub steps: u64,
    /// Results after each epoch.
    pub validations: Vec<Validation>,
    /// The course of this run.
    pub course: Course,
    /// Number of trained tensors and number of their elements.
    pub parameters: (usize, usize),
    step: TrainingStep,
    state: IndexMap<String, Tensor>,
    settled: Settled,
}

impl Finetuned {
    /// Copies the trained tensors into the network as it was before its batch was opened.
    ///
    /// # Errors
    /// T0309 when the network is a different one.
    pub fn put_into(&self, network: Model) -> Result<Model, TrainerError> {
        Ok(self.step.settle(network, &self.state, self.settled)?)
    }
}

impl Finetuning<'_> {
    /// The training step of a network.
    ///
    /// # Errors
    /// T0001, T0107, T0108 when its input does not take images; T0301 to T0310 when it cannot be differentiated.
    pub fn step(&self, network: &Model) -> Result<TrainingStep, TrainerError> {
        let (bound, _) = self.bound(network)?;
        self.built(bound)
    }

    /// The step of a network with a fixed batch.
    fn built(&self, bound: Model) -> Result<TrainingStep, TrainerError> {
        let spec = self.spec(&bound);
        let mut step = TrainingStep::build(bound, &spec)?;
        if self.settings.recompute {
            step.recompute()?;
        }
        set_precision(&mut step.model, self.settings.precision)?;
        Ok(step)
    }

    /// The network with its batch fixed, and its images.
    fn bound(&self, network: &Model) -> Result<(Model, Images), TrainerError> {
        let images = Images::new(network, self.dataset.clone(), self.preprocess)?;
        images.refuse_others()?;
        let mut bound = network.clone();
        let batch = images.fixed_batch().unwrap_or(self.settings.batch);
        let dims = [&[batch], images.spec().row_dims().as_slice()].concat();
        if let Some(input) = bound.graph.find(images.input()) {
            bound.graph.set_input_dims(input, &dims)?;
        }
        Ok((bound, images))
    }

    /// The values that network and teacher are matched at.
    fn features(&self, network: &Model) -> Vec<features::Pair> {
        let output = self.evaluator.classes().and(self.evaluator.outputs().first());
        let Some((_, output)) = self.settings.features.zip(output) else { return Vec::new() };
        let mut pairs = features::of_names(network, self.teacher, &self.settings.matched);
        let before_head = features::pair(network, self.teacher, output);
        pairs.extend(before_head.filter(|it| pairs.iter().all(|own| own.network != it.network)));
        pairs
    }

    /// Whether every image has a label, and the network a class for each.
    fn has_labels(&self) -> bool {
        let Some(classes) = self.evaluator.classes() else { return false };
        let fits = |labels: Vec<usize>| labels.iter().all(|label| *label < classes);
        self.evaluator.has_labels() && self.dataset.labels().is_some_and(fits)
    }

    fn spec(&self, network: &Model) -> StepSpec {
        let settings = self.settings;
        let FinetuneSettings { smoothing, temperature, distill: weight, .. } = *settings;
        let has_labels = self.has_labels();
        let objective = match self.evaluator.classes() {
            None => Objective::Outputs(Distance::MeanSquare),
            Some(_) if !has_labels || weight >= 1.0 => Objective::Teacher { temperature },
            Some(_) if weight <= 0.0 => Objective::Labels { smoothing },
            Some(_) => Objective::LabelsAndTeacher { smoothing, temperature, weight },
        };
        let features = match objective {
            Objective::Teacher { .. } | Objective::LabelsAndTeacher { .. } => {
                self.features(network)
            }
            _ => Vec::new(),
        };
        let weight = settings.features.unwrap_or_default();
        let features = features.into_iter().map(|pair| Features { value: pair.network, weight });
        let plain = StepSpec::new(objective);
        let keeps_statistics = settings.keeps_statistics || settings.is_sandwich;
        StepSpec {
            features: features.collect(),
            optimizer: settings.optimizer,
            weight_decay: settings.weight_decay,
            clip_norm: settings.clip_norm,
            average: settings.average.or(settings.contender),
            accumulates: self.accumulate() > 1,
            scales_loss: self.scales_loss(),
            frozen: settings.frozen.clone(),
            batch_norm_momentum: plain.batch_norm_momentum.filter(|_| !keeps_statistics),
            ..plain
        }
    }

    /// Rejects everything that training would reject, before anything is trained.
    ///
    /// # Errors
    /// The same errors as [`Self::step`]; T0401, T0406 to T0408 for settings and data; X0001, X0002 when the ONNX
    /// Runtime library is missing.
    pub fn check(&self, network: &Model) -> Result<(), TrainerError> {
        find_library(self.runner.options.library.as_deref())?;
        let (bound, images) = self.bound(network)?;
        self.built(bound)?;
        let loader = self.loader(&images)?;
        self.check_accumulate(&loader)?;
        Ok(self.schedule(&loader).check()?)
    }

    /// Trains a network. Resumes if the folder holds a training with the same settings.
    ///
    /// # Errors
    /// The same errors as [`Self::step`]; T0401 to T0408 for errors of training; X0001 to X0005 without ONNX Runtime.
    /// A cancellation is no error: the result says [`End::Stopped`].
    pub fn run(
        &self,
        network: &Model,
        observer: &mut dyn Observer,
    ) -> Result<Finetuned, TrainerError> {
        observer.training(TrainingEvent::Started {
            epochs: self.settings.epochs,
            has_lambda: self.has_lambda(),
            is_supernet: self.settings.is_sandwich,
        });
        let trained = self.train(network, observer);
        observer.training(TrainingEvent::Ended);
        trained
    }

    /// Whether λ rises. A supernet draws λ instead.
    fn has_lambda(&self) -> bool {
        !self.settings.pruned.is_empty() && !self.settings.is_sandwich
    }

    fn train(
        &self,
        network: &Model,
        observer: &mut dyn Observer,
    ) -> Result<Finetuned, TrainerError> {
        let (bound, images) = self.bound(network)?;
        let step = self.built(bound)?;
        let loader = self.loader(&images)?;
        let states = states_of(&step);
        let results = step.names.results();
        let is_rounded = self.settings.precision != Precision::Single;
        let opened = session::open(&self.runner.options, is_rounded, &step, &states, &results)?;
        if let Some(notice) = &opened.notice {
            observer.message(notice);
        }
        let mut session = opened.session;
        self.check_accumulate(&loader)?;
        let schedule = self.schedule(&loader);
        let options = self.options(&images, step.names.clone(), opened.hash);
        let teacher = self.teacher_of(network, &step, observer)?;
        let mut watch = Watch {
            finetuning: self,
            network,
            step: &step,
            input: images.input(),
            teacher,
            observer,
            history: History::new(self.has_lambda()),
            last: None,
        };
        let trained = train(&mut session, &loader, &schedule, &options, &mut watch)?;
        let skipped = loader.skipped();
        if let Some(Skipped { name, reason }) = skipped.first() {
            let count = skipped.len();
            watch.observer.message(&format!(
                "images that are left out of the training: {count}, such as {name}: {reason}"
            ));
        }
        let state = &trained.snapshot.state;
        let last = watch.last.take();
        let (mut model, mut score) = match last {
            Some(last) if trained.end == End::Finished => last,
            _ => watch.scored(state, self.settled())?,
        };
        let mut settled = self.settled();
        if self.settings.contender.is_some() && trained.end == End::Finished {
            let (averaged, of_average) = watch.scored(state, Settled::Average)?;
            if of_average.degradation() < score.degradation() {
                (model, score, settled) = (averaged, of_average, Settled::Average);
            }
        }
        let history = watch.history;
        Ok(Finetuned {
            model,
            score,
            end: trained.end,
            steps: trained.snapshot.steps,
            validations: trained.snapshot.validations,
            course: history.finish(),
            parameters: parameters(&step),
            state: trained.snapshot.state,
            settled,
            step,
        })
    }

    /// The teacher, which also gives the values that are matched. `None` for a step without a teacher.
    fn teacher_of(
        &self,
        network: &Model,
        step: &TrainingStep,
        observer: &mut dyn Observer,
    ) -> Result<Option<Taught>, TrainerError> {
        if step.names.teachers.is_empty() {
            return Ok(None);
        }
        let inputs = &step.names.features;
        if inputs.is_empty() {
            if self.settings.features.is_some() {
                observer.message("the features before the head are not matched, because the network does not end in a linear operator; its outputs are");
            }
            let executor = self.runner.open(self.teacher)?;
            return Ok(Some(Taught { executor, features: Vec::new() }));
        }
        let pairs = self.features(network);
        if pairs.len() != inputs.len() {
            let detail = "matches features that the network does not have".to_owned();
            return Err(TrainError::Step { detail }.into());
        }
        let graph = &self.teacher.graph;
        let mut outputs: Vec<&str> = graph.outputs().map(|it| graph.value(it).name()).collect();
        outputs.extend(pairs.iter().map(|pair| pair.teacher.as_str()));
        let executor = self.runner.open(&part_between(self.teacher, &[], &outputs)?)?;
        let features = pairs.into_iter().map(|pair| pair.teacher).zip(inputs.iter().cloned());
        Ok(Some(Taught { executor, features: features.collect() }))
    }

    fn loader(&self, images: &Images) -> Result<Loader, TrainerError> {
        let settings = self.settings;
        let batch = images.fixed_batch().unwrap_or(settings.batch);
        // Without a class head, or with other classes than those of the network, labels are no targets.
        let classes = self.evaluator.classes().unwrap_or_else(|| self.dataset.classes().len());
        let made = LoaderSettings {
            reads_labels: self.has_labels(),
            augment: settings.augment.clone(),
            // The step smooths.
            smoothing: 0.0,
            weights: settings.weights.clone(),
            threads: self.runner.options.threads,
            ..LoaderSettings::new(batch, classes.max(1), settings.seed)
        };
        Loader::new(self.dataset, self.preprocess, images.spec(), made)
    }

    fn schedule(&self, loader: &Loader) -> Schedule {
        let settings = self.settings;
        Schedule {
            epochs: settings.epochs,
            steps_per_epoch: (loader.steps_per_epoch() / self.accumulate()).max(1),
            speed: settings.speed,
            ramp: settings.ramp,
            shrink: settings.shrink,
            peak: settings.peak,
            floor: settings.floor,
            warm_up_epochs: settings.warm_up_epochs,
        }
    }

    fn options(&self, images: &Images, names: StepNames, step_hash: u64) -> TrainOptions {
        let threads = self.runner.options.threads;
        let fingerprint = BTreeMap::from([
            ("step".to_owned(), format!("{step_hash:016x}")),
            ("data".to_owned(), format!("{:016x}", self.dataset.fingerprint())),
            // A plain struct of numbers and texts, which always serializes.
            ("preprocess".to_owned(), serde_json::to_string(self.preprocess).unwrap_or_default()),
            ("threads".to_owned(), threads.map_or("all".to_owned(), |count| count.to_string())),
            ("device".to_owned(), self.runner.options.device.to_string()),
            ("sandwich".to_owned(), self.settings.is_sandwich.to_string()),
        ]);
        TrainOptions {
            folder: self.settings.folder.clone(),
            checkpoint_every: CHECKPOINT_EVERY,
            fingerprint,
            images: images.input().to_owned(),
            names,
            pruned: self.settings.pruned.clone(),
            accumulate: self.accumulate() as u64,
            scales_loss: self.scales_loss(),
        }
    }

    /// Refuses updates that need more batches than an epoch has: an epoch would silently run through the images again
    /// and again.
    fn check_accumulate(&self, loader: &Loader) -> Result<(), TrainerError> {
        let count = self.settings.accumulate.max(1);
        if self.settings.is_sandwich || count <= loader.steps_per_epoch().max(1) {
            return Ok(());
        }
        let expected = "at most the batches of an epoch";
        let setting = "the number of accumulated batches (--accumulate)";
        let found = format!("{count} with {} batches", loader.steps_per_epoch());
        Err(TrainError::Setting { setting, found, expected }.into())
    }

    /// Number of batches per update.
    fn accumulate(&self) -> usize {
        if self.settings.is_sandwich { SUBNETS as usize } else { self.settings.accumulate.max(1) }
    }

    /// f16 loses small gradients and overflows early.
    fn scales_loss(&self) -> bool {
        self.settings.precision == Precision::Half
    }

    /// Which states come out.
    fn settled(&self) -> Settled {
        if self.settings.average.is_some() { Settled::Average } else { Settled::Current }
    }
}

/// The states of a step, in the form that a session accepts.
#[must_use]
pub fn states_of(step: &TrainingStep) -> Vec<StateSpec> {
    let spec = |state: &State| StateSpec {
        input: state.input.clone(),
        output: state.output.clone(),
        initial: state.initial.clone(),
    };
    step.states.iter().map(spec).collect()
}

/// Number of trained tensors and number of their elements.
fn parameters(step: &TrainingStep) -> (usize, usize) {
    let trained = step.states.iter().filter(|state| state.kind == StateKind::Parameter);
    trained.fold((0, 0), |(count, elements), state| (count + 1, elements + state.initial.len()))
}
