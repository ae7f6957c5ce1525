use std::collections::BTreeSet;
use std::convert::Infallible;

use super::super::{BlockCost, Cost, solve, sum};
use super::*;

/// This many blocks with this many forms each. A faster form costs more degradation.
fn blocks(count: usize, forms: usize) -> Vec<BlockCost> {
    let candidate = |at: usize, form: usize| Cost {
        latency_ms: 1.0 / (form as f64 + 1.5),
        degradation: 0.3 + 0.11 * ((at * 7 + form * 3) % 10) as f64 + 0.2 * form as f64,
    };
    let block = |at| BlockCost {
        baseline_ms: 1.0 + 0.01 * at as f64,
        candidates: (0..forms).map(|form| candidate(at, form)).collect(),
    };
    (0..count).map(block).collect()
}

/// The sum of degradations, plus the effect of each pruned block on the next. Neighbours with low degradations hurt
/// each other. Blocks with high degradations that lie apart compensate for each other. So the table misleads.
fn together(blocks: &[BlockCost], genome: &Genome) -> f64 {
    let degradation =
        |at: usize| genome[at].map_or(0.0, |form| blocks[at].candidates[form].degradation);
    let pruned: Vec<usize> = (0..genome.len()).filter(|at| genome[*at].is_some()).collect();
    let alone: f64 = pruned.iter().map(|at| degradation(*at)).sum();
    let between = pruned.windows(2).map(|pair| {
        let both = degradation(pair[0]) + degradation(pair[1]);
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

/// Searches the landscape. Also returns the evaluated genomes in order.
fn search(
    blocks: &[BlockCost],
    constraint: Constraint,
    settings: Settings,
) -> (Explored, Archive, Vec<Genome>) {
    let mut archive = Archive::new(blocks);
    let mut seen = Vec::new();
    let starts = solve(blocks, constraint, 4);
    let mut joint = |genome: &Genome| -> Result<f64, Infallible> {
        seen.push(genome.clone());
        Ok(together(blocks, genome))
    };
    let Ok(found) = explore(blocks, constraint, &starts, settings, &mut archive, &mut joint);
    (found, archive, seen)
}

/// The smallest joint degradation of all genomes that meet a constraint according to the table.
fn optimum(blocks: &[BlockCost], constraint: Constraint) -> f64 {
    let space = Space::new(blocks, constraint).unwrap();
    let all = space.all(usize::MAX).unwrap();
    assert!(all.len() > 1500, "{}", all.len());
    all.iter().map(|genome| together(blocks, genome)).fold(f64::INFINITY, f64::min)
}

#[test]
fn the_genetic_search_finds_the_optimum_where_the_table_misleads() {
    for (blocks, constraint) in [
        (blocks(14, 1), Constraint::Count(7)),
        (blocks(9, 2), Constraint::Count(5)),
        (blocks(10, 2), Constraint::Latency(6.5)),
    ] {
        let best = optimum(&blocks, constraint);
        let told = solve(&blocks, constraint, 1).remove(0);
        assert!(together(&blocks, &told.genome) > best + 1e-9, "the table does not mislead");
        let mut optima = 0;
        for seed in 0..10 {
            let (found, ..) = search(&blocks, constraint, settings(Strategy::Genetic, 800, seed));
            assert!(found.is_reached && !found.is_exhaustive);
            assert!(
                found.joint_degradation < best + 0.5,
                "{constraint:?} {seed}: {found:?}, not {best}"
            );
            optima += usize::from(found.joint_degradation <= best + 1e-9);
        }
        assert!(optima >= 2, "{constraint:?}: {optima} of 10 seeds");
    }
}

#[test]
fn the_genetic_search_beats_greedy_and_random_with_as_many_evaluations() {
    let blocks = blocks(24, 3);
    for constraint in [Constraint::Count(10), Constraint::Latency(16.0)] {
        let mean = |strategy| {
            let run = |seed| {
                search(&blocks, constraint, settings(strategy, 200, seed)).0.joint_degradation
            };
            (0..8).map(run).sum::<f64>() / 8.0
        };
        let genetic = mean(Strategy::Genetic);
        for other in [Strategy::Greedy, Strategy::Random] {
            let other_mean = mean(other);
            assert!(genetic < other_mean, "{constraint:?}: {genetic}, {other:?} {other_mean}");
        }
    }
}

#[test]
fn every_genome_evaluated_reaches_the_goal_and_is_evaluated_once() {
    let blocks = blocks(12, 3);
    for constraint in [Constraint::Count(5), Constraint::Latency(8.0), Constraint::Degradation(3.0)]
    {
        for strategy in [Strategy::Genetic, Strategy::Random, Strategy::Greedy] {
            let (found, archive, seen) = search(&blocks, constraint, settings(strategy, 120, 3));
            assert!(
                seen.len() <= 120 && found.evaluated == seen.len(),
                "{strategy:?} {constraint:?}"
            );
            let distinct: BTreeSet<&Genome> = seen.iter().collect();
            assert_eq!(
                distinct.len(),
                seen.len(),
                "{strategy:?} {constraint:?} evaluated one twice"
            );
            assert!(seen.iter().all(|genome| sum(&blocks, genome).is_some()));
            let archived: Vec<&Genome> =
                archive.entries().iter().map(|it| &it.solution.genome).collect();
            assert_eq!(archived, seen.iter().collect::<Vec<_>>());
            let by_joint = Solution { degradation: found.joint_degradation, ..found.best.clone() };
            assert_eq!(found.is_reached, constraint.is_reached_by(&by_joint));
            let space = Space::new(&blocks, constraint).unwrap();
            assert!(space.admits(&found.best.genome), "{strategy:?} {constraint:?}: {found:?}");
            // The intermediate genomes of the greedy search have too few blocks.
            if strategy != Strategy::Greedy {
                assert_eq!(seen.len(), 120, "{strategy:?} {constraint:?} gave up");
                assert!(
                    seen.iter().all(|genome| space.admits(genome)),
                    "{strategy:?} {constraint:?}"
                );
            }
        }
    }
}

#[test]
fn a_small_space_is_searched_as_a_whole() {
    let blocks = blocks(6, 2);
    for constraint in [Constraint::Count(2), Constraint::Latency(3.5), Constraint::Degradation(1.0)]
    {
        let all = Space::new(&blocks, constraint).unwrap().all(usize::MAX).unwrap();
        let best = |settings| search(&blocks, constraint, settings);
        for strategy in [Strategy::Genetic, Strategy::Random, Strategy::Greedy] {
            let (found, _, seen) = best(settings(strategy, all.len(), 0));
            assert!(found.is_exhaustive && seen == all, "{strategy:?} {constraint:?}");
            let admitted = all.iter().filter(|genome| match constraint {
                Constraint::Degradation(bound) => together(&blocks, genome) <= bound,
                _ => true,
            });
            let key = |genome: &Genome| match constraint {
                Constraint::Degradation(_) => sum(&blocks, genome).unwrap().latency_ms,
                _ => together(&blocks, genome),
            };
            let least = admitted.map(key).fold(f64::INFINITY, f64::min);
            let own = key(&found.best.genome);
            assert!((own - least).abs() < 1e-9, "{constraint:?}: {own}, not {least}");
        }
        assert!(!best(settings(Strategy::Genetic, all.len() - 1, 0)).0.is_exhaustive);
    }
}

#[test]
fn the_same_seed_finds_the_same_and_another_one_looks_elsewhere() {
    let blocks = blocks(16, 2);
    for strategy in [Strategy::Genetic, Strategy::Random] {
        let run = |seed| search(&blocks, Constraint::Count(6), settings(strategy, 90, seed)).2;
        assert_eq!(run(1), run(1), "{strategy:?}");
        assert_ne!(run(1), run(2), "{strategy:?}");
    }
}

#[test]
fn what_the_archive_knows_is_free_and_starts_the_next_search() {
    let blocks = blocks(14, 1);
    let (first, mut archive, seen) =
        search(&blocks, Constraint::Latency(11.0), settings(Strategy::Genetic, 100, 0));
    let mut fresh = Vec::new();
    let constraint = Constraint::Latency(10.5);
    let mut joint = |genome: &Genome| -> Result<f64, Infallible> {
        fresh.push(genome.clone());
        Ok(together(&blocks, genome))
    };
    let settings = settings(Strategy::Genetic, 30, 0);
    let Ok(second) = explore(&blocks, constraint, &[], settings, &mut archive, &mut joint);
    assert_eq!((second.evaluated, fresh.len()), (30, 30));
    assert!(fresh.iter().all(|genome| !seen.contains(genome)));
    assert_eq!(archive.entries().len(), 130);
    assert!(first.best.latency_ms <= 11.0 && second.best.latency_ms <= 10.5);
    let (best, degradation) = archive.best(constraint);
    assert_eq!((best, degradation), (second.best, second.joint_degradation));
}

#[test]
fn fronts_hold_no_choice_that_another_beats() {
    let blocks = blocks(12, 2);
    let (_, archive, _) =
        search(&blocks, Constraint::Degradation(6.0), settings(Strategy::Genetic, 150, 1));
    let fronts = [archive.front_by_latency(), archive.front_by_count()];
    for (front, is_count) in fronts.into_iter().zip([false, true]) {
        assert!(front.len() > 3, "{front:?}");
        assert_eq!(front[0].joint_degradation, 0.0);
        let what = |it: &Evaluated| {
            if is_count { -(it.count() as f64) } else { it.solution.latency_ms }
        };
        for pair in front.windows(2) {
            assert!(
                pair[0].joint_degradation < pair[1].joint_degradation
                    && what(&pair[0]) > what(&pair[1])
            );
        }
        for it in archive.entries() {
            let is_met = |point: &Evaluated| {
                point.joint_degradation <= it.joint_degradation && what(point) <= what(it)
            };
            assert!(front.iter().any(is_met), "{it:?} is beyond the front");
        }
    }
}

#[test]
fn goals_out_of_reach_and_losses_that_are_no_numbers_are_no_panic() {
    let blocks = blocks(5, 1);
    for constraint in [
        Constraint::Count(6),
        Constraint::Latency(0.1),
        Constraint::Latency(f64::NAN),
        Constraint::Degradation(f64::NAN),
        Constraint::Degradation(-1.0),
    ] {
        for strategy in [Strategy::Genetic, Strategy::Random, Strategy::Greedy] {
            let (found, ..) = search(&blocks, constraint, settings(strategy, 4, 0));
            assert!(!found.is_reached, "{constraint:?}");
            assert!(found.best.genome.iter().all(Option::is_none), "{constraint:?}");
        }
    }
    let mut archive = Archive::new(&blocks);
    let mut joint = |_: &Genome| -> Result<f64, Infallible> { Ok(f64::NAN) };
    let settings = settings(Strategy::Genetic, 4, 0);
    let Ok(found) = explore(&blocks, Constraint::Count(2), &[], settings, &mut archive, &mut joint);
    assert_eq!(found.joint_degradation, f64::INFINITY);
    assert_eq!(archive.front_by_count().len(), 1);
    let none = Archive::new(&[]);
    assert_eq!(none.best(Constraint::Count(0)).1, 0.0);
}

#[test]
fn an_error_of_the_evaluation_ends_the_search_and_keeps_what_was_found() {
    let blocks = blocks(12, 2);
    let mut archive = Archive::new(&blocks);
    let mut left = 10;
    let mut joint = |_: &Genome| {
        left -= 1;
        if left < 0 { Err("broken") } else { Ok(1.0) }
    };
    let settings = settings(Strategy::Genetic, 50, 0);
    let found = explore(&blocks, Constraint::Count(4), &[], settings, &mut archive, &mut joint);
    assert_eq!(found.unwrap_err(), "broken");
    assert_eq!(archive.entries().len(), 10);
}
