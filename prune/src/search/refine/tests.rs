//! Tests the local search on planted and random interactions.

use std::convert::Infallible;

use proptest::prelude::*;

use super::super::{Cost, solve};
use super::*;

/// Blocks of 2 ms that one form reduces to 1 ms, with these degradations.
fn halved(degradations: &[f64]) -> Vec<BlockCost> {
    let candidate = |&degradation: &f64| vec![Cost { latency_ms: 1.0, degradation }];
    degradations
        .iter()
        .map(|it| BlockCost { baseline_ms: 2.0, candidates: candidate(it) })
        .collect()
}

/// The sum of the single degradations, plus an extra loss when all the named blocks are pruned.
fn planted<'a>(
    blocks: &'a [BlockCost],
    together: &'a [usize],
    extra: f64,
) -> impl Fn(&Genome) -> f64 + 'a {
    move |genome| {
        let hurts = together.iter().all(|&at| genome[at].is_some());
        sum(blocks, genome).unwrap().degradation + if hurts { extra } else { 0.0 }
    }
}

fn run(
    blocks: &[BlockCost],
    constraint: Constraint,
    trials: usize,
    joint: impl Fn(&Genome) -> f64,
) -> Refined {
    let starts = solve(blocks, constraint, 2);
    let mut joint = |genome: &Genome| Ok::<_, Infallible>(joint(genome));
    refine(blocks, constraint, &starts, trials, &mut joint).unwrap()
}

#[test]
fn finds_the_pair_that_hurts_each_other() {
    let blocks = halved(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
    let joint = planted(&blocks, &[0, 1], 5.0);
    for constraint in [Constraint::Count(3), Constraint::Latency(9.0)] {
        let found = run(&blocks, constraint, 12, &joint);
        assert_eq!(
            found.best.genome,
            [Some(0), None, Some(0), Some(0), None, None],
            "{constraint:?}"
        );
        assert!(found.is_reached && (found.joint_degradation - 0.8).abs() < 1e-9, "{found:?}");
    }
}

#[test]
fn puts_two_small_blocks_for_a_large_one() {
    let mut blocks = halved(&[0.1, 0.3, 0.4, 0.9]);
    blocks[0] = BlockCost {
        baseline_ms: 4.0,
        candidates: vec![Cost { latency_ms: 2.0, degradation: 0.1 }],
    };
    let joint = planted(&blocks, &[0], 5.0);
    let found = run(&blocks, Constraint::Latency(8.0), 6, joint);
    assert_eq!(found.best.genome, [None, Some(0), Some(0), None]);
}

#[test]
fn a_price_bound_holds_for_the_joint_price() {
    let blocks = halved(&[0.1, 0.1, 0.2, 0.2, 0.3]);
    let joint = planted(&blocks, &[0, 1], 5.0);
    let found = run(&blocks, Constraint::Degradation(0.9), 20, joint);
    assert!(found.is_reached && found.joint_degradation <= 0.9, "{found:?}");
    assert_eq!(found.best.genome.iter().flatten().count(), 4, "{found:?}");
}

#[test]
fn blocks_that_are_free_alone_and_dear_together_are_thinned_out() {
    let blocks = halved(&[0.0; 8]);
    let found = run(&blocks, Constraint::Degradation(1.0), 12, |genome| {
        let count = genome.iter().flatten().count() as f64;
        0.1 * count * (count - 1.0)
    });
    assert_eq!(found.best.genome.iter().flatten().count(), 3, "{found:?}");
}

#[test]
fn a_joint_price_below_the_sum_leaves_room_for_more() {
    let blocks = halved(&[1.0; 6]);
    let found = run(&blocks, Constraint::Degradation(2.0), 10, |it| {
        sum(&blocks, it).unwrap().degradation / 2.0
    });
    assert_eq!(found.best.genome.iter().flatten().count(), 4, "{found:?}");
}

#[test]
fn answers_the_unpruned_network_when_every_choice_is_too_expensive() {
    let blocks = halved(&[0.1, 0.2]);
    let found = run(&blocks, Constraint::Degradation(0.5), 10, |_| f64::NAN);
    assert_eq!(found.best.genome, [None, None]);
    assert_eq!((found.joint_degradation, found.is_reached), (0.0, true));
    assert!(!found.tried.is_empty());
    let none = run(&blocks, Constraint::Count(3), 10, |_| 0.0);
    assert_eq!((none.best.genome.len(), none.is_reached, none.tried.len()), (2, false, 0));
}

#[test]
fn blocks_without_candidates_are_left_alone() {
    let blocks = [BlockCost { baseline_ms: 1.0, candidates: Vec::new() }];
    let found = run(&blocks, Constraint::Latency(1.0), 5, |_| unreachable!());
    assert_eq!((found.best.genome, found.is_reached), (vec![None], true));
    let found = run(&[], Constraint::Degradation(1.0), 5, |_| unreachable!());
    assert!(found.is_reached && found.best.genome.is_empty());
}

#[test]
fn errors_come_through() {
    let blocks = halved(&[0.1]);
    let starts = solve(&blocks, Constraint::Count(1), 1);
    let mut joint = |_: &Genome| Err("no memory");
    assert_eq!(refine(&blocks, Constraint::Count(1), &starts, 3, &mut joint), Err("no memory"));
}

/// Sum of the single degradations and of pair terms drawn from the seed.
fn tangled(blocks: &[BlockCost], seed: u64) -> impl Fn(&Genome) -> f64 + '_ {
    move |genome| {
        let on: Vec<_> = pruned(genome).collect();
        let pair = |a: usize, b: usize| {
            let mixed = (seed ^ (a as u64 * 31 + b as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (mixed >> 60) as f64 * 0.05
        };
        let pairs =
            on.iter().flat_map(|&a| on.iter().filter(move |&&b| a < b).map(move |&b| (a, b)));
        sum(blocks, genome).unwrap().degradation + pairs.map(|(a, b)| pair(a, b)).sum::<f64>()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn trials_are_bounded_and_distinct_and_the_best_is_the_best_tried(
        degradations in prop::collection::vec(0.0..1.0, 1..8),
        seed in any::<u64>(),
        trials in 0usize..20,
        which in 0usize..3,
    ) {
        let blocks = halved(&degradations);
        let half = 1.5 * blocks.len() as f64;
        let constraint = [
            Constraint::Count(blocks.len() / 2),
            Constraint::Latency(half),
            Constraint::Degradation(1.0),
        ][which];
        let joint = tangled(&blocks, seed);
        let found = run(&blocks, constraint, trials, &joint);
        prop_assert!(found.tried.len() <= trials);
        for (at, (genome, degradation)) in found.tried.iter().enumerate() {
            prop_assert_eq!(*degradation, joint(genome));
            prop_assert!(found.tried[..at].iter().all(|(it, _)| it != genome));
        }
        let meets = |genome: &Genome, degradation: f64| {
            constraint.is_reached_by(&Solution { degradation, ..sum(&blocks, genome).unwrap() })
        };
        prop_assert_eq!(found.is_reached, meets(&found.best.genome, found.joint_degradation));
        for (genome, degradation) in found.tried.iter().filter(|(it, degradation)| meets(it, *degradation)) {
            prop_assert!(found.is_reached);
            let is_no_worse = match constraint {
                Constraint::Degradation(_) => found.best.latency_ms <= sum(&blocks, genome).unwrap().latency_ms,
                _ => found.joint_degradation <= *degradation,
            };
            prop_assert!(is_no_worse);
        }
        prop_assert_eq!(&found, &run(&blocks, constraint, trials, &joint));
    }
}
