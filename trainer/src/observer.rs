//! Lets long work report its progress and receive a request to stop.

use crate::evaluator::Score;
use crate::train::Progress;

/// Receives progress, messages and warnings, and may cancel. Every method has a default that does nothing, so an
/// implementation overrides only the methods it needs.
pub trait Observer {
    /// A numbered stage of a long job starts, and the one before it ends. The arguments are its number, from 1, the
    /// number of stages of the job, and its name.
    fn stage(&mut self, _number: usize, _total: usize, _text: &str) {}

    /// A piece of work starts or continues. The arguments are its name, the number of finished steps and the total
    /// number of steps (0 = unknown).
    fn progress(&mut self, _what: &str, _done: usize, _total: usize) {}

    /// Useful information.
    fn message(&mut self, _text: &str) {}

    /// A possible problem with the result.
    fn warning(&mut self, text: &str) {
        self.message(text);
    }

    /// An event in a training.
    fn training(&mut self, _event: TrainingEvent<'_>) {}

    /// Called between steps; `true` ends the work. A training saves its state first.
    fn is_cancelled(&mut self) -> bool {
        false
    }
}

/// The events of a training, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrainingEvent<'a> {
    /// A training begins or resumes.
    Started {
        /// Total number of epochs.
        epochs: usize,
        /// Whether λ rises from 0 to 1.
        has_lambda: bool,
        /// Whether a supernet is trained; its epochs are scored with every block pruned.
        is_supernet: bool,
    },
    /// An update is finished.
    Step(&'a Progress),
    /// A network is about to be scored.
    Evaluating,
    /// An epoch is finished and the network is scored.
    Epoch {
        /// Number of the epoch, from 1.
        epoch: u64,
        /// Score of the network with λ at its final value.
        score: &'a Score,
    },
    /// The training is over. This is also sent after an error.
    Ended,
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
