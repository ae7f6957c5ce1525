//! The exact choice with the additive table: a multiple-choice knapsack.
//!
//! There is one layer of labels per block. A label holds the sums of a choice for the blocks so far. If `k` results are
//! wanted, a label is discarded when `k` other labels have no larger latency and no larger degradation: everything that
//! completes it completes those labels as well. So the answer is exact as long as a layer holds at most [`MOST_LABELS`]
//! labels. A larger layer is reduced to a grid with a latency step of `max(total / 20 000, 0.1 µs)`. Each cell keeps
//! the `k` least degraded labels and the fastest one. A result is then at most one cell per block away from the best.
//! Labels keep their exact sums, so bounds always hold.

use super::{BlockCost, Choice, Constraint, Genome, Solution, bound_units, choices, solution};

/// Number of labels that a layer holds before the grid thins it.
const MOST_LABELS: usize = 20_000;
/// Number of grid cells over the whole latency.
const CELLS: i64 = 20_000;
/// Smallest cell: 0.1 µs in units.
const SMALLEST_CELL: i64 = 100_000;
/// Number of points of a thinned front.
const MOST_POINTS: usize = 64;

/// The `best` best distinct choices that meet the constraint, best first. Returns fewer if fewer exist, and none if no
/// choice meets the constraint or a bound is not a number. The same blocks give the same answer.
#[must_use]
pub fn solve(blocks: &[BlockCost], constraint: Constraint, best: usize) -> Vec<Solution> {
    let options: Vec<_> = blocks.iter().map(choices).collect();
    let bounds = match constraint {
        Constraint::Count(count) => Some(Bounds { count: Some(count), ..Bounds::NONE }),
        Constraint::Latency(bound) => {
            bound_units(bound).map(|latency| Bounds { latency, ..Bounds::NONE })
        }
        Constraint::Degradation(bound) => {
            bound_units(bound).map(|degradation| Bounds { degradation, ..Bounds::NONE })
        }
    };
    let is_fastest_first = matches!(constraint, Constraint::Degradation(_));
    bounds.map_or_else(Vec::new, |bounds| search(&options, bounds, is_fastest_first, best))
}

/// The Pareto front of latency and degradation: no choice is both faster and less degraded than a point. The least
/// degraded comes first and the fastest last. More than 64 points are thinned evenly over the latency; both ends stay.
#[must_use]
pub fn front(blocks: &[BlockCost]) -> Vec<Solution> {
    let options: Vec<_> = blocks.iter().map(choices).collect();
    let layers = layers(&options, Bounds::NONE, 1, Grid::over(&options));
    let labels = layers.last().map_or(&[][..], Vec::as_slice);
    let mut points: Vec<usize> = (0..labels.len()).rev().collect();
    if points.len() > MOST_POINTS {
        let slowest = labels[labels.len() - 1].latency;
        let span = (slowest - labels[0].latency).max(1);
        let cell = |at: usize| {
            i128::from(slowest - labels[at].latency) * (MOST_POINTS as i128 - 2) / i128::from(span)
        };
        let mut last = -1;
        points.retain(|&at| at == 0 || std::mem::replace(&mut last, cell(at)) != cell(at));
    }
    points.into_iter().map(|at| trace(&options, &layers, at)).collect()
}

/// Bounds on the sums, in units, and on the number of pruned blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub count: Option<usize>,
    pub latency: i64,
    pub degradation: i64,
}

impl Bounds {
    /// Everything is allowed.
    pub const NONE: Self = Self { count: None, latency: i64::MAX, degradation: i64::MAX };
}

/// [`solve`] for any choices per block, with at least one choice each.
pub(super) fn search(
    options: &[Vec<Choice>],
    bounds: Bounds,
    is_fastest_first: bool,
    best: usize,
) -> Vec<Solution> {
    if best == 0 {
        return Vec::new();
    }
    let layers = layers(options, bounds, best, Grid::over(options));
    let labels = layers.last().map_or(&[][..], Vec::as_slice);
    let mut order: Vec<_> = (0..labels.len())
        .map(|at| {
            let Label { latency, degradation, .. } = labels[at];
            (if is_fastest_first { (latency, degradation) } else { (degradation, latency) }, at)
        })
        .collect();
    order.sort_unstable();
    let mut found: Vec<_> =
        order.into_iter().take(best).map(|(key, at)| (key, trace(options, &layers, at))).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.genome.cmp(&b.1.genome)));
    found.into_iter().map(|(_, solution)| solution).collect()
}

/// Sums of a choice for the blocks so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Label {
    /// Number of pruned blocks; stays 0 if the constraint does not count them.
    count: usize,
    latency: i64,
    degradation: i64,
    /// Index in the previous layer, and the choice of the block that was added.
    parent: u32,
    choice: u32,
}

/// When and how far a layer is thinned.
#[derive(Clone, Copy)]
struct Grid {
    /// Maximum number of labels in a layer.
    most: usize,
    /// Latency of a cell, in units.
    cell: i64,
}

