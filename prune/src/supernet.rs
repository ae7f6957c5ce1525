//! The supernet stage. The supernet is a network that holds the baseline and one pruned form of every block. It is
//! trained with four subnets per update. Sets of blocks are evaluated in it.
//!
//! λ mixes both flows of each block (`surgery::blend`). If λ holds only zeros and ones, the network is a subnet, so one
//! session scores all subnets. BatchNormalizations that remain after preparation keep the statistics of the input
//! model, also during training. So no subnet needs its own statistics.

use indexmap::IndexMap;
use updp_exec::Executor;
use updp_ir::{Model, Tensor};
use updp_passes::surgery::{self, Form, LAMBDA_INPUT};
use updp_trainer::evaluator::{Evaluator, Score};
use updp_trainer::finetune::{FinetuneSettings, Finetuned};
use updp_trainer::fit::FittedForm;
use updp_trainer::hash::Fnv;
use updp_trainer::observer::Observer;
use updp_trainer::run::Runner;
use updp_trainer::train::End;

use crate::candidates::CandidateSet;
use crate::config::SupernetConfig;
use crate::context::{Context, encode};
use crate::error::{PruneError, Result};
use crate::finetune;
use crate::outcome::{SubnetOutcome, SupernetOutcome};
use crate::progress;
use crate::search::Genome;
use crate::select::SetEvaluator;
use crate::starting_network::Subnet;

/// Degradation of the unpruned network in the supernet, in points, above which a warning is given.
const MOST_LOST: f64 = 1.0;

/// Factor on the learning rate of a normal training. The gradients of barely trained subnets would pull the unpruned
/// network away from the input model.
const RATE: f64 = 0.25;

/// Scores the subnets of one network.
struct Session {
    executor: Box<dyn Executor>,
}

/// A trained supernet, open for scoring.
pub struct Supernet {
    session: Session,
    /// The network with the batch size of the input model.
    pub(crate) model: Model,
    /// The form of each block; `None` = the block is not in the supernet. λ has one entry for each block in the
    /// supernet, in order.
    forms: Vec<Option<(usize, Form)>>,
}

/// Training settings for a network with λ.
///
/// # Errors
/// T0001, T0107, T0108 when the network does not take images.
pub(crate) fn settings(
    cx: &Context<'_>,
    config: &SupernetConfig,
    network: &Model,
) -> Result<FinetuneSettings> {
    let images = cx.training_images(network)?;
    let seed = cx.config.data.seed;
    let mut settings = config.training.settings(network, &images, config.epochs, seed);
    settings.pruned = vec![1.0; surgery::lambda_entries(network)];
    settings.is_sandwich = true;
    settings.scale_rate(RATE);
    Ok(settings)
}

/// Trains the supernet of all blocks that have a candidate. It holds each block in its least degraded form, and only
/// these forms stay in `candidates`.
///
/// # Errors
/// C0014 when no block has a finite degradation; C0011 when the observer cancels; errors of training.
pub fn train(
    cx: &Context<'_>,
    config: &SupernetConfig,
    candidates: &mut CandidateSet,
    observer: &mut dyn Observer,
) -> Result<(SetEvaluator, SupernetOutcome)> {
    candidates.narrow();
    let fitted: Vec<&FittedForm> = candidates.in_supernet().flatten().collect();
    if fitted.is_empty() {
        return Err(PruneError::nothing("no block has a degradation that is a number"));
    }
    let mut start = cx.prepared.clone();
    let pairs: Vec<_> = fitted.iter().map(|it| (&it.site, &it.fitted)).collect();
    surgery::blend(&mut start, &pairs)?;
    let network = cx.opened(&start)?;
    let mut settings = settings(cx, config, &network)?;
    let bytes = encode(&start)?;
    let key = finetune::JobKey::new(cx, "supernet", &bytes, &settings);
    settings.folder = finetune::folder(cx, &key)?;
    progress::tell(observer, "scoring the supernet", 0, 0)?;
    let before = ends(cx, &network, fitted.len())?;
    let trained = cx.finetuning(&settings).run(&network, observer)?;
    if trained.end == End::Stopped || observer.is_cancelled() {
        finetune::tell_stopped(cx.config.work.as_deref(), trained.steps, observer);
        return Err(PruneError::Interrupted);
    }
    observer.progress("scoring the supernet", 0, 0);
    let after = ends(cx, &trained.model, fitted.len())?;
    let outcome = outcome(cx, config, &trained, &fitted, before, after);
    let forms = candidates.in_supernet().map(|form| Some((form?.site.block, form?.site.form)));
    let supernet = Supernet {
        session: Session::open(&cx.runner, &trained.model)?,
        model: trained.put_into(start)?,
        forms: forms.collect(),
    };
    let hash = Fnv::of(&encode(&trained.model)?);
    Ok((SetEvaluator::of_supernet(cx, supernet, hash)?, outcome))
}

