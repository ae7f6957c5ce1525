//! Evaluates forms of one block inside the network, on the calibration images.
//!
//! The layers before the block ran once ([`ActivationCache`]). The layers behind it are opened once for all forms. So
//! each form costs a run of the block and of the layers behind it.

use updp_ir::Model;
use updp_passes::surgery::{self, part_between};

use crate::activation_cache::{ActivationCache, Part, borrowed};
use crate::error::TrainerError;
use crate::evaluator::{Evaluator, Score};
use crate::fit::FittedForm;
use crate::run::{BatchSource, Runner};

/// Every n-th round of batches, so that the share is spread over all images and counts every fold alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShare {
    /// Number of batches in a round: the number of folds.
    pub round: usize,
    /// Every round with a number divisible by this.
    pub step: usize,
}

impl BatchShare {
    /// Whether the batch with this number belongs to the share.
    #[must_use]
    pub fn contains(self, batch: usize) -> bool {
        (batch / self.round.max(1)).is_multiple_of(self.step.max(1))
    }
}

/// A block, the values in front of it, and the layers behind it.
pub struct BlockEvaluator<'a> {
    runner: &'a Runner,
    evaluator: &'a Evaluator,
    images: &'a dyn BatchSource,
    cache: &'a ActivationCache,
    /// The values at which [`Self::block`] starts: the cut, or the inputs.
    given: Vec<String>,
    /// The layers from the cut to the end of the block.
    block: Model,
    /// The values at which [`Self::block`] ends.
    ends: Vec<String>,
    /// The layers behind the block; `None` if it is the end of the network.
    tail: Option<Part>,
}

impl<'a> BlockEvaluator<'a> {
    /// Opens the layers behind a block. `network` contains the block, and `result` is its output. The cache holds values
    /// of that network for `images`; `evaluator` holds the outputs of the original for the same images, or for the first of
    /// them.
    ///
    /// # Errors
    /// Errors of cutting and opening the network.
    pub fn open(
        runner: &'a Runner,
        evaluator: &'a Evaluator,
        images: &'a dyn BatchSource,
        cache: &'a ActivationCache,
        network: &Model,
        result: &str,
    ) -> Result<Self, TrainerError> {
        let outputs = evaluator.outputs();
        // At the start, the inputs are known.
        let given: Vec<String> = if cache.cut().is_empty() {
            let inputs = network.graph.required_inputs();
            inputs.map(|input| network.graph.value(input).name().to_owned()).collect()
        } else {
            cache.cut().to_vec()
        };
        let is_output = outputs.iter().any(|output| output == result);
        let (ends, tail) = if is_output {
            (outputs.to_vec(), None)
        } else {
            let done: Vec<&str> = borrowed(cache.cut()).into_iter().chain([result]).collect();
            let mut ends = surgery::frontier(network, &done, &borrowed(outputs))?;
            // The block may end in an output that does not count.
            if !ends.iter().any(|end| end == result) {
                ends.push(result.to_owned());
            }
            let tail = Part::open(runner, network, &ends, &borrowed(outputs))?;
            (ends, Some(tail))
        };
        let is_made = |name: &&str| !given.iter().any(|given| given == name);
        let made: Vec<&str> = borrowed(&ends).into_iter().filter(is_made).collect();
        let block = part_between(network, &borrowed(&given), &made)?;
        Ok(Self { runner, evaluator, images, cache, given, block, ends, tail })
    }

    /// The score of the network with a form, on some of the batches. A form that was fitted in folds is evaluated on each batch as it was fitted
    /// without that batch.
    ///
    /// # Errors
    /// Errors of placing the form and of running.
    ///
    /// [`BatchShare`] chooses the batches.
    pub fn score(&mut self, form: &FittedForm, share: BatchShare) -> Result<Score, TrainerError> {
        let mut parts = Vec::new();
        let whole = [&form.fitted];
        let folds: Vec<_> = form.folds.iter().collect();
        for fitted in if folds.is_empty() { &whole[..] } else { &folds } {
            let mut block = self.block.clone();
            surgery::substitute(&mut block, &form.site, fitted)?;
            parts.push(Part::open(self.runner, &block, &self.given, &borrowed(&self.ends))?);
        }
        let mut tally = self.evaluator.tally();
        let flow = self.cache.flow(self.images);
        // Behind the images of the evaluator lie mixtures, which have no reference.
        let scored = self.evaluator.batches();
        let batches = flow.current.unwrap_or(flow.original).batches()?.take(scored);
        for (at, batch) in batches.enumerate() {
            if !share.contains(at) {
                continue;
            }
            let fold = at % parts.len().max(1);
            let mut outputs = parts[fold].run(&batch?.inputs)?;
            if let Some(tail) = &mut self.tail {
                outputs = tail.run(&outputs)?;
            }
            tally.add(at, &outputs)?;
        }
        Ok(tally.score())
    }
}
