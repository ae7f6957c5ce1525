use std::collections::BTreeSet;
use std::convert::Infallible;

use super::super::{Item, Offer, solve, sum};
use super::*;

/// Blocks with so many forms each; the faster a form, the dearer.
fn items(count: usize, forms: usize) -> Vec<Item> {
    let offer = |at: usize, form: usize| Offer {
        latency_ms: 1.0 / (form as f64 + 1.5),
        price: 0.3 + 0.11 * ((at * 7 + form * 3) % 10) as f64 + 0.2 * form as f64,
    };
    let item = |at| Item {
        baseline_ms: 1.0 + 0.01 * at as f64,
        offers: (0..forms).map(|form| offer(at, form)).collect(),
    };
    (0..count).map(item).collect()
}

/// The sum of prices, and what blocks do to the next pruned one: cheap neighbours hurt each other, dear ones that lie apart
/// make up for each other. So the table misleads.
fn together(items: &[Item], genome: &Genome) -> f64 {
    let price = |at: usize| genome[at].map_or(0.0, |form| items[at].offers[form].price);
    let pruned: Vec<usize> = (0..genome.len()).filter(|at| genome[*at].is_some()).collect();
    let alone: f64 = pruned.iter().map(|at| price(*at)).sum();
    let between = pruned.windows(2).map(|pair| {
        let both = price(pair[0]) + price(pair[1]);
        match pair[1] - pair[0] {
            1 | 2 if both < 1.6 => 1.5,
            2.. if both > 1.8 => -0.5,
            _ => 0.0,
        }
    });
    alone + between.sum::<f64>()
}

fn settings(strategy: Strategy, evaluations: usize, seed: u64) -> Settings {
    Settings { strategy, evaluations, seed }
}

/// A search of the landscape, with the genomes that were evaluated in order.
fn search(items: &[Item], goal: Goal, settings: Settings) -> (Explored, Archive, Vec<Genome>) {
    let mut archive = Archive::new(items);
    let mut seen = Vec::new();
    let starts = solve(items, goal, 4);
    let mut joint = |genome: &Genome| -> Result<f64, Infallible> {
        seen.push(genome.clone());
        Ok(together(items, genome))
    };
    let Ok(found) = explore(items, goal, &starts, settings, &mut archive, &mut joint);
    (found, archive, seen)
}

/// The smallest joint price of all genomes that reach a goal by the table.
fn optimum(items: &[Item], goal: Goal) -> f64 {
    let space = Space::new(items, goal).unwrap();
    let all = space.all(usize::MAX).unwrap();
    assert!(all.len() > 1500, "{}", all.len());
    all.iter().map(|genome| together(items, genome)).fold(f64::INFINITY, f64::min)
}

#[test]
fn the_genetic_search_finds_the_optimum_where_the_table_misleads() {
    for (items, goal) in [
        (items(14, 1), Goal::Count(7)),
        (items(9, 2), Goal::Count(5)),
        (items(10, 2), Goal::Latency(6.5)),
    ] {
        let best = optimum(&items, goal);
        let told = solve(&items, goal, 1).remove(0);
        assert!(together(&items, &told.genome) > best + 1e-9, "the table does not mislead");
        let mut optima = 0;
        for seed in 0..10 {
            let (found, ..) = search(&items, goal, settings(Strategy::Genetic, 800, seed));
            assert!(found.is_reached && !found.is_exhaustive);
            assert!(found.joint_price < best + 0.5, "{goal:?} {seed}: {found:?}, not {best}");
            optima += usize::from(found.joint_price <= best + 1e-9);
        }
        assert!(optima >= 2, "{goal:?}: {optima} of 10 seeds");
    }
}

