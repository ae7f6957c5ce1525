//! Selects blocks until the measured network is fast enough, and not much faster.
//!
//! The latency model proposes: it says what each form saves inside the network, and the knapsack takes the least
//! degraded set for the goal. The clock corrects: every proposed network is measured, and the model learns from it. The
//! weights do not matter for the time, so this needs no fit. Only a set whose network hits the goal is fitted.

use super::{Selection, Selector};
use crate::error::Result;
use crate::latency_model::LatencyModel;
use crate::latency_table::Comparison;
use crate::progress;
use crate::search::{BlockCost, Constraint, Genome, Solution, fastest, solve};
use crate::starting_network::StartingNetwork;

/// Networks are proposed for the goal times this factor, because every measurement of the result gives another number.
const AIM: f64 = 1.01;
/// The search ends with a network that is faster than the goal by at most this factor: more speed costs accuracy.
const NEAR: f64 = 1.03;
/// The goal is hit up to this factor.
const MOST: f64 = 1.067;
/// Most networks that are measured for one goal, besides those that calibrate the model.
const ATTEMPTS: usize = 10;
/// Most sets that are fitted as a whole because the fitted network missed the goal.
const FITS: usize = 3;
/// Number of choices that are looked at for one that hits the goal.
const CHOICES: usize = 32;

/// A measured set.
#[derive(Clone, Debug)]
struct Measured {
    genome: Genome,
    /// Speedup that the model predicted before the measurement.
    predicted: f64,
    found: Comparison,
}

/// The state of a selection for a latency.
pub(super) struct Approach {
    pub(super) model: LatencyModel,
    /// The wanted speedup.
    goal: f64,
    measured: Vec<Measured>,
}

impl Approach {
    fn hits(&self, speedup: f64) -> bool {
        (self.goal..=self.goal * NEAR).contains(&speedup)
    }

    fn known(&self, genome: &Genome) -> Option<&Measured> {
        self.measured.iter().rev().find(|it| it.genome == *genome)
    }

    /// Bound on the sum of `costs` for a speedup.
    pub(super) fn bound(&self, costs: &[BlockCost], speedup: f64) -> f64 {
        let all: f64 = costs.iter().map(|cost| cost.baseline_ms).sum();
        let original = self.model.original_ms();
        all - (original - original / speedup)
    }

    /// The least degraded set that is predicted to hit the goal and was not measured yet; otherwise the least degraded
    /// one that is fast enough; `None` if all that the knapsack names are known.
    fn next(&self, costs: &[BlockCost]) -> Option<Genome> {
        for aim in [AIM, 1.0] {
            let bound = self.bound(costs, self.goal * aim).max(fastest(costs).latency_ms);
            let solutions = solve(costs, Constraint::Latency(bound), CHOICES);
            let is_new = |it: &&Solution| self.known(&it.genome).is_none();
            let hits = |it: &&Solution| self.hits(self.model.speedup(&it.genome));
            // A choice that misses is worth a look only while nothing better is known.
            let first = solutions.iter().take(1).find(is_new);
            if let Some(found) = solutions.iter().filter(is_new).find(hits).or(first) {
                return Some(found.genome.clone());
            }
        }
        None
    }

    /// The slowest measured set that reaches the goal, otherwise the fastest.
    fn best(&self) -> Option<&Measured> {
        let speedup = |it: &&Measured| it.found.speedup;
        let reached = self.measured.iter().filter(|it| it.found.speedup >= self.goal);
        let order = |a: &&Measured, b: &&Measured| speedup(a).total_cmp(&speedup(b));
        reached.min_by(order).or_else(|| self.measured.iter().max_by(order))
    }

    /// Keeps a measurement, and the model learns from it. `predicted` is the speedup that the model predicted before.
    pub(super) fn learn(&mut self, genome: &Genome, predicted: f64, found: Comparison) {
        let width = found.interval.relative_width() * found.speedup;
        self.model.observe(genome, found.speedup, width);
        self.measured.push(Measured { genome: genome.clone(), predicted, found });
    }

    /// How the model and the clock agree, in a sentence.
    fn words(&self, genome: &Genome) -> Option<String> {
        let last = self.known(genome)?;
        let Comparison { speedup, interval, .. } = last.found;
        Some(format!(
            "speedup of the chosen blocks: {:.3} predicted, {speedup:.3} measured ({:.3}-{:.3}); the prediction was calibrated by {} measured networks, and the goal is {:.3}",
            last.predicted,
            interval.low,
            interval.high,
            self.measured.len().saturating_sub(1),
            self.goal
        ))
    }
}

