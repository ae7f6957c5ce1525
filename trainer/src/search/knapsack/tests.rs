//! The exact search against every choice there is.

use proptest::prelude::*;

use super::super::{Offer, fastest, sum};
use super::*;

/// Few distinct numbers, so that ties are common; some offers are slower or gain.
fn items() -> impl Strategy<Value = Vec<Item>> {
    let offer = (0u8..12, -2i8..8).prop_map(|(latency, price)| Offer {
        latency_ms: f64::from(latency) * 0.1,
        price: f64::from(price) * 0.1,
    });
    let item = (3u8..12, prop::collection::vec(offer, 0..=3))
        .prop_map(|(baseline, offers)| Item { baseline_ms: f64::from(baseline) * 0.1, offers });
    prop::collection::vec(item, 0..=7)
}

fn goal() -> impl Strategy<Value = Goal> {
    let tenths = |most: u8| (0..most).prop_map(|it| f64::from(it) * 0.1);
    prop_oneof![
        (0usize..8).prop_map(Goal::Count),
        tenths(60).prop_map(Goal::Latency),
        tenths(30).prop_map(Goal::Price),
        (tenths(60), tenths(30)).prop_map(|(latency_ms, price)| Goal::Both { latency_ms, price }),
    ]
}

fn every_choice(items: &[Item]) -> Vec<Solution> {
    let mut genomes: Vec<Genome> = vec![Vec::new()];
    for item in items {
        genomes = genomes
            .iter()
            .flat_map(|genome| {
                let offers = (0..item.offers.len()).map(Some);
                std::iter::once(None).chain(offers).map(|it| [&genome[..], &[it]].concat())
            })
            .collect();
    }
    genomes.iter().map(|genome| sum(items, genome).unwrap()).collect()
}

fn key(goal: Goal, it: &Solution) -> (f64, f64) {
    if matches!(goal, Goal::Price(_)) {
        (it.latency_ms, it.price)
    } else {
        (it.price, it.latency_ms)
    }
}

fn brute_force(items: &[Item], goal: Goal, best: usize) -> Vec<(f64, f64)> {
    let reaching = every_choice(items).into_iter().filter(|it| goal.is_reached_by(it));
    let mut keys: Vec<_> = reaching.map(|it| key(goal, &it)).collect();
    keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    keys.truncate(best);
    keys
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn solutions_are_the_best_of_all_choices(items in items(), goal in goal(), best in 0usize..6) {
        let found = solve(&items, goal, best);
        let keys: Vec<_> = found.iter().map(|it| key(goal, it)).collect();
        prop_assert_eq!(keys, brute_force(&items, goal, best));
        for (at, one) in found.iter().enumerate() {
            prop_assert_eq!(sum(&items, &one.genome), Some(one.clone()));
            prop_assert!(goal.is_reached_by(one));
            prop_assert!(found[..at].iter().all(|it| it.genome != one.genome));
        }
        prop_assert_eq!(found, solve(&items, goal, best));
    }

    #[test]
    fn front_holds_exactly_what_nothing_beats(items in items()) {
        let all = every_choice(&items);
        let mut keys: Vec<_> = all
            .iter()
            .filter(|one| !all.iter().any(|it| {
                it.latency_ms <= one.latency_ms && it.price <= one.price
                    && (it.latency_ms, it.price) != (one.latency_ms, one.price)
            }))
            .map(|it| (it.latency_ms, it.price))
            .collect();
        keys.sort_by(|a, b| b.0.total_cmp(&a.0));
        keys.dedup();
        let found: Vec<_> = front(&items).iter().map(|it| (it.latency_ms, it.price)).collect();
        if keys.len() <= MOST_POINTS {
            prop_assert_eq!(&found, &keys);
        }
        prop_assert_eq!(found.last(), keys.last());
        prop_assert_eq!(found.last().unwrap().0, fastest(&items).latency_ms);
    }

    #[test]
    fn the_grid_is_off_by_a_cell_an_item_at_most(items in items(), bound in 0i64..60, cells in 1i64..3) {
        let options: Vec<_> = items.iter().map(choices).collect();
        let tenth = 100_000_000;
        let grid = Grid { most: 0, cell: cells * tenth };
        let least = |latency: i64, grid: Grid| {
            let layers = layers(&options, Bounds { latency, ..Bounds::NONE }, 1, grid);
            let labels = layers.last().unwrap().clone();
            assert!(labels.iter().all(|it| it.latency <= latency));
            labels.iter().map(|it| it.price).min()
        };
        let exact = least(bound * tenth, Grid { most: usize::MAX, ..grid });
        prop_assert_eq!(least(bound * tenth, grid).is_some(), exact.is_some());
        let slack = items.len() as i64 * cells;
        prop_assert!(exact.is_none() || least((bound + slack) * tenth, grid) <= exact);
    }
}

/// Numbers without ties, deterministic.
fn many(count: u64) -> Vec<Item> {
    let mut state = 7u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    let mut item = || {
        let offers = (0..3).map(|_| Offer { latency_ms: 0.5 * next(), price: next() });
        Item { offers: offers.collect(), baseline_ms: 1.0 }
    };
    (0..count).map(|_| item()).collect()
}

#[test]
fn a_large_front_is_thinned_and_keeps_its_ends() {
    let items = many(24);
    let points = front(&items);
    assert!((16..=MOST_POINTS).contains(&points.len()), "{}", points.len());
    assert_eq!((points[0].price, points[0].latency_ms), (0.0, 24.0));
    assert_eq!(points[points.len() - 1].latency_ms, fastest(&items).latency_ms);
    assert!(
        points
            .windows(2)
            .all(|it| it[0].latency_ms > it[1].latency_ms && it[0].price < it[1].price)
    );
}

#[test]
fn bounds_hold_and_the_tightest_goal_is_reached_with_many_blocks() {
    let items = many(40);
    let least = fastest(&items);
    let found = solve(&items, Goal::Latency(least.latency_ms), 2);
    assert_eq!(found[0], least);
    for goal in [Goal::Latency(20.0), Goal::Price(3.0)] {
        let found = solve(&items, goal, 4);
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|it| goal.is_reached_by(it)));
    }
}

#[test]
fn goals_out_of_reach_find_nothing() {
    let items = many(3);
    let least = fastest(&items).latency_ms;
    let goals =
        [Goal::Count(4), Goal::Latency(least - 1e-6), Goal::Price(-0.1), Goal::Price(f64::NAN)];
    for goal in goals {
        assert_eq!(solve(&items, goal, 3), [], "{goal:?}");
    }
    assert_eq!(solve(&items, Goal::Latency(f64::INFINITY), 1)[0].price, 0.0);
}

#[test]
fn blocks_without_offers_stay() {
    let items = [Item { baseline_ms: 2.0, offers: Vec::new() }];
    assert_eq!(solve(&items, Goal::Latency(2.0), 3).len(), 1);
    assert_eq!(solve(&items, Goal::Count(1), 3), []);
    assert_eq!(solve(&[], Goal::Count(0), 3)[0].genome, Genome::new());
}
