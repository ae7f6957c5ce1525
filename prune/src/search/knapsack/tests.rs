//! Compares the exact search with every possible choice.

use proptest::prelude::*;

use super::super::{Cost, fastest, sum};
use super::*;

/// Few distinct numbers, so ties are common. Some candidates are slower or have a negative degradation.
fn blocks() -> impl Strategy<Value = Vec<BlockCost>> {
    let candidate = (0u8..12, -2i8..8).prop_map(|(latency, degradation)| Cost {
        latency_ms: f64::from(latency) * 0.1,
        degradation: f64::from(degradation) * 0.1,
    });
    let block =
        (3u8..12, prop::collection::vec(candidate, 0..=3)).prop_map(|(baseline, candidates)| {
            BlockCost { baseline_ms: f64::from(baseline) * 0.1, candidates }
        });
    prop::collection::vec(block, 0..=7)
}

fn constraint() -> impl Strategy<Value = Constraint> {
    let tenths = |most: u8| (0..most).prop_map(|it| f64::from(it) * 0.1);
    prop_oneof![
        (0usize..8).prop_map(Constraint::Count),
        tenths(60).prop_map(Constraint::Latency),
        tenths(30).prop_map(Constraint::Degradation),
    ]
}

fn every_choice(blocks: &[BlockCost]) -> Vec<Solution> {
    let mut genomes: Vec<Genome> = vec![Vec::new()];
    for block in blocks {
        genomes = genomes
            .iter()
            .flat_map(|genome| {
                let candidates = (0..block.candidates.len()).map(Some);
                std::iter::once(None).chain(candidates).map(|it| [&genome[..], &[it]].concat())
            })
            .collect();
    }
    genomes.iter().map(|genome| sum(blocks, genome).unwrap()).collect()
}

fn key(constraint: Constraint, it: &Solution) -> (f64, f64) {
    if matches!(constraint, Constraint::Degradation(_)) {
        (it.latency_ms, it.degradation)
    } else {
        (it.degradation, it.latency_ms)
    }
}

fn brute_force(blocks: &[BlockCost], constraint: Constraint, best: usize) -> Vec<(f64, f64)> {
    let reaching = every_choice(blocks).into_iter().filter(|it| constraint.is_reached_by(it));
    let mut keys: Vec<_> = reaching.map(|it| key(constraint, &it)).collect();
    keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    keys.truncate(best);
    keys
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn solutions_are_the_best_of_all_choices(blocks in blocks(), constraint in constraint(), best in 0usize..6) {
        let found = solve(&blocks, constraint, best);
        let keys: Vec<_> = found.iter().map(|it| key(constraint, it)).collect();
        prop_assert_eq!(keys, brute_force(&blocks, constraint, best));
        for (at, one) in found.iter().enumerate() {
            prop_assert_eq!(sum(&blocks, &one.genome), Some(one.clone()));
            prop_assert!(constraint.is_reached_by(one));
            prop_assert!(found[..at].iter().all(|it| it.genome != one.genome));
        }
        prop_assert_eq!(found, solve(&blocks, constraint, best));
    }

    #[test]
    fn front_holds_exactly_what_nothing_beats(blocks in blocks()) {
        let all = every_choice(&blocks);
        let mut keys: Vec<_> = all
            .iter()
            .filter(|one| !all.iter().any(|it| {
                it.latency_ms <= one.latency_ms && it.degradation <= one.degradation
                    && (it.latency_ms, it.degradation) != (one.latency_ms, one.degradation)
            }))
            .map(|it| (it.latency_ms, it.degradation))
            .collect();
        keys.sort_by(|a, b| b.0.total_cmp(&a.0));
        keys.dedup();
        let found: Vec<_> = front(&blocks).iter().map(|it| (it.latency_ms, it.degradation)).collect();
        if keys.len() <= MOST_POINTS {
            prop_assert_eq!(&found, &keys);
        }
        prop_assert_eq!(found.last(), keys.last());
        prop_assert_eq!(found.last().unwrap().0, fastest(&blocks).latency_ms);
    }

    #[test]
    fn the_grid_is_off_by_a_cell_an_item_at_most(blocks in blocks(), bound in 0i64..60, cells in 1i64..3) {
        let options: Vec<_> = blocks.iter().map(choices).collect();
        let tenth = 100_000_000;
        let grid = Grid { most: 0, cell: cells * tenth };
        let least = |latency: i64, grid: Grid| {
            let layers = layers(&options, Bounds { latency, ..Bounds::NONE }, 1, grid);
            let labels = layers.last().unwrap().clone();
            assert!(labels.iter().all(|it| it.latency <= latency));
            labels.iter().map(|it| it.degradation).min()
        };
        let exact = least(bound * tenth, Grid { most: usize::MAX, ..grid });
        prop_assert_eq!(least(bound * tenth, grid).is_some(), exact.is_some());
        let slack = blocks.len() as i64 * cells;
        prop_assert!(exact.is_none() || least((bound + slack) * tenth, grid) <= exact);
    }
}

/// Numbers without ties, deterministic.
fn many(count: u64) -> Vec<BlockCost> {
    let mut state = 7u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    let mut block = || {
        let candidates = (0..3).map(|_| Cost { latency_ms: 0.5 * next(), degradation: next() });
        BlockCost { candidates: candidates.collect(), baseline_ms: 1.0 }
    };
    (0..count).map(|_| block()).collect()
}

#[test]
fn a_large_front_is_thinned_and_keeps_its_ends() {
    let blocks = many(24);
    let points = front(&blocks);
    assert!((16..=MOST_POINTS).contains(&points.len()), "{}", points.len());
    assert_eq!((points[0].degradation, points[0].latency_ms), (0.0, 24.0));
    assert_eq!(points[points.len() - 1].latency_ms, fastest(&blocks).latency_ms);
    assert!(
        points
            .windows(2)
            .all(|it| it[0].latency_ms > it[1].latency_ms && it[0].degradation < it[1].degradation)
    );
}

#[test]
fn bounds_hold_and_the_tightest_goal_is_reached_with_many_blocks() {
    let blocks = many(40);
    let least = fastest(&blocks);
    let found = solve(&blocks, Constraint::Latency(least.latency_ms), 2);
    assert_eq!(found[0], least);
    for constraint in [Constraint::Latency(20.0), Constraint::Degradation(3.0)] {
        let found = solve(&blocks, constraint, 4);
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|it| constraint.is_reached_by(it)));
    }
}

#[test]
fn goals_out_of_reach_find_nothing() {
    let blocks = many(3);
    let least = fastest(&blocks).latency_ms;
    let constraints = [
        Constraint::Count(4),
        Constraint::Latency(least - 1e-6),
        Constraint::Degradation(-0.1),
        Constraint::Degradation(f64::NAN),
    ];
    for constraint in constraints {
        assert_eq!(solve(&blocks, constraint, 3), [], "{constraint:?}");
    }
    assert_eq!(solve(&blocks, Constraint::Latency(f64::INFINITY), 1)[0].degradation, 0.0);
}

#[test]
fn blocks_without_offers_stay() {
    let blocks = [BlockCost { baseline_ms: 2.0, candidates: Vec::new() }];
    assert_eq!(solve(&blocks, Constraint::Latency(2.0), 3).len(), 1);
    assert_eq!(solve(&blocks, Constraint::Count(1), 3), []);
    assert_eq!(solve(&[], Constraint::Count(0), 3)[0].genome, Genome::new());
}
