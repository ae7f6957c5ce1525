//! The complete run of pruning with images: all stages in order, and the outcome for the report.

use updp_ir::Model;
use updp_passes::surgery::Form;
use updp_trainer::evaluator::Score;
use updp_trainer::observer::Observer;
use updp_trainer::other_inputs::OtherInput;
use updp_trainer::run::BatchSource;

use crate::candidates::CandidateSet;
use crate::config::{Goal, Method, PruneConfig, Stage};
use crate::context::{Context, ImageSets};
use crate::data_warnings::data_warnings;
use crate::error::Result;
use crate::finetune::{Trained, finetune};
use crate::fit_alone::fit_alone;
use crate::front;
use crate::network_latency::NetworkLatency;
use crate::outcome::{DataOutcome, ImageInputOutcome, Outcome, Speed};
use crate::profile::{BlockProfile, profile};
use crate::progress;
use crate::search::{self, sum};
use crate::select::{Gentler, Selection, SetEvaluator, add_front, gentler, select};
use crate::stages::{PruneStage, PruneStages};
use crate::starting_network::StartingNetwork;
use crate::structure::StatisticsSource;
use crate::supernet;
use crate::words::counted;

/// A loss of more points than this is a warning.
const MUCH_LOST: f64 = 5.0;

/// Most gentler choices in that warning.
const MOST_GENTLER: usize = 2;

/// A pruned network before its blocks are merged.
#[derive(Debug)]
pub struct Pruned {
    /// The settled network or the expanded network. Exact compilation merges it.
    pub model: Model,
    /// The pruned blocks, each with its form.
    pub chosen: Vec<(BlockProfile, Form)>,
    /// Blocks that were requested through `all` but stay, with the reason.
    pub skipped: Vec<String>,
    /// Number of blocks in the model.
    pub blocks_found: usize,
    /// The source of the statistics of inserted BatchNormalizations.
    pub statistics: StatisticsSource,
    /// The results of pruning with images; `None` without images.
    pub outcome: Option<Outcome>,
}

/// Prunes a model with images. It profiles the blocks, fits each block alone, selects a set for the goal, fits the set
/// as a whole, and trains it if training is requested. Returns `None` if the run was to stop after an earlier stage.
///
/// # Errors
/// C0013, C0014 for blocks; C0011 when the observer cancels; T codes for images and training; errors of running networks.
pub fn prune(
    model: Model,
    images: &ImageSets,
    config: &PruneConfig,
    observer: &mut dyn Observer,
) -> Result<Option<Pruned>> {
    let stages = PruneStages::of(config);
    stages.start(PruneStage::ReadData, observer);
    let resolved;
    let mut cx = Context::open(model, images, config, observer)?;
    if let Goal::Pick(number) = config.goal {
        resolved = front::resolve(&cx, number)?;
        cx.config = &resolved;
    }
    check_trainings(&cx)?;
    stages.start(PruneStage::ProfileBlocks, observer);
    let (profile, table) = profile(&cx, observer)?;
    let one_thread = profile.one_thread.clone();
    stages.start(PruneStage::FitForms, observer);
    progress::tell(observer, "measuring the gradients", 0, 0)?;
    // A network that is picked was fitted before.
    let is_pick = matches!(config.goal, Goal::Pick(_));
    let sites = profile.sites.iter().flatten().filter(|_| !is_pick);
    let no_gradient = cx.measure_fisher(&sites.collect::<Vec<_>>())?;
    let mut candidates = fit_alone(&cx, profile, observer)?;
    let mut latency = NetworkLatency::new(&cx, table)?;
    let mut sets = SetEvaluator::of_fitted(&cx, &candidates)?;
    let mut outcome = begin(&cx, &candidates)?;
    outcome.explanation.extend(one_thread.into_iter().chain(no_gradient));
    if let Some(config) = &cx.config.supernet {
        stages.start(PruneStage::TrainSupernet, observer);
        let (trained, told) = supernet::train(&cx, config, &mut candidates, observer)?;
        outcome.explanation.extend(supernet::explanation(&told));
        outcome.supernet = Some(told);
        sets = trained;
    }
    if stops_after(&cx, Stage::Supernet, &outcome.explanation, observer) {
        return Ok(None);
    }
    stages.start(PruneStage::Select, observer);
    let (mut selection, start, search) =
        select(&cx, &candidates, &mut sets, &mut latency, observer)?;
    tell_start(&cx, &mut outcome, &start);
    if stops_after(&cx, Stage::Search, &selection.words(&start), observer) {
        return Ok(None);
    }
    if let Some(count) = config.front {
        stages.start(PruneStage::Front, observer);
        let asked = (&mut selection, count);
        add_front(&cx, &candidates, &mut sets, &mut latency, asked, observer)?;
    }
    progress::tell(observer, "measuring the result", 0, 0)?;
    outcome.before = cx.validation().baseline();
    outcome.after = cx.validation().score(&cx.runner, start.network())?;
    outcome.outputs =
        cx.validation().score_by_output(&cx.runner, start.network(), &outcome.after)?;
    let trained = match &config.finetune {
        Some(config) if !start.pruned().is_empty() => {
            stages.start(PruneStage::Train, observer);
            Some(finetune(&cx, config, &candidates, &start, observer)?)
        }
        _ => None,
    };
    if stops_after(&cx, Stage::Train, &[], observer) {
        return Ok(None);
    }
    stages.start(PruneStage::Measure, observer);
    let written = trained.as_ref().filter(|trained| trained.outcome.is_written);
    let network = written.map_or(start.network(), |trained| &trained.network);
    outcome.speed = Some(speed(&cx, &mut latency, network)?);
    let model = written_model(&cx, trained, &start, &mut outcome)?;
    outcome.search = search;
    report(&cx, &mut outcome, &candidates, &selection, &start, &latency)?;
    Ok(Some(finish(model, candidates, &start, outcome)))
}

