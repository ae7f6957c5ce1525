//! The tensors that go from one step to the next.

use updp_ir::Tensor;

/// The kinds of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKind {
    /// A trained tensor.
    Parameter,
    /// A running mean or variance: updated, not trained.
    Statistic,
    /// A moment of the optimizer.
    Moment,
    /// A moving average of a parameter or a statistic.
    Average,
    /// Gradients of batches that have made no update yet.
    Gradient,
    /// The scale of the loss, or the number of batches that decides when the scale changes.
    Scale,
}

/// A tensor that goes from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Name of the step's input that takes it.
    pub input: String,
    /// Name of the step's output that gives the next one.
    pub output: String,
    /// Its kind.
    pub kind: StateKind,
    /// Name of the initializer of the network it belongs to.
    pub source: String,
    /// Its value before the first step: the network's tensor, or zeros.
    pub initial: Tensor,
}
