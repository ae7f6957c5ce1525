//! A training step as data: its model, its states, and the names of its inputs and outputs that a training loop uses.

use updp_ir::Model;

use super::state::State;
use crate::alternative::Alternative;

/// Names of the inputs and outputs of a step model that a training loop sets and reads. The names are stored with the
/// step, because the step takes a fresh name if the network already has a value with the usual name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepNames {
    /// Input: soft labels `[N, classes]`. `None` when the objective has no labels.
    pub targets: Option<String>,
    /// Inputs: outputs of a teacher, either one input or one input for each output of the network. Empty when the
    /// objective has no teacher.
    pub teachers: Vec<String>,
    /// Inputs: the teacher's values that are matched inside the network, in the order of [`super::StepSpec::features`],
    /// each in the shape of its value.
    pub features: Vec<String>,
    /// Input: the learning rate, f32 `[]`.
    pub learning_rate: String,
    /// Input: the number of this update counted from 1, f32 `[]`. Only AdamW needs it.
    pub step: Option<String>,
    /// Input: 1 when this batch makes the update, 0 when it only adds its gradients, f32 `[]`. Only with accumulation.
    pub apply: Option<String>,
    /// Input: the weight of this batch in the gradient, such as 1 / number of batches, f32 `[]`. Only with
    /// accumulation.
    pub share: Option<String>,
    /// Output: the loss of the batch, f32 `[]`.
    pub loss: String,
    /// Output: the number of images whose largest score is at the place of the largest label (or of the teacher's
    /// largest score), f32 `[]`. `None` when the objective has no scores.
    pub correct: Option<String>,
    /// Output: the norm of all gradients together before clipping, f32 `[]`.
    pub gradient_norm: String,
}

impl StepNames {
    /// The outputs that report results of a step: loss, number of correct images and gradient norm, if the step has
    /// them.
    #[must_use]
    pub fn results(&self) -> Vec<&str> {
        let given = [Some(&self.loss), self.correct.as_ref(), Some(&self.gradient_norm)];
        given.into_iter().flatten().map(String::as_str).collect()
    }
}

/// A training step. Every name is the name of an input or output of `model`.
#[derive(Debug)]
pub struct TrainingStep {
    /// The model of the step. Its outputs begin with the outputs of the network.
    pub model: Model,
    /// All states, in a fixed order.
    pub states: Vec<State>,
    /// Inputs of the network, such as images and λ.
    pub network_inputs: Vec<String>,
    /// Outputs of the network.
    pub network_outputs: Vec<String>,
    /// Inputs and outputs that the step adds to those of the network, except the states.
    pub names: StepNames,
    /// Fused operators that can replace some of the nodes.
    pub(crate) alternatives: Vec<Alternative>,
}