#[test]
fn the_genetic_search_beats_greedy_and_random_with_as_many_evaluations() {
    let items = items(24, 3);
    for goal in [Goal::Count(10), Goal::Latency(16.0)] {
        let mean = |strategy| {
            let run = |seed| search(&items, goal, settings(strategy, 200, seed)).0.joint_price;
            (0..8).map(run).sum::<f64>() / 8.0
        };
        let genetic = mean(Strategy::Genetic);
        for other in [Strategy::Greedy, Strategy::Random] {
            let other_mean = mean(other);
            assert!(genetic < other_mean, "{goal:?}: {genetic}, {other:?} {other_mean}");
        }
    }
}

#[test]
fn every_genome_evaluated_reaches_the_goal_and_is_evaluated_once() {
    let items = items(12, 3);
    for goal in [
        Goal::Count(5),
        Goal::Latency(8.0),
        Goal::Both { latency_ms: 9.0, price: 4.0 },
        Goal::Price(3.0),
    ] {
        for strategy in [Strategy::Genetic, Strategy::Random, Strategy::Greedy] {
            let (found, archive, seen) = search(&items, goal, settings(strategy, 120, 3));
            assert!(seen.len() <= 120 && found.evaluated == seen.len(), "{strategy:?} {goal:?}");
            let distinct: BTreeSet<&Genome> = seen.iter().collect();
            assert_eq!(distinct.len(), seen.len(), "{strategy:?} {goal:?} evaluated one twice");
            assert!(seen.iter().all(|genome| sum(&items, genome).is_some()));
            let archived: Vec<&Genome> =
                archive.entries().iter().map(|it| &it.solution.genome).collect();
            assert_eq!(archived, seen.iter().collect::<Vec<_>>());
            let by_joint = Solution { price: found.joint_price, ..found.best.clone() };
            assert_eq!(found.is_reached, goal.is_reached_by(&by_joint));
            let space = Space::new(&items, goal).unwrap();
            assert!(space.admits(&found.best.genome), "{strategy:?} {goal:?}: {found:?}");
            // What greedy passes through on its way has too few blocks.
            if strategy != Strategy::Greedy {
                assert_eq!(seen.len(), 120, "{strategy:?} {goal:?} gave up");
                assert!(seen.iter().all(|genome| space.admits(genome)), "{strategy:?} {goal:?}");
            }
        }
    }
}

#[test]
fn a_small_space_is_searched_as_a_whole() {
    let items = items(6, 2);
    for goal in [Goal::Count(2), Goal::Latency(3.5), Goal::Price(1.0)] {
        let all = Space::new(&items, goal).unwrap().all(usize::MAX).unwrap();
        let best = |settings| search(&items, goal, settings);
        for strategy in [Strategy::Genetic, Strategy::Random, Strategy::Greedy] {
            let (found, _, seen) = best(settings(strategy, all.len(), 0));
            assert!(found.is_exhaustive && seen == all, "{strategy:?} {goal:?}");
            let admitted = all.iter().filter(|genome| match goal {
                Goal::Price(bound) => together(&items, genome) <= bound,
                _ => true,
            });
            let key = |genome: &Genome| match goal {
                Goal::Price(_) => sum(&items, genome).unwrap().latency_ms,
                _ => together(&items, genome),
            };
            let least = admitted.map(key).fold(f64::INFINITY, f64::min);
            let own = key(&found.best.genome);
            assert!((own - least).abs() < 1e-9, "{goal:?}: {own}, not {least}");
        }
        assert!(!best(settings(Strategy::Genetic, all.len() - 1, 0)).0.is_exhaustive);
    }
}

#[test]
fn the_same_seed_finds_the_same_and_another_one_looks_elsewhere() {
    let items = items(16, 2);
    for strategy in [Strategy::Genetic, Strategy::Random] {
        let run = |seed| search(&items, Goal::Count(6), settings(strategy, 90, seed)).2;
        assert_eq!(run(1), run(1), "{strategy:?}");
        assert_ne!(run(1), run(2), "{strategy:?}");
    }
}

