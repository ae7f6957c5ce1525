//! Leaves out the operands of a Concat that hold no elements.
//!
//! Before: `y = Concat(a, e, b, …)`, `e` of length 0 along the axis
//! After:  `y = Concat(a, b, …)`
//!
//! Any dtype. At least two operands stay, otherwise the Concat is a matter of `eliminate-identity`.
//!
//! Source: ours. Measure: one operand fewer.

use updp_ir::{NodeId, ValueId};

use super::unchanged::filled;
use crate::error::Stop;
use crate::patch::{Operand, Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct DropEmptyOperands;

/// A Concat and the operands that stay.
#[derive(Debug)]
pub struct Match {
    node: NodeId,
    y: ValueId,
    stay: Vec<ValueId>,
}

impl Rule for DropEmptyOperands {
    type Match = Match;
    const NAME: &'static str = "drop-empty-operands";
    const SUMMARY: &'static str = "leaves out operands of a Concat that hold no elements";
    const ROOTS: &'static [&'static str] = &["Concat"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let node = cx.graph.node(root);
        let axis = node.int("axis").filter(|_| !node.has_reference_attribute())?;
        let operands: Vec<ValueId> = cx.graph.operands(root).into_iter().collect::<Option<_>>()?;
        let all = operands.len();
        let stay = filled(cx, &operands, axis)?;
        let y = cx.graph.sole_result(root)?;
        (stay.len() >= 2 && stay.len() < all).then_some(Match { node: root, y, stay })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let Match { node, y, stay } = matched;
        let mut patch = Patch::new();
        let operands = stay.into_iter().map(Operand::from).collect();
        patch.node(cx.graph.node(node).bare_copy(), node, operands, Out::Value(y));
        patch.remove(node);
        Ok(patch)
    }
}
