//! The archive of all evaluated genomes and the queries on it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::super::{BlockCost, Constraint, Genome, Solution, choices, solution, sum};

/// A choice with its degradation.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The choice with its sums from the table.
    pub solution: Solution,
    /// Joint degradation of all its blocks, in points; ∞ if it is not a number.
    pub joint_degradation: f64,
}

impl Evaluated {
    /// Number of pruned blocks.
    #[must_use]
    pub fn count(&self) -> usize {
        self.solution.genome.iter().flatten().count()
    }
}

/// Every evaluated genome, once and in order, with the unpruned network, whose degradation is 0.
#[derive(Clone, Debug)]
pub struct Archive {
    unpruned: Evaluated,
    entries: Vec<Evaluated>,
    index: BTreeMap<Genome, usize>,
}

impl Archive {
    /// An archive of these blocks without any evaluation.
    #[must_use]
    pub fn new(blocks: &[BlockCost]) -> Self {
        let latency = blocks.iter().map(|block| choices(block)[0].latency).sum();
        let solution = solution(vec![None; blocks.len()], latency, 0);
        let unpruned = Evaluated { solution, joint_degradation: 0.0 };
        Self { unpruned, entries: Vec::new(), index: BTreeMap::new() }
    }

    /// The same evaluations of the same blocks with the costs of `blocks`. Genomes that do not fit `blocks` are left
    /// out.
    #[must_use]
    pub fn over(&self, blocks: &[BlockCost]) -> Self {
        let mut own = Self::new(blocks);
        for it in &self.entries {
            if let Some(solution) = sum(blocks, &it.solution.genome) {
                own.add(Evaluated { solution, joint_degradation: it.joint_degradation });
            }
        }
        own
    }

    /// The evaluated genomes in order, without the unpruned network.
    #[must_use]
    pub fn entries(&self) -> &[Evaluated] {
        &self.entries
    }

    /// Degradation of a genome, in points; `None` if it was not evaluated.
    #[must_use]
    pub fn degradation_of(&self, genome: &Genome) -> Option<f64> {
        if *genome == self.unpruned.solution.genome {
            return Some(0.0);
        }
        Some(self.entries[*self.index.get(genome)?].joint_degradation)
    }

    pub(super) fn add(&mut self, evaluated: Evaluated) {
        self.index.insert(evaluated.solution.genome.clone(), self.entries.len());
        self.entries.push(evaluated);
    }

    /// The best choice that reaches a constraint, with what it loses: a count or a latency by the table, a degradation bound by the
    /// joint degradation. The unpruned network where there is none.
    #[must_use]
    pub fn best(&self, constraint: Constraint) -> (Solution, f64) {
        let all = self.entries.iter().chain([&self.unpruned]);
        let best = all.filter(|it| admits(constraint, it)).min_by(|a, b| compare(constraint, a, b));
        let best = best.unwrap_or(&self.unpruned);
        (best.solution.clone(), best.joint_degradation)
    }

    /// The choices for which no other choice is both faster and less degraded, including the unpruned network. The
    /// slowest comes first.
    #[must_use]
    pub fn front_by_latency(&self) -> Vec<Evaluated> {
        self.front(|it| it.solution.latency_ms)
    }

    /// The choices for which no other choice prunes at least as many blocks with less degradation. The fewest blocks
    /// come first.
    #[must_use]
    pub fn front_by_count(&self) -> Vec<Evaluated> {
        self.front(|it| -(it.count() as f64))
    }

    /// Pareto front of the joint degradation and a second quantity to minimize. The least degraded choice comes first.
    fn front(&self, what: impl Fn(&Evaluated) -> f64) -> Vec<Evaluated> {
        let mut all: Vec<&Evaluated> = self.entries.iter().chain([&self.unpruned]).collect();
        all.sort_by(|a, b| {
            a.joint_degradation
                .total_cmp(&b.joint_degradation)
                .then_with(|| what(a).total_cmp(&what(b)))
                .then_with(|| a.solution.latency_ms.total_cmp(&b.solution.latency_ms))
        });
        let mut least = f64::INFINITY;
        all.retain(|it| {
            let is_new = it.joint_degradation < f64::INFINITY && what(it) < least;
            if is_new {
                least = what(it);
            }
            is_new
        });
        all.into_iter().cloned().collect()
    }
}

/// Whether a choice is allowed under a constraint.
fn admits(constraint: Constraint, it: &Evaluated) -> bool {
    match constraint {
        Constraint::Degradation(bound) => it.joint_degradation <= bound,
        Constraint::Count(_) | Constraint::Latency(_) => constraint.is_reached_by(&it.solution),
    }
}

/// Orders two choices; the better one comes first.
pub(super) fn compare(constraint: Constraint, a: &Evaluated, b: &Evaluated) -> Ordering {
    let key = |it: &Evaluated| match constraint {
        Constraint::Degradation(bound) if it.joint_degradation <= bound => {
            (0, it.solution.latency_ms, it.joint_degradation)
        }
        Constraint::Degradation(_) => (1, it.joint_degradation, it.solution.latency_ms),
        _ => (0, it.joint_degradation, it.solution.latency_ms),
    };
    let (a, b) = (key(a), key(b));
    a.0.cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)).then_with(|| a.2.total_cmp(&b.2))
}
