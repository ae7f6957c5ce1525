//! Who follows a command: a person at a terminal, or a program that called the library.

use serde_json::Value;

use crate::api::Observer;
use crate::error::CliError;
use crate::terminal::{self, Progress};

/// Receives what a command tells.
pub(crate) enum Listener<'a> {
    /// Progress is drawn, and results are printed.
    Terminal,
    /// Progress goes to the observer. Nothing is printed: the program reads the [`Outcome`].
    Program(&'a mut dyn Observer),
}

impl Listener<'_> {
    /// Runs `work`, which tells its progress. A bar on the terminal is gone afterwards.
    pub(crate) fn during<T>(&mut self, work: impl FnOnce(&mut dyn Observer) -> T) -> T {
        self.during_with_messages(false, work)
    }

    /// As [`Self::during`]; messages are printed even with `--quiet` if `is_wanted`.
    pub(crate) fn during_with_messages<T>(
        &mut self,
        is_wanted: bool,
        work: impl FnOnce(&mut dyn Observer) -> T,
    ) -> T {
        match self {
            Self::Terminal => work(&mut Progress::with_messages(is_wanted)),
            Self::Program(observer) => work(*observer),
        }
    }

    /// Whether results are printed.
    pub(crate) fn prints(&self) -> bool {
        matches!(self, Self::Terminal)
    }

    /// Prints a result.
    pub(crate) fn say(&self, text: &str) {
        if self.prints() {
            terminal::say(text);
        }
    }
}

/// What a command found out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The JSON document of the command; its schema is in docs/schemas. `None` where the command has none.
    pub document: Option<Value>,
    /// Why the command fails although it did its work, such as a goal that was missed.
    pub failure: Option<CliError>,
}

impl Outcome {
    /// An outcome without failure.
    pub(crate) fn of(document: Value) -> Self {
        Self { document: Some(document), failure: None }
    }

    /// The failure as the result of the command.
    pub(crate) fn into_result(self) -> Result<(), CliError> {
        self.failure.map_or(Ok(()), Err)
    }
}
