//! Handles to the vertices of a graph.

/// Handle to a node (one operator call).
///
/// petgraph reuses freed indices, so a handle carries a serial number; a stale handle never reads another
/// vertex. Handles live within one match: keep names for longer use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

/// Handle to a value (one name); see [`NodeId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}