impl Grid {
    fn over(options: &[Vec<Choice>]) -> Self {
        let slowest = |choices: &Vec<Choice>| choices.iter().map(|it| it.latency).max();
        let total: i64 = options.iter().filter_map(slowest).sum();
        Self { most: MOST_LABELS, cell: (total / CELLS).max(SMALLEST_CELL) }
    }
}

/// One layer before the first block and one after each block. The last layer holds the complete choices.
fn layers(options: &[Vec<Choice>], bounds: Bounds, best: usize, grid: Grid) -> Vec<Vec<Label>> {
    let start = Label { count: 0, latency: 0, degradation: 0, parent: 0, choice: 0 };
    let is_open = Reach::new(options, bounds).is_open(&start);
    let mut layers = vec![if is_open { vec![start] } else { Vec::new() }];
    for (at, choices) in options.iter().enumerate() {
        let reach = Reach::new(&options[at + 1..], bounds);
        let mut grown = Vec::new();
        for (parent, label) in layers[at].iter().enumerate() {
            for (index, choice) in choices.iter().enumerate() {
                let is_counted = bounds.count.is_some() && choice.candidate.is_some();
                let next = Label {
                    count: label.count + usize::from(is_counted),
                    latency: label.latency + choice.latency,
                    degradation: label.degradation + choice.degradation,
                    parent: parent as u32,
                    choice: index as u32,
                };
                if reach.is_open(&next) {
                    grown.push(next);
                }
            }
        }
        layers.push(match bounds.count {
            Some(_) => cheapest_by_count(grown, best),
            None => undominated(grown, best, grid),
        });
    }
    layers
}

/// Lower bounds on the sums that the remaining blocks add.
struct Reach {
    bounds: Bounds,
    latency: i64,
    degradation: i64,
    /// Smallest and largest number of them that can be pruned.
    count: (usize, usize),
}

impl Reach {
    fn new(rest: &[Vec<Choice>], bounds: Bounds) -> Self {
        let least = |of: fn(&Choice) -> i64| {
            rest.iter().filter_map(|it| it.iter().map(of).min()).sum::<i64>()
        };
        let must = rest.iter().filter(|it| it.iter().all(|it| it.candidate.is_some())).count();
        let may = rest.iter().filter(|it| it.iter().any(|it| it.candidate.is_some())).count();
        let (latency, degradation) = (least(|it| it.latency), least(|it| it.degradation));
        Self { bounds, latency, degradation, count: (must, may) }
    }

    fn is_open(&self, label: &Label) -> bool {
        label.latency + self.latency <= self.bounds.latency
            && label.degradation + self.degradation <= self.bounds.degradation
            && self.bounds.count.is_none_or(|count| {
                label.count + self.count.0 <= count && label.count + self.count.1 >= count
            })
    }
}

/// For each number of pruned blocks, the `best` least degraded labels. In a tie, the faster one wins.
fn cheapest_by_count(mut labels: Vec<Label>, best: usize) -> Vec<Label> {
    labels.sort_unstable_by_key(|it| (it.count, it.degradation, it.latency, it.parent, it.choice));
    let mut run = (usize::MAX, 0);
    labels.retain(|label| {
        run = if run.0 == label.count { (run.0, run.1 + 1) } else { (label.count, 1) };
        run.1 <= best
    });
    labels
}

/// Labels for which fewer than `best` others are at least as good in both sums, by rising latency. Thinned if there are
/// too many.
fn undominated(mut labels: Vec<Label>, best: usize, grid: Grid) -> Vec<Label> {
    labels.sort_unstable();
    let mut cheapest: Vec<i64> = Vec::with_capacity(best.min(labels.len()) + 1);
    labels.retain(|label| {
        let at = cheapest.partition_point(|&degradation| degradation <= label.degradation);
        let is_kept = at < best;
        if is_kept {
            cheapest.insert(at, label.degradation);
            cheapest.truncate(best);
        }
        is_kept
    });
    if labels.len() > grid.most { thinned(&labels, best, grid.cell) } else { labels }
}

/// For each latency cell, the `best` least degraded labels and the fastest one, by rising latency.
fn thinned(labels: &[Label], best: usize, cell: i64) -> Vec<Label> {
    let mut kept = Vec::new();
    for group in labels.chunk_by(|a, b| a.latency / cell == b.latency / cell) {
        let mut cheapest = group.to_vec();
        cheapest.sort_unstable_by_key(|it| (it.degradation, it.latency, it.parent, it.choice));
        cheapest.truncate(best);
        if !cheapest.contains(&group[0]) {
            cheapest.push(group[0]);
        }
        cheapest.sort_unstable();
        kept.append(&mut cheapest);
    }
    kept
}

/// The choice that led to a label of the last layer.
fn trace(options: &[Vec<Choice>], layers: &[Vec<Label>], label: usize) -> Solution {
    let end = layers[options.len()][label];
    let mut genome: Genome = vec![None; options.len()];
    let mut label = end;
    for at in (0..options.len()).rev() {
        genome[at] = options[at][label.choice as usize].candidate;
        label = layers[at][label.parent as usize];
    }
    solution(genome, end.latency, end.degradation)
}

#[cfg(test)]
mod tests;