/// Rejects everything that a training would reject, before anything is fitted.
pub(crate) fn check_trainings(cx: &Context<'_>) -> Result<()> {
    let original = &cx.original;
    if let Some(config) = &cx.config.finetune {
        let (images, seed) = (cx.training_images(original)?, cx.config.data.seed);
        let mut settings = config.settings(original, &images, seed);
        settings.shrink = config.shrink();
        cx.finetuning(&settings).check(original)?;
    }
    if let Some(config) = &cx.config.supernet {
        let settings = supernet::settings(cx, config, original)?;
        cx.finetuning(&settings).check(original)?;
    }
    Ok(())
}

/// Whether pruning stops here. If so, reports the results so far and how to resume.
fn stops_after(
    cx: &Context<'_>,
    stage: Stage,
    found: &[String],
    observer: &mut dyn Observer,
) -> bool {
    if cx.config.until != Some(stage) {
        return false;
    }
    for sentence in found {
        observer.message(sentence);
    }
    let work = cx.config.work.as_ref();
    let place = work.map_or_else(String::new, |work| format!(" from {}", work.display()));
    let name = match stage {
        Stage::Supernet => "the supernet",
        Stage::Search => "the search",
        Stage::Train => "the training",
    };
    observer.message(&format!(
        "stopped after {name}; nothing was written; the same command without --until resumes{place}"
    ));
    true
}

/// The part of the outcome that is known before the selection.
fn begin(cx: &Context<'_>, candidates: &CandidateSet) -> Result<Outcome> {
    let images = &cx.images;
    let mut skipped = images.calibration.skipped()?.to_vec();
    skipped.extend_from_slice(images.held_out.skipped()?);
    let has_labels = cx.evaluator.has_labels();
    let metric = match cx.evaluator.classes() {
        Some(_) if has_labels => "accuracy",
        Some(_) => "agreement",
        None => "overlap",
    };
    Ok(Outcome {
        data: DataOutcome {
            calibration: images.calibration.images(),
            held_out: images.held_out.images(),
            validation: images.validation.as_ref().map_or(0, BatchSource::images),
            classes: if has_labels { images.classes.clone() } else { Vec::new() },
            skipped,
            image_input: ImageInputOutcome {
                name: images.calibration.input().to_owned(),
                dims: images.calibration.spec().row_dims().to_vec(),
            },
            other_inputs: images.calibration.others().iter().map(OtherInput::outcome).collect(),
        },
        metric: metric.to_owned(),
        goal: goal_words(cx.config),
        input: None,
        held_out_baseline: candidates.baseline,
        before: Score::default(),
        after: Score::default(),
        training: None,
        outputs: Vec::new(),
        speed: None,
        blocks: Vec::new(),
        front: Vec::new(),
        tried: Vec::new(),
        networks: Vec::new(),
        supernet: None,
        search: None,
        explanation: data_warnings(cx, &candidates.baseline),
        missed: Vec::new(),
    })
}

