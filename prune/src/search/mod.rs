//! Decides which blocks to prune, from the degradations of single blocks and a latency table.
//!
//! The table is additive: the latency of a choice is the sum over the blocks, and its degradation is the sum of the
//! degradations of the single blocks (UPDP, sec. 3). [`solve`] is exact for this table. [`refine`] then evaluates the
//! few best choices as a whole, because the sum of single degradations is only a guess. [`explore`] uses joint
//! degradations from the start.
//!
//! Sums are counted in whole units, 1 ps and 10⁻⁹ points. So they do not depend on the order of addition, and equal
//! sums compare as equal. A plain `f64` sum agrees within 10⁻⁹ per block.

mod bisect;
pub mod explore;
mod knapsack;
mod refine;

pub use bisect::Bisection;
pub use knapsack::{front, solve};
pub use refine::{Refined, refine};

/// Units per millisecond and per point.
const UNITS: f64 = 1e9;
/// Largest valid latency (ms) and degradation (points). A form with a larger value counts as absent.
const LARGEST: f64 = 1e6;

/// One way to prune a block. It is ignored if a number is not finite, or if the latency is negative or above 10⁶ ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Latency of the block in this form from the table, in milliseconds.
    pub latency_ms: f64,
    /// Degradation in points when only this block is pruned to this form. A negative value counts as 0: it is noise,
    /// and it must not compensate for a loss elsewhere.
    pub degradation: f64,
}

/// A block: its own latency and its candidates.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockCost {
    /// Latency of the baseline, in milliseconds. If it is not a valid latency, the block stays and counts 0 ms.
    pub baseline_ms: f64,
    /// Ways to prune it; empty = it must stay.
    pub candidates: Vec<Cost>,
}

/// For each block, the index of its candidate; `None` = the block stays.
pub type Genome = Vec<Option<usize>>;

/// A choice with its sums from the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// The choice.
    pub genome: Genome,
    /// Sum of the blocks' latencies, in milliseconds.
    pub latency_ms: f64,
    /// Sum of the single degradations, each at least 0, in points.
    pub degradation: f64,
}

/// The constraint to meet, and the measure of the best choice among those that meet it. In a tie, the other sum
/// decides, then the order of the genomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Constraint {
    /// Exactly this many blocks are pruned. The smallest degradation is best.
    Count(usize),
    /// The latency sum is at most this, in milliseconds. The smallest degradation is best.
    Latency(f64),
    /// The degradation sum is at most this, in points. The fastest choice is best.
    Degradation(f64),
}

impl Constraint {
    /// Whether the sums of the choice meet the constraint.
    #[must_use]
    pub fn is_reached_by(&self, solution: &Solution) -> bool {
        match *self {
            Self::Count(count) => solution.genome.iter().flatten().count() == count,
            Self::Latency(bound) => solution.latency_ms <= bound,
            Self::Degradation(bound) => solution.degradation <= bound,
        }
    }
}

/// The sums of a choice. `None` if it does not fit the blocks: it has another length, or a candidate is missing or
/// ignored.
#[must_use]
pub fn sum(blocks: &[BlockCost], genome: &Genome) -> Option<Solution> {
    if blocks.len() != genome.len() {
        return None;
    }
    let mut total = (0, 0);
    for (block, candidate) in blocks.iter().zip(genome) {
        let choice = choices(block).into_iter().find(|choice| choice.candidate == *candidate)?;
        total = (total.0 + choice.latency, total.1 + choice.degradation);
    }
    Some(solution(genome.clone(), total.0, total.1))
}

/// The smallest possible latency. In a tie, the less degraded candidate wins, then the unpruned block.
#[must_use]
pub fn fastest(blocks: &[BlockCost]) -> Solution {
    let mut total = (0, 0);
    let genome = blocks
        .iter()
        .filter_map(|block| {
            choices(block).into_iter().min_by_key(|choice| (choice.latency, choice.degradation))
        })
        .map(|choice| {
            total = (total.0 + choice.latency, total.1 + choice.degradation);
            choice.candidate
        })
        .collect();
    solution(genome, total.0, total.1)
}

