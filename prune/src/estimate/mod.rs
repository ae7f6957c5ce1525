//! The estimate (dry run): what pruning would do and how long it would take. It inspects the blocks, fits one block of
//! each kind and trains for a few steps. It keeps no results.

mod blocks;
mod training;

use std::fmt;

use updp_ir::Model;
use updp_passes::ModelSummary;
use updp_passes::surgery::{self, Form, Site};
use updp_trainer::observer::Observer;
use updp_trainer::run::BatchSource;

use crate::config::{FinetuneConfig, Goal, Method, PruneConfig, SupernetConfig};
use crate::context::{Context, ImageSets};
use crate::error::{PruneError, Result};
use crate::refinement;
use crate::run::{check_trainings, goal_words};
use crate::select::search::SEARCH;
use crate::select::shortlist_length;
use crate::supernet;
use crate::words::about;
use blocks::{BlockEstimate, BlockTimes};
pub use training::{TrainingEstimate, of_training};

/// Approximate time to select sets of blocks and fit one of them as a whole, relative to the time to fit all blocks
/// alone.
const SELECTING: f64 = 1.5;

/// The same ratio for fitting each further set.
const ANOTHER: f64 = 0.4;

/// Number of sets that a bound on the loss usually fits as a whole.
const MAX_DROP_SETS: usize = 5;

/// What pruning would do, and how long each part would take.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// A description of the goal.
    pub goal: String,
    /// For each block: its index, its kind, and its forms or the reason why it has none.
    pub blocks: Vec<(usize, String, String)>,
    /// Number of blocks with a form to fit.
    pub prunable: usize,
    /// Number of calibration images.
    pub calibration: usize,
    /// Number of held-out images.
    pub held_out: usize,
    /// Number of images for the report; 0 = the held-out images are used.
    pub validation: usize,
    /// Seconds of one pass over the held-out images.
    pub pass_seconds: f64,
    /// Seconds to measure the blocks.
    pub measuring_seconds: f64,
    /// Seconds to fit every block alone.
    pub fitting_seconds: f64,
    /// Number of blocks that were fitted for this estimate.
    pub fitted: usize,
    /// Seconds to select a set and to fit it, based on experience.
    pub selecting_seconds: f64,
    /// The supernet training and the seconds to evaluate sets in the supernet; `None` without a supernet.
    pub supernet: Option<(TrainingEstimate, f64)>,
    /// The training of the pruned network and its method; `None` without training.
    pub training: Option<(TrainingEstimate, Method)>,
}

impl Estimate {
    /// Seconds of the whole run.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        let supernet = self
            .supernet
            .as_ref()
            .map_or(0.0, |(training, searching)| training.seconds() + searching);
        let training = self.training.as_ref().map_or(0.0, |(training, _)| training.seconds());
        let fitting = self.measuring_seconds + self.fitting_seconds + self.selecting_seconds;
        fitting + 2.0 * self.pass_seconds + supernet + training
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, prunable) = (self.blocks.len(), self.prunable);
        writeln!(f, "dry run: nothing is written")?;
        writeln!(f, "  goal: {}", self.goal)?;
        writeln!(f, "  blocks: {count} found, {prunable} with forms to fit")?;
        for (index, kind, forms) in &self.blocks {
            writeln!(f, "    {index:>3} {kind:<18} {forms}")?;
        }
        writeln!(
            f,
            "  images: {} to fit with, {} held out, {} of --val; one pass over the held-out images takes {:.2} s",
            self.calibration, self.held_out, self.validation, self.pass_seconds
        )?;
        writeln!(f, "  measuring blocks: {}", about(self.measuring_seconds))?;
        writeln!(
            f,
            "  fitting blocks alone: {} ({} of {prunable} were fitted for this estimate; the others are estimated from blocks of the same kind or by the cost model)",
            about(self.fitting_seconds),
            self.fitted
        )?;
        writeln!(
            f,
            "  selecting blocks and fitting the network: {}, by experience",
            about(self.selecting_seconds)
        )?;
        if let Some((training, searching)) = &self.supernet {
            writeln!(f, "  {}", training.words("supernet"))?;
            writeln!(f, "  evaluating sets in it: {}", about(*searching))?;
        }
        if let Some((training, method)) = &self.training {
            writeln!(f, "  {}", training.words("training"))?;
            f.write_str(match method {
                Method::Fit => "  (steps of the network with all of its blocks; pruned it is faster)\n",
                Method::Blend => {
                    "  (steps without the fitted operators beside the blocks; with them a little slower)\n"
                }
                Method::Progressive | Method::Direct => "",
            })?;
        }
        write!(
            f,
            "  in all {}; results that a work folder holds already are not counted",
            about(self.seconds())
        )
    }
}

