//! The genetic search: a population of genomes that meet the constraint. The better half survives each generation.
//!
//! A child takes each gene from one of two parents. Each parent is the better of two drawn genomes. Some genes mutate,
//! and the child is repaired until it meets the constraint. A child that was evaluated before is rejected, because
//! evaluations are the expensive part.

use super::super::{Genome, Solution};
use super::archive::{Evaluated, compare};
use super::space::Space;
use super::{DRAWS, Trial};
use updp_trainer::seed::Generator;

/// Number of genomes drawn for each parent.
const TOURNAMENT: usize = 2;
/// Smallest and largest population.
const POPULATION: (usize, usize) = (8, 32);
/// Number of generations that the budget is planned for.
const GENERATIONS: usize = 8;
/// One child in this many is a mutated copy of its first parent, without crossover.
const CLONES: usize = 4;

/// Evaluates generation after generation until the budget is used up or nothing new is found.
pub(super) fn run<E>(
    trial: &mut Trial<'_, E>,
    space: &Space,
    starts: &[Solution],
    generator: &mut Generator,
) -> Result<(), E> {
    let size = (trial.left / GENERATIONS).clamp(POPULATION.0, POPULATION.1);
    let mut population = Population { space, members: known(trial, space, size / 2) };
    for start in starts.iter().take(size / 2) {
        let is_open =
            super::super::sum(trial.blocks, &start.genome).is_some() && space.admits(&start.genome);
        if is_open && !population.join(trial, &start.genome)? {
            return Ok(());
        }
    }
    for _ in 0..DRAWS {
        if population.members.len() >= size {
            break;
        }
        if !population.join(trial, &space.draw(generator))? {
            return Ok(());
        }
    }
    while trial.left > 0 {
        population.keep(size / 2);
        let parents = population.members.clone();
        let mut is_new = false;
        while population.members.len() < size && trial.left > 0 {
            let Some(child) = breed(trial, space, &parents, generator) else { break };
            population.join(trial, &child)?;
            is_new = true;
        }
        if !is_new {
            break;
        }
    }
    Ok(())
}

/// The best genomes that earlier searches evaluated.
fn known<E>(trial: &Trial<'_, E>, space: &Space, most: usize) -> Vec<Evaluated> {
    let entries = trial.archive.entries().iter();
    let mut known: Vec<Evaluated> =
        entries.filter(|it| space.admits(&it.solution.genome)).cloned().collect();
    known.sort_by(|a, b| compare(space.constraint, a, b));
    known.truncate(most);
    known
}

struct Population<'a> {
    space: &'a Space,
    members: Vec<Evaluated>,
}

impl Population<'_> {
    /// Evaluates a genome and adds it, unless it is already a member. Returns `false` if no evaluation was left for it.
    fn join<E>(&mut self, trial: &mut Trial<'_, E>, genome: &Genome) -> Result<bool, E> {
        if self.members.iter().any(|it| it.solution.genome == *genome) {
            return Ok(true);
        }
        let Some(joint_degradation) = trial.look(genome)? else { return Ok(false) };
        if let Some(solution) = super::super::sum(trial.blocks, genome) {
            self.members.push(Evaluated { solution, joint_degradation });
        }
        Ok(true)
    }

    /// Keeps the best `most` members.
    fn keep(&mut self, most: usize) {
        self.members.sort_by(|a, b| compare(self.space.constraint, a, b));
        self.members.truncate(most.max(1));
    }
}

/// A child that was not evaluated yet. It comes from the parents or, if they yield no new child, from a random draw.
fn breed<E>(
    trial: &Trial<'_, E>,
    space: &Space,
    parents: &[Evaluated],
    generator: &mut Generator,
) -> Option<Genome> {
    let is_new = |genome: &Genome| trial.archive.degradation_of(genome).is_none();
    for _ in 0..DRAWS {
        let mut child = parent(parents, generator)?.clone();
        let is_crossed = generator.below(CLONES) > 0;
        if is_crossed {
            let other = parent(parents, generator)?;
            for (own, gene) in child.iter_mut().zip(other) {
                if generator.below(2) == 0 {
                    *own = *gene;
                }
            }
        }
        if !is_crossed || generator.below(2) == 0 {
            space.mutate(&mut child, generator);
        }
        space.repair(&mut child, generator);
        if is_new(&child) {
            return Some(child);
        }
    }
    (0..DRAWS).map(|_| space.draw(generator)).find(is_new)
}

/// The best of a few drawn parents. Parents are sorted, the best first.
fn parent<'a>(parents: &'a [Evaluated], generator: &mut Generator) -> Option<&'a Genome> {
    if parents.is_empty() {
        return None;
    }
    let drawn = (0..TOURNAMENT).map(|_| generator.below(parents.len()));
    drawn.min().map(|best| &parents[best].solution.genome)
}
