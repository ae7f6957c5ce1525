//! Lets elementwise operators read a value in front of an Expand: they broadcast it themselves.
//!
//! Before: `y = f(x, Expand(c))`, `f` one of Add, Sub, Mul, Div, Max, Min or PRelu (c as the slope), one or several
//! After:  `y = f(x, c)`
//!
//! c may be a constant, such as slopes [C, 1, 1] that an exporter expands to [N, C, H, W].
//!
//! 1. `read-elsewhere`: only such operators read the Expand, and the other operand of each has, dim by dim, at
//!    least the size that Expand makes (no match if none of them does).
//!
//! Source: ours. Measure: one node fewer.

use updp_ir::{Dim, NodeId, Use, ValueId};

use crate::error::{Declined, Stop};
use crate::patch::Patch;
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct BypassExpand;

/// An Expand with its operand and its result.
#[derive(Debug)]
pub struct Match {
    node: NodeId,
    c: ValueId,
    expanded: ValueId,
}

impl Rule for BypassExpand {
    type Match = Match;
    const NAME: &'static str = "bypass-expand";
    const SUMMARY: &'static str =
        "lets elementwise operators broadcast by themselves what an Expand makes";
    const ROOTS: &'static [&'static str] = &["Expand"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let node = cx.graph.node(root);
        if !node.domain().is_empty() || cx.opset < 8 {
            return None;
        }
        let (c, expanded) = (cx.graph.operand(root, 0)?, cx.graph.sole_result(root)?);
        let users = cx.graph.users(expanded);
        let is_any = users.iter().any(|user| broadcasts(cx, expanded, *user));
        is_any.then_some(Match { node: root, c, expanded })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let Match { node, c, expanded } = matched;
        let known = cx.graph.value(expanded);
        let is_free = !known.is_output() && !known.is_pinned() && !cx.graph.is_captured(expanded);
        let mut users = cx.graph.users(expanded).into_iter();
        if !is_free || !users.all(|user| broadcasts(cx, expanded, user)) {
            let detail = format!("{:?} is read where its size matters", known.name());
            return Err(Declined::new("read-elsewhere", detail).into());
        }
        let mut patch = Patch::new();
        patch.redirect(expanded, c);
        patch.remove(node);
        Ok(patch)
    }
}

/// Whether this reader broadcasts `expanded` to its other operand, which is as large already.
fn broadcasts(cx: &Context<'_>, expanded: ValueId, user: Use) -> bool {
    let node = cx.graph.node(user.node);
    let is_elementwise = ["Add", "Sub", "Mul", "Div", "Max", "Min"].iter().any(|op| node.is(op));
    let is_slope = node.is("PRelu") && user.slot == 1;
    let others: Vec<ValueId> = cx
        .graph
        .operands(user.node)
        .into_iter()
        .flatten()
        .filter(|other| *other != expanded)
        .collect();
    let &[other] = others.as_slice() else { return false };
    let (Some(own), Some(dims)) = (cx.shapes.dims(expanded), cx.shapes.dims(other)) else {
        return false;
    };
    let Some(missing) = dims.len().checked_sub(own.len()) else { return false };
    let is_covered = own
        .iter()
        .zip(&dims[missing..])
        .all(|(a, b)| *a == Dim::Known(1) || a == b && *a != Dim::Unknown);
    (is_elementwise || is_slope) && is_covered
}
