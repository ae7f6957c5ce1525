//! The genomes that meet a constraint according to the table: draws, changes and lists them.

use super::super::{BlockCost, Choice, Constraint, Genome, bound_units, choices};
use updp_trainer::seed::Generator;

/// Items with their choices, and the bounds that a genome must meet.
pub(super) struct Space {
    pub(super) constraint: Constraint,
    pub(super) options: Vec<Vec<Choice>>,
    /// Exact number of pruned blocks.
    count: Option<usize>,
    /// Largest latency, in units.
    latency: i64,
}

impl Space {
    /// The space of a constraint; `None` when its bound is not a number.
    pub(super) fn new(blocks: &[BlockCost], constraint: Constraint) -> Option<Self> {
        let options = blocks.iter().map(choices).collect();
        let (count, latency) = match constraint {
            Constraint::Count(count) => (Some(count), i64::MAX),
            Constraint::Latency(bound) => (None, bound_units(bound)?),
            Constraint::Degradation(bound) => bound_units(bound).map(|_| (None, i64::MAX))?,
        };
        Some(Self { constraint, options, count, latency })
    }

    /// Whether any genome meets the constraint.
    pub(super) fn is_open(&self) -> bool {
        let fastest: i64 = self.options.iter().map(|it| least(it)).sum();
        fastest <= self.latency && self.count.is_none_or(|count| count <= self.prunable().len())
    }

    /// Items that can be pruned.
    fn prunable(&self) -> Vec<usize> {
        (0..self.options.len()).filter(|at| self.options[*at].len() > 1).collect()
    }

    /// Latency of an block in a genome, in units.
    fn latency_of(&self, at: usize, candidate: Option<usize>) -> i64 {
        self.options[at].iter().find(|it| it.candidate == candidate).map_or(0, |it| it.latency)
    }

    /// Latency of a genome, in units.
    pub(super) fn latency(&self, genome: &Genome) -> i64 {
        genome.iter().enumerate().map(|(at, candidate)| self.latency_of(at, *candidate)).sum()
    }

    /// Whether a genome meets the constraint, ignoring degradation bounds.
    pub(super) fn admits(&self, genome: &Genome) -> bool {
        self.latency(genome) <= self.latency
            && self.count.is_none_or(|count| genome.iter().flatten().count() == count)
    }

    /// Every genome that meets the constraint, ignoring degradation bounds, without the unpruned one. `None` if there
    /// are more than `most`.
    pub(super) fn all(&self, most: usize) -> Option<Vec<Genome>> {
        let mut found = Vec::new();
        let mut genome = vec![None; self.options.len()];
        self.list(0, &mut genome, (0, 0), most, &mut found).then_some(found)
    }

    /// Lists the genomes that begin with `genome[..at]`, whose sums are `count` and `latency`. Returns `false` if there
    /// are too many. Every prefix that is followed leads to a genome, so this ends quickly.
    fn list(
        &self,
        at: usize,
        genome: &mut Genome,
        (count, latency): (usize, i64),
        most: usize,
        found: &mut Vec<Genome>,
    ) -> bool {
        let rest = &self.options[at..];
        let fastest: i64 = rest.iter().map(|it| least(it)).sum();
        let may = rest.iter().filter(|it| it.len() > 1).count();
        let is_dead = latency + fastest > self.latency
            || self.count.is_some_and(|wanted| count > wanted || count + may < wanted);
        if is_dead {
            return true;
        }
        if rest.is_empty() {
            if genome.iter().any(Option::is_some) {
                found.push(genome.clone());
            }
            return found.len() <= most;
        }
        for choice in &self.options[at] {
            genome[at] = choice.candidate;
            let sums = (count + usize::from(choice.candidate.is_some()), latency + choice.latency);
            if !self.list(at + 1, genome, sums, most, found) {
                return false;
            }
        }
        genome[at] = None;
        true
    }

