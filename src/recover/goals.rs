//! From goals to a choice of blocks, aimed at anew until the network itself has what was asked for.

use std::num::NonZeroUsize;

use updp_ir::Model;
use updp_passes::pipeline;
use updp_trainer::outcome::Score;
use updp_trainer::recovery::{Recovery, hard_loss, place, price};
use updp_trainer::search::{self, Genome, Goal};

use super::Aim;
use super::bounds;
use super::market::{Market, WHOLE_SECONDS, candidates};
use super::start::Start;
use crate::error::CliError;
use crate::report::counted;
use crate::terminal::Bar;
use crate::training;
use updp_passes::ModelSummary;

/// Multiply-adds spent on trying sets of blocks together.
const TRIAL_MACS: u64 = 3_000_000_000_000;

/// Fewest and most sets tried together by default.
const TRIALS: (u64, u64) = (6, 32);

/// A latency is aimed at so much below the goal: measuring the result again gives another number.
const MARGIN: f64 = 0.97;

/// Sets that are fitted as a whole by default, and those of a network whose blocks take minutes.
const FINALISTS: usize = 4;
const FEW_FINALISTS: usize = 2;

/// A set is not fitted as a whole when it loses, together, more than twice the points of the best one and so many more.
const RIVAL: f64 = 2.0;

/// Unit that multiply-adds are counted in.
pub(super) const MACS: f64 = 1e6;

/// Times a goal of accuracy is aimed at anew, because sums of blocks are not the network.
const ROUNDS: usize = 5;

/// Times a goal of latency is.
const AIMS: usize = 8;

/// So much more is saved the next time at most: a measurement in a slow spell must not prune half of the network.
const MOST_MORE: f64 = 1.5;

/// What was chosen, with what was tried on the way.
pub(super) struct Choice {
    pub(super) genome: Genome,
    pub(super) tried: Vec<(Genome, f64)>,
    /// Those of them that were fitted as a whole, with the points that they lose then.
    pub(super) finalists: Vec<(Genome, f64)>,
    pub(super) explanation: Vec<String>,
    /// Multiply-adds that are left of those of the original, where they were the goal.
    pub(super) macs_share: Option<f64>,
}

impl Choice {
    pub(super) fn new(genome: Genome, tried: Vec<(Genome, f64)>, explanation: Vec<String>) -> Self {
        Self { genome, tried, finalists: Vec::new(), explanation, macs_share: None }
    }

    /// What a set loses once it is fitted as a whole; `None` where it was not.
    pub(super) fn fitted_price(&self, genome: &Genome) -> Option<f64> {
        self.finalists.iter().find(|(own, _)| own == genome).map(|(_, price)| *price)
    }
}

/// Sets of blocks that can be tried together with so many multiply-adds, within bounds.
pub(super) fn affordable(
    network: &Model,
    images: usize,
    macs: u64,
    (least, most): (u64, u64),
) -> usize {
    let one = ModelSummary::of(network, 0).macs.max(1);
    let images = (images as u64).max(1);
    (macs / one.saturating_mul(images)).clamp(least, most) as usize
}

/// Sets that are fitted as a whole at most.
pub(super) fn finalists(asked: Option<NonZeroUsize>, recovery: &Recovery<'_>) -> usize {
    let default = if bounds::is_costly(recovery) { FEW_FINALISTS } else { FINALISTS };
    asked.map_or(default, usize::from)
}

/// Points that a set loses: of what people count where a bound is on that, else the price.
pub(super) fn points(before: &Score, after: &Score, is_hard: bool) -> f64 {
    if is_hard { 100.0 * hard_loss(before, after) } else { price(before, after) }
}

/// What was chosen, in words.
pub(super) fn told(choice: &Choice, start: &Start) -> Vec<String> {
    let blocks = start.pruned().iter().map(|(index, form)| format!("{index} {}", form.name()));
    let blocks = blocks.collect::<Vec<_>>().join(", ");
    let words = training::words(start.score());
    let chosen = format!("chosen: {blocks}; {words} held out, before any training");
    choice.explanation.iter().cloned().chain([chosen]).collect()
}

