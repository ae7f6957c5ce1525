//! Finds the set of blocks that meets a constraint with the least degradation, from single blocks first or from whole
//! sets.

use updp_ir::Model;
use updp_passes::ModelSummary;
use updp_trainer::observer::Observer;

use super::{Selection, Selector, SetEvaluator};
use crate::candidates::CandidateSet;
use crate::context::Context;
use crate::error::Result;
use crate::outcome::SearchOutcome;
use crate::progress;
use crate::search::explore::{Evaluated, Settings, Strategy, explore};
use crate::search::{self, BlockCost, Constraint, Genome};
use crate::words::counted;

/// How many sets of blocks a search evaluates by default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EvaluationBudget {
    /// Multiply-adds of all evaluations together.
    macs: u64,
    /// Fewest evaluations, whatever they cost.
    least: u64,
    /// Most evaluations.
    most: u64,
}

/// The budget of a search that goes by single blocks.
const TRIALS: EvaluationBudget = EvaluationBudget { macs: 3_000_000_000_000, least: 6, most: 32 };

/// The budget of a search by sets.
pub(crate) const SEARCH: EvaluationBudget =
    EvaluationBudget { macs: 24_000_000_000_000, least: 32, most: 256 };

/// A repeated search for a goal gets the evaluations divided by this number, because the archive already knows most of
/// the useful sets.
const APPROACHED_AGAIN: usize = 4;

impl EvaluationBudget {
    /// Evaluations of a network over this many images.
    pub(crate) fn evaluations(self, network: &Model, images: usize) -> usize {
        let one = ModelSummary::of(network, 0).macs.max(1);
        let images = (images as u64).max(1);
        (self.macs / one.saturating_mul(images)).clamp(self.least, self.most) as usize
    }
}

impl Selector<'_> {
    /// The best set for a constraint on these costs.
    pub(super) fn propose(
        &mut self,
        costs: &[BlockCost],
        constraint: Constraint,
    ) -> Result<Selection> {
        match self.cx.config.strategy() {
            Some(strategy) => self.explored(costs, constraint, strategy),
            None if self.candidates.has_thin() => Ok(added(costs, constraint)),
            None => self.refined(costs, constraint),
        }
    }

    /// Evaluations that were asked for, else those of the budget.
    fn evaluations(&self, budget: EvaluationBudget) -> usize {
        let supernet = self.sets.supernet();
        let network = supernet.map_or(&self.cx.original, |supernet| &supernet.model);
        let default = || budget.evaluations(network, self.cx.evaluator.images());
        self.cx.config.search.evaluations.unwrap_or_else(default)
    }

    /// Uses the degradations of single blocks first. Then it evaluates changes of the best sets as a whole.
    fn refined(&mut self, costs: &[BlockCost], constraint: Constraint) -> Result<Selection> {
        let starts = search::solve(costs, constraint, 4);
        let most = self.evaluations(TRIALS);
        let Self { cx, candidates, sets, observer, .. } = self;
        let mut joint = joint(cx, candidates, sets, *observer, most);
        let refined = search::refine(costs, constraint, &starts, most, &mut joint)?;
        drop(joint);
        let explanation = vec![format!(
            "of {} evaluated together {}, the chosen one has a degradation of {:.4} before it is fitted as a whole; the degradations of its blocks add up to {:.4}",
            counted(refined.tried.len(), "set", "sets"),
            sets.place(),
            refined.joint_degradation,
            refined.best.degradation
        )];
        Ok(Selection::new(refined.best.genome, refined.tried, explanation))
    }

    /// Evaluates whole sets from the start.
    fn explored(
        &mut self,
        costs: &[BlockCost],
        constraint: Constraint,
        strategy: Strategy,
    ) -> Result<Selection> {
        let starts = search::solve(costs, constraint, 4);
        let mut evaluations = self.evaluations(SEARCH);
        let before = self.archive.entries().len();
        if before > 0 {
            evaluations = evaluations.div_ceil(APPROACHED_AGAIN);
        }
        let settings = Settings { strategy, evaluations, seed: self.cx.config.data.seed };
        let Self { cx, candidates, sets, archive, observer, .. } = self;
        let mut joint = joint(cx, candidates, sets, *observer, evaluations);
        let found = explore(costs, constraint, &starts, settings, archive, &mut joint)?;
        drop(joint);
        let new = &archive.entries()[before..];
        let tried = new.iter().map(|it| (it.solution.genome.clone(), it.joint_degradation));
        let all = if found.is_exhaustive { ", which are all that reach the goal," } else { "" };
        let explanation = format!(
            "the {} search evaluated {} together{all} {}; the chosen one has a degradation of {:.4} before it is fitted as a whole; the degradations of its blocks add up to {:.4}",
            strategy.name(),
            counted(found.evaluated, "set", "sets"),
            sets.place(),
            found.joint_degradation,
            found.best.degradation
        );
        Ok(Selection::new(found.best.genome, tried.collect(), vec![explanation]))
    }

    /// The search for the report; `None` for a search by single blocks.
    pub(super) fn search_outcome(&self) -> Option<SearchOutcome> {
        let strategy = self.cx.config.strategy()?;
        let sets = |front: Vec<Evaluated>| {
            let set = |it: &Evaluated| {
                self.candidates.set_outcome(&it.solution, Some(it.joint_degradation), None)
            };
            front.iter().map(set).collect()
        };
        Some(SearchOutcome {
            strategy: strategy.name().to_owned(),
            seed: self.cx.config.data.seed,
            evaluated: self.archive.entries().len(),
            by_latency: sets(self.archive.front_by_latency()),
            by_count: sets(self.archive.front_by_count()),
        })
    }
}

/// The best set by the sums of single blocks. With thin forms, a set holds many small changes, and their sum predicts the
/// degradation of the set better than an evaluation before the set is fitted as a whole.
fn added(costs: &[BlockCost], constraint: Constraint) -> Selection {
    let best = search::solve(costs, constraint, 1).into_iter().next();
    let best = best.unwrap_or_else(|| search::fastest(costs));
    let explanation = vec![format!(
        "the degradations of the chosen forms, fitted alone, add up to {:.4}",
        best.degradation
    )];
    Selection::new(best.genome, Vec::new(), explanation)
}

/// Returns the degradation of a set and reports how many of `total` evaluations are done.
fn joint<'s>(
    cx: &'s Context<'_>,
    candidates: &'s CandidateSet,
    sets: &'s mut SetEvaluator,
    observer: &'s mut dyn Observer,
    total: usize,
) -> impl FnMut(&Genome) -> Result<f64> {
    let mut done = 0;
    observer.progress("evaluating sets of blocks", done, total);
    move |genome: &Genome| {
        let score = sets.score(cx, candidates, genome)?;
        done += 1;
        progress::tell(observer, "evaluating sets of blocks", done, total)?;
        Ok(score.degradation())
    }
}