/// One choice for a block, in units.
#[derive(Clone, Copy, Debug)]
struct Choice {
    candidate: Option<usize>,
    latency: i64,
    degradation: i64,
}

/// The unpruned block first, then the valid candidates in order; never empty.
fn choices(block: &BlockCost) -> Vec<Choice> {
    let is_latency = |ms: f64| (0.0..=LARGEST).contains(&ms);
    if !is_latency(block.baseline_ms) {
        return vec![Choice { candidate: None, latency: 0, degradation: 0 }];
    }
    let stay = Choice { candidate: None, latency: to_units(block.baseline_ms), degradation: 0 };
    let candidates = block.candidates.iter().enumerate();
    let valid = candidates.filter(|(_, it)| {
        is_latency(it.latency_ms) && it.degradation.is_finite() && it.degradation <= LARGEST
    });
    let pruned = valid.map(|(at, candidate)| Choice {
        candidate: Some(at),
        latency: to_units(candidate.latency_ms),
        degradation: to_units(candidate.degradation.max(0.0)),
    });
    std::iter::once(stay).chain(pruned).collect()
}

fn to_units(value: f64) -> i64 {
    (value * UNITS).round() as i64
}

fn from_units(units: i64) -> f64 {
    units as f64 / UNITS
}

/// The largest number of units that is not above the bound; `None` when the bound is not a number.
fn bound_units(bound: f64) -> Option<i64> {
    if bound.is_nan() {
        return None;
    }
    let units = to_units(bound);
    Some(if from_units(units) > bound { units - 1 } else { units })
}

fn solution(genome: Genome, latency: i64, degradation: i64) -> Solution {
    Solution { genome, latency_ms: from_units(latency), degradation: from_units(degradation) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(baseline_ms: f64, candidates: &[(f64, f64)]) -> BlockCost {
        let candidates =
            candidates.iter().map(|&(latency_ms, degradation)| Cost { latency_ms, degradation });
        BlockCost { baseline_ms, candidates: candidates.collect() }
    }

    #[test]
    fn sums_count_negative_prices_as_zero() {
        let blocks = [block(2.0, &[(1.0, -0.5)]), block(3.0, &[(1.5, 0.25)])];
        let all = sum(&blocks, &vec![Some(0), Some(0)]).unwrap();
        assert_eq!((all.latency_ms, all.degradation), (2.5, 0.25));
    }

    #[test]
    fn sums_of_tenths_meet_their_bound() {
        let blocks = [block(1.0, &[(0.1, 0.1)]), block(1.0, &[(0.2, 0.2)])];
        let both = sum(&blocks, &vec![Some(0), Some(0)]).unwrap();
        for constraint in [Constraint::Latency(0.3), Constraint::Degradation(0.3)] {
            assert!(constraint.is_reached_by(&both), "{both:?}");
        }
    }

    #[test]
    fn a_genome_that_does_not_fit_has_no_sum() {
        let blocks = [block(1.0, &[(f64::NAN, 0.0), (0.5, 0.0)])];
        assert!(sum(&blocks, &vec![]).is_none());
        assert!(sum(&blocks, &vec![Some(0)]).is_none());
        assert!(sum(&blocks, &vec![Some(2)]).is_none());
        assert!(sum(&blocks, &vec![Some(1)]).is_some());
    }

    #[test]
    fn fastest_takes_the_cheaper_of_equally_fast_offers_and_no_slower_one() {
        let blocks = [block(2.0, &[(1.0, 3.0), (1.0, 2.0)]), block(1.0, &[(1.5, 0.0)])];
        assert_eq!(fastest(&blocks).genome, [Some(1), None]);
    }

    #[test]
    fn numbers_that_are_not_finite_make_an_offer_absent() {
        let bad = [(f64::NAN, 0.0), (f64::INFINITY, 0.0), (-1.0, 0.0), (0.0, f64::NAN)];
        let blocks = [block(1.0, &bad), block(f64::NAN, &[(0.5, 0.0)])];
        assert_eq!(fastest(&blocks).genome, [None, None]);
        assert_eq!(solve(&blocks, Constraint::Count(1), 3), []);
        assert_eq!(solve(&blocks, Constraint::Count(0), 3).len(), 1);
    }
}