impl Market<'_> {
    /// This many blocks, those that lose least.
    pub(super) fn count(&mut self, count: usize) -> Result<(Choice, Start), CliError> {
        let goal = Goal::Count(count);
        let choice = self.refine(goal, false)?;
        // Searches try sets on their way that do not reach the goal.
        let reaches = |market: &mut Self, genome: &Genome| {
            Ok(search::sum(&market.items, genome).is_some_and(|sum| goal.is_reached_by(&sum)))
        };
        self.settle(choice, reaches)
    }

    /// Aims at a latency until the measured network has it.
    pub(super) fn fast(&mut self, aim: Aim) -> Result<(Choice, Start), CliError> {
        let all: f64 = self.items.iter().map(|item| item.baseline_ms).sum();
        let mut saving: Option<f64> = None;
        let mut tried = Vec::new();
        let (mut explanation, mut finalists) = (Vec::new(), Vec::new());
        let mut best: Option<(f64, Genome)> = None;
        let mut fitted: Option<(f64, Genome, Start)> = None;
        let mut last: Option<Genome> = None;
        for _ in 0..AIMS {
            let whole = self.whole_ms()?;
            let wanted_ms = aim.latency_ms(whole);
            let needed = whole - wanted_ms * MARGIN;
            let aimed = saving.unwrap_or(needed).max(0.0);
            let least = search::fastest(&self.items);
            let bound = (all - aimed).max(least.latency_ms);
            let choice = self.refine(Goal::Latency(bound), false)?;
            tried.extend(choice.tried.iter().cloned());
            let mut after = self.pruned_ms(&choice.genome)?;
            if last.as_ref() == Some(&choice.genome) {
                // Another aim, the same network: the last line says all of it.
                explanation.pop();
            }
            explanation.push(format!(
                "a sum of {bound:.3} ms of the blocks was aimed at (they take {all:.3} ms as they are); the network was measured at {after:.3} ms of {whole:.3} ms"
            ));
            let is_last = bound <= least.latency_ms;
            let is_reached = after <= wanted_ms * MARGIN || is_last;
            last = (!is_reached).then(|| choice.genome.clone());
            if is_reached {
                // What is written may differ from what was tried, and every measurement from the one before.
                let reached = |market: &mut Self, genome: &Genome| {
                    Ok(market.pruned_ms(genome)? <= wanted_ms * MARGIN)
                };
                let (choice, start) = self.settle(choice, reached)?;
                explanation.extend(choice.explanation);
                finalists.extend(choice.finalists);
                after = self.latencies(start.network().clone())?.1;
                let holds = after <= wanted_ms;
                if !holds {
                    explanation.push(format!("fitted, it was measured at {after:.3} ms"));
                }
                if fitted.as_ref().is_none_or(|(known, ..)| after < *known) {
                    fitted = Some((after, choice.genome, start));
                }
                if holds || is_last {
                    break;
                }
            } else if best.as_ref().is_none_or(|(known, _)| after < *known) {
                best = Some((after, choice.genome));
            }
            // As much more as was missing, and a little.
            let got = (whole - after).max(needed * 0.1);
            saving = Some(aimed * (needed / got).clamp(1.0, MOST_MORE) + 0.02 * needed);
        }
        let (genome, start) = match (fitted, best) {
            (Some((_, genome, start)), _) => (genome, start),
            (None, best) => {
                let fastest = || search::fastest(&self.items).genome;
                let genome = best.map_or_else(fastest, |(_, genome)| genome);
                let start = self.start(&genome)?;
                (genome, start)
            }
        };
        let choice = Choice::new(genome, tried, explanation);
        Ok((Choice { finalists, ..choice }, start))
    }

    /// The blocks that lose least with at most this share of the multiply-adds of the compiled original left.
    pub(super) fn light(&mut self, share: f64) -> Result<(Choice, Start), CliError> {
        let counted = self.offers.iter().zip(&self.items);
        let counted: Vec<_> = counted.map(|(offers, item)| offers.counted(item)).collect();
        let by_time = std::mem::replace(&mut self.items, counted);
        self.search.count_by(&self.items);
        let found = self.lightest(share);
        self.items = by_time;
        self.search.count_by(&self.items);
        found
    }

    /// With items whose latencies are [`MACS`] multiply-adds each.
    fn lightest(&mut self, share: f64) -> Result<(Choice, Start), CliError> {
        let all: f64 = self.items.iter().map(|item| item.baseline_ms).sum();
        let least = search::fastest(&self.items).latency_ms;
        let whole = ModelSummary::of(&self.compiled, 0).macs as f64 / MACS;
        let wanted = whole * share;
        let (mut tried, mut explanation) = (Vec::new(), Vec::new());
        let mut bound = all - (whole - wanted);
        loop {
            let is_last = bound <= least;
            let choice = self.refine(Goal::Latency(bound.max(least)), false)?;
            tried.extend(choice.tried.iter().cloned());
            let left = self.pruned_macs(&choice.genome)?;
            explanation.push(format!(
                "{wanted:.2} million of {whole:.2} million multiply-adds may be left; of the set chosen for that {left:.2} million are"
            ));
            if left > wanted && !is_last {
                // Blocks beside each other are merged with each other: the sums are not quite the network.
                bound -= (left - wanted).max(0.001 * whole);
                continue;
            }
            let (mut choice, start) = self.settle(choice, |market, genome| {
                Ok(market.pruned_macs(genome)? <= wanted.max(left))
            })?;
            explanation.append(&mut choice.explanation);
            let left = self.pruned_macs(&choice.genome)?;
            let macs_share = Some(left / whole.max(f64::MIN_POSITIVE));
            return Ok((Choice { tried, explanation, macs_share, ..choice }, start));
        }
    }

    /// Of the sets that lose least together the one that loses least once it is fitted as a whole, by more than noise: the
    /// layers behind make up for some blocks better than for others, and that shows only then. The set chosen so far is the first of them;
    /// the others must reach the goal and not lose far more together ([`RIVAL`]).
    fn settle(
        &mut self,
        mut choice: Choice,
        mut reaches: impl FnMut(&mut Self, &Genome) -> Result<bool, CliError>,
    ) -> Result<(Choice, Start), CliError> {
        // What a subnet of the supernet loses is known from trying it there.
        let most =
            if self.is_subnet_set() { 1 } else { finalists(self.search.finalists, &self.recovery) };
        let mut best = self.start(&choice.genome)?;
        let mut least = price(&self.baseline, best.score());
        choice.finalists.push((choice.genome.clone(), least));
        let own = choice.tried.iter().find(|(genome, _)| *genome == choice.genome);
        let most_lost = own.map_or(f64::NEG_INFINITY, |(_, joint)| 2.0 * joint.max(0.0) + RIVAL);
        let is_rival =
            |(genome, joint): &&(Genome, f64)| *genome != choice.genome && *joint <= most_lost;
        let mut rivals: Vec<_> = choice.tried.iter().filter(is_rival).cloned().collect();
        rivals.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        for (genome, _) in rivals {
            if choice.finalists.len() >= most {
                break;
            }
            if !reaches(self, &genome)? {
                continue;
            }
            let start = self.start(&genome)?;
            let lost = price(&self.baseline, start.score());
            choice.finalists.push((genome.clone(), lost));
            if lost + self.noise(&start) < least {
                (least, best, choice.genome) = (lost, start, genome);
            }
        }
        if choice.finalists.len() > 1 {
            let lost = choice.finalists.iter().map(|(_, lost)| format!("{lost:.2}"));
            // Those with less are as good as it, for all these images say.
            let is_even = choice.finalists.iter().any(|(_, lost)| *lost < least);
            let images = self.recovery.judge.images();
            let why = if is_even {
                format!(": what less others lose is within the noise of {images} held-out images")
            } else {
                String::new()
            };
            choice.explanation.push(format!(
                "the {} sets that lose least together, fitted as a whole, lose {} points: the one with {least:.2} is taken{why}",
                choice.finalists.len(),
                lost.collect::<Vec<_>>().join(", ")
            ));
        }
        Ok((choice, best))
    }

    /// Points within which two prices are even: one standard error of the half of a price that counts images, d being the
    /// share of the n held-out images that the network answers otherwise than the original, `50·√(d/n)`.
    fn noise(&self, start: &Start) -> f64 {
        let images = self.recovery.judge.images().max(1) as f64;
        let score = start.score();
        let share = 1.0 - score.agreement.unwrap_or(score.overlap);
        50.0 * (share.max(1.0 / images) / images).sqrt()
    }

    /// Multiply-adds of the network with these blocks pruned, in [`MACS`].
    fn pruned_macs(&self, genome: &Genome) -> Result<f64, CliError> {
        let mut network = self.placed(genome)?;
        pipeline::compile(&mut network, self.options, &mut |_, _| {})?;
        Ok(ModelSummary::of(&network, 0).macs as f64 / MACS)
    }

    /// Prunes as much as the bound on what is lost allows, aiming anew by what the fitted network really loses.
    pub(super) fn cheap(&mut self, points: f64) -> Result<(Choice, Start), CliError> {
        let mut bound = points;
        let (mut tried, mut explanation) = (Vec::new(), Vec::new());
        let mut finalists = Vec::new();
        let mut best: Option<(f64, Genome, Start)> = None;
        let mut seen: Vec<Genome> = Vec::new();
        for _ in 0..ROUNDS {
            let choice = self.refine(Goal::Price(bound), true)?;
            tried.extend(choice.tried);
            if seen.contains(&choice.genome) {
                bound *= 1.5;
                continue;
            }
            seen.push(choice.genome.clone());
            let start = self.start(&choice.genome)?;
            finalists.push((choice.genome.clone(), price(&self.baseline, start.score())));
            let lost = 100.0 * hard_loss(&self.baseline, start.score());
            let sum = search::sum(&self.items, &choice.genome);
            let latency = sum.map_or(f64::INFINITY, |sum| sum.latency_ms);
            explanation.push(format!(
                "a sum of {bound:.2} points was aimed at; {} and fitted, {lost:.2} are lost",
                counted(
                    choice.genome.iter().flatten().count(),
                    "block pruned",
                    "blocks pruned together"
                )
            ));
            let holds = lost <= points;
            if holds && best.as_ref().is_none_or(|(known, ..)| latency < *known) {
                best = Some((latency, choice.genome, start));
            }
            // Prices of single blocks overstate what is lost once the layers behind them are solved for anew.
            bound *= if holds { (points / lost.max(0.01)).clamp(1.6, 4.0) } else { 0.7 };
            if !holds && best.is_some() {
                break;
            }
        }
        let (genome, start) = if let Some((_, genome, start)) = best {
            (genome, start)
        } else {
            explanation.push("no set of blocks loses so little: none is pruned".to_owned());
            let genome: Genome = vec![None; self.items.len()];
            let start = self.start(&genome)?;
            (genome, start)
        };
        let choice = Choice::new(genome, tried, explanation);
        Ok((Choice { finalists, ..choice }, start))
    }

    /// Which blocks, by prices and by trying sets together.
    fn refine(&mut self, goal: Goal, is_hard: bool) -> Result<Choice, CliError> {
        if let Some(strategy) = self.search.strategy() {
            return self.explore(goal, is_hard, strategy);
        }
        let starts = search::solve(&self.items, goal, 4);
        let default = self.affordable(TRIAL_MACS, TRIALS);
        let Self { recovery, offers, items, baseline, search, .. } = self;
        let most = search.evaluations.unwrap_or(default);
        let trials = &mut search.trials;
        let bar = Bar::new("trying blocks together", most);
        let mut joint = |genome: &Genome| -> Result<f64, CliError> {
            let score = trials.score(recovery, offers, genome)?;
            bar.advance(1);
            Ok(points(baseline, &score, is_hard))
        };
        let refined = search::refine(items, goal, &starts, most, &mut joint)?;
        drop(bar);
        let explanation = vec![format!(
            "of {} tried together {}, the one chosen loses {:.2} points before it is fitted as a whole; its prices add up to {:.2}",
            counted(refined.tried.len(), "set", "sets"),
            trials.place(),
            refined.joint_price,
            refined.best.price
        )];
        Ok(Choice::new(refined.best.genome, refined.tried, explanation))
    }

    /// Latency of the original, compiled.
    fn whole_ms(&mut self) -> Result<f64, CliError> {
        Ok(self.table.latencies_in(&[&self.compiled], WHOLE_SECONDS)?[0])
    }

    /// Latency of the network with these blocks pruned.
    fn pruned_ms(&mut self, genome: &Genome) -> Result<f64, CliError> {
        Ok(self.latencies(self.placed(genome)?)?.1)
    }

    /// The original with these blocks pruned, as they were fitted alone.
    fn placed(&self, genome: &Genome) -> Result<Model, CliError> {
        let mut network = self.recovery.original.clone();
        place(&mut network, candidates(&self.offers, genome))?;
        Ok(network)
    }
}
