//! The shortlist: the sets that lose least together are fitted as a whole, and the best of them is taken.

use super::{Selection, Selector};
use crate::error::Result;
use crate::fitter::Fitter;
use crate::search::Genome;
use crate::starting_network::StartingNetwork;
use crate::time_budget;

/// Length of the shortlist by default, and for a network whose blocks take minutes.
const LENGTH: usize = 4;
const SHORT_LENGTH: usize = 2;

/// A set is not fitted as a whole when it loses more than twice the points of the best one and this many more.
const MARGIN: f64 = 2.0;

/// Most sets that are fitted as a whole.
pub(crate) fn length(asked: Option<usize>, fitter: &Fitter<'_>) -> usize {
    let default = if time_budget::is_costly(fitter) { SHORT_LENGTH } else { LENGTH };
    asked.unwrap_or(default)
}

impl Selector<'_> {
    /// Fits the sets of the shortlist as a whole. The first one is the set selected so far; another one is taken where it
    /// loses less by more than noise. The layers behind compensate for some blocks better than for others, and only the
    /// fit of the whole shows it. Other sets must reach the goal and not lose far more together ([`MARGIN`]).
    pub(super) fn best_of_shortlist(
        &mut self,
        mut selection: Selection,
        mut reaches: impl FnMut(&mut Self, &Genome) -> Result<bool>,
    ) -> Result<(Selection, StartingNetwork)> {
        let config = self.cx.config;
        // The loss of a subnet of the supernet is known already.
        let most = if self.sets.supernet().is_some() && config.starts_from_supernet() {
            1
        } else {
            length(config.search.shortlist, &self.cx.fitter())
        };
        let mut best = self.start(&selection.genome)?;
        let mut least = self.candidates.baseline.degradation(best.score());
        selection.shortlist.push((selection.genome.clone(), least));
        for (genome, _) in others(&selection) {
            if selection.shortlist.len() >= most {
                break;
            }
            if !reaches(self, &genome)? {
                continue;
            }
            let start = self.start(&genome)?;
            let lost = self.candidates.baseline.degradation(start.score());
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

    /// How the set was taken from the shortlist, in a sentence; `least` is its degradation.
    fn words(&self, selection: &Selection, least: f64) -> String {
        let shortlist = &selection.shortlist;
        let lost = shortlist.iter().map(|(_, lost)| format!("{lost:.2}"));
        // Sets that lose less are as good as the one taken, for all these images say.
        let is_even = shortlist.iter().any(|(_, lost)| *lost < least);
        let why = if is_even {
            let images = self.cx.evaluator.images();
            format!(": the others' advantage is within the noise of {images} held-out images")
        } else {
            String::new()
        };
        format!(
            "the {} sets on the shortlist lose {} points when they are fitted as a whole: the one with {least:.2} is taken{why}",
            shortlist.len(),
            lost.collect::<Vec<_>>().join(", ")
        )
    }

    /// Points within which two degradations are even: one standard error of the half that counts images. With the share d of
    /// the n held-out images that the network answers differently from the original, `50·√(d/n)`.
    fn noise(&self, start: &StartingNetwork) -> f64 {
        let images = self.cx.evaluator.images().max(1) as f64;
        let score = start.score();
        let share = 1.0 - score.agreement.unwrap_or(score.overlap);
        50.0 * (share.max(1.0 / images) / images).sqrt()
    }
}

/// The other sets that were evaluated and do not lose far more, least first.
fn others(selection: &Selection) -> Vec<(Genome, f64)> {
    let own = selection.tried.iter().find(|(genome, _)| *genome == selection.genome);
    let most_lost = own.map_or(f64::NEG_INFINITY, |(_, joint)| 2.0 * joint.max(0.0) + MARGIN);
    let is_near =
        |(genome, joint): &&(Genome, f64)| *genome != selection.genome && *joint <= most_lost;
    let mut others: Vec<_> = selection.tried.iter().filter(is_near).cloned().collect();
    others.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    others
}
