//! The candidate set: every block with its possible forms, and the latency and degradation of each form.

use std::fmt::Write;

use updp_passes::blocks::Block;
use updp_passes::surgery::{Form, Site};
use updp_trainer::evaluator::Score;
use updp_trainer::fit::FittedForm;

use crate::block_profile::{BlockProfile, Variant};
use crate::checkpoint::Scored;
use crate::outcome::{BlockOutcome, CandidateOutcome, SetOutcome};
use crate::search::{BlockCost, Cost, Genome, Solution};

/// Unit in which multiply-adds are counted.
pub(crate) const MACS_UNIT: f64 = 1e6;

/// A block with its candidates.
#[derive(Debug)]
pub struct BlockCandidates {
    /// The block with its forms.
    pub profile: BlockProfile,
    /// The sites of the candidate forms.
    pub sites: Vec<Site>,
    /// The fitted forms with their scores.
    pub fitted: Vec<Scored>,
    /// Why the block has no candidate; `None` if it has one.
    pub reason: Option<String>,
}

/// Every block with its candidates.
#[derive(Debug)]
pub struct CandidateSet {
    /// The blocks, in network order.
    pub blocks: Vec<BlockCandidates>,
    /// Latency and degradation of every candidate, block by block, in the order of [`BlockCandidates::fitted`].
    pub costs: Vec<BlockCost>,
    /// Score of the original on the held-out images.
    pub baseline: Score,
}

impl BlockCandidates {
    /// The block and the reason why it cannot be pruned, for messages.
    #[must_use]
    pub fn refusal(&self) -> String {
        let reason = self.reason.clone().unwrap_or_default();
        format!("block {}: {reason}", self.profile.block.index)
    }

    /// Latency and degradation of every candidate.
    pub(crate) fn cost(&self) -> BlockCost {
        let candidate = |Scored { form, score }: &Scored| Cost {
            latency_ms: self.profile.time_ms(form.site.form),
            degradation: score.degradation(),
        };
        let baseline_ms = self.profile.baseline.time_ms();
        BlockCost { baseline_ms, candidates: self.fitted.iter().map(candidate).collect() }
    }

    /// The cost with multiply-adds, in [`MACS_UNIT`], instead of milliseconds.
    pub(crate) fn macs_cost(&self, cost: &BlockCost) -> BlockCost {
        let counted = |(scored, candidate): (&Scored, &Cost)| {
            let variant = self.profile.variant(scored.form.site.form);
            let macs = variant.map_or(f64::NAN, |variant| variant.macs as f64 / MACS_UNIT);
            Cost { latency_ms: macs, degradation: candidate.degradation }
        };
        let candidates = self.fitted.iter().zip(&cost.candidates).map(counted).collect();
        BlockCost { baseline_ms: self.profile.baseline.macs as f64 / MACS_UNIT, candidates }
    }

    /// The block for a report; `chosen` is the form that the block was pruned to.
    pub(crate) fn outcome(&self, chosen: Option<Form>) -> BlockOutcome {
        let block = &self.profile.block;
        let candidates = self.fitted.iter().map(|Scored { form, score }| CandidateOutcome {
            form: form.site.form.name().to_owned(),
            latency_ms: self.profile.variant(form.site.form).map_or(f64::NAN, Variant::time_ms),
            output_error: form.output_error,
            ridge: form.ridge,
            score: *score,
            degradation: score.degradation(),
        });
        BlockOutcome {
            index: block.index,
            name: block.name.clone(),
            kind: block.kind.name().to_owned(),
            baseline_ms: self.profile.baseline.time_ms(),
            candidates: candidates.collect(),
            chosen: chosen.map(|form| form.name().to_owned()),
            reason: self.reason.clone(),
        }
    }
}

impl CandidateSet {
    /// A block by its index.
    #[must_use]
    pub fn block(&self, index: usize) -> Option<&Block> {
        self.blocks.iter().map(|block| &block.profile.block).find(|block| block.index == index)
    }

    /// The forms that a genome selects.
    #[must_use]
    pub fn chosen(&self, genome: &Genome) -> Vec<&FittedForm> {
        let pairs = self.blocks.iter().zip(genome);
        pairs.filter_map(|(block, choice)| Some(&block.fitted[(*choice)?].form)).collect()
    }

