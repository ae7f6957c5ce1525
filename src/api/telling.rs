//! Passes events on, and tells once that tract ran a model because ONNX Runtime could not.

use updp_exec::take_fallback;

use super::{Observer, TrainingEvent};

/// An observer that also hears of fallbacks. Only the first fallback of a program is told, as a warning.
pub(super) struct Telling<'a>(pub(super) &'a mut dyn Observer);

impl Telling<'_> {
    fn tell(&mut self) {
        if let Some(line) = take_fallback() {
            self.0.warning(&line);
        }
    }
}

impl Observer for Telling<'_> {
    fn stage(&mut self, number: usize, total: usize, text: &str) {
        self.tell();
        self.0.stage(number, total, text);
    }

    fn progress(&mut self, what: &str, done: usize, total: usize) {
        self.tell();
        self.0.progress(what, done, total);
    }

    fn message(&mut self, text: &str) {
        self.tell();
        self.0.message(text);
    }

    fn warning(&mut self, text: &str) {
        self.tell();
        self.0.warning(text);
    }

    fn training(&mut self, event: TrainingEvent<'_>) {
        self.tell();
        self.0.training(event);
    }

    fn is_cancelled(&mut self) -> bool {
        self.tell();
        self.0.is_cancelled()
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}
