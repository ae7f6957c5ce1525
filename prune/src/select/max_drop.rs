//! Selects as many blocks as a degradation bound allows.

use super::{Selection, Selector};
use crate::error::Result;
use crate::search::{Constraint, Genome, sum};
use crate::starting_network::StartingNetwork;
use crate::words::counted;

/// Maximum number of attempts. Several are needed because the sum of single blocks differs from the network.
const ATTEMPTS: usize = 5;

/// The first bound on the sum of degradations, for each point that may be lost. Later bounds follow the real loss.
const NATS_PER_POINT: f64 = 0.02;

impl Selector<'_> {
    /// The fastest network that loses at most this many points. The bound on the sum of single blocks follows the points
    /// that the fitted network really loses.
    pub(super) fn select_for_max_drop(
        &mut self,
        points: f64,
    ) -> Result<(Selection, StartingNetwork)> {
        let costs = &self.candidates.costs;
        let baseline = &self.candidates.baseline;
        let mut bound = points * NATS_PER_POINT;
        let (mut tried, mut explanation) = (Vec::new(), Vec::new());
        let mut shortlist = Vec::new();
        let mut best: Option<(f64, Genome, StartingNetwork)> = None;
        let mut seen: Vec<Genome> = Vec::new();
        for _ in 0..ATTEMPTS {
            let constraint = Constraint::Degradation(bound);
            let selection = self.propose(costs, constraint)?;
            tried.extend(selection.tried);
            if seen.contains(&selection.genome) {
                bound *= 1.5;
                continue;
            }
            seen.push(selection.genome.clone());
            let start = self.start(&selection.genome)?;
            shortlist.push((selection.genome.clone(), start.score().degradation()));
            let lost = 100.0 * baseline.answer_loss(start.score());
            let sum = sum(costs, &selection.genome);
            let latency = sum.map_or(f64::INFINITY, |sum| sum.latency_ms);
            let count = selection.genome.iter().flatten().count();
            explanation.push(format!(
                "the target was a sum of degradations (KL) of {bound:.4} nats; {} and fitted, {lost:.2} points are lost",
                counted(count, "block pruned", "blocks pruned together")
            ));
            let holds = lost <= points;
            if holds && best.as_ref().is_none_or(|(known, ..)| latency < *known) {
                best = Some((latency, selection.genome, start));
            }
            // Single blocks overstate the loss, because the layers behind them are solved again.
            let ratio = points / lost.max(0.01);
            bound *= if holds { ratio.clamp(1.6, 4.0) } else { ratio.clamp(0.3, 0.7) };
            if !holds && best.is_some() {
                break;
            }
        }
        let (genome, start) = if let Some((_, genome, start)) = best {
            (genome, start)
        } else {
            explanation.push("no set of blocks loses so little: none is pruned".to_owned());
            let genome: Genome = vec![None; costs.len()];
            let start = self.start(&genome)?;
            (genome, start)
        };
        let selection = Selection::new(genome, tried, explanation);
        Ok((Selection { shortlist, ..selection }, start))
    }
}
