//! Selects blocks until few enough multiply-adds are left. They are counted, not measured, so every machine selects the
//! same blocks.

use updp_passes::{ModelSummary, pipeline};

use super::{Selection, Selector};
use crate::candidates::MACS_UNIT;
use crate::error::Result;
use crate::search::{BlockCost, Constraint, Genome, fastest};
use crate::starting_network::StartingNetwork;

impl Selector<'_> {
    /// The blocks that lose least with at most this share of the multiply-adds of the compiled original left.
    pub(super) fn select_for_macs(&mut self, share: f64) -> Result<(Selection, StartingNetwork)> {
        let costs = self.candidates.macs_costs();
        self.archive = self.archive.over(&costs);
        let found = self.with_macs(&costs, share);
        self.archive = self.archive.over(&self.candidates.costs);
        found
    }

    /// Uses multiply-adds as costs, in [`MACS_UNIT`].
    fn with_macs(
        &mut self,
        costs: &[BlockCost],
        share: f64,
    ) -> Result<(Selection, StartingNetwork)> {
        let all: f64 = costs.iter().map(|cost| cost.baseline_ms).sum();
        let least = fastest(costs).latency_ms;
        let whole = ModelSummary::of(self.latency.compiled(), 0).macs as f64 / MACS_UNIT;
        let wanted = whole * share;
        let (mut tried, mut explanation) = (Vec::new(), Vec::new());
        let mut bound = all - (whole - wanted);
        loop {
            let is_last = bound <= least;
            let constraint = Constraint::Latency(bound.max(least));
            let selection = self.propose(costs, constraint)?;
            tried.extend(selection.tried.iter().cloned());
            let left = self.pruned_macs(&selection.genome)?;
            explanation.push(format!(
                "{wanted:.2} million of {whole:.2} million multiply-adds may be left; the set that was selected for it leaves {left:.2} million"
            ));
            if left > wanted && !is_last {
                // Neighbouring blocks are merged with each other, so the sums differ slightly from the network.
                bound -= (left - wanted).max(0.001 * whole);
                continue;
            }
            let (mut selection, start) = self
                .best_of_shortlist(selection, |selector, genome| {
                    Ok(selector.pruned_macs(genome)? <= wanted.max(left))
                })?;
            explanation.append(&mut selection.explanation);
            let left = self.pruned_macs(&selection.genome)?;
            let macs_share = Some(left / whole.max(f64::MIN_POSITIVE));
            return Ok((Selection { tried, explanation, macs_share, ..selection }, start));
        }
    }

    /// Multiply-adds of the network with these blocks pruned, in [`MACS_UNIT`].
    fn pruned_macs(&self, genome: &Genome) -> Result<f64> {
        let mut network = self.placed(genome)?;
        pipeline::compile(&mut network, &self.cx.config.passes, &mut |_, _| {})?;
        Ok(ModelSummary::of(&network, 0).macs as f64 / MACS_UNIT)
    }
}
