//! Finds the fastest choice of a front that loses no more than allowed, with few looks.
//!
//! The points of a front are ordered: each is faster and more degraded than the one before it. So the loss mostly rises
//! along the front, and bisection finds the last point that holds. The first look is at a guess, because a look in the
//! middle of the front is often far behind the bound. The guess follows the measured loss until one point holds and a
//! faster one does not; then the middle of the two is looked at.
//!
//! The loss is measured on few images, so it does not rise strictly. Only the points above the fastest one that holds
//! are looked at, and a point that failed bounds them from above, whatever slower points said.

use super::Solution;

/// Most looks.
const LOOKS: usize = 7;

/// The first guess: this degradation for each point that may be lost, in nats.
const NATS_PER_POINT: f64 = 0.02;

/// A guess aims this much beyond the bound (or below it, if nothing holds yet), so that the bound soon lies between two
/// looks.
const BEYOND: f64 = 1.2;

/// The search ends when no more than this share of the latency can be won.
const RESOLUTION: f64 = 0.01;

/// A bisection of a front.
#[derive(Clone, Debug)]
pub struct Bisection<'a> {
    front: &'a [Solution],
    /// Latency of the network besides the blocks, in milliseconds.
    rest_ms: f64,
    most_lost: f64,
    /// Looks so far: the place in the front, and the points that are lost there.
    looks: Vec<(usize, f64)>,
}

impl<'a> Bisection<'a> {
    /// Starts a search. `front` begins with the slowest choice; none of them is the unpruned network. `rest_ms` is the
    /// latency of everything besides the blocks. A choice holds if it loses at most `most_lost` points.
    #[must_use]
    pub fn new(front: &'a [Solution], rest_ms: f64, most_lost: f64) -> Self {
        Self { front, rest_ms: rest_ms.max(0.0), most_lost, looks: Vec::new() }
    }

    /// Tells how many points the choice at this place loses.
    pub fn tell(&mut self, at: usize, lost: f64) {
        self.looks.push((at, lost));
    }

    /// Place of the fastest choice that holds; `None` if none was found.
    #[must_use]
    pub fn best(&self) -> Option<usize> {
        self.looks.iter().filter(|(_, lost)| *lost <= self.most_lost).map(|(at, _)| *at).max()
    }

    /// Place of the choice to look at next; `None` when the search is over.
    #[must_use]
    pub fn next(&self) -> Option<usize> {
        let best = self.best();
        let first = best.map_or(0, |at| at + 1);
        let failed = self.looks.iter().map(|(at, _)| *at).filter(|at| *at >= first).min();
        let end = failed.unwrap_or(self.front.len());
        if first >= end || self.looks.len() >= LOOKS || self.is_near(best, end - 1) {
            return None;
        }
        let middle = first + (end - first) / 2;
        let at = match (self.looks.last(), best, failed) {
            (None, ..) => self.place(self.most_lost * NATS_PER_POINT),
            (_, Some(_), Some(_)) => middle,
            (Some(&(last, lost)), ..) => {
                // A loss of nothing says only that much more may be lost.
                let ratio = self.most_lost / lost.max(0.25 * self.most_lost).max(1e-3);
                let guess = self.front[last].degradation * ratio.clamp(0.2, 4.0);
                match failed {
                    None => self.place(guess * BEYOND),
                    Some(_) => self.place(guess / BEYOND).min(middle),
                }
            }
        };
        Some(at.clamp(first, end - 1))
    }

    /// Place of the last choice with at most this degradation; the first one if there is none.
    fn place(&self, degradation: f64) -> usize {
        let is_within = |it: &Solution| it.degradation <= degradation;
        self.front.iter().rposition(is_within).unwrap_or(0)
    }

    /// Whether the fastest choice left is hardly faster than the best one.
    fn is_near(&self, best: Option<usize>, last: usize) -> bool {
        let ms = |at: usize| self.front[at].latency_ms + self.rest_ms;
        best.is_some_and(|best| ms(last) >= (1.0 - RESOLUTION) * ms(best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A front of this many points: one millisecond less for each, and a degradation that grows as a cube.
    fn front(count: usize) -> Vec<Solution> {
        let point = |at: usize| Solution {
            genome: vec![Some(at)],
            latency_ms: 100.0 - at as f64,
            degradation: 1e-6 * (at as f64 + 1.0).powi(3),
        };
        (0..count).map(point).collect()
    }

    /// The place that is found, and the places that were looked at.
    fn search(
        count: usize,
        most_lost: f64,
        lost: impl Fn(usize) -> f64,
    ) -> (Option<usize>, Vec<usize>) {
        let front = front(count);
        let mut search = Bisection::new(&front, 0.0, most_lost);
        let mut looks = Vec::new();
        while let Some(at) = search.next() {
            assert!(!looks.contains(&at), "{at} twice: {looks:?}");
            looks.push(at);
            search.tell(at, lost(at));
        }
        (search.best(), looks)
    }

    #[test]
    fn finds_the_last_choice_that_holds_in_seven_looks() {
        for last in 0..64 {
            // From `last + 1` on, more than two points are lost.
            let lost = |at: usize| 2.0 * (at as f64 + 0.5) / (last as f64 + 1.0);
            let (found, looks) = search(64, 2.0, lost);
            assert!(looks.len() <= LOOKS, "{looks:?}");
            let found = found.unwrap_or_else(|| panic!("{last}: {looks:?}"));
            assert!(found <= last && found + 1 >= last, "{found} for {last}: {looks:?}");
        }
    }

    #[test]
    fn a_wrong_guess_costs_few_looks_more() {
        for per_point in [1e-4, 1e-3, 1e-2, 1e-1] {
            let front = front(64);
            let lost = |at: usize| front[at].degradation / per_point;
            let holds = (0..64).filter(|at| lost(*at) <= 1.0).max();
            let (found, looks) = search(64, 1.0, lost);
            assert!(looks.len() <= LOOKS, "{looks:?}");
            let error = holds.map_or(-1, |it| it as i64) - found.map_or(-1, |it| it as i64);
            assert!((0..=1).contains(&error), "{per_point}: {found:?}, not {holds:?}, {looks:?}");
        }
    }

    #[test]
    fn all_or_nothing_is_found_too() {
        assert_eq!(search(20, 1.0, |_| 0.0).0, Some(19));
        assert_eq!(search(20, 1.0, |_| 3.0).0, None);
        assert_eq!(search(1, 1.0, |_| 0.5).0, Some(0));
        assert_eq!(search(0, 1.0, |_| 0.5), (None, vec![]));
    }

    #[test]
    fn a_slow_choice_that_fails_by_chance_does_not_end_the_search() {
        // The first ten lose an image by chance, the others nothing up to 40.
        let lost = |at: usize| if (3..=40).contains(&at) { 0.0 } else { 2.0 };
        let (found, looks) = search(64, 1.0, lost);
        assert!(found.is_some_and(|at| at > 30), "{found:?} {looks:?}");
    }

    #[test]
    fn the_search_ends_where_little_time_is_left_to_win() {
        let front = front(64);
        // The blocks are a small part of the network.
        let mut search = Bisection::new(&front, 10_000.0, 1.0);
        let first = search.next().expect("a look");
        search.tell(first, 0.0);
        assert_eq!(search.next(), None);
    }
}
