//! The tensors that one step passes to the next.

use updp_ir::Tensor;

/// The kinds of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKind {
    /// A trained tensor.
    Parameter,
    /// A running mean or variance. It is updated, not trained.
    Statistic,
    /// A moment of the optimizer.
    Moment,
    /// A moving average of a parameter or a statistic.
    Average,
    /// Gradients of batches that have not made an update yet.
    Gradient,
    /// The scale of the loss, or the number of batches that decides when the scale changes.
    Scale,
}

/// A tensor that one step passes to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The name of the step's input that takes it.
    pub input: String,
    /// The name of the step's output that gives the next value.
    pub output: String,
    /// Its kind.
    pub kind: StateKind,
    /// The name of the initializer of the network that it belongs to.
    pub source: String,
    /// Its value before the first step: the network's tensor, or zeros.
    pub initial: Tensor,
}
