//! A local search on the joint degradation of blocks. Their single degradations only give a guess of it.
//!
//! The search evaluates the starts and then walks from the best one. A move frees one pruned block and forbids its
//! current form. The exact search then fills the gap according to the table, from the other forms of that block and
//! from the blocks that are not pruned. So a move changes a form, swaps blocks, replaces a large block by two small
//! ones, or drops a block that the constraint does not need. The pruned blocks take turns, the most degraded first, and
//! no block is freed twice before all were freed once. The first improvement is taken. So a pair that hurts each other
//! is found after as many trials as there are pruned blocks.
//!
//! Each trial is compared with the best choice. If it loses more than its sum predicted, the blocks that it added get a
//! burden. If it loses less, the blocks that it left out get a burden. Burdens are added to the degradations of the
//! blocks that could fill a gap.
//!
//! A degradation bound applies to the joint degradation. While no tried choice meets it, the table is searched again
//! with a surcharge on every pruned block: the loss of the last choice beyond its sum, divided among its blocks. As
//! soon as a choice meets the bound, moves must be faster, and their degradation is limited to the rest that the bound
//! leaves. The limit is larger, up to fourfold, if the joint degradation is below the sum. The next turn of a block
//! uses half of the limit. The surcharge and the burdens are halved when no move is left.

use super::knapsack::{Bounds, search};
use super::{BlockCost, Choice, Constraint, Genome, Solution, bound_units, choices, sum, to_units};

/// Number of fillings that are considered for one gap.
const FILLINGS: usize = 8;
/// Number of fractions of the remaining degradation that a block's turns use: 1, 1/2, 1/4, 1/8, and then from the start
/// again.
const FRACTIONS: u32 = 4;

/// The result of [`refine`].
#[derive(Clone, Debug, PartialEq)]
pub struct Refined {
    /// The best tried choice, with its sums from the table. The unpruned network if no acceptable choice was tried.
    pub best: Solution,
    /// Joint degradation of the best choice, in points; 0 for the unpruned network.
    pub joint_degradation: f64,
    /// Whether the best choice meets the constraint. Degradation bounds apply to the joint degradation.
    pub is_reached: bool,
    /// Every tried choice with its joint degradation, in order. The unpruned network is never tried.
    pub tried: Vec<(Genome, f64)>,
}

/// Searches for the choice with the smallest joint degradation that meets the constraint according to the table. For
/// [`Constraint::Degradation`], searches for the fastest choice whose joint degradation is within the bound. In a tie,
/// the faster choice wins, then the earlier one.
///
/// `joint` returns the degradation of a choice, in points; NaN counts as infinite. It is called at most once per genome
/// and at most `max_trials` times in total. It is not called for the unpruned network, whose degradation is 0. Starts
/// that do not fit the blocks, or that miss a count or a latency, are skipped. The same inputs give the same answer.
///
/// When no tried choice meets a degradation bound, the answer is the unpruned network; `is_reached` says whether that meets
/// the constraint.
///
/// # Errors
/// Any error of `joint` ends the search immediately.
pub fn refine<E>(
    blocks: &[BlockCost],
    constraint: Constraint,
    starts: &[Solution],
    max_trials: usize,
    joint: &mut dyn FnMut(&Genome) -> Result<f64, E>,
) -> Result<Refined, E> {
    let mut walk = Walk::new(blocks, constraint, max_trials);
    for start in starts {
        walk.look(&start.genome, joint)?;
    }
    while walk.tried.len() < walk.max_trials {
        let Some(genome) = walk.next() else { break };
        walk.look(&genome, joint)?;
    }
    Ok(walk.finish())
}

/// A choice with its joint degradation.
#[derive(Clone, Debug)]
struct Found {
    solution: Solution,
    joint: f64,
}

struct Walk<'a> {
    blocks: &'a [BlockCost],
    options: Vec<Vec<Choice>>,
    constraint: Constraint,
    max_trials: usize,
    tried: Vec<(Genome, f64)>,
    best: Option<Found>,
    /// The last tried choice.
    last: Option<Found>,
    /// Expected cost of every newly pruned block beyond its degradation, in units; also the minimum for each one.
    surcharge: i64,
    burdens: Vec<i64>,
    /// Number of turns of each block; the last entry is for adding blocks.
    turns: Vec<u32>,
}

