//! Selects blocks until the measured network is fast enough.

use super::search::Counting;
use super::{Selection, Selector};
use crate::error::Result;
use crate::search::{Constraint, Genome, fastest};
use crate::starting_network::StartingNetwork;

/// The target is the goal times this factor, because another measurement of the result gives another number.
const MARGIN: f64 = 0.97;

/// Maximum number of attempts.
const ATTEMPTS: usize = 8;

/// Limit on the factor by which the next attempt may save more. A measurement in a slow period must not prune half of
/// the network.
const MOST_MORE: f64 = 1.5;

/// The results of the attempts.
#[derive(Default)]
struct Attempts {
    tried: Vec<(Genome, f64)>,
    shortlist: Vec<(Genome, f64)>,
    explanation: Vec<String>,
    /// The fastest set that missed the target.
    best: Option<(f64, Genome)>,
    /// The fastest fitted network.
    fitted: Option<(f64, Genome, StartingNetwork)>,
}

impl Selector<'_> {
    /// Approaches the latency of the goal until the measured network has it.
    pub(super) fn select_for_latency(&mut self) -> Result<(Selection, StartingNetwork)> {
        let costs = &self.candidates.costs;
        let all: f64 = costs.iter().map(|cost| cost.baseline_ms).sum();
        let least = fastest(costs);
        let mut attempts = Attempts::default();
        let mut saving: Option<f64> = None;
        let mut last: Option<Genome> = None;
        for _ in 0..ATTEMPTS {
            let original_ms = self.latency.original_ms()?;
            let wanted_ms = self.cx.config.goal.latency_ms(original_ms);
            let needed = original_ms - wanted_ms * MARGIN;
            let aimed = saving.unwrap_or(needed).max(0.0);
            let bound = (all - aimed).max(least.latency_ms);
            let selection = self.propose(costs, Constraint::Latency(bound), Counting::Mixed)?;
            attempts.tried.extend(selection.tried.iter().cloned());
            let mut after = self.pruned_ms(&selection.genome)?;
            if last.as_ref() == Some(&selection.genome) {
                // Another target gave the same network. The last line already says everything.
                attempts.explanation.pop();
            }
            attempts.explanation.push(format!(
                "the target was a sum of {bound:.3} ms of the blocks (they take {all:.3} ms as they are); the network was measured at {after:.3} ms of {original_ms:.3} ms"
            ));
            let is_last = bound <= least.latency_ms;
            let is_reached = after <= wanted_ms * MARGIN || is_last;
            last = (!is_reached).then(|| selection.genome.clone());
            if is_reached {
                after = self.fit_shortlist(&mut attempts, selection, wanted_ms)?;
                if after <= wanted_ms || is_last {
                    break;
                }
            } else if attempts.best.as_ref().is_none_or(|(known, _)| after < *known) {
                attempts.best = Some((after, selection.genome));
            }
            // Asks for the missing amount and a little more.
            let got = (original_ms - after).max(needed * 0.1);
            saving = Some(aimed * (needed / got).clamp(1.0, MOST_MORE) + 0.02 * needed);
        }
        self.finish(attempts)
    }

    /// Fits the sets of the shortlist and keeps the fastest network. Returns its latency.
    fn fit_shortlist(
        &mut self,
        attempts: &mut Attempts,
        selection: Selection,
        wanted_ms: f64,
    ) -> Result<f64> {
        // The written network may differ from the measured one, and two measurements always differ.
        let reached = |selector: &mut Self, genome: &Genome| {
            Ok(selector.pruned_ms(genome)? <= wanted_ms * MARGIN)
        };
        let (selection, start) = self.best_of_shortlist(selection, reached)?;
        attempts.explanation.extend(selection.explanation);
        attempts.shortlist.extend(selection.shortlist);
        let after = self.latency.measure(self.cx, start.network().clone())?.1;
        if after > wanted_ms {
            attempts.explanation.push(format!("fitted, it was measured at {after:.3} ms"));
        }
        if attempts.fitted.as_ref().is_none_or(|(known, ..)| after < *known) {
            attempts.fitted = Some((after, selection.genome, start));
        }
        Ok(after)
    }

    fn finish(&mut self, attempts: Attempts) -> Result<(Selection, StartingNetwork)> {
        let Attempts { tried, shortlist, explanation, best, fitted } = attempts;
        let (genome, start) = match (fitted, best) {
            (Some((_, genome, start)), _) => (genome, start),
            (None, best) => {
                let fastest = || fastest(&self.candidates.costs).genome;
                let genome = best.map_or_else(fastest, |(_, genome)| genome);
                let start = self.start(&genome)?;
                (genome, start)
            }
        };
        let selection = Selection::new(genome, tried, explanation);
        Ok((Selection { shortlist, ..selection }, start))
    }

    /// Latency of the network with these blocks pruned.
    fn pruned_ms(&mut self, genome: &Genome) -> Result<f64> {
        let network = self.placed(genome)?;
        Ok(self.latency.measure(self.cx, network)?.1)
    }
}
