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

/// Where the weights of the chosen network come from, after a search in a supernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StartChoice {
    /// From what loses less on the held-out images
    Auto,
    /// From the fit, block after block
    Fit,
    /// From the supernet
    Supernet,
}

/// How the blocks are chosen.
#[derive(Args, Clone, Debug)]
pub struct SearchArgs {
    /// How sets of blocks are looked for [default: fit; with a supernet genetic]
    #[arg(long, value_enum, requires = "data")]
    pub search: Option<SearchChoice>,
    /// Most sets tried together [default: by the size of the model, 6 to 32 of fit, 32 to 256 of the others]
    #[arg(long, value_name = "N", requires = "data")]
    pub evaluations: Option<NonZeroUsize>,
    /// Sets that lose least together and are fitted as a whole; the best of them is taken [default: 4, of a large model 2]
    #[arg(long, value_name = "N", requires = "data")]
    pub finalists: Option<NonZeroUsize>,
    /// Trains a supernet, every block as it is and pruned, so many epochs, and tries sets in it; 0 = sets are tried as fitted
    #[arg(long, value_name = "N", default_value = "0", requires = "data")]
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
        let has_numbers = self.evaluations.is_some() || self.finalists.is_some();
        self.choice() != SearchChoice::Fit || has_numbers || self.has_supernet()
    }
}
