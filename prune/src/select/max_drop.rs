//! Selects the fastest set that loses no more points than allowed: a bisection of the knapsack's front, with sets that
//! are fitted as a whole.

use updp_ir::Model;
use updp_passes::ModelSummary;
use updp_trainer::evaluator::Score;

use super::{Selection, Selector};
use crate::context::Context;
use crate::error::{PruneError, Result};
use crate::search::{Bisection, Constraint, Genome, Solution, front, solve};
use crate::starting_network::StartingNetwork;
use crate::words::counted;

/// Most multiply-adds for scoring one set on calibration images, a few seconds on two cores.
const SCORING_MACS: u64 = 400_000_000_000;

/// Number of single blocks, and of pairs, that are looked at where no choice of the front holds.
const SINGLES: usize = 3;
const PAIRS: usize = 2;

/// Points that a fitted set loses.
#[derive(Clone, Copy, Debug)]
struct Lost {
    held_out: f64,
    calibration: f64,
}

impl Lost {
    /// The larger loss. Calibration images are many, and the fit has seen them, so the true loss is hardly smaller. The
    /// held-out images are few, and the fit has not seen them.
    fn points(self) -> f64 {
        self.held_out.max(self.calibration)
    }
}

/// Scores networks on every n-th batch of calibration images.
struct Scoring {
    step: usize,
    before: Score,
}

impl Scoring {
    fn new(cx: &Context<'_>) -> Result<Self> {
        let images = cx.calibration.images() as u64;
        let macs = ModelSummary::of(&cx.original, 0).macs.saturating_mul(images);
        let most = cx.calibration.batches().max(1) as u64;
        let step = (macs / SCORING_MACS).clamp(1, most) as usize;
        let before = if step == 1 {
            cx.calibration.baseline()
        } else {
            Self { step, before: Score::default() }.score(cx, &cx.original)?
        };
        Ok(Self { step, before })
    }

    fn score(&self, cx: &Context<'_>, network: &Model) -> Result<Score> {
        let mut executor = cx.runner.open(network)?;
        let mut tally = cx.calibration.tally();
        for (at, batch) in cx.calibration.source().batches()?.enumerate() {
            if at % self.step == 0 {
                tally.add(at, &executor.run(&batch?.inputs)?)?;
            }
        }
        Ok(tally.score())
    }
}

/// The state of the search.
struct Descent {
    scoring: Scoring,
    most_lost: f64,
    selection: Selection,
    best: Option<(Genome, StartingNetwork)>,
}