    /// The genome that selects these forms, each with its block; `None` if one of them is no candidate.
    #[must_use]
    pub fn genome(&self, set: &[(usize, Form)]) -> Option<Genome> {
        let mut genome: Genome = vec![None; self.blocks.len()];
        for (index, form) in set {
            let at = self.blocks.iter().position(|it| it.profile.block.index == *index)?;
            let fitted = &self.blocks[at].fitted;
            genome[at] = Some(fitted.iter().position(|it| it.form.site.form == *form)?);
        }
        Some(genome)
    }

    /// Whether a block has a thin form among its candidates.
    #[must_use]
    pub fn has_thin(&self) -> bool {
        self.blocks.iter().flat_map(|block| &block.sites).any(|site| site.form.is_thin())
    }

    /// A readable description of a genome: its blocks with their forms.
    #[must_use]
    pub fn words(&self, genome: &Genome) -> String {
        let chosen = self.chosen(genome).into_iter();
        let words = chosen.map(|it| format!("{} {}", it.site.block, it.site.form.name()));
        words.collect::<Vec<_>>().join(", ")
    }

    /// A text that identifies this set of forms. The set matters because the fit of a form depends on the other forms
    /// of its block.
    pub(crate) fn key(&self) -> String {
        let mut key = String::new();
        for site in self.blocks.iter().flat_map(|block| &block.sites) {
            let _ = write!(key, "{} {} {},", site.block, site.form.name(), site.output);
        }
        key
    }

    /// The costs with multiply-adds instead of milliseconds.
    pub(crate) fn macs_costs(&self) -> Vec<BlockCost> {
        self.blocks.iter().zip(&self.costs).map(|(block, cost)| block.macs_cost(cost)).collect()
    }

    /// Keeps one candidate of each block: the one with the least degradation, then the least latency. A supernet holds
    /// this one.
    pub(crate) fn narrow(&mut self) {
        for (block, cost) in self.blocks.iter_mut().zip(&mut self.costs) {
            let best = least_degraded(&cost.candidates);
            cost.candidates = best.map(|best| cost.candidates[best]).into_iter().collect();
            if let Some(best) = best {
                // The candidates of the cost come first.
                block.fitted[..=best].rotate_right(1);
            }
        }
    }

    /// The supernet candidate of each block; `None` for a block that is not in the supernet.
    pub(crate) fn in_supernet(&self) -> impl Iterator<Item = Option<&FittedForm>> {
        self.blocks.iter().zip(&self.costs).map(|(block, cost)| {
            let first = block.fitted.first().filter(|_| !cost.candidates.is_empty())?;
            Some(&first.form)
        })
    }

    /// A set of blocks for a report.
    pub(crate) fn set_outcome(
        &self,
        solution: &Solution,
        joint_degradation: Option<f64>,
        fitted_degradation: Option<f64>,
    ) -> SetOutcome {
        let chosen = self.chosen(&solution.genome).into_iter();
        let blocks = chosen.map(|it| (it.site.block, it.site.form.name().to_owned()));
        SetOutcome {
            blocks: blocks.collect(),
            latency_ms: solution.latency_ms,
            degradation: solution.degradation,
            joint_degradation,
            fitted_degradation,
        }
    }
}

/// The candidate with the least degradation, where negative values count as 0. Among equal candidates, the fastest
/// wins.
fn least_degraded(candidates: &[Cost]) -> Option<usize> {
    let finite = |cost: &Cost| cost.degradation.is_finite() && cost.latency_ms.is_finite();
    let all = candidates.iter().enumerate().filter(|(_, cost)| finite(cost));
    let key = |cost: &Cost| (cost.degradation.max(0.0), cost.latency_ms);
    let best = all.min_by(|(_, a), (_, b)| {
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then_with(|| a.1.total_cmp(&b.1))
    });
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_in_the_supernet_loses_least_and_is_the_fastest_of_those_that_lose_nothing() {
        let cost = |degradation: f64, latency_ms: f64| Cost { latency_ms, degradation };
        assert_eq!(least_degraded(&[cost(3.0, 0.1), cost(1.0, 0.5), cost(1.0, 0.4)]), Some(2));
        assert_eq!(least_degraded(&[cost(-0.4, 0.3), cost(0.0, 0.2), cost(-0.1, 0.9)]), Some(1));
        assert_eq!(least_degraded(&[cost(f64::NAN, 0.1), cost(9.0, 0.2)]), Some(1));
        assert_eq!(least_degraded(&[cost(f64::NAN, 0.1)]), None);
        assert_eq!(least_degraded(&[]), None);
    }
}
