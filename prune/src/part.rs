//! The decision for one block when a set of blocks is fitted as a whole.

use updp_passes::surgery::{Layer, Site};

/// A block of the network.
#[derive(Clone, Debug)]
pub enum Part {
    /// The block is pruned to one of these forms: the one with the smallest degradation.
    Pruned(Vec<Site>),
    /// The block is kept. The weights of these layers may be solved again.
    Kept(Vec<Layer>),
}
