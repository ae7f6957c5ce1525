//! A training step as data: its model, its states, and the names by which a training loop reaches its inputs and outputs.

use updp_ir::Model;

use super::state::State;
use crate::alternative::Alternative;

/// Names of the inputs and outputs of a step model that a training loop gives and reads. The names travel with the step, because
/// the step takes a fresh name where the network has a value of the usual name already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepNames {
    /// Input: soft labels `[N, classes]`; `None` when the objective has no labels.
    pub targets: Option<String>,
    /// Inputs: outputs of a teacher, one input or one for each output of the network; empty when the objective has no teacher.
    pub teachers: Vec<String>,
    /// Input: the learning rate, f32 `[]`.
    pub learning_rate: String,
    /// Input: the number of this update counted from 1, f32 `[]`; only AdamW needs it.
    pub step: Option<String>,
    /// Input: 1 when this batch makes the update, 0 when it only adds its gradients, f32 `[]`; only with accumulation.
    pub apply: Option<String>,
    /// Input: weight of this batch in the gradient, such as 1 / number of batches, f32 `[]`; only with accumulation.
    pub share: Option<String>,
    /// Output: the loss of the batch, f32 `[]`.
    pub loss: String,
    /// Output: number of images whose largest score is at the place of the largest label (or of the teacher's largest score),
    /// f32 `[]`; `None` when the objective has no scores.
    pub correct: Option<String>,
    /// Output: norm of all gradients together before clipping, f32 `[]`.
    pub gradient_norm: String,
}

impl StepNames {
    /// The outputs that are results of a step: loss, number of correct images, gradient norm, as far as the step gives them.
    #[must_use]
    pub fn results(&self) -> Vec<&str> {
        let given = [Some(&self.loss), self.correct.as_ref(), Some(&self.gradient_norm)];
        given.into_iter().flatten().map(String::as_str).collect()
    }
}

/// A training step. Every name is that of an input or output of `model`.
#[derive(Debug)]
pub struct TrainingStep {
    /// The step; its outputs begin with those of the network.
    pub model: Model,
    /// Everything that goes from step to step, in a fixed order.
    pub states: Vec<State>,
    /// Inputs of the network, such as images and λ.
    pub network_inputs: Vec<String>,
    /// Outputs of the network.
    pub network_outputs: Vec<String>,
    /// Inputs and outputs that the step adds to those of the network, beside the states.
    pub names: StepNames,
    /// Fused operators that can replace some of the nodes.
    pub(crate) alternatives: Vec<Alternative>,
}