impl Selector<'_> {
    /// Approaches the goal until the measured network hits it.
    pub(super) fn select_for_latency(&mut self) -> Result<(Selection, StartingNetwork)> {
        let mut approach = self.calibrated()?;
        let goal = approach.goal;
        self.search(&mut approach)?;
        let mut selection = Selection::new(Vec::new(), Vec::new(), Vec::new());
        let mut best: Option<(f64, Genome, StartingNetwork)> = None;
        for _ in 0..FITS {
            let found = self.proposed(&mut approach)?;
            let reaches = |selector: &mut Self, genome: &Genome| {
                let speedup = selector.measured(&mut approach, genome)?;
                Ok(approach.hits(speedup))
            };
            let (found, start) = self.best_of_shortlist(found, reaches)?;
            selection.tried.extend(found.tried);
            selection.shortlist.extend(found.shortlist);
            selection.explanation.extend(found.explanation);
            let predicted = approach.model.speedup(&found.genome);
            let fitted = self.latency.measure_precisely(self.cx, start.network().clone())?;
            self.keep_speed(&found.genome, fitted);
            approach.learn(&found.genome, predicted, fitted);
            let miss = miss(goal, fitted.speedup);
            if best.as_ref().is_none_or(|(least, ..)| miss < *least) {
                best = Some((miss, found.genome, start));
            }
            if best.as_ref().is_some_and(|(least, ..)| *least <= 0.0)
                || approach.next(&approach.model.costs(&self.candidates.costs)).is_none()
            {
                break;
            }
        }
        let Some((_, genome, start)) = best else {
            let genome = fastest(&self.candidates.costs).genome;
            let start = self.start(&genome)?;
            return Ok((Selection { genome, ..selection }, start));
        };
        selection.explanation.extend(approach.words(&genome));
        selection.explanation.extend(self.finer_step(&approach, &genome));
        Ok((Selection { genome, model: Some(approach.model), ..selection }, start))
    }

    /// A latency model that a few measured networks calibrated. Its goal is a speedup of 1 if the goal of the run sets no
    /// latency.
    pub(super) fn calibrated(&mut self) -> Result<Approach> {
        let model = self.latency.model(self.candidates)?;
        let original_ms = model.original_ms();
        let goal = original_ms / self.cx.config.goal.latency_ms(original_ms);
        let mut approach = Approach { model, goal, measured: Vec::new() };
        self.calibrate(&mut approach)?;
        Ok(approach)
    }

    /// Measures a few networks that together contain every block, so that the model knows the scale of each part.
    fn calibrate(&mut self, approach: &mut Approach) -> Result<()> {
        let costs = &self.candidates.costs;
        let all = fastest(costs).genome;
        let pruned: Vec<usize> = (0..all.len()).filter(|at| all[*at].is_some()).collect();
        let part = |is_in: &dyn Fn(usize) -> bool| {
            let mut genome: Genome = vec![None; all.len()];
            for (place, block) in pruned.iter().enumerate() {
                genome[*block] = all[*block].filter(|_| is_in(place));
            }
            genome
        };
        let half = pruned.len() / 2;
        let parts: [&dyn Fn(usize) -> bool; 3] =
            [&|_| true, &|place| place < half, &|place| place % 2 == 1];
        for is_in in parts.into_iter().take(if pruned.len() > 3 { 3 } else { 1 }) {
            self.measured(approach, &part(is_in))?;
        }
        Ok(())
    }

    /// Measures proposals of the knapsack until one hits the goal.
    fn search(&mut self, approach: &mut Approach) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let costs = approach.model.costs(&self.candidates.costs);
            let Some(genome) = approach.next(&costs) else { break };
            let speedup = self.measured(approach, &genome)?;
            if approach.hits(speedup) {
                break;
            }
        }
        Ok(())
    }

    /// A set for the goal that was evaluated as a whole. If its network misses the goal, the model has learned this, and
    /// another set is proposed; at last the best measured one is taken.
    fn proposed(&mut self, approach: &mut Approach) -> Result<Selection> {
        let costs = approach.model.costs(&self.candidates.costs);
        let bound = approach.bound(&costs, approach.goal * AIM).max(fastest(&costs).latency_ms);
        self.archive = self.archive.over(&costs);
        let found = self.propose(&costs, Constraint::Latency(bound));
        self.archive = self.archive.over(&self.candidates.costs);
        let mut selection = found?;
        let speedup = self.measured(approach, &selection.genome)?;
        if approach.hits(speedup) {
            return Ok(selection);
        }
        // Evaluated sets that hit the goal come before sets that were only measured.
        let mut others = selection.tried.clone();
        others.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        for (genome, _) in others {
            if approach.hits(approach.model.speedup(&genome)) {
                let speedup = self.measured(approach, &genome)?;
                if approach.hits(speedup) {
                    selection.genome = genome;
                    return Ok(selection);
                }
            }
        }
        self.search(approach)?;
        if let Some(best) = approach.best() {
            selection.genome.clone_from(&best.genome);
        }
        Ok(selection)
    }

    /// Speedup of the network with these blocks pruned. A new network is measured, and the model learns from it.
    fn measured(&mut self, approach: &mut Approach, genome: &Genome) -> Result<f64> {
        if let Some(known) = approach.known(genome) {
            return Ok(known.found.speedup);
        }
        progress::tell(self.observer, "measuring networks", approach.measured.len(), 0)?;
        let network = self.placed(genome)?;
        let found = self.latency.measure(self.cx, network)?;
        let predicted = approach.model.speedup(genome);
        approach.learn(genome, predicted, found);
        Ok(found.speedup)
    }

    /// If the goal is exceeded by far, the sets on both sides of it: no finer step lies between them.
    fn finer_step(&self, approach: &Approach, genome: &Genome) -> Option<String> {
        let own = approach.known(genome)?.found.speedup;
        if own <= approach.goal * MOST {
            return None;
        }
        let below = approach.measured.iter().filter(|it| it.found.speedup < approach.goal);
        let below = below.max_by(|a, b| a.found.speedup.total_cmp(&b.found.speedup));
        let below = below.map_or_else(
            || "the unpruned network".to_owned(),
            |it| format!("{} ({:.3})", self.candidates.words(&it.genome), it.found.speedup),
        );
        Some(format!(
            "no finer step was found: no choice of forms was measured between {below} and {} ({own:.3})",
            self.candidates.words(genome)
        ))
    }
}

/// How far a speedup misses the goal; at most 0 if it hits it. Being too slow counts ten times as much as being too fast.
fn miss(goal: f64, speedup: f64) -> f64 {
    let ratio = speedup / goal;
    if ratio < 1.0 { 10.0 * (1.0 - ratio) } else { (ratio - MOST).max(0.0) }
}
