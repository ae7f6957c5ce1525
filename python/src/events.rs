//! The observer that passes events to Python.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use updp_compile::{Observer, TrainingEvent};

/// Least time between two reports of progress, and between two looks at the signals.
const INTERVAL: Duration = Duration::from_millis(50);

/// Calls a Python function with each event: `(kind, text, done, total)`.
pub(crate) struct Events {
    listener: Py<PyAny>,
    /// What the function raised, or a signal.
    error: Option<PyErr>,
    told: Option<Instant>,
    looked: Option<Instant>,
    epochs: usize,
}

impl Events {
    pub(crate) fn new(listener: Py<PyAny>) -> Self {
        Self { listener, error: None, told: None, looked: None, epochs: 0 }
    }

    /// Raises what ended the work; also a signal that nobody looked at yet.
    pub(crate) fn check(&mut self, py: Python<'_>) -> PyResult<()> {
        self.error.take().map_or_else(|| py.check_signals(), Err)
    }

    fn call(&mut self, kind: &str, text: &str, done: usize, total: usize) {
        if self.error.is_some() {
            return;
        }
        let result = Python::attach(|py| self.listener.call1(py, (kind, text, done, total)));
        self.error = result.err();
    }
}

/// Whether the interval is over; then the next one begins.
fn is_due(last: &mut Option<Instant>) -> bool {
    let is_due = last.is_none_or(|last| last.elapsed() >= INTERVAL);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}

/// Raises what the handler of a signal raises, such as that of Ctrl-C.
fn signals(py: Python<'_>) -> PyResult<()> {
    py.check_signals()
}

impl Observer for Events {
    fn stage(&mut self, number: usize, total: usize, text: &str) {
        self.call("stage", text, number, total);
    }

    fn progress(&mut self, what: &str, done: usize, total: usize) {
        if is_due(&mut self.told) || done == total {
            self.call("progress", what, done, total);
        }
    }

    fn message(&mut self, text: &str) {
        self.call("message", text, 0, 0);
    }

    fn warning(&mut self, text: &str) {
        self.call("warning", text, 0, 0);
    }

    fn training(&mut self, event: TrainingEvent<'_>) {
        match event {
            TrainingEvent::Started { epochs, .. } => self.epochs = epochs,
            TrainingEvent::Step(step) => {
                if is_due(&mut self.told) || step.done == step.steps {
                    let text = format!("training: loss {:.3}", step.row.loss);
                    self.call("progress", &text, step.done as usize, step.steps as usize);
                }
            }
            TrainingEvent::Epoch { epoch, score } => {
                let text = format!("epoch {epoch}/{}: {score}", self.epochs);
                self.call("message", &text, 0, 0);
            }
            TrainingEvent::Evaluating | TrainingEvent::Ended => {}
        }
    }

    fn is_cancelled(&mut self) -> bool {
        if self.error.is_none() && is_due(&mut self.looked) {
            self.error = Python::attach(signals).err();
        }
        self.error.is_some()
    }
}