impl Selector<'_> {
    /// The fastest network that loses at most this many points.
    pub(super) fn select_for_max_drop(
        &mut self,
        most_lost: f64,
    ) -> Result<(Selection, StartingNetwork)> {
        let approach = self.calibrated()?;
        let costs = approach.model.costs(&self.candidates.costs);
        let is_pruned = |it: &Solution| it.genome.iter().any(Option::is_some);
        let front: Vec<Solution> = front(&costs).into_iter().filter(is_pruned).collect();
        let blocks_ms: f64 = costs.iter().map(|cost| cost.baseline_ms).sum();
        let mut search =
            Bisection::new(&front, approach.model.original_ms() - blocks_ms, most_lost);
        let mut state = Descent {
            scoring: Scoring::new(self.cx)?,
            most_lost,
            selection: Selection::new(vec![None; costs.len()], Vec::new(), Vec::new()),
            best: None,
        };
        while let Some(at) = search.next() {
            let genome = self.at_bound(&mut state, &front[at])?;
            let speedup = approach.model.speedup(&genome);
            let lost = self.look(&mut state, genome, speedup)?;
            search.tell(at, lost);
        }
        if state.best.is_none() {
            let singles = solve(&costs, Constraint::Count(1), SINGLES);
            let pairs = solve(&costs, Constraint::Count(2), PAIRS);
            for found in singles.into_iter().chain(pairs) {
                let is_seen = state.selection.shortlist.iter().any(|(own, _)| *own == found.genome);
                if state.best.is_some() || is_seen {
                    continue;
                }
                let speedup = approach.model.speedup(&found.genome);
                self.look(&mut state, found.genome, speedup)?;
            }
        }
        self.finish(state)
    }

    /// The set to fit for a place in the front: the knapsack's, or the one that the chosen search finds for the same
    /// degradation.
    fn at_bound(&mut self, state: &mut Descent, point: &Solution) -> Result<Genome> {
        if self.cx.config.strategy().is_none() {
            return Ok(point.genome.clone());
        }
        let bound = Constraint::Degradation(point.degradation);
        let found = self.propose(&self.candidates.costs, bound)?;
        state.selection.tried.extend(found.tried);
        let is_pruned = found.genome.iter().any(Option::is_some);
        Ok(if is_pruned { found.genome } else { point.genome.clone() })
    }

    /// Fits a set as a whole and returns what it loses: points, or score of the user's measure. Keeps it if it holds and is
    /// faster than the best.
    fn look(&mut self, state: &mut Descent, genome: Genome, speedup: f64) -> Result<f64> {
        let start = self.start(&genome)?;
        let (lost, told) = match &self.cx.config.score {
            Some(score) => {
                let network = start.model(&self.cx.prepared)?;
                let after = (score.of)(&network).map_err(|detail| PruneError::Score { detail })?;
                (score.before - after, format!("score {} -> {after}", score.before))
            }
            None => self.points_lost(state, &start)?,
        };
        let holds = lost <= state.most_lost;
        let sentence = format!(
            "{}, about {speedup:.2} times as fast: {told}{}",
            counted(start.pruned().len(), "block pruned", "blocks pruned"),
            if holds { "" } else { ": too much" }
        );
        self.observer.message(&sentence);
        let kl = start.score().degradation();
        state.selection.explanation.push(sentence);
        state.selection.shortlist.push((genome.clone(), kl));
        if holds {
            // Later looks that hold are at faster sets.
            state.best = Some((genome, start));
        }
        Ok(lost)
    }

    /// The points that a fitted set loses, and both losses in words.
    fn points_lost(&self, state: &Descent, start: &StartingNetwork) -> Result<(f64, String)> {
        let calibration = state.scoring.score(self.cx, start.network())?;
        let lost = Lost {
            held_out: 100.0 * self.candidates.baseline.answer_loss(start.score()),
            calibration: 100.0 * state.scoring.before.answer_loss(&calibration),
        };
        let told = format!(
            "{:.2} points lost on {} held-out images, {:.2} on {} calibration images",
            lost.held_out,
            start.score().images,
            lost.calibration,
            calibration.images
        );
        Ok((lost.points(), told))
    }

    /// The best set, or the unpruned network.
    fn finish(&mut self, state: Descent) -> Result<(Selection, StartingNetwork)> {
        let Descent { mut selection, best, most_lost, .. } = state;
        let images = self.cx.evaluator.images().max(1);
        let calibration = self.cx.calibration.images();
        let looks = selection.shortlist.len();
        let has_score = self.cx.config.score.is_some();
        let metric = if self.cx.evaluator.has_labels() {
            "accuracy"
        } else if self.cx.evaluator.classes().is_some() {
            "agreement"
        } else {
            "overlap"
        };
        selection.explanation.push(if has_score {
            let looks = counted(looks, "set was", "sets were");
            format!("{looks} fitted for the bound of {most_lost} on the score of the command")
        } else { format!(
            "{} fitted for the bound of {most_lost} points of {metric}; the larger of the two losses counts; one of the {images} held-out images is {:.1} points, one of the {calibration} calibration images {:.1}",
            counted(looks, "set was", "sets were"),
            100.0 / images as f64,
            100.0 / calibration.max(1) as f64
        ) });
        let (genome, start) = if let Some(best) = best {
            best
        } else {
            let least = "no set that was fitted loses so little: nothing is pruned";
            selection.explanation.push(least.to_owned());
            let genome: Genome = vec![None; self.candidates.costs.len()];
            let start = self.start(&genome)?;
            (genome, start)
        };
        Ok((Selection { genome, ..selection }, start))
    }
}
