//! The stage that trains the pruned network. The network is either fitted and merged already, or has both flows of its
//! blocks side by side.

use std::path::{Path, PathBuf};

use serde::Serialize;
use updp_autodiff::step::Optimizer;
use updp_ir::Model;
use updp_passes::surgery::{self, Choice, Form};
use updp_trainer::data::Preprocess;
use updp_trainer::evaluator::Score;
use updp_trainer::finetune::FinetuneSettings;
use updp_trainer::hash::Fnv;
use updp_trainer::images::Images;
use updp_trainer::observer::Observer;
use updp_trainer::run::BatchSource;
use updp_trainer::train::{End, Shrink, schedule};

use crate::candidates::CandidateSet;
use crate::config::{FinetuneConfig, Method, ShrinkAt};
use crate::context::{Context, encode};
use crate::error::{PruneError, Result};
use crate::fit_set::FittedSet;
use crate::outcome::TrainingOutcome;
use crate::refinement::{Judge, choose_rate};
use crate::starting_network::StartingNetwork;
use crate::{statistics, work_folder};

/// Number of batches for estimating the statistics of inserted norms.
const CALIBRATION_BATCHES: usize = 16;

/// Factor on the default learning rate for SGD networks that need large changes. These are networks whose blocks were
/// not fitted, and networks with so many updates that the high rate has time to decay again
/// (docs/experiments/recovery.md, "Learning rate of pruned networks").
const FAR: f64 = 2.5;

/// Number of updates from which a training counts as long.
const LONG: usize = 1000;

/// Number of training images below which a fitted network is trained with the settings for few images.
const FEW_IMAGES: usize = 2000;

/// Version of the work folder's contents for a training.
const WORK_VERSION: u32 = 2;

/// The trained network.
#[derive(Debug)]
pub struct Trained {
    /// The network with the batch size of the input model.
    pub model: Model,
    /// The network with an open batch if the original has one. This one is scored and measured.
    pub network: Model,
    /// The training, for the report.
    pub outcome: TrainingOutcome,
    /// Why the untrained network is written instead. `None` = the trained network is written.
    pub refused: Option<String>,
}

/// The data that identify a training.
#[derive(Serialize)]
pub(crate) struct JobKey<'a> {
    work_version: u32,
    method: &'static str,
    network: String,
    preprocess: &'a Preprocess,
    settings: &'a FinetuneSettings,
}

impl<'a> JobKey<'a> {
    /// The key for training an encoded network; `method` names the kind of training.
    pub(crate) fn new(
        cx: &'a Context<'_>,
        method: &'static str,
        network: &[u8],
        settings: &'a FinetuneSettings,
    ) -> Self {
        Self {
            work_version: WORK_VERSION,
            method,
            network: format!("{:016x}", Fnv::of(network)),
            preprocess: &cx.preprocess,
            settings,
        }
    }
}

impl FinetuneConfig {
    /// Whether a training only refines a closed-form fit, because there are few images.
    fn refines(&self, images: &Images) -> bool {
        self.method == Method::Fit && images.dataset().len() < FEW_IMAGES
    }

    /// Whether the learning rate is chosen by short trainings, if the answers of the input model are what counts.
    pub(crate) fn tries_rates(&self, images: &Images) -> bool {
        self.refines(images) && self.training.learning_rate.is_none()
    }

    /// The settings for a pruned network.
    pub(crate) fn settings(&self, network: &Model, images: &Images, seed: u64) -> FinetuneSettings {
        if self.refines(images) {
            return self.training.settings_for_few(network, images, self.epochs, seed);
        }
        let mut settings = self.training.settings(network, images, self.epochs, seed);
        let updates = self.epochs * images.dataset().len() / (settings.batch * settings.accumulate);
        let is_fitted = matches!(self.method, Method::Fit | Method::Blend);
        let is_sgd = matches!(settings.optimizer, Optimizer::Sgd { .. });
        if self.training.learning_rate.is_none() && is_sgd && (updates >= LONG || !is_fitted) {
            settings.scale_rate(FAR);
        }
        settings
    }

