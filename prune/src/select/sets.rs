//! Evaluates sets of blocks as a whole and stores the scores. The blocks are as they were fitted alone, or in a
//! supernet.

use updp_trainer::evaluator::Score;
use updp_trainer::hash::Fnv;

use crate::candidates::CandidateSet;
use crate::context::Context;
use crate::error::Result;
use crate::evaluation_cache::EvaluationCache;
use crate::search::Genome;
use crate::supernet::Supernet;

/// Scores of sets of blocks.
pub struct SetEvaluator {
    cache: EvaluationCache,
    supernet: Option<Supernet>,
}

impl SetEvaluator {
    /// Evaluates sets with the blocks as they were fitted alone. The scores of a search by joint degradation are stored
    /// beside the fitted blocks.
    ///
    /// # Errors
    /// T0006 when the stored scores cannot be read.
    pub fn of_fitted(cx: &Context<'_>, candidates: &CandidateSet) -> Result<Self> {
        let name = format!("sets{:016x}.jsonl", Fnv::of(candidates.key().as_bytes()));
        let folder = cx.checkpoint.folder().filter(|_| cx.config.strategy().is_some());
        let cache = match folder {
            Some(folder) => EvaluationCache::open(&folder.join(name))?,
            None => EvaluationCache::default(),
        };
        Ok(Self { cache, supernet: None })
    }

    /// Evaluates sets in a trained supernet; `hash` identifies the supernet.
    ///
    /// # Errors
    /// T0006 when the stored scores cannot be read.
    pub fn of_supernet(cx: &Context<'_>, supernet: Supernet, hash: u64) -> Result<Self> {
        let cache = match cx.checkpoint.folder() {
            Some(folder) => {
                EvaluationCache::open(&folder.join(format!("supernet{hash:016x}.jsonl")))?
            }
            None => EvaluationCache::default(),
        };
        Ok(Self { cache, supernet: Some(supernet) })
    }

    /// The score of a set. A known score comes from the cache.
    ///
    /// # Errors
    /// T0006 when the score cannot be stored; errors of running networks.
    pub fn score(
        &mut self,
        cx: &Context<'_>,
        candidates: &CandidateSet,
        genome: &Genome,
    ) -> Result<Score> {
        let set = candidates.words(genome);
        if let Some(known) = self.cache.get(&set) {
            return Ok(known);
        }
        let score = match &mut self.supernet {
            Some(supernet) => supernet.score(&cx.evaluator, genome)?,
            None => cx.fitter().together(&candidates.chosen(genome))?,
        };
        self.cache.put(&set, score)?;
        Ok(score)
    }

    /// The trained supernet; `None` without one.
    #[must_use]
    pub fn supernet(&self) -> Option<&Supernet> {
        self.supernet.as_ref()
    }

    /// A description of the network in which sets are evaluated.
    #[must_use]
    pub fn place(&self) -> &'static str {
        if self.supernet.is_some() { "in the supernet" } else { "as the blocks were fitted alone" }
    }
}
