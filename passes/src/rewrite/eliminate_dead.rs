//! Removes nodes whose results have no reader.
//!
//! Before: a node of the default domain without bodies, whose results have no reader
//! After:  nothing; constants that only this node read are removed with it
//!
//! 1. `effects`: (silent) nodes of other domains or with bodies stay, because they may do more than
//!    their results show.
//!
//! Measure: one node fewer.

use updp_ir::NodeId;

use crate::error::Stop;
use crate::patch::{Patch, is_free_of_effects};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct EliminateDead;

impl Rule for EliminateDead {
    type Match = NodeId;
    const NAME: &'static str = "eliminate-dead";
    const SUMMARY: &'static str = "removes nodes whose results nothing reads";
    const ROOTS: &'static [&'static str] = &[];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<NodeId> {
        let is_dead =
            cx.graph.results(root).into_iter().flatten().all(|result| !cx.graph.is_read(result));
        (is_dead && is_free_of_effects(cx.graph, root)).then_some(root)
    }

    fn plan(&self, _cx: &Context<'_>, matched: NodeId) -> Result<Patch, Stop> {
        let mut patch = Patch::new();
        patch.remove(matched);
        Ok(patch)
    }
}