#[test]
fn what_the_archive_knows_is_free_and_starts_the_next_search() {
    let items = items(14, 1);
    let (first, mut archive, seen) =
        search(&items, Goal::Latency(11.0), settings(Strategy::Genetic, 100, 0));
    let mut fresh = Vec::new();
    let goal = Goal::Latency(10.5);
    let mut joint = |genome: &Genome| -> Result<f64, Infallible> {
        fresh.push(genome.clone());
        Ok(together(&items, genome))
    };
    let settings = settings(Strategy::Genetic, 30, 0);
    let Ok(second) = explore(&items, goal, &[], settings, &mut archive, &mut joint);
    assert_eq!((second.evaluated, fresh.len()), (30, 30));
    assert!(fresh.iter().all(|genome| !seen.contains(genome)));
    assert_eq!(archive.entries().len(), 130);
    assert!(first.best.latency_ms <= 11.0 && second.best.latency_ms <= 10.5);
    let (best, price) = archive.best(goal);
    assert_eq!((best, price), (second.best, second.joint_price));
}

#[test]
fn fronts_hold_no_choice_that_another_beats() {
    let items = items(12, 2);
    let (_, archive, _) = search(&items, Goal::Price(6.0), settings(Strategy::Genetic, 150, 1));
    let fronts = [archive.front_by_latency(), archive.front_by_count()];
    for (front, is_count) in fronts.into_iter().zip([false, true]) {
        assert!(front.len() > 3, "{front:?}");
        assert_eq!(front[0].joint_price, 0.0);
        let what = |it: &Evaluated| {
            if is_count { -(it.count() as f64) } else { it.solution.latency_ms }
        };
        for pair in front.windows(2) {
            assert!(pair[0].joint_price < pair[1].joint_price && what(&pair[0]) > what(&pair[1]));
        }
        for it in archive.entries() {
            let is_met =
                |point: &Evaluated| point.joint_price <= it.joint_price && what(point) <= what(it);
            assert!(front.iter().any(is_met), "{it:?} is beyond the front");
        }
    }
}

#[test]
fn goals_out_of_reach_and_losses_that_are_no_numbers_are_no_panic() {
    let items = items(5, 1);
    for goal in [
        Goal::Count(6),
        Goal::Latency(0.1),
        Goal::Latency(f64::NAN),
        Goal::Price(f64::NAN),
        Goal::Price(-1.0),
    ] {
        for strategy in [Strategy::Genetic, Strategy::Random, Strategy::Greedy] {
            let (found, ..) = search(&items, goal, settings(strategy, 4, 0));
            assert!(!found.is_reached, "{goal:?}");
            assert!(found.best.genome.iter().all(Option::is_none), "{goal:?}");
        }
    }
    let mut archive = Archive::new(&items);
    let mut joint = |_: &Genome| -> Result<f64, Infallible> { Ok(f64::NAN) };
    let settings = settings(Strategy::Genetic, 4, 0);
    let Ok(found) = explore(&items, Goal::Count(2), &[], settings, &mut archive, &mut joint);
    assert_eq!(found.joint_price, f64::INFINITY);
    assert_eq!(archive.front_by_count().len(), 1);
    let none = Archive::new(&[]);
    assert_eq!(none.best(Goal::Count(0)).1, 0.0);
}

#[test]
fn an_error_of_the_evaluation_ends_the_search_and_keeps_what_was_found() {
    let items = items(12, 2);
    let mut archive = Archive::new(&items);
    let mut left = 10;
    let mut joint = |_: &Genome| {
        left -= 1;
        if left < 0 { Err("broken") } else { Ok(1.0) }
    };
    let settings = settings(Strategy::Genetic, 50, 0);
    let found = explore(&items, Goal::Count(4), &[], settings, &mut archive, &mut joint);
    assert_eq!(found.unwrap_err(), "broken");
    assert_eq!(archive.entries().len(), 10);
}
