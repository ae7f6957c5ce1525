//! Which blocks to prune, by the prices of single blocks and a latency table.
//!
//! The table is additive: the latency of a choice is the sum over the blocks, its price the sum of what each
//! block loses alone (UPDP, sec. 3). [`solve`] is exact in it; [`refine`] then looks at the few best choices
//! together, where the sum of single prices is only a guess. [`explore`] goes by joint prices from the start.
//!
//! Sums are counted in whole units, 1 ps and 10⁻⁹ points, so they do not depend on the order of addition and
//! equal sums are equal. A plain `f64` sum agrees within 10⁻⁹ per block.

pub mod explore;
mod knapsack;
mod refine;

pub use knapsack::{front, solve};
pub use refine::{Refined, refine};

/// Units per millisecond and per point.
const UNITS: f64 = 1e9;
/// Largest latency (ms) and price (points) that counts; more is as good as absent.
const LARGEST: f64 = 1e6;

/// One way to prune a block. It is ignored when a number is not finite, or the latency is negative or above
/// 10⁶ ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// Latency of the block in this form by the table, in milliseconds.
    pub latency_ms: f64,
    /// Points lost when only this block is pruned so. Below 0 it counts as 0: such a gain is noise, and it must
    /// not pay for a loss elsewhere.
    pub price: f64,
}

/// A block: its own latency and its offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Latency as it is, in milliseconds. When it is no valid latency, the block stays and counts 0 ms.
    pub baseline_ms: f64,
    /// Ways to prune it; empty = it must stay.
    pub offers: Vec<Offer>,
}

/// Per item the index of its offer; `None` = the block stays.
pub type Genome = Vec<Option<usize>>;

/// A choice with its sums by the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// The choice.
    pub genome: Genome,
    /// Sum of the blocks' latencies, in milliseconds.
    pub latency_ms: f64,
    /// Sum of the single prices, each at least 0, in points.
    pub price: f64,
}

/// What to reach, and what is best among the choices that reach it. Ties go to the other sum, then to the order
/// of the genomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Exactly this many blocks pruned; smallest price.
    Count(usize),
    /// Latency sum at most this, in milliseconds; smallest price.
    Latency(f64),
    /// Price sum at most this, in points; fastest.
    Price(f64),
    /// Both bounds; smallest price.
    Both {
        /// Latency sum at most this, in milliseconds.
        latency_ms: f64,
        /// Price sum at most this, in points.
        price: f64,
    },
}

impl Goal {
    /// Whether the choice's sums reach the goal.
    #[must_use]
    pub fn is_reached_by(&self, solution: &Solution) -> bool {
        match *self {
            Self::Count(count) => solution.genome.iter().flatten().count() == count,
            Self::Latency(bound) => solution.latency_ms <= bound,
            Self::Price(bound) => solution.price <= bound,
            Self::Both { latency_ms, price } => {
                solution.latency_ms <= latency_ms && solution.price <= price
            }
        }
    }
}

/// The sums of a choice; `None` when it does not fit the items: another length, an offer that is not there or
/// is ignored.
#[must_use]
pub fn sum(items: &[Item], genome: &Genome) -> Option<Solution> {
    if items.len() != genome.len() {
        return None;
    }
    let mut total = (0, 0);
    for (item, offer) in items.iter().zip(genome) {
        let choice = choices(item).into_iter().find(|choice| choice.offer == *offer)?;
        total = (total.0 + choice.latency, total.1 + choice.price);
    }
    Some(solution(genome.clone(), total.0, total.1))
}

/// The smallest latency there is; ties go to the cheaper offer, then to staying.
#[must_use]
pub fn fastest(items: &[Item]) -> Solution {
    let mut total = (0, 0);
    let genome = items
        .iter()
        .filter_map(|item| {
            choices(item).into_iter().min_by_key(|choice| (choice.latency, choice.price))
        })
        .map(|choice| {
            total = (total.0 + choice.latency, total.1 + choice.price);
            choice.offer
        })
        .collect();
    solution(genome, total.0, total.1)
}

/// What can become of one block, in units.
#[derive(Clone, Copy, Debug)]
struct Choice {
    offer: Option<usize>,
    latency: i64,
    price: i64,
}

/// Staying first, then the valid offers in order; never empty.
fn choices(item: &Item) -> Vec<Choice> {
    let is_latency = |ms: f64| (0.0..=LARGEST).contains(&ms);
    if !is_latency(item.baseline_ms) {
        return vec![Choice { offer: None, latency: 0, price: 0 }];
    }
    let stay = Choice { offer: None, latency: to_units(item.baseline_ms), price: 0 };
    let offers = item.offers.iter().enumerate();
    let valid = offers
        .filter(|(_, it)| is_latency(it.latency_ms) && it.price.is_finite() && it.price <= LARGEST);
    let pruned = valid.map(|(at, offer)| Choice {
        offer: Some(at),
        latency: to_units(offer.latency_ms),
        price: to_units(offer.price.max(0.0)),
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

fn solution(genome: Genome, latency: i64, price: i64) -> Solution {
    Solution { genome, latency_ms: from_units(latency), price: from_units(price) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(baseline_ms: f64, offers: &[(f64, f64)]) -> Item {
        let offers = offers.iter().map(|&(latency_ms, price)| Offer { latency_ms, price });
        Item { baseline_ms, offers: offers.collect() }
    }

    #[test]
    fn sums_count_negative_prices_as_zero() {
        let items = [item(2.0, &[(1.0, -0.5)]), item(3.0, &[(1.5, 0.25)])];
        let all = sum(&items, &vec![Some(0), Some(0)]).unwrap();
        assert_eq!((all.latency_ms, all.price), (2.5, 0.25));
    }

    #[test]
    fn sums_of_tenths_meet_their_bound() {
        let items = [item(1.0, &[(0.1, 0.1)]), item(1.0, &[(0.2, 0.2)])];
        let both = sum(&items, &vec![Some(0), Some(0)]).unwrap();
        assert!(Goal::Both { latency_ms: 0.3, price: 0.3 }.is_reached_by(&both), "{both:?}");
    }

    #[test]
    fn a_genome_that_does_not_fit_has_no_sum() {
        let items = [item(1.0, &[(f64::NAN, 0.0), (0.5, 0.0)])];
        assert!(sum(&items, &vec![]).is_none());
        assert!(sum(&items, &vec![Some(0)]).is_none());
        assert!(sum(&items, &vec![Some(2)]).is_none());
        assert!(sum(&items, &vec![Some(1)]).is_some());
    }

    #[test]
    fn fastest_takes_the_cheaper_of_equally_fast_offers_and_no_slower_one() {
        let items = [item(2.0, &[(1.0, 3.0), (1.0, 2.0)]), item(1.0, &[(1.5, 0.0)])];
        assert_eq!(fastest(&items).genome, [Some(1), None]);
    }

    #[test]
    fn numbers_that_are_not_finite_make_an_offer_absent() {
        let bad = [(f64::NAN, 0.0), (f64::INFINITY, 0.0), (-1.0, 0.0), (0.0, f64::NAN)];
        let items = [item(1.0, &bad), item(f64::NAN, &[(0.5, 0.0)])];
        assert_eq!(fastest(&items).genome, [None, None]);
        assert_eq!(solve(&items, Goal::Count(1), 3), []);
        assert_eq!(solve(&items, Goal::Count(0), 3).len(), 1);
    }
}
