//! Arguments of the search over sets of blocks.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};

use super::values::{from_zero_to, up_to};

/// How sets of blocks are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SearchChoice {
    /// Exactly by the degradation of single blocks, then by trying changes of the best sets together
    Fit,
    /// A genetic search over sets, as in the paper
    Genetic,
    /// Random sets, for comparison
    Random,
    /// One block after the other, each tried together with those before, for comparison
    Greedy,
}

/// Where the weights of the chosen network come from, after a search in a supernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StartChoice {
    /// From whichever loses less on the held-out images
    Auto,
    /// From the fit, block after block
    Fit,
    /// From the supernet
    Supernet,
}

/// How the blocks are chosen.
#[derive(Args, Clone, Debug)]
pub struct SearchArgs {
    /// How sets of blocks are searched for [default: fit; with a supernet genetic]
    #[arg(long, value_enum, requires = "data")]
    pub search: Option<SearchChoice>,
    /// Largest number of sets to try [default: by the size of the model, 6 to 32 for fit, 32 to 256 for the others]
    #[arg(long, value_name = "N", requires = "data", value_parser = up_to::<1_000_000>)]
    pub evaluations: Option<NonZeroUsize>,
    /// Number of sets that are fitted as a whole; the best one is taken [default: 4, for a large model 2]
    #[arg(long, alias = "finalists", value_name = "N", requires = "data", value_parser = up_to::<10_000>)]
    pub shortlist: Option<NonZeroUsize>,
    /// Epochs to train a supernet, which holds every block both as it is and pruned, and to try sets in it; 0 = no supernet
    #[arg(long, value_name = "N", default_value = "0", requires = "data", value_parser = from_zero_to::<1_000_000>)]
    pub supernet_epochs: usize,
    /// Where the weights of the chosen network come from, with a supernet and --method fit
    #[arg(long, value_enum, default_value = "auto", requires = "supernet_epochs")]
    pub start: StartChoice,
}

impl SearchArgs {
    /// How sets of blocks are looked for.
    #[must_use]
    pub fn choice(&self) -> SearchChoice {
        let default = if self.has_supernet() { SearchChoice::Genetic } else { SearchChoice::Fit };
        self.search.unwrap_or(default)
    }

    /// Whether a supernet is trained.
    #[must_use]
    pub fn has_supernet(&self) -> bool {
        self.supernet_epochs > 0
    }

    /// Whether anything but the default was asked for.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        let has_numbers = self.evaluations.is_some() || self.shortlist.is_some();
        self.choice() != SearchChoice::Fit || has_numbers || self.has_supernet()
    }
}
