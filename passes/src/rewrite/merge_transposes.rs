//! Merges two Transposes in a row into one, or into nothing.
//!
//! Before: `y = P₂(P₁(x))`
//! After:  `y = P(x)` with `perm[i] = perm₁[perm₂[i]]`, or `y = x` if this permutation moves nothing
//!
//! x has any rank and dtype. The first Transpose stays for other readers. A result at the graph
//! boundary, or read by a body, keeps its name: if nothing moves it becomes an Identity of x.
//!
//! 1. Both permutations are known and of the same rank (no match otherwise).
//!
//! Source: ours. Measure: one Transpose that reads a Transpose fewer.

use updp_ir::view::Transpose;
use updp_ir::{Node, NodeId, ValueId};

use crate::error::Stop;
use crate::patch::{Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct MergeTransposes;

/// Two Transposes in the direction of data flow.
#[derive(Debug)]
pub struct Match {
    first: Transpose,
    second: Transpose,
    perm: Vec<usize>,
}

impl Rule for MergeTransposes {
    type Match = Match;
    const NAME: &'static str = "merge-transposes";
    const SUMMARY: &'static str = "merges two Transposes in a row into one or none";
    const ROOTS: &'static [&'static str] = &["Transpose"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let between = cx.graph.operand(root, 0)?;
        let (producer, _) = cx.graph.producer(between)?;
        let x = cx.graph.operand(producer, 0)?;
        let first = Transpose::of(cx.graph, producer, cx.rank(x))?;
        let second = Transpose::of(cx.graph, root, Some(first.perm.len()))?;
        let perm = composed(&first.perm, &second.perm)?;
        let is_read = !cx.graph.users(second.y).is_empty() || is_named_outside(cx, second.y);
        is_read.then_some(Match { first, second, perm })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let Match { first, second, perm } = matched;
        let mut patch = Patch::new();
        let old = cx.graph.node(second.node);
        let moves_nothing = perm.iter().copied().eq(0..perm.len());
        if moves_nothing && !is_named_outside(cx, second.y) {
            for user in cx.graph.users(second.y) {
                patch.set_operand(user.node, user.slot, first.x);
            }
            return Ok(patch);
        }
        let node = if moves_nothing {
            Node::new("Identity").named(old.name()).with_metadata_of(old)
        } else {
            old.bare_copy().with("perm", perm.as_slice())
        };
        patch.node(node, second.node, vec![first.x.into()], Out::Value(second.y));
        patch.remove(second.node);
        Ok(patch)
    }
}

/// Whether the graph boundary or a body reads the value.
fn is_named_outside(cx: &Context<'_>, value: ValueId) -> bool {
    cx.graph.value(value).is_output() || cx.graph.is_captured(value)
}

/// The permutation that does `first`, then `second`; `None` if the ranks differ.
pub(super) fn composed(first: &[usize], second: &[usize]) -> Option<Vec<usize>> {
    if first.len() != second.len() {
        return None;
    }
    second.iter().map(|axis| first.get(*axis).copied()).collect()
}