impl Session {
    /// Opens a network with the inputs of the evaluator's original and [`LAMBDA_INPUT`].
    fn open(runner: &Runner, network: &Model) -> Result<Self> {
        Ok(Self { executor: runner.open(network)? })
    }

    /// The score of a subnet. λ has one entry per block; 1 = pruned.
    fn score(&mut self, evaluator: &Evaluator, lambda: &[f32]) -> Result<Score> {
        let tensor = Tensor::from_f32(vec![lambda.len()], lambda)?;
        let more = IndexMap::from([(LAMBDA_INPUT.to_owned(), tensor)]);
        Ok(evaluator.score_in(self.executor.as_mut(), &more)?)
    }
}

impl Supernet {
    /// λ of a genome.
    fn lambda(&self, genome: &Genome) -> Vec<bool> {
        let in_it = self.forms.iter().zip(genome).filter(|(form, _)| form.is_some());
        in_it.map(|(_, choice)| choice.is_some()).collect()
    }

    /// The score of a set of blocks on the held-out images.
    ///
    /// # Errors
    /// Errors of running the network.
    pub fn score(&mut self, evaluator: &Evaluator, genome: &Genome) -> Result<Score> {
        let lambda: Vec<f32> = self.lambda(genome).into_iter().map(f32::from).collect();
        self.session.score(evaluator, &lambda)
    }

    /// The subnet of a set of blocks as a network of its own.
    ///
    /// # Errors
    /// Errors of rewriting and running the network.
    pub fn cut(&self, cx: &Context<'_>, genome: &Genome) -> Result<Subnet> {
        let mut model = self.model.clone();
        surgery::subnet(&mut model, &self.lambda(genome))?;
        let network = cx.opened(&model)?;
        let score = cx.evaluator.score(&cx.runner, &network)?;
        let chosen = self.forms.iter().zip(genome).filter(|(_, choice)| choice.is_some());
        let pruned = chosen.filter_map(|(form, _)| *form).collect();
        Ok(Subnet { model, network, score, pruned })
    }
}

/// The scores with no block pruned and with every block pruned.
fn ends(cx: &Context<'_>, network: &Model, blocks: usize) -> Result<[Score; 2]> {
    let mut session = Session::open(&cx.runner, network)?;
    let mut score = |lambda: f32| session.score(&cx.evaluator, &vec![lambda; blocks]);
    Ok([score(0.0)?, score(1.0)?])
}

fn outcome(
    cx: &Context<'_>,
    config: &SupernetConfig,
    trained: &Finetuned,
    fitted: &[&FittedForm],
    before: [Score; 2],
    after: [Score; 2],
) -> SupernetOutcome {
    let of = |at: usize| SubnetOutcome { before: before[at], after: after[at] };
    let blocks = fitted.iter().map(|it| (it.site.block, it.site.form.name().to_owned()));
    SupernetOutcome {
        epochs: config.epochs,
        steps: trained.steps,
        images: cx.images.training.len(),
        images_per_second: trained.course.images_per_second,
        blocks: blocks.collect(),
        baseline: of(0),
        all_pruned: of(1),
        history: trained.course.epochs.clone(),
        course: trained.course.steps.clone(),
        start: None,
    }
}

/// Describes the resulting supernet in sentences.
pub(crate) fn explanation(outcome: &SupernetOutcome) -> Vec<String> {
    let SupernetOutcome { baseline, all_pruned, .. } = outcome;
    let mut told = vec![format!(
        "the supernet of {} blocks, before and after its training: with nothing pruned {} and {}, with every block pruned {} and {}",
        outcome.blocks.len(),
        baseline.before,
        baseline.after,
        all_pruned.before,
        all_pruned.after
    )];
    let lost = 100.0 * baseline.before.answer_loss(&baseline.after);
    if lost > MOST_LOST {
        told.push(format!(
            "WARNING: with nothing pruned the supernet is {lost:.2} points below the input model: its scores say less about the blocks of the input model; a lower --lr keeps it closer"
        ));
    }
    told
}
