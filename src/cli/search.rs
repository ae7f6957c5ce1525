//! Arguments of the search over sets of blocks.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};

/// How sets of blocks are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SearchChoice {
    /// Exactly by the prices of single blocks, then by trying changes of the best sets together
    Fit,
    /// A genetic search over sets tried together, as in the paper
    Genetic,
    /// Sets tried together, drawn evenly: for comparison
    Random,
    /// One block after the other, each tried together with those before: for comparison
    Greedy,
}

/// How the blocks are chosen.
#[derive(Args, Clone, Debug)]
pub struct SearchArgs {
    /// How sets of blocks are looked for
    #[arg(long, value_enum, default_value = "fit", requires = "data")]
    pub search: SearchChoice,
    /// Most sets tried together [default: by the size of the model, 6 to 32 of fit, 32 to 256 of the others]
    #[arg(long, value_name = "N", requires = "data")]
    pub evaluations: Option<NonZeroUsize>,
}

impl SearchArgs {
    /// Whether anything but the default was asked for.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.search != SearchChoice::Fit || self.evaluations.is_some()
    }
}
