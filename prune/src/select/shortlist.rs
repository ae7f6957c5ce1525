//! The shortlist: the sets with the least joint degradation are fitted as a whole, and the best of them is used.

use super::{Selection, Selector};
use crate::error::Result;
use crate::fitter::Fitter;
use crate::search::Genome;
use crate::starting_network::StartingNetwork;
use crate::time_budget;

/// Length of the shortlist by default, and for a network in which fitting one set takes a minute.
const LENGTH: usize = 4;
const SHORT_LENGTH: usize = 1;

/// A set is not fitted as a whole if its degradation exceeds twice that of the best set by more than this, in nats.
const MARGIN: f64 = 0.02;

/// Standard deviation of the divergence over the images, as a multiple of its mean. A few images make most of it.
const SPREAD: f64 = 2.0;

/// Maximum number of sets that are fitted as a whole.
pub(crate) fn length(asked: Option<usize>, fitter: &Fitter<'_>) -> usize {
    let default = if time_budget::is_costly(fitter) { SHORT_LENGTH } else { LENGTH };
    asked.unwrap_or(default)
}

impl Selector<'_> {
    /// Fits the sets of the shortlist as a whole. The first is the set selected so far. Another set replaces it if its
    /// degradation is smaller by more than noise. The layers behind compensate for some blocks better than for others,
    /// and only the fit of the whole set shows this. Other sets must meet the goal and must not lose far more as a
    /// whole ([`MARGIN`]).
    pub(super) fn best_of_shortlist(
        &mut self,
        mut selection: Selection,
        mut reaches: impl FnMut(&mut Self, &Genome) -> Result<bool>,
    ) -> Result<(Selection, StartingNetwork)> {
        let config = self.cx.config;
        // The degradation of a subnet of the supernet is already known.
        let most = if self.sets.supernet().is_some() && config.starts_from_supernet() {
            1
        } else {
            length(config.search.shortlist, &self.cx.fitter())
        };
        let mut best = self.start(&selection.genome)?;
        let mut least = best.score().degradation();
        selection.shortlist.push((selection.genome.clone(), least));
        for (genome, _) in others(&selection) {
            if selection.shortlist.len() >= most {
                break;
            }
            if !reaches(self, &genome)? {
                continue;
            }
            let start = self.start(&genome)?;
            let lost = start.score().degradation();
            selection.shortlist.push((genome.clone(), lost));
            if lost + self.noise(&start) < least {
                (least, best, selection.genome) = (lost, start, genome);
            }
        }
        if selection.shortlist.len() > 1 {
            let text = self.words(&selection, least);
            selection.explanation.push(text);
        }
        Ok((selection, best))
    }

    /// Explains in a sentence how the set was chosen from the shortlist; `least` is its degradation.
    fn words(&self, selection: &Selection, least: f64) -> String {
        let shortlist = &selection.shortlist;
        let lost = shortlist.iter().map(|(_, lost)| format!("{lost:.4}"));
        // Sets with a smaller degradation are no better than the chosen one, as far as these images can tell.
        let is_even = shortlist.iter().any(|(_, lost)| *lost < least);
        let why = if is_even {
            let images = self.cx.evaluator.images();
            format!(": the others' advantage is within the noise of {images} held-out images")
        } else {
            String::new()
        };
        format!(
            "the {} sets on the shortlist have a degradation (KL, nats) of {} when they are fitted as a whole: the one with {least:.4} is taken{why}",
            shortlist.len(),
            lost.collect::<Vec<_>>().join(", ")
        )
    }

    /// Degradations that differ by at most this count as equal: one standard error, in nats. It is `2·k/√n`, k being the
    /// degradation of the network on the n held-out images.
    fn noise(&self, start: &StartingNetwork) -> f64 {
        let images = self.cx.evaluator.images().max(1) as f64;
        SPREAD * start.score().degradation() / images.sqrt()
    }
}

/// The other evaluated sets that do not lose far more, with the least degradation first.
fn others(selection: &Selection) -> Vec<(Genome, f64)> {
    let own = selection.tried.iter().find(|(genome, _)| *genome == selection.genome);
    let most_lost = own.map_or(f64::NEG_INFINITY, |(_, joint)| 2.0 * joint.max(0.0) + MARGIN);
    let is_near =
        |(genome, joint): &&(Genome, f64)| *genome != selection.genome && *joint <= most_lost;
    let mut others: Vec<_> = selection.tried.iter().filter(is_near).cloned().collect();
    others.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    others
}
