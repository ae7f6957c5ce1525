//! Searches over sets of blocks by joint degradation: genetic, greedy and random, each with a limited number of
//! evaluations.
//!
//! For each block, a genome says whether the block stays or which form it takes (`[UPDP]` eq. 1 has one form per
//! block). Every drawn genome meets a count or a latency bound according to the table. A degradation bound applies to
//! the joint degradation, which is known only after an evaluation. If the budget covers every genome that meets the
//! constraint, all of them are evaluated and the answer is exact.
//!
//! Every evaluation is stored in an [`Archive`], which can also answer other constraints. So one search serves every
//! number of blocks and every speedup.

mod archive;
mod genetic;
mod greedy;
mod space;

use super::{BlockCost, Constraint, Genome, Solution};
pub use archive::{Archive, Evaluated};
use space::Space;
use updp_trainer::seed::Generator;

/// After this many draws without a new genome, a search assumes that none is left.
const DRAWS: usize = 200;

/// The strategy for finding genomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Tournaments, uniform crossover, mutation and elitism. It begins with the starts and with drawn genomes (`[UPDP]`
    /// sec. 3).
    Genetic,
    /// One block at a time from the unpruned network, each time the one with the lowest cost for its gain.
    Greedy,
    /// Uniform random draws.
    Random,
}

impl Strategy {
    /// Stable name for reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Genetic => "genetic",
            Self::Greedy => "greedy",
            Self::Random => "random",
        }
    }
}

/// The settings of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The strategy for finding genomes.
    pub strategy: Strategy,
    /// Maximum number of evaluated genomes. Genomes that the archive already knows do not count.
    pub evaluations: usize,
    /// Seed of the random draws.
    pub seed: u64,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Explored {
    /// The best evaluated choice that meets the constraint: a degradation bound by the joint degradation, any other by
    /// the table. If no choice meets it, it is the unpruned network.
    pub best: Solution,
    /// Joint degradation of the best choice, in points; 0 for the unpruned network.
    pub joint_degradation: f64,
    /// Whether the best choice meets the constraint. Degradation bounds apply to the joint degradation.
    pub is_reached: bool,
    /// Number of genomes evaluated in this search.
    pub evaluated: usize,
    /// Whether every genome that meets the constraint was evaluated.
    pub is_exhaustive: bool,
}

/// Searches for the choice with the smallest joint degradation that meets the constraint according to the table. For
/// [`Constraint::Degradation`], searches for the fastest choice whose joint degradation is within the bound. In a tie,
/// the faster choice wins, then the earlier one.
///
/// `joint` returns the degradation of a choice, in points; NaN counts as infinite. It is called at most once per genome
/// and at most `evaluations` times in total. It is never called for a genome that the archive knows or for the unpruned
/// network, whose degradation is 0. The genetic search begins with `starts`, the genomes of the archive and drawn
/// genomes. It skips starts that do not meet the constraint. The same inputs give the same answer.
///
/// # Errors
/// Any error of `joint` ends the search immediately. The archive keeps the earlier evaluations.
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
    /// The degradation of a genome. `None` if it is unknown and no evaluation is left, or if the genome does not fit
    /// the blocks.
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

/// Evaluates drawn genomes until the budget is used up.
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
