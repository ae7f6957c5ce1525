//! The local search on planted and drawn interactions.

use std::convert::Infallible;

use proptest::prelude::*;

use super::super::{Offer, solve};
use super::*;

/// Blocks of 2 ms that one form makes 1 ms, at these prices.
fn halved(prices: &[f64]) -> Vec<Item> {
    let offer = |&price: &f64| vec![Offer { latency_ms: 1.0, price }];
    prices.iter().map(|it| Item { baseline_ms: 2.0, offers: offer(it) }).collect()
}

/// The sum of the single prices, and more when all the named blocks are pruned.
fn planted<'a>(
    items: &'a [Item],
    together: &'a [usize],
    extra: f64,
) -> impl Fn(&Genome) -> f64 + 'a {
    move |genome| {
        let hurts = together.iter().all(|&at| genome[at].is_some());
        sum(items, genome).unwrap().price + if hurts { extra } else { 0.0 }
    }
}

fn run(items: &[Item], goal: Goal, trials: usize, joint: impl Fn(&Genome) -> f64) -> Refined {
    let starts = solve(items, goal, 2);
    let mut joint = |genome: &Genome| Ok::<_, Infallible>(joint(genome));
    refine(items, goal, &starts, trials, &mut joint).unwrap()
}

#[test]
fn finds_the_pair_that_hurts_each_other() {
    let items = halved(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
    let joint = planted(&items, &[0, 1], 5.0);
    for goal in [Goal::Count(3), Goal::Latency(9.0), Goal::Both { latency_ms: 9.0, price: 3.0 }] {
        let found = run(&items, goal, 12, &joint);
        assert_eq!(found.best.genome, [Some(0), None, Some(0), Some(0), None, None], "{goal:?}");
        assert!(found.is_reached && (found.joint_price - 0.8).abs() < 1e-9, "{found:?}");
    }
}

#[test]
fn puts_two_small_blocks_for_a_large_one() {
    let mut items = halved(&[0.1, 0.3, 0.4, 0.9]);
    items[0] = Item { baseline_ms: 4.0, offers: vec![Offer { latency_ms: 2.0, price: 0.1 }] };
    let joint = planted(&items, &[0], 5.0);
    let found = run(&items, Goal::Latency(8.0), 6, joint);
    assert_eq!(found.best.genome, [None, Some(0), Some(0), None]);
}

#[test]
fn a_price_bound_holds_for_the_joint_price() {
    let items = halved(&[0.1, 0.1, 0.2, 0.2, 0.3]);
    let joint = planted(&items, &[0, 1], 5.0);
    let found = run(&items, Goal::Price(0.9), 20, joint);
    assert!(found.is_reached && found.joint_price <= 0.9, "{found:?}");
    assert_eq!(found.best.genome.iter().flatten().count(), 4, "{found:?}");
}

#[test]
fn blocks_that_are_free_alone_and_dear_together_are_thinned_out() {
    let items = halved(&[0.0; 8]);
    let found = run(&items, Goal::Price(1.0), 12, |genome| {
        let count = genome.iter().flatten().count() as f64;
        0.1 * count * (count - 1.0)
    });
    assert_eq!(found.best.genome.iter().flatten().count(), 3, "{found:?}");
}

#[test]
fn a_joint_price_below_the_sum_leaves_room_for_more() {
    let items = halved(&[1.0; 6]);
    let found = run(&items, Goal::Price(2.0), 10, |it| sum(&items, it).unwrap().price / 2.0);
    assert_eq!(found.best.genome.iter().flatten().count(), 4, "{found:?}");
}

#[test]
fn answers_the_unpruned_network_when_every_choice_is_too_dear() {
    let items = halved(&[0.1, 0.2]);
    let found = run(&items, Goal::Price(0.5), 10, |_| f64::NAN);
    assert_eq!(found.best.genome, [None, None]);
    assert_eq!((found.joint_price, found.is_reached), (0.0, true));
    assert!(!found.tried.is_empty());
    let both = Goal::Both { latency_ms: 3.0, price: 0.5 };
    assert!(!run(&items, both, 10, |_| 7.0).is_reached);
    let none = run(&items, Goal::Count(3), 10, |_| 0.0);
    assert_eq!((none.best.genome.len(), none.is_reached, none.tried.len()), (2, false, 0));
}

#[test]
fn blocks_without_offers_are_left_alone() {
    let items = [Item { baseline_ms: 1.0, offers: Vec::new() }];
    let found = run(&items, Goal::Latency(1.0), 5, |_| unreachable!());
    assert_eq!((found.best.genome, found.is_reached), (vec![None], true));
    let found = run(&[], Goal::Price(1.0), 5, |_| unreachable!());
    assert!(found.is_reached && found.best.genome.is_empty());
}

#[test]
fn errors_come_through() {
    let items = halved(&[0.1]);
    let starts = solve(&items, Goal::Count(1), 1);
    let mut joint = |_: &Genome| Err("no memory");
    assert_eq!(refine(&items, Goal::Count(1), &starts, 3, &mut joint), Err("no memory"));
}

/// Sum of the single prices and of pair terms drawn from the seed.
fn tangled(items: &[Item], seed: u64) -> impl Fn(&Genome) -> f64 + '_ {
    move |genome| {
        let on: Vec<_> = pruned(genome).collect();
        let pair = |a: usize, b: usize| {
            let mixed = (seed ^ (a as u64 * 31 + b as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (mixed >> 60) as f64 * 0.05
        };
        let pairs =
            on.iter().flat_map(|&a| on.iter().filter(move |&&b| a < b).map(move |&b| (a, b)));
        sum(items, genome).unwrap().price + pairs.map(|(a, b)| pair(a, b)).sum::<f64>()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn trials_are_bounded_and_distinct_and_the_best_is_the_best_tried(
        prices in prop::collection::vec(0.0..1.0, 1..8),
        seed in any::<u64>(),
        trials in 0usize..20,
        which in 0usize..4,
    ) {
        let items = halved(&prices);
        let half = 1.5 * items.len() as f64;
        let goal = [
            Goal::Count(items.len() / 2),
            Goal::Latency(half),
            Goal::Price(1.0),
            Goal::Both { latency_ms: half, price: 1.0 },
        ][which];
        let joint = tangled(&items, seed);
        let found = run(&items, goal, trials, &joint);
        prop_assert!(found.tried.len() <= trials);
        for (at, (genome, price)) in found.tried.iter().enumerate() {
            prop_assert_eq!(*price, joint(genome));
            prop_assert!(found.tried[..at].iter().all(|(it, _)| it != genome));
        }
        let meets = |genome: &Genome, price: f64| {
            goal.is_reached_by(&Solution { price, ..sum(&items, genome).unwrap() })
        };
        prop_assert_eq!(found.is_reached, meets(&found.best.genome, found.joint_price));
        for (genome, price) in found.tried.iter().filter(|(it, price)| meets(it, *price)) {
            prop_assert!(found.is_reached);
            let is_no_worse = match goal {
                Goal::Price(_) => found.best.latency_ms <= sum(&items, genome).unwrap().latency_ms,
                _ => found.joint_price <= *price,
            };
            prop_assert!(is_no_worse);
        }
        prop_assert_eq!(&found, &run(&items, goal, trials, &joint));
    }
}
