//! Training the pruned network: fitted and merged already, or with both flows of its blocks side by side.

use updp_autodiff::step::Optimizer;
use updp_ir::Model;
use updp_passes::surgery::{self, Choice, Form};
use updp_trainer::data::{Dataset, Preprocess};
use updp_trainer::hash::Fnv;
use updp_trainer::images::Images;
use updp_trainer::judge::Judge;
use updp_trainer::outcome::{Score, TrainingOutcome};
use updp_trainer::recovery::{Sequence, price};
use updp_trainer::run::{Feed, Runner};
use updp_trainer::train::{End, Ramp, Shrink, schedule};
use updp_trainer::tune::{Observer, TuneSettings, Tuning};

use super::Recover;
use super::market::Market;
use super::start::Start;
use crate::cli::{Method, RampForm, ShrinkAt, TrainingArgs};
use crate::error::CliError;
use crate::prune::encode;
use crate::training::{self, Shown};

/// Batches that statistics of inserted norms are estimated with.
const CALIBRATION_BATCHES: usize = 16;

/// As many times the default rate of SGD networks take that have far to go: trained from blocks that were not fitted, or for so many
/// updates that there is time to come down from it again (docs/experiments/recovery.md, "Learning rate of pruned networks").
const FAR: f64 = 2.5;
/// Such a number of updates.
const LONG: usize = 1000;

/// What training is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Its settings.
    pub arguments: &'a TrainingArgs,
    /// Epochs.
    pub epochs: usize,
    /// How.
    pub method: Method,
    /// K, where it is not that of the family.
    pub ramp: Option<f64>,
    /// How λ gets there.
    pub ramp_form: RampForm,
    /// When kernels shrink.
    pub shrink_at: ShrinkAt,
}

impl Plan<'_> {
    /// Settings for a pruned network.
    pub(super) fn settings(&self, network: &Model, images: &Images, seed: u64) -> TuneSettings {
        let mut settings = self.arguments.settings(network, images, (self.epochs, seed));
        let updates = self.epochs * images.dataset().len() / (settings.batch * settings.accumulate);
        let is_fitted = matches!(self.method, Method::Fit | Method::Blend);
        let is_sgd = matches!(settings.optimizer, Optimizer::Sgd { .. });
        if self.arguments.lr.is_none() && is_sgd && (updates >= LONG || !is_fitted) {
            settings.scale_rate(FAR);
        }
        settings
    }

    /// When kernels shrink, as the schedule takes it.
    pub(super) fn shrink(&self) -> Shrink {
        match self.shrink_at {
            ShrinkAt::Lambda => Shrink::WithLambda,
            ShrinkAt::Epoch(epoch) => Shrink::AtEpoch(epoch),
        }
    }

    /// Whether kernels are whole for a time: where s is 1 throughout, shrunk ones are trained, which takes less.
    pub(super) fn has_fading_kernels(&self) -> bool {
        match (self.method, self.shrink_at) {
            (Method::Fit | Method::Blend | Method::Direct, ShrinkAt::Lambda) => false,
            (Method::Progressive, ShrinkAt::Lambda) => true,
            (_, ShrinkAt::Epoch(epoch)) => epoch > 0.0,
        }
    }

    /// Moves the geometry of pruned blocks, as `--shrink` and `--shrink-at` say.
    pub(super) fn move_geometry(
        &self,
        network: &mut Model,
        choices: &[Choice],
        shrink: surgery::Shrink,
    ) -> Result<(), CliError> {
        if self.has_fading_kernels() {
            surgery::fade_kernels(network, choices, shrink)?;
        } else {
            surgery::move_geometry(network, choices, shrink)?;
        }
        Ok(())
    }
}

/// What is trained, on what.
pub(super) struct Ground<'a> {
    pub(super) runner: &'a Runner,
    pub(super) dataset: &'a Dataset,
    pub(super) preprocess: &'a Preprocess,
    /// Held-out images; the network is judged by them after each epoch.
    pub(super) judge: &'a Judge<'a>,
    /// Images to report on.
    pub(super) validation: &'a Judge<'a>,
    /// The original, its batch opened where that can be.
    pub(super) working: &'a Model,
    pub(super) is_opened: bool,
}

impl Ground<'_> {
    pub(super) fn tuning<'b>(&'b self, settings: &'b TuneSettings) -> Tuning<'b> {
        Tuning {
            runner: self.runner,
            dataset: self.dataset,
            preprocess: self.preprocess,
            judge: self.judge,
            teacher: self.working,
            settings,
        }
    }

    /// A network as it is trained and scored: its batch opened where that can be.
    pub(super) fn opened(&self, network: &Model) -> Result<Model, CliError> {
        let mut opened = network.clone();
        if self.is_opened {
            surgery::open_batch(&mut opened)?;
        }
        Ok(opened)
    }
}

/// The trained network.
pub(super) struct Trained {
    /// With the batch of the input model.
    pub(super) model: Model,
    /// As it is scored and measured.
    pub(super) network: Model,
    pub(super) outcome: TrainingOutcome,
    /// Why the untrained network is written instead; `None` when the trained one is.
    pub(super) refused: Option<String>,
}

