//! How long work tells its caller what it does, and learns that it is to stop.

use crate::evaluator::Score;
use crate::train::Progress;

/// Receives progress, messages and warnings, and may cancel. Every method has a default that does nothing, so an
/// implementation overrides only the methods it needs.
pub trait Observer {
    /// A piece of work begins or goes on: what it is, how many steps are done, and how many there are (0 = not known).
    fn progress(&mut self, _what: &str, _done: usize, _total: usize) {}

    /// Something worth knowing.
    fn message(&mut self, _text: &str) {}

    /// Something that speaks against the result.
    fn warning(&mut self, text: &str) {
        self.message(text);
    }

    /// What happens in a training.
    fn training(&mut self, _event: TrainingEvent<'_>) {}

    /// Asked between steps; `true` ends the work. A training saves its state first.
    fn is_cancelled(&mut self) -> bool {
        false
    }
}

/// What happens in a training, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrainingEvent<'a> {
    /// A training begins or resumes.
    Started {
        /// Epochs in all.
        epochs: usize,
        /// Whether λ rises from 0 to 1.
        has_lambda: bool,
        /// Whether a supernet is trained; its epochs are scored with every block pruned.
        is_supernet: bool,
    },
    /// An update is done.
    Step(&'a Progress),
    /// A network is about to be scored.
    Evaluating,
    /// An epoch is done and the network is scored.
    Epoch {
        /// Number of the epoch, from 1.
        epoch: u64,
        /// Score of the network, λ at its final value.
        score: &'a Score,
    },
    /// The training is over, also after an error.
    Ended,
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
