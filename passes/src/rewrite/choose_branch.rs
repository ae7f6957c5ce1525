//! Puts the nodes of one branch in place of an If whose condition is constant.
//!
//! Before: `y = If(c) { then: f(x), else: g(x) }`, c the same on every run
//! After:  `y = f(x)` if c is true, `y = g(x)` if it is not
//!
//! Values of any types. Results keep their names; the other branch goes.
//!
//! 1. `branch-form`: the branch has no bodies, sparse initializers or annotations of its own.
//!
//! Source: ours. Measure: one node with bodies fewer.

use updp_ir::NodeId;

use crate::error::{Declined, Stop};
use crate::patch::Patch;
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct ChooseBranch;

/// An If and the number of the body that always runs.
#[derive(Debug)]
pub struct Match {
    node: NodeId,
    body: usize,
}

impl Rule for ChooseBranch {
    type Match = Match;
    const NAME: &'static str = "choose-branch";
    const SUMMARY: &'static str =
        "keeps the branch that always runs of an If with a constant condition";
    const ROOTS: &'static [&'static str] = &["If"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let node = cx.graph.node(root);
        if !node.domain().is_empty() || node.bodies().count() != 2 {
            return None;
        }
        let condition = cx.shapes.constant(cx.graph, cx.graph.operand(root, 0)?)?;
        let &[chosen] = condition.to_i64()?.as_slice() else { return None };
        let wanted = if chosen == 0 { "else_branch" } else { "then_branch" };
        let body = node
            .attribute_names()
            .filter(|name| ["then_branch", "else_branch"].contains(name))
            .position(|name| name == wanted)?;
        Some(Match { node: root, body })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let Match { node, body } = matched;
        if !cx.graph.can_inline_body(node, body) {
            let detail = format!("the branch of {:?} holds bodies of its own", cx.describe(node));
            return Err(Declined::new("branch-form", detail).into());
        }
        let mut patch = Patch::new();
        patch.inline_body(node, body);
        Ok(patch)
    }
}
