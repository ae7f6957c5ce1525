//! The decision for one block when a set of blocks is fitted as a whole.

use updp_passes::surgery::{Layer, Site};

/// A block of the network.
#[derive(Clone, Debug)]
pub enum Part {
    /// The block is pruned.
    Pruned {
        /// Layers of a thin block before its last one. Their weights may be solved again first.
        layers: Vec<Layer>,
        /// The possible forms: the one with the smallest degradation is taken.
        sites: Vec<Site>,
    },
    /// The block is kept. The weights of these layers may be solved again.
    Kept(Vec<Layer>),
}
