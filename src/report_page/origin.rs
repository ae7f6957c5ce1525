//! What a page says about its own making: command, version, date, models and machine.

use std::path::Path;

use crate::{clock, sha256};

/// How the numbers of a page came about.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The version of this program.
    pub version: &'static str,
    /// The command as it can be typed again.
    pub command: String,
    /// The date with the time in UTC.
    pub date: String,
    /// The models: what each is, its path, and its SHA-256 or `None` if it is no file.
    pub models: Vec<(&'static str, String, Option<String>)>,
    /// Other facts with their names, such as the number of threads.
    pub facts: Vec<(&'static str, String)>,
}

impl Origin {
    /// The origin of a page that this command makes now.
    #[must_use]
    pub fn of(command: &str) -> Self {
        let (command, date) = (command.to_owned(), clock::now());
        Self { version: env!("CARGO_PKG_VERSION"), command, date, ..Self::default() }
    }

    /// Adds a model as it is now.
    #[must_use]
    pub fn model(mut self, what: &'static str, path: &Path) -> Self {
        self.models.push((what, path.display().to_string(), sha256::of_file(path)));
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn fact(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.facts.push((name, value.into()));
        self
    }

    /// Adds the number of threads; `None` = as many as the runtime takes.
    #[must_use]
    pub fn threads(self, count: Option<usize>) -> Self {
        let count =
            count.map_or_else(|| "as many as the runtime takes".to_owned(), |it| it.to_string());
        self.fact("Threads", count)
    }
}

/// Dims of one image, for people.
#[must_use]
pub fn image_size(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    dims.join(" × ")
}