    /// Draws a genome that meets the constraint, ignoring degradation bounds. The space must be open.
    pub(super) fn draw(&self, generator: &mut Generator) -> Genome {
        let mut genome = vec![None; self.options.len()];
        if self.latency == i64::MAX {
            let mut prunable = self.prunable();
            generator.shuffle(&mut prunable);
            // If no number of blocks is set, all numbers are equally likely.
            let count = self.count.unwrap_or_else(|| generator.below(prunable.len()) + 1);
            for at in prunable.into_iter().take(count) {
                genome[at] = self.form(at, generator);
            }
        } else {
            self.make_fast(&mut genome, generator);
        }
        genome
    }

    /// A random form of a block that has one.
    fn form(&self, at: usize, generator: &mut Generator) -> Option<usize> {
        let forms = &self.options[at][1..];
        forms.get(generator.below(forms.len())).and_then(|choice| choice.candidate)
    }

    /// Changes each gene with probability 1/genes, and at least one of them.
    pub(super) fn mutate(&self, genome: &mut Genome, generator: &mut Generator) {
        let mut prunable = self.prunable();
        if prunable.is_empty() {
            return;
        }
        let count = prunable.len();
        let mut chosen: Vec<usize> =
            prunable.iter().copied().filter(|_| generator.below(count) == 0).collect();
        if chosen.is_empty() {
            chosen.push(prunable.swap_remove(generator.below(count)));
        }
        for at in chosen {
            let others: Vec<Option<usize>> = self.options[at]
                .iter()
                .map(|choice| choice.candidate)
                .filter(|candidate| *candidate != genome[at])
                .collect();
            genome[at] = others[generator.below(others.len())];
        }
    }

    /// Changes a genome until it meets the constraint, ignoring degradation bounds. The space must be open.
    pub(super) fn repair(&self, genome: &mut Genome, generator: &mut Generator) {
        if let Some(count) = self.count {
            self.make_count(genome, count, generator);
        } else if self.latency < i64::MAX {
            self.make_fast(genome, generator);
            // Blocks that the bound does not need are restored half of the time, because pruning more rarely loses
            // less.
            if generator.below(2) == 0 {
                self.put_back(genome, generator);
            }
        }
    }

    fn make_count(&self, genome: &mut Genome, count: usize, generator: &mut Generator) {
        let (mut pruned, mut kept): (Vec<usize>, Vec<usize>) =
            self.prunable().into_iter().partition(|at| genome[*at].is_some());
        while pruned.len() > count {
            let at = pruned.swap_remove(generator.below(pruned.len()));
            genome[at] = None;
        }
        while pruned.len() < count && !kept.is_empty() {
            let at = kept.swap_remove(generator.below(kept.len()));
            genome[at] = self.form(at, generator);
            pruned.push(at);
        }
    }

    /// Gives random blocks random faster forms until the latency bound is met.
    fn make_fast(&self, genome: &mut Genome, generator: &mut Generator) {
        let mut latency = self.latency(genome);
        while latency > self.latency {
            let faster = |at: usize| -> Vec<Choice> {
                let own = self.latency_of(at, genome[at]);
                self.options[at].iter().copied().filter(|it| it.latency < own).collect()
            };
            let mut open: Vec<(usize, Vec<Choice>)> = (0..self.options.len())
                .map(|at| (at, faster(at)))
                .filter(|(_, faster)| !faster.is_empty())
                .collect();
            if open.is_empty() {
                break;
            }
            let (at, faster) = open.swap_remove(generator.below(open.len()));
            let choice = faster[generator.below(faster.len())];
            latency += choice.latency - self.latency_of(at, genome[at]);
            genome[at] = choice.candidate;
        }
    }

    fn put_back(&self, genome: &mut Genome, generator: &mut Generator) {
        let mut pruned: Vec<usize> = (0..genome.len()).filter(|at| genome[*at].is_some()).collect();
        generator.shuffle(&mut pruned);
        let mut latency = self.latency(genome);
        for at in pruned {
            let back = latency + self.options[at][0].latency - self.latency_of(at, genome[at]);
            if back <= self.latency {
                latency = back;
                genome[at] = None;
            }
        }
    }
}

/// The smallest latency of a block.
fn least(choices: &[Choice]) -> i64 {
    choices.iter().map(|choice| choice.latency).min().unwrap_or(0)
}
