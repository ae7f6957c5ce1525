//! A training step as one plain ONNX model: forward pass, loss, gradients, optimizer.
//!
//! The inputs of the model are the inputs of the network, labels or outputs of a teacher, the learning rate, and the
//! state. Its outputs are the network's outputs, the loss, and the next state. A trainer feeds the next state back as
//! the state. Nothing else changes from step to step, so one session serves a whole training. [`TrainingStep::settle`]
//! puts the trained tensors into the network that the step was built from.

mod build;
mod loss;
mod optimizer;
mod parameters;
mod prepare;
mod recompute;
mod scale;
mod settle;
mod spec;
mod state;
mod training_step;

pub use recompute::Recomputed;
pub use settle::Settled;
pub use spec::{Distance, Features, Objective, Optimizer, StepSpec};
pub use state::{State, StateKind};
pub use training_step::{StepNames, TrainingStep};