/// Estimates a run of [`crate::prune`] with the same arguments. The estimate takes between a few seconds and a minute.
///
/// # Errors
/// The same errors as [`crate::prune`].
pub fn estimate(
    model: Model,
    images: &ImageSets,
    config: &PruneConfig,
    observer: &mut dyn Observer,
) -> Result<Estimate> {
    let cx = Context::open(model, images, config, observer)?;
    check_trainings(&cx)?;
    let all = blocks::of(&cx, observer)?;
    let prunable: Vec<&BlockEstimate> = all.iter().filter(|it| !it.sites.is_empty()).collect();
    if prunable.is_empty() {
        return Err(PruneError::nothing(
            "no block that was asked for has a form that can be fitted",
        ));
    }
    let times = BlockTimes::measure(&cx, &prunable)?;
    let pass_seconds = cx.evaluation_time.as_secs_f64();
    let supernet = match &config.supernet {
        Some(config) => Some(of_supernet(&cx, config, &prunable, observer)?),
        None => None,
    };
    let training = match &config.finetune {
        Some(config) => Some((of_finetuning(&cx, config, &prunable, observer)?, config.method)),
        None => None,
    };
    let sets = match config.goal {
        Goal::MaxDrop(_) => MAX_DROP_SETS,
        _ if config.starts_from_supernet() => 1,
        _ => shortlist_length(config.search.shortlist, &cx.fitter()),
    };
    let sets = sets + config.front.unwrap_or(0);
    Ok(Estimate {
        goal: goal_words(config),
        blocks: all.iter().map(BlockEstimate::row).collect(),
        prunable: prunable.len(),
        calibration: cx.images.calibration.images(),
        held_out: cx.images.held_out.images(),
        validation: cx.images.validation.as_ref().map_or(0, BatchSource::images),
        pass_seconds,
        measuring_seconds: times.measuring,
        fitting_seconds: times.fitting,
        fitted: times.fitted,
        selecting_seconds: (SELECTING + ANOTHER * (sets - 1) as f64) * times.fitting,
        supernet,
        training,
    })
}

/// Runs a few steps of a supernet similar to the one that would be trained. Also returns the seconds to evaluate sets
/// in it.
fn of_supernet(
    cx: &Context<'_>,
    config: &SupernetConfig,
    blocks: &[&BlockEstimate],
    observer: &mut dyn Observer,
) -> Result<(TrainingEstimate, f64)> {
    // This is usually the form with the least degradation.
    let conv = |it: &&BlockEstimate| {
        let conv = it.sites.iter().find(|site| site.form == Form::Conv);
        conv.or(it.sites.first()).cloned()
    };
    let sites: Vec<Site> = blocks.iter().filter_map(conv).collect();
    let stand_ins =
        sites.iter().map(surgery::stand_in).collect::<std::result::Result<Vec<_>, _>>()?;
    let mut network = cx.original.clone();
    surgery::blend(&mut network, &sites.iter().zip(&stand_ins).collect::<Vec<_>>())?;
    let settings = supernet::settings(cx, config, &network)?;
    let training = of_training(&cx.finetuning(&settings), &network, observer)?;
    let default = SEARCH.evaluations(&network, cx.evaluator.images());
    let sets = cx.config.search.evaluations.unwrap_or(default);
    let [whole, plain] = [&network, &cx.original].map(|it| ModelSummary::of(it, 0).macs.max(1));
    let pass = cx.evaluation_time.as_secs_f64();
    Ok((training, pass * sets as f64 * whole as f64 / plain as f64))
}

/// Runs a few training steps of a network similar to the one that would be trained.
fn of_finetuning(
    cx: &Context<'_>,
    config: &FinetuneConfig,
    blocks: &[&BlockEstimate],
    observer: &mut dyn Observer,
) -> Result<TrainingEstimate> {
    let mut network = cx.original.clone();
    if matches!(config.method, Method::Progressive | Method::Direct) {
        let count = if let Goal::Count(count) = cx.config.goal { count } else { blocks.len() };
        let choices: Vec<surgery::Choice> = blocks
            .iter()
            .filter(|it| surgery::forms(&it.profile.block).contains(&Form::Conv))
            .take(count)
            .map(|it| surgery::Choice { block: it.profile.block.clone(), form: Form::Conv })
            .collect();
        let shrink = cx.config.forms.shrink;
        config.move_geometry(&mut network, &choices, shrink)?;
        surgery::expand(&mut network, &choices, shrink)?;
    }
    let images = cx.training_images(&network)?;
    let mut settings = config.settings(&network, &images, cx.config.data.seed);
    settings.pruned = vec![1.0; surgery::lambda_entries(&network)];
    let mut estimate = of_training(&cx.finetuning(&settings), &network, observer)?;
    if config.tries_rates(&images) && !cx.follows_labels(&settings) {
        estimate.trials = refinement::most_trials(settings.epochs);
    }
    Ok(estimate)
}
