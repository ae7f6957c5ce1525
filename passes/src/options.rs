//! The options that the user gives to the passes.

use indexmap::IndexSet;

use crate::evaluator::Evaluator;

/// Options for one run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Merge even where the cost guard says the model gets slower.
    pub merge_all: bool,
    /// Rules to leave out.
    pub skip: IndexSet<String>,
    /// If not empty, only these rules run.
    pub only: IndexSet<String>,
    /// Stop after this many rewrites (for bisection and debugging).
    pub max_rewrites: Option<usize>,
    /// Validate the whole graph after every rewrite (slow; tests and debugging).
    pub validate_each: bool,
    /// Largest share of the model's bytes that one border map may add.
    pub border_share: f64,
    /// Border maps up to this number of bytes are always allowed.
    pub border_bytes: usize,
    /// Bytes of the model's initializers, the base of `border_share`.
    pub model_bytes: usize,
    /// Computes constant expressions that need a runtime; `None` leaves them as they are.
    pub evaluator: Option<Evaluator>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            merge_all: false,
            skip: IndexSet::new(),
            only: IndexSet::new(),
            max_rewrites: None,
            validate_each: cfg!(debug_assertions),
            border_share: 0.05,
            border_bytes: 1 << 20,
            model_bytes: 0,
            evaluator: None,
        }
    }
}

impl Options {
    /// Whether the rule with this name runs.
    #[must_use]
    pub fn is_enabled(&self, rule: &str) -> bool {
        !self.skip.contains(rule) && (self.only.is_empty() || self.only.contains(rule))
    }
}
