//! Lets a Reshape read in front of the reshaping node before it.
//!
//! Before: `y = Reshape(f(x), shape)`, `f` a Reshape, Flatten, Squeeze or Unsqueeze
//! After:  `y = Reshape(x, shape)`
//!
//! x has any rank and dtype: `f` keeps the order of the elements.
//!
//! 1. `copied-dim`: the shape is constant and copies no dim of `f(x)` (no 0, unless `allowzero`).
//!
//! Nothing else reads `f(x)`, otherwise there is no match. Source: ours. Measure: one node fewer.

use updp_ir::{NodeId, ValueId};

use super::unchanged::is_view;
use crate::error::{Declined, Stop};
use crate::patch::Patch;
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct MergeReshapes;

/// The second of two reshaping nodes, and the operand of the first.
#[derive(Debug)]
pub struct Match {
    second: NodeId,
    x: ValueId,
}

impl Rule for MergeReshapes {
    type Match = Match;
    const NAME: &'static str = "merge-reshapes";
    const SUMMARY: &'static str =
        "lets a Reshape read in front of the Reshape, Squeeze or Flatten before it";
    const ROOTS: &'static [&'static str] = &["Reshape"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let first = cx.sole_use_producer(cx.graph.operand(root, 0)?)?;
        let node = cx.graph.node(root);
        let is_plain = !node.has_reference_attribute() && node.domain().is_empty();
        let x = cx.graph.operand(first, 0)?;
        (is_plain && is_view(cx.graph.node(first))).then_some(Match { second: root, x })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let node = cx.graph.node(matched.second);
        let shape = if cx.opset < 5 {
            node.ints("shape").map(<[i64]>::to_vec)
        } else {
            let shape = cx.graph.operand(matched.second, 1);
            shape
                .and_then(|shape| cx.shapes.constant(cx.graph, shape))
                .and_then(|shape| shape.to_i64())
        };
        let allows_zero = node.int("allowzero") == Some(1);
        if !shape.is_some_and(|shape| allows_zero || shape.iter().all(|dim| *dim != 0)) {
            let detail = format!("{:?} may copy a dim of its operand", cx.describe(matched.second));
            return Err(Declined::new("copied-dim", detail).into());
        }
        let mut patch = Patch::new();
        patch.set_operand(matched.second, 0, matched.x);
        Ok(patch)
    }
}