/// A description of the goal.
pub(crate) fn goal_words(config: &PruneConfig) -> String {
    let main = match &config.goal {
        _ if config.picked.is_some() => {
            let number = config.picked.as_ref().map_or(0, |it| it.number);
            format!("network {number} of the front")
        }
        Goal::Pick(number) => format!("network {number} of the front"),
        Goal::Blocks(_) => "the blocks asked for".to_owned(),
        Goal::Count(count) => counted(*count, "block", "blocks"),
        Goal::Speedup(speedup) => format!("{speedup} times as fast"),
        Goal::LatencyMs(ms) => format!("{ms} ms"),
        Goal::MacsShare(share) => format!("{share} of the multiply-adds"),
        Goal::MaxDrop(points) => return format!("as fast as {points} points allow"),
    };
    match config.max_drop {
        Some(points) => format!("{main}, at most {points} points lost"),
        None => main,
    }
}

/// If there is a supernet, reports the source of the selected blocks' weights.
fn tell_start(cx: &Context<'_>, outcome: &mut Outcome, start: &StartingNetwork) {
    let is_taken = cx.config.finetune.as_ref().is_none_or(|it| it.method == Method::Fit);
    if let Some(supernet) = outcome.supernet.as_mut().filter(|_| is_taken) {
        supernet.start = Some(start.source().to_owned());
    }
    outcome.explanation.extend(start.explanation());
}

/// The speed of the network that is written, measured now, never read from the table.
fn speed(cx: &Context<'_>, latency: &mut NetworkLatency, network: &Model) -> Result<Speed> {
    let found = latency.measure_afresh(cx, network.clone())?;
    Ok(Speed {
        before_ms: found.before_ms,
        after_ms: found.after_ms,
        speedup: found.speedup,
        low: found.interval.low,
        high: found.interval.high,
        batch: cx.config.latency.batch,
        threads: latency.threads(),
        runtime: latency.runtime().to_owned(),
    })
}

/// The network that is written: the trained one or the one before training. The outcome says which.
fn written_model(
    cx: &Context<'_>,
    trained: Option<Trained>,
    start: &StartingNetwork,
    outcome: &mut Outcome,
) -> Result<Model> {
    let Some(Trained { model, outcome: told, refused, .. }) = trained else {
        return start.model(&cx.prepared);
    };
    let is_written = told.is_written;
    if is_written {
        outcome.after = told.after;
    }
    outcome.training = Some(told);
    outcome.explanation.extend(refused);
    if is_written { Ok(model) } else { start.model(&cx.prepared) }
}

/// Completes the outcome with the selection, its method and the goals that were missed.
fn report(
    cx: &Context<'_>,
    outcome: &mut Outcome,
    candidates: &CandidateSet,
    selection: &Selection,
    start: &StartingNetwork,
    latency: &NetworkLatency,
) -> Result<()> {
    let block =
        |it: &crate::candidates::BlockCandidates| it.outcome(start.form_of(it.profile.block.index));
    outcome.blocks = candidates.blocks.iter().map(block).collect();
    let sets = search::front(&candidates.costs);
    outcome.front = sets.iter().map(|set| candidates.set_outcome(set, None, None)).collect();
    for (genome, joint) in &selection.tried {
        if let Some(solution) = sum(&candidates.costs, genome) {
            let fitted = selection.fitted_degradation(genome);
            outcome.tried.push(candidates.set_outcome(&solution, Some(*joint), fitted));
        }
    }
    // Sets that were chosen by the sums of single blocks were only evaluated after they were fitted as a whole.
    for (genome, fitted) in &selection.shortlist {
        let is_tried = selection.tried.iter().any(|(own, _)| own == genome);
        if let Some(solution) = sum(&candidates.costs, genome).filter(|_| !is_tried) {
            outcome.tried.push(candidates.set_outcome(&solution, None, Some(*fitted)));
        }
    }
    let networks = front::networks(candidates, selection, outcome.speed.as_ref());
    if cx.config.front.is_some() {
        front::keep(cx, &networks)?;
    }
    outcome.networks = networks.into_iter().map(|(network, _)| network).collect();
    outcome.explanation.extend(selection.explanation.iter().cloned());
    explain_fit(outcome, start);
    let alternatives = || match cx.config.picked {
        Some(_) => Vec::new(),
        None => gentler(&cx.config.goal, candidates, selection, latency),
    };
    let warning = loss_warning(cx, outcome, alternatives);
    outcome.explanation.extend(warning);
    outcome.missed.extend(missed(cx, outcome, selection, start));
    Ok(())
}