impl<'a> Walk<'a> {
    fn new(blocks: &'a [BlockCost], constraint: Constraint, max_trials: usize) -> Self {
        let options = blocks.iter().map(choices).collect();
        let turns = vec![0; blocks.len() + 1];
        let (tried, best, last, surcharge) = (Vec::new(), None, None, 0);
        let burdens = vec![0; blocks.len()];
        Self {
            blocks,
            options,
            constraint,
            max_trials,
            tried,
            best,
            last,
            surcharge,
            burdens,
            turns,
        }
    }

    /// Evaluates a choice, unless it is known, does not meet the constraint, or no trial is left.
    fn look<E>(
        &mut self,
        genome: &Genome,
        joint: &mut dyn FnMut(&Genome) -> Result<f64, E>,
    ) -> Result<(), E> {
        let Some(solution) = sum(self.blocks, genome) else { return Ok(()) };
        let is_unpruned = genome.iter().all(Option::is_none);
        let is_open = match self.constraint {
            Constraint::Degradation(_) => true,
            Constraint::Count(_) | Constraint::Latency(_) => {
                self.constraint.is_reached_by(&solution)
            }
        };
        if !is_open || self.is_known(genome) {
            return Ok(());
        }
        if !is_unpruned && self.tried.len() == self.max_trials {
            return Ok(());
        }
        let found = if is_unpruned { 0.0 } else { joint(genome)? };
        let found = Found { solution, joint: if found.is_nan() { f64::INFINITY } else { found } };
        if !is_unpruned {
            self.tried.push((genome.clone(), found.joint));
        }
        if let Some(best) = self.best.clone() {
            self.burden(&best, &found);
        }
        if self.best.as_ref().is_none_or(|best| self.is_better(&found, best)) {
            self.best = Some(found.clone());
        }
        self.last = Some(found);
        Ok(())
    }

    /// Assigns the loss that the table did not predict to the blocks in which two choices differ.
    fn burden(&mut self, best: &Found, new: &Found) {
        let told = new.solution.degradation - best.solution.degradation;
        let beyond = (new.joint - best.joint - told).clamp(-super::LARGEST, super::LARGEST);
        let (from, to) = (&best.solution.genome, &new.solution.genome);
        let (without, with) = if beyond > 0.0 { (from, to) } else { (to, from) };
        let blamed: Vec<usize> = pruned(with).filter(|&at| without[at].is_none()).collect();
        let share = to_units(beyond.abs() / blamed.len().max(1) as f64);
        for at in blamed {
            self.burdens[at] = self.burdens[at].max(share);
        }
    }

    fn is_known(&self, genome: &Genome) -> bool {
        self.tried.iter().any(|(it, _)| it == genome)
    }

    fn is_better(&self, one: &Found, other: &Found) -> bool {
        let key = |it: &Found| match self.constraint {
            Constraint::Degradation(bound) if it.joint <= bound => {
                (false, it.solution.latency_ms, it.joint)
            }
            Constraint::Degradation(_) => (true, it.joint, it.solution.latency_ms),
            _ => (false, it.joint, it.solution.latency_ms),
        };
        key(one) < key(other)
    }

    /// The next choice to try; `None` when the moves are used up.
    fn next(&mut self) -> Option<Genome> {
        let best = self.best.clone();
        match (self.constraint, best) {
            (Constraint::Degradation(bound), None) => self.cheaper(bound),
            (Constraint::Degradation(bound), Some(best)) if best.joint > bound => {
                self.cheaper(bound)
            }
            (_, None) => None,
            (_, Some(best)) => loop {
                let genome = self.turn(&best);
                let extra = self.burdens.iter().chain([&self.surcharge]).max().copied();
                if genome.is_some() || extra.is_none_or(|extra| extra == 0) {
                    break genome;
                }
                self.surcharge /= 2;
                self.burdens.iter_mut().for_each(|it| *it /= 2);
            },
        }
    }

    /// The fastest choice that is expected to meet the bound, which the last one did not meet.
    fn cheaper(&mut self, bound: f64) -> Option<Genome> {
        let last = self.last.as_ref()?;
        let pruned = pruned(&last.solution.genome).count() as f64;
        if pruned > 0.0 {
            let beyond = (last.joint - last.solution.degradation).max(0.0) / pruned;
            let halving = if bound > 0.0 { 2.0 * bound / pruned } else { f64::INFINITY };
            self.surcharge = self.surcharge.max(to_units(beyond.min(halving).min(super::LARGEST)));
        }
        let mut options = self.options.clone();
        for choice in options.iter_mut().flatten().filter(|it| it.candidate.is_some()) {
            choice.degradation += self.surcharge;
        }
        let bounds = Bounds { degradation: bound_units(bound)?, ..Bounds::NONE };
        let found = search(&options, bounds, true, FILLINGS);
        self.first_unknown(found)
    }