impl Recover<'_> {
    /// Trains what is left of `model`, which is the prepared original, when the chosen blocks are pruned.
    pub(super) fn train(
        &self,
        plan: &Plan<'_>,
        ground: &Ground<'_>,
        market: &Market<'_>,
        model: &Model,
        chosen: &Start,
    ) -> Result<Trained, CliError> {
        let has_lambda = plan.method != Method::Fit;
        let sequence = &chosen.sequence;
        let start = match plan.method {
            Method::Fit => chosen.model(model)?,
            Method::Blend => {
                let mut start = model.clone();
                let fits: Vec<_> = sequence.stand_ins().map(|c| (&c.site, &c.fitted)).collect();
                surgery::blend(&mut start, &fits)?;
                start
            }
            Method::Progressive | Method::Direct => {
                self.expanded(plan, ground, market, (model, sequence))?
            }
        };
        let network = ground.opened(&start)?;
        let images = Images::new(&network, ground.dataset.clone(), ground.preprocess)?;
        let mut settings = plan.settings(&network, &images, self.images.seed);
        if has_lambda {
            settings.pruned = vec![1.0; surgery::lambda_entries(&network)];
            settings.speed = match (plan.method, plan.ramp) {
                (Method::Direct, _) => f64::INFINITY,
                (_, Some(speed)) => speed,
                _ => speed_of(market, sequence),
            };
            settings.ramp = match plan.ramp_form {
                RampForm::Linear => Ramp::Linear,
                RampForm::Cosine => Ramp::Cosine,
            };
            settings.shrink = plan.shrink();
        }
        let job =
            format!("{:?} {:x} {:?}", plan.method, Fnv::of(&encode(&start)?), ground.preprocess);
        settings.folder = self.work.map(|work| training::folder(work, &job, &settings));
        let tuning = ground.tuning(&settings);
        let mut shown = Shown::new(plan.epochs, has_lambda);
        let before = ground.validation.score(ground.runner, &shown.judged(network.clone())?)?;
        let tuned = tuning.run(&network, &mut shown)?;
        if tuned.end == End::Stopped {
            training::tell_stopped(tuned.steps, self.work);
            return Err(CliError::Interrupted);
        }
        let mut trained = tuned.put_into(start)?;
        let network = shown.judged(tuned.model)?;
        if has_lambda {
            surgery::settle(&mut trained)?;
        }
        let refused = refused(chosen.score(), &tuned.score);
        let outcome = TrainingOutcome {
            method: name(plan.method).to_owned(),
            epochs: plan.epochs,
            steps: tuned.steps,
            images: ground.dataset.len(),
            images_per_second: shown.images_per_second(),
            before,
            after: ground.validation.score(ground.runner, &network)?,
            is_written: refused.is_none(),
            course: shown.course(),
            history: shown.history,
        };
        Ok(Trained { model: trained, network, outcome, refused })
    }

    /// The model with the blocks of `sequence` expanded, the geometry of their pruned flow in place and the statistics of
    /// their inserted norms estimated.
    fn expanded(
        &self,
        plan: &Plan<'_>,
        ground: &Ground<'_>,
        market: &Market<'_>,
        (model, sequence): (&Model, &Sequence),
    ) -> Result<Model, CliError> {
        let mut choices = Vec::new();
        for (index, form) in &sequence.pruned {
            let Some(block) = market.block(*index) else { continue };
            let forms = surgery::forms(block);
            // What only fitting can make starts from the one convolution.
            let form = if forms.contains(form) { *form } else { Form::Conv };
            choices.push(Choice { block: block.clone(), form });
        }
        let mut expanded = model.clone();
        let shrink = self.request.shrink();
        plan.move_geometry(&mut expanded, &choices, shrink)?;
        let expansion = surgery::expand(&mut expanded, &choices, shrink)?;
        let images = Images::new(model, ground.dataset.sample(1024, 0), ground.preprocess)?;
        self.request.calibrate(&mut expanded, &expansion, |_, _| {
            let batches = images.batches()?.take(CALIBRATION_BATCHES);
            batches.map(|batch| Ok(batch?.inputs)).collect()
        })?;
        Ok(expanded)
    }
}

/// Why the trained network is not written: it loses more of the held-out images than what it started from.
fn refused(start: &Score, trained: &Score) -> Option<String> {
    let lost = price(start, trained);
    (lost > 0.0).then(|| {
        format!(
            "training made the network worse by {lost:.2} points on the held-out images, so the untrained one is written; more images, more --epochs or a smaller --lr may help"
        )
    })
}

/// The largest K of the families pruned.
fn speed_of(market: &Market<'_>, sequence: &Sequence) -> f64 {
    let speeds = sequence.pruned.iter().filter_map(|(index, _)| market.block(*index));
    speeds.map(|block| schedule::default_speed(block.kind)).fold(1.0, f64::max)
}

fn name(method: Method) -> &'static str {
    match method {
        Method::Fit => "fit",
        Method::Blend => "blend",
        Method::Progressive => "progressive",
        Method::Direct => "direct",
    }
}