/// A warning if the network loses much and no bound was set. It names what loses less: measured networks of the front,
/// otherwise gentler goals with their predicted degradations.
fn loss_warning(
    cx: &Context<'_>,
    outcome: &Outcome,
    gentler: impl FnOnce() -> Vec<Gentler>,
) -> Option<String> {
    let lost = 100.0 * outcome.before.answer_loss(&outcome.after);
    let has_bound = cx.config.drop_limit().is_some() || cx.config.score.is_some();
    if has_bound || lost <= MUCH_LOST {
        return None;
    }
    let own = outcome.networks.iter().find(|network| network.is_chosen);
    let kl = own.map_or(outcome.after.degradation(), |own| own.score.degradation());
    let measured = outcome.networks.iter().rev().filter(|network| {
        cx.config.front.is_some() && !network.is_beaten && network.score.degradation() < kl
    });
    let measured = measured.filter_map(|network| {
        let (number, speedup) = (network.number, network.speed?.speedup);
        let kl = network.score.degradation();
        Some(format!("--pick {number} ({speedup:.2} times as fast, degradation {kl:.3} measured)"))
    });
    let mut choices: Vec<String> = measured.take(MOST_GENTLER).collect();
    if choices.is_empty() {
        let told = |it: &Gentler| {
            format!("{} (a degradation of {:.3} predicted)", it.option, it.degradation)
        };
        choices.extend(gentler().iter().map(told));
    }
    let choices = if choices.is_empty() {
        "a smaller goal loses less".to_owned()
    } else {
        format!("less is lost with {}; here it is {kl:.3}", choices.join(" or "))
    };
    Some(format!(
        "WARNING: {lost:.1} points of {} are lost on {} images; {choices}; --max-drop {MUCH_LOST} finds the fastest network within {MUCH_LOST} points; training (--epochs) wins some back",
        outcome.metric, outcome.after.images
    ))
}

/// Describes the other results of the fit besides the pruned blocks, and whether the result is slower, in sentences.
fn explain_fit(outcome: &mut Outcome, start: &StartingNetwork) {
    let fitted = &start.fitted;
    if fitted.adjusted > 0 && !start.is_subnet {
        outcome.explanation.push(format!(
            "{} solved for again, to compensate for earlier losses",
            counted(
                fitted.adjusted,
                "layer behind pruned blocks was",
                "layers behind pruned blocks were"
            )
        ));
    }
    if fitted.left > 0 && !start.is_subnet {
        outcome.explanation.push(format!(
            "the layers of {} farther behind stay as they are, to bound the time",
            counted(fitted.left, "kept block", "kept blocks")
        ));
    }
    if let Some(speed) = outcome.speed.as_ref().filter(|speed| speed.high < 1.0)
        && !start.pruned().is_empty()
    {
        outcome.explanation.push(format!(
            "WARNING: the pruned network is slower than the original, {:.3} ms instead of {:.3}; without --force such blocks are left as they are",
            speed.after_ms, speed.before_ms
        ));
    }
}

/// A description of the goals and gates that were missed.
fn missed(
    cx: &Context<'_>,
    outcome: &Outcome,
    selection: &Selection,
    start: &StartingNetwork,
) -> Vec<String> {
    let mut missed = Vec::new();
    // A goal is missed if even the good end of the interval misses it.
    match (&cx.config.goal, &outcome.speed) {
        (Goal::Speedup(wanted), Some(speed)) if speed.high < *wanted => {
            missed.push(format!("{:.3} times as fast instead of {wanted}", speed.speedup));
        }
        (Goal::LatencyMs(wanted), Some(speed))
            if speed.after_ms * speed.speedup / speed.high > *wanted =>
        {
            missed.push(format!("{:.3} ms instead of {wanted}", speed.after_ms));
        }
        _ => {}
    }
    if let (Goal::MacsShare(wanted), Some(found)) = (&cx.config.goal, selection.macs_share)
        && found > *wanted
    {
        missed.push(format!("{found:.3} of the multiply-adds are left instead of {wanted}"));
    }
    let lost = 100.0 * outcome.before.answer_loss(&outcome.after);
    if let Some(most) = cx.config.drop_limit()
        && lost > most
    {
        missed.push(format!("{lost:.2} points of {} are lost instead of {most}", outcome.metric));
    }
    if matches!(cx.config.goal, Goal::MaxDrop(_)) && start.pruned().is_empty() {
        missed.push("nothing can be pruned within that bound".to_owned());
    }
    missed
}

fn finish(
    model: Model,
    candidates: CandidateSet,
    start: &StartingNetwork,
    outcome: Outcome,
) -> Pruned {
    let blocks_found = candidates.blocks.len();
    let blocks = candidates.blocks.into_iter();
    let chosen = blocks.filter_map(|block| {
        let form = start.form_of(block.profile.block.index)?;
        Some((block.profile, form))
    });
    Pruned {
        model,
        chosen: chosen.collect(),
        skipped: Vec::new(),
        blocks_found,
        statistics: StatisticsSource::NotNeeded,
        outcome: Some(outcome),
    }
}
