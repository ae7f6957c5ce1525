//! What becomes of one block when a set of blocks is fitted as a whole.

use updp_passes::surgery::{Layer, Site};

/// A block of the network.
#[derive(Clone, Debug)]
pub enum Part {
    /// Pruned to one of these forms: the one of highest fidelity.
    Pruned(Vec<Site>),
    /// Kept, with layers whose weights may be solved for again.
    Kept(Vec<Layer>),
}
