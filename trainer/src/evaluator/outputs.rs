//! Which outputs are compared, and how much each counts.

use indexmap::IndexMap;
use serde::Serialize;
use updp_ir::{Model, Tensor};

use super::{Answer, Evaluator, Score, main_output};
use crate::error::TrainerError;
use crate::run::Runner;

/// Weights of outputs by name, above 0. None = all outputs with floats for each image, with equal weights.
pub type OutputWeights = IndexMap<String, f64>;

/// The divergence of one output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputScore {
    /// Name of the output.
    pub name: String,
    /// Share of this output in the degradation; all shares sum to 1.
    pub weight: f64,
    /// Divergence of this output from the original, averaged over the images, in nats.
    pub degradation: f64,
}

/// The outputs to compare: the main one, then all other outputs with floats for each image; only those in `wanted` unless
/// that is empty.
///
/// # Errors
/// T0003 when a wanted output has no floats for each image.
pub(super) fn compared_outputs(
    outputs: &IndexMap<String, Tensor>,
    images: usize,
    wanted: &OutputWeights,
) -> Result<Vec<String>, TrainerError> {
    let is_comparable = |tensor: &Tensor| {
        tensor.dtype().is_foldable_float() && tensor.dims().first() == Some(&images)
    };
    for name in wanted.keys() {
        if !outputs.get(name).is_some_and(is_comparable) {
            let found = outputs.get(name).map_or_else(
                || "the model has no such output".to_owned(),
                |tensor| format!("it is {}{:?} for {images} images", tensor.dtype(), tensor.dims()),
            );
            return Err(TrainerError::Output { output: name.clone(), found });
        }
    }
    let is_wanted = |name: &String| wanted.is_empty() || wanted.contains_key(name);
    let own = outputs.iter().filter(|(name, tensor)| is_wanted(name) && is_comparable(tensor));
    let own: IndexMap<String, Tensor> =
        own.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    let Some(main) = main_output(&own, images) else { return Ok(Vec::new()) };
    let others = own.into_keys().filter(|name| *name != main).collect::<Vec<_>>();
    Ok(std::iter::once(main).chain(others).collect())
}

/// The share of each output, so that all sum to 1.
pub(super) fn shares(names: &[String], wanted: &OutputWeights) -> Vec<f64> {
    let weight = |name: &String| wanted.get(name).copied().unwrap_or(1.0);
    let sum: f64 = names.iter().map(weight).sum();
    names.iter().map(|name| weight(name) / sum.max(f64::MIN_POSITIVE)).collect()
}

impl Evaluator {
    /// The weighted divergence of the outputs for one batch, averaged over its images, in nats.
    pub(super) fn divergence(&self, reference: &[Answer], answers: &[Answer]) -> f64 {
        let each = self.each_divergence(reference, answers);
        each.zip(&self.shares).map(|(divergence, share)| share * divergence).sum()
    }

    fn each_divergence<'a>(
        &'a self,
        reference: &'a [Answer],
        answers: &'a [Answer],
    ) -> impl Iterator<Item = f64> + 'a {
        let each = reference.iter().zip(answers).zip(&self.variance);
        each.map(|((old, new), variance)| old.divergence(new, *variance))
    }

    /// The compared outputs with their shares; the main one comes first.
    pub fn shares(&self) -> impl Iterator<Item = (&str, f64)> {
        self.outputs.iter().map(String::as_str).zip(self.shares.iter().copied())
    }

    /// The divergence of each output of a network from the original. `score` is the score of this network. If several
    /// outputs count, the network runs over all images again.
    ///
    /// # Errors
    /// T0003 when an output is missing; errors of running the model.
    pub fn score_by_output(
        &self,
        runner: &Runner,
        model: &Model,
        score: &Score,
    ) -> Result<Vec<OutputScore>, TrainerError> {
        if let [name] = &self.outputs[..] {
            let (name, degradation) = (name.clone(), score.degradation());
            return Ok(vec![OutputScore { name, weight: 1.0, degradation }]);
        }
        let mut executor = runner.open(model)?;
        let mut sums = vec![0.0; self.outputs.len()];
        for (batch, reference) in self.source.batches()?.zip(&self.reference) {
            let batch = batch?;
            let outputs = executor.run(&batch.inputs)?;
            let answers = Answer::all(&outputs, &self.outputs, batch.images())?;
            for (sum, own) in sums.iter_mut().zip(self.each_divergence(reference, &answers)) {
                *sum += own * batch.images() as f64;
            }
        }
        let images = self.images().max(1) as f64;
        let each = self.shares().zip(sums);
        let score = |((name, weight), sum): ((&str, f64), f64)| OutputScore {
            name: name.to_owned(),
            weight,
            degradation: sum / images,
        };
        Ok(each.map(score).collect())
    }
}
