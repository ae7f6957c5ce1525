//! Searches over sets of blocks by what they lose together: genetic, greedy and random, each with so many evaluations.
//!
//! A genome says for each block whether it stays or which of its forms it takes (`[UPDP]` eq. 1 has one form a block). A
//! count or a latency, by the table, holds for every genome that a search draws; a degradation bound is on the joint degradation,
//! which is known only once a genome was evaluated. Where no more genomes than evaluations reach the constraint, each of them is
//! evaluated and the answer is exact.
//!
//! Every evaluation goes to an [`Archive`], which answers other constraints too: one search serves every number of blocks and every
//! speedup.

mod archive;
mod genetic;
mod greedy;
mod space;

use super::{BlockCost, Constraint, Genome, Solution};
pub use archive::{Archive, Evaluated};
use space::Space;
use updp_trainer::seed::Generator;

/// Draws after which a search believes that nothing new is left.
const DRAWS: usize = 200;

/// How genomes are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Tournaments, uniform crossover, mutation and elitism, from the starts and drawn genomes (`[UPDP]` sec. 3).
    Genetic,
    /// From the unpruned network one block at a time, the one that costs least for what it gives.
    Greedy,
    /// Evenly drawn.
    Random,
}

impl Strategy {
    /// Stable name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Genetic => "genetic",
            Self::Greedy => "greedy",
            Self::Random => "random",
        }
    }
}

/// How a search is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How genomes are looked for.
    pub strategy: Strategy,
    /// Genomes evaluated at most; those the archive knows are free.
    pub evaluations: usize,
    /// Seed of what is drawn.
    pub seed: u64,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Explored {
    /// The best evaluated choice that reaches the constraint by the table; of a degradation bound by the joint degradation. The unpruned network
    /// where there is none.
    pub best: Solution,
    /// What it loses, in points; 0 for the unpruned network.
    pub joint_degradation: f64,
    /// Whether it meets the constraint, degradation bounds by the joint degradation.
    pub is_reached: bool,
    /// Genomes evaluated in this search.
    pub evaluated: usize,
    /// Whether every genome that reaches the constraint was evaluated.
    pub is_exhaustive: bool,
}

/// Searches for the choice with the smallest joint degradation that reaches the constraint by the table; for [`Constraint::Degradation`] the
/// fastest whose joint degradation is within the bound. Ties go to the faster, then to the earlier.
///
/// `joint` tells what a choice loses, in points; NaN counts as infinitely much. It is called for a genome at most once,
/// `evaluations` times in all, never for one that the archive knows and never for the unpruned network, which loses 0. The
/// genetic search starts from `starts`, those of the archive and drawn ones; starts that do not reach the constraint are passed
/// over. Same inputs, same answer.
///
/// # Errors
/// Whatever `joint` reports, at once; the archive keeps what was evaluated before.
pub fn explore<E>(
    blocks: &[BlockCost],
    constraint: Constraint,
    starts: &[Solution],
    settings: Settings,
    archive: &mut Archive,
    joint: &mut dyn FnMut(&Genome) -> Result<f64, E>,
) -> Result<Explored, E> {
    let before = archive.entries().len();
    let mut is_exhaustive = false;
    if let Some(space) = Space::new(blocks, constraint).filter(Space::is_open) {
        let left = settings.evaluations;
        let mut trial = Trial { blocks, archive, left, joint };
        let mut generator = Generator::new(settings.seed);
        if let Some(all) = space.all(settings.evaluations) {
            is_exhaustive = true;
            for genome in all {
                trial.look(&genome)?;
            }
        } else {
            match settings.strategy {
                Strategy::Genetic => genetic::run(&mut trial, &space, starts, &mut generator)?,
                Strategy::Greedy => greedy::run(&mut trial, &space)?,
                Strategy::Random => random(&mut trial, &space, &mut generator)?,
            }
        }
    }
    let evaluated = archive.entries().len() - before;
    let (best, joint_degradation) = archive.best(constraint);
    let by_joint = Solution { degradation: joint_degradation, ..best.clone() };
    let is_reached = constraint.is_reached_by(&by_joint);
    Ok(Explored { best, joint_degradation, is_reached, evaluated, is_exhaustive })
}

/// Evaluates until the budget is used up.
struct Trial<'a, E> {
    blocks: &'a [BlockCost],
    archive: &'a mut Archive,
    left: usize,
    joint: &'a mut dyn FnMut(&Genome) -> Result<f64, E>,
}

impl<E> Trial<'_, E> {
    /// What a genome loses; `None` when it is not known and no evaluation is left, or when it does not fit the blocks.
    fn look(&mut self, genome: &Genome) -> Result<Option<f64>, E> {
        if let Some(known) = self.archive.degradation_of(genome) {
            return Ok(Some(known));
        }
        let Some(solution) = super::sum(self.blocks, genome).filter(|_| self.left > 0) else {
            return Ok(None);
        };
        self.left -= 1;
        let found = (self.joint)(genome)?;
        let joint_degradation = if found.is_nan() { f64::INFINITY } else { found };
        self.archive.add(Evaluated { solution, joint_degradation });
        Ok(Some(joint_degradation))
    }
}

/// Drawn genomes until the budget is used up.
fn random<E>(trial: &mut Trial<'_, E>, space: &Space, generator: &mut Generator) -> Result<(), E> {
    while trial.left > 0 {
        let mut drawn = (0..DRAWS).map(|_| space.draw(generator));
        let Some(genome) = drawn.find(|it| trial.archive.degradation_of(it).is_none()) else {
            break;
        };
        trial.look(&genome)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