    /// A move from the best choice: the block whose turn it is.
    fn turn(&mut self, best: &Found) -> Option<Genome> {
        let genome = &best.solution.genome;
        let mut slots: Vec<usize> = pruned(genome).collect();
        let degradation = |at: usize| {
            let is_it = |it: &&Choice| it.candidate == genome[at];
            self.options[at].iter().find(is_it).map_or(0, |it| it.degradation)
        };
        slots.sort_by_key(|&at| std::cmp::Reverse(degradation(at)));
        if matches!(self.constraint, Constraint::Degradation(_)) {
            slots.insert(0, self.blocks.len());
        }
        slots.sort_by_key(|&at| self.turns[at]);
        let chosen = slots
            .into_iter()
            .find_map(|slot| self.filling(best, slot).map(|genome| (slot, genome)));
        chosen.map(|(slot, genome)| {
            self.turns[slot] += 1;
            genome
        })
    }

    /// The best filling according to the table that is not known yet. Pruned blocks keep their form, except the block
    /// in the slot, which must change its form.
    fn filling(&self, best: &Found, slot: usize) -> Option<Genome> {
        let mut options = self.options.clone();
        for at in pruned(&best.solution.genome) {
            let form = best.solution.genome[at];
            options[at].retain(|it| (it.candidate == form) == (at != slot));
        }
        for at in (0..options.len()).filter(|&at| best.solution.genome[at].is_none()) {
            let extra = self.burdens[at].max(self.surcharge);
            options[at]
                .iter_mut()
                .filter(|it| it.candidate.is_some())
                .for_each(|it| it.degradation += extra);
        }
        match self.constraint {
            Constraint::Count(count) => {
                let bounds = Bounds { count: Some(count), ..Bounds::NONE };
                self.first_unknown(search(&options, bounds, false, FILLINGS))
            }
            Constraint::Latency(bound) => {
                let bounds = Bounds { latency: bound_units(bound)?, ..Bounds::NONE };
                self.first_unknown(search(&options, bounds, false, FILLINGS))
            }
            Constraint::Degradation(bound) => (0..FRACTIONS).find_map(|step| {
                let shrinks = (best.solution.degradation / best.joint.max(1e-9)).clamp(1.0, 4.0);
                let fraction = 0.5f64.powi(((self.turns[slot] + step) % FRACTIONS) as i32);
                let left = (bound - best.joint).clamp(0.0, super::LARGEST) * fraction * shrinks;
                let degradation = to_units(best.solution.degradation) + to_units(left);
                let latency = to_units(best.solution.latency_ms) - 1;
                let bounds = Bounds { latency, degradation, ..Bounds::NONE };
                self.first_unknown(search(&options, bounds, true, FILLINGS))
            }),
        }
    }

    fn first_unknown(&self, solutions: Vec<Solution>) -> Option<Genome> {
        let mut genomes = solutions.into_iter().map(|it| it.genome);
        genomes.find(|it| it.iter().any(Option::is_some) && !self.is_known(it))
    }

    fn finish(self) -> Refined {
        let stay = vec![None; self.blocks.len()];
        let latency = self.options.iter().map(|it| it[0].latency).sum();
        let unpruned = super::solution(stay, latency, 0);
        let is_within = |it: &Found| match self.constraint {
            Constraint::Degradation(bound) => it.joint <= bound,
            _ => true,
        };
        let best = self.best.clone().filter(is_within);
        let best = best.unwrap_or(Found { solution: unpruned, joint: 0.0 });
        let by_joint = Solution { degradation: best.joint, ..best.solution.clone() };
        Refined {
            is_reached: self.constraint.is_reached_by(&by_joint),
            best: best.solution,
            joint_degradation: best.joint,
            tried: self.tried,
        }
    }
}

fn pruned(genome: &Genome) -> impl Iterator<Item = usize> {
    genome.iter().enumerate().filter(|(_, it)| it.is_some()).map(|(at, _)| at)
}

#[cfg(test)]
mod tests;