    /// When kernels shrink, in the form that the schedule accepts.
    pub(crate) fn shrink(&self) -> Shrink {
        match self.shrink_at {
            ShrinkAt::Lambda => Shrink::WithLambda,
            ShrinkAt::Epoch(epoch) => Shrink::AtEpoch(epoch),
        }
    }

    /// Whether kernels keep their full size for some time. Otherwise shrunk kernels are trained from the start, which
    /// is faster.
    fn has_fading_kernels(&self) -> bool {
        match (self.method, self.shrink_at) {
            (Method::Fit | Method::Blend | Method::Direct, ShrinkAt::Lambda) => false,
            (Method::Progressive, ShrinkAt::Lambda) => true,
            (_, ShrinkAt::Epoch(epoch)) => epoch > 0.0,
        }
    }

    /// Moves the geometry of pruned blocks, at once or by kernels that fade.
    pub(crate) fn move_geometry(
        &self,
        network: &mut Model,
        choices: &[Choice],
        shrink: surgery::Shrink,
    ) -> Result<()> {
        if self.has_fading_kernels() {
            surgery::fade_kernels(network, choices, shrink)?;
        } else {
            surgery::move_geometry(network, choices, shrink)?;
        }
        Ok(())
    }
}

/// Trains the network of the selected blocks.
///
/// # Errors
/// C0011 when the observer cancels; T codes for errors of training.
pub fn finetune(
    cx: &Context<'_>,
    config: &FinetuneConfig,
    candidates: &CandidateSet,
    chosen: &StartingNetwork,
    observer: &mut dyn Observer,
) -> Result<Trained> {
    let has_lambda = config.method != Method::Fit;
    let start = network_to_train(cx, config, candidates, chosen)?;
    let network = cx.opened(&start)?;
    let images = cx.training_images(&network)?;
    let mut settings = config.settings(&network, &images, cx.config.data.seed);
    if has_lambda {
        settings.pruned = vec![1.0; surgery::lambda_entries(&network)];
        settings.speed = match (config.method, config.ramp_speed) {
            (Method::Direct, _) => f64::INFINITY,
            (_, Some(speed)) => speed,
            _ => default_speed(candidates, &chosen.fitted),
        };
        settings.ramp = config.ramp;
        settings.shrink = config.shrink();
    }
    let bytes = encode(&start)?;
    let is_judged = config.refines(&images) && !cx.follows_labels(&settings);
    let judge = is_judged.then(|| Judge::new(cx)).transpose()?;
    if config.refines(&images) {
        settings.matched = behind_pruned(cx, candidates, chosen);
    }
    if let Some(judge) = judge.as_ref().filter(|_| config.tries_rates(&images)) {
        choose_rate(judge, &network, &bytes, &mut settings, observer)?;
    }
    settings.folder = folder(cx, &JobKey::new(cx, config.method.name(), &bytes, &settings))?;
    let before = cx.validation().score(&cx.runner, &settled(network.clone())?)?;
    let trained = cx.finetuning(&settings).run(&network, observer)?;
    if trained.end == End::Stopped {
        tell_stopped(cx.config.work.as_deref(), trained.steps, observer);
        return Err(PruneError::Interrupted);
    }
    let model = trained.put_into(start)?;
    let model = if has_lambda { settled(model)? } else { model };
    let network = settled(trained.model)?;
    let refused = match &judge {
        Some(judge) => judge.divergences(chosen.network())?.farther(&judge.divergences(&network)?),
        None => refused(chosen.score(), &trained.score),
    };
    let outcome = TrainingOutcome {
        method: config.method.name().to_owned(),
        epochs: config.epochs,
        steps: trained.steps,
        images: cx.images.training.len(),
        images_per_second: trained.course.images_per_second,
        before,
        after: cx.validation().score(&cx.runner, &network)?,
        is_written: refused.is_none(),
        course: trained.course.steps,
        history: trained.course.epochs,
    };
    Ok(Trained { model, network, outcome, refused })
}

/// The outputs of the first pruned block and of all blocks behind it.
fn behind_pruned(
    cx: &Context<'_>,
    candidates: &CandidateSet,
    chosen: &StartingNetwork,
) -> Vec<String> {
    let graph = &cx.original.graph;
    let pruned: Vec<usize> = chosen.pruned().iter().map(|(index, _)| *index).collect();
    let blocks = candidates.blocks.iter().map(|block| &block.profile.block);
    let behind = blocks.skip_while(|block| !pruned.contains(&block.index));
    behind.map(|block| graph.value(block.result).name().to_owned()).collect()
}

/// The network in the form that is trained, with the batch size of the input model.
fn network_to_train(
    cx: &Context<'_>,
    config: &FinetuneConfig,
    candidates: &CandidateSet,
    chosen: &StartingNetwork,
) -> Result<Model> {
    match config.method {
        Method::Fit => chosen.model(&cx.prepared),
        Method::Blend => {
            let mut start = cx.prepared.clone();
            let forms: Vec<_> =
                chosen.fitted.replacements().map(|it| (&it.site, &it.fitted)).collect();
            surgery::blend(&mut start, &forms)?;
            Ok(start)
        }
        Method::Progressive | Method::Direct => expanded(cx, config, candidates, &chosen.fitted),
    }
}

/// Sets λ to its final value. A network without λ is unchanged.
pub(crate) fn settled(mut network: Model) -> Result<Model> {
    surgery::settle(&mut network)?;
    Ok(network)
}

/// The input model with the selected blocks expanded. The geometry of their pruned flow is in place, and the statistics
/// of their inserted norms are estimated.
fn expanded(
    cx: &Context<'_>,
    config: &FinetuneConfig,
    candidates: &CandidateSet,
    fitted: &FittedSet,
) -> Result<Model> {
    let mut choices = Vec::new();
    for (index, form) in &fitted.pruned {
        let Some(block) = candidates.block(*index) else { continue };
        let forms = surgery::forms(block);
        // A form that only fitting can make starts from the single convolution.
        let form = if forms.contains(form) { *form } else { Form::Conv };
        choices.push(Choice { block: block.clone(), form });
    }
    let mut expanded = cx.prepared.clone();
    let shrink = cx.config.forms.shrink;
    config.move_geometry(&mut expanded, &choices, shrink)?;
    let expansion = surgery::expand(&mut expanded, &choices, shrink)?;
    let sample = cx.images.training.sample(1024, 0);
    let images = Images::new(&cx.prepared, sample, &cx.preprocess)?;
    statistics::calibrate(&mut expanded, &expansion, &cx.config.runtime, |_, _| {
        let batches = images.batches()?.take(CALIBRATION_BATCHES);
        batches.map(|batch| Ok(batch?.inputs)).collect()
    })?;
    Ok(expanded)
}

/// Why the trained network is not written: its degradation on the held-out images is larger than that of the network it
/// started from.
fn refused(start: &Score, trained: &Score) -> Option<String> {
    let lost = start.points_lost(trained);
    let overlap = |score: &Score| 100.0 * score.overlap;
    (lost > 0.0).then(|| {
        format!(
            "training lost {lost:.2} points on the held-out images (the mean of answers and overlap: {start}, overlap {:.2} %, became {trained}, overlap {:.2} %), so the untrained network is written; more images, more --epochs or a smaller --lr may help",
            overlap(start),
            overlap(trained)
        )
    })
}

/// The largest K among the families of the pruned blocks.
fn default_speed(candidates: &CandidateSet, fitted: &FittedSet) -> f64 {
    let blocks = fitted.pruned.iter().filter_map(|(index, _)| candidates.block(*index));
    blocks.map(|block| schedule::default_speed(block.kind)).fold(1.0, f64::max)
}

/// The folder of a training in the work folder; `None` without a work folder.
///
/// # Errors
/// T0006 when it cannot be used.
pub(crate) fn folder(cx: &Context<'_>, key: &impl Serialize) -> Result<Option<PathBuf>> {
    let Some(work) = &cx.config.work else { return Ok(None) };
    let folder = work_folder::job(work, key);
    work_folder::enter_job(&folder)?;
    Ok(Some(folder))
}

/// Reports where a cancelled training stopped.
pub fn tell_stopped(work: Option<&Path>, steps: u64, observer: &mut dyn Observer) {
    let kept = work.map_or_else(
        || "nothing was kept, because there is no work folder".to_owned(),
        |work| format!("the same command resumes from {}", work.display()),
    );
    observer.message(&format!("stopped after {steps} steps; {kept}"));
}
