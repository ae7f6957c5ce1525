//! Lets readers of a node read an equal node instead.
//!
//! Before: `y₁ = f(x, c)`, `y₂ = f(x, c)`
//! After:  `y₁ = f(x, c)`; readers of `y₂` read `y₁`
//!
//! `f` moves or counts elements: Shape, Gather, Slice, Reshape, Squeeze, Unsqueeze, Transpose, Cast, Concat, Expand. The
//! operands are the same values or equal small constants, and the attributes are equal. Other operators are left
//! alone: a Conv that two paths share could not fold what follows it on either.
//!
//! `y₂` keeps its name where it is a graph output, read inside a body or named by an annotation (no match).
//!
//! Source: ours. Measure: one node fewer.

use updp_ir::{NodeId, ValueId};

use crate::error::Stop;
use crate::patch::Patch;
use crate::rule::{Context, Rule};

/// Largest constants that are compared.
const MAX_BYTES: usize = 256;

/// See the module documentation.
#[derive(Debug)]
pub struct ShareEqualNodes;

/// The later of two equal nodes, its result, and the result of the other.
#[derive(Debug)]
pub struct Match {
    node: NodeId,
    y: ValueId,
    equal: ValueId,
}

impl Rule for ShareEqualNodes {
    type Match = Match;
    const NAME: &'static str = "share-equal-nodes";
    const SUMMARY: &'static str = "computes equal Shape, Gather, Slice, Reshape and the like once";
    const ROOTS: &'static [&'static str] = &[
        "Shape",
        "Gather",
        "Slice",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Cast",
        "Concat",
        "Expand",
    ];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let y = cx.graph.sole_result(root)?;
        let known = cx.graph.value(y);
        if known.is_output() || known.is_pinned() || cx.graph.is_captured(y) {
            return None;
        }
        let mut operands = cx.graph.operands(root).into_iter().flatten();
        let data = operands.find(|value| cx.constant(*value).is_none())?;
        // Users come in the order of the file, so of several equal nodes the first one stays.
        let users = cx.graph.users(data);
        let first = users
            .iter()
            .map(|user| user.node)
            .find(|other| *other == root || is_equal(cx, root, *other))?;
        let equal = cx.graph.sole_result(first).filter(|_| first != root)?;
        Some(Match { node: root, y, equal })
    }

    fn plan(&self, _: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let mut patch = Patch::new();
        patch.redirect(matched.y, matched.equal);
        patch.remove(matched.node);
        Ok(patch)
    }
}

/// Whether two nodes make the same of the same operands.
fn is_equal(cx: &Context<'_>, a: NodeId, b: NodeId) -> bool {
    let (one, other) = (cx.graph.node(a), cx.graph.node(b));
    let is_plain = one.op_type() == other.op_type()
        && one.domain().is_empty()
        && other.domain().is_empty()
        && !one.has_reference_attribute()
        && one.attribute_names().count() == other.attribute_names().count()
        && one.attribute_names().all(|name| one.attribute(name) == other.attribute(name));
    let (left, right) = (cx.graph.operands(a), cx.graph.operands(b));
    is_plain
        && left.len() == right.len()
        && left.into_iter().zip(right).all(|pair| match pair {
            (Some(left), Some(right)) => left == right || is_same_constant(cx, left, right),
            (left, right) => left == right,
        })
}

fn is_same_constant(cx: &Context<'_>, a: ValueId, b: ValueId) -> bool {
    let (Some(a), Some(b)) = (cx.constant(a), cx.constant(b)) else { return false };
    a.dtype() == b.dtype()
        && a.dims() == b.dims()
        && a.bytes().len() <= MAX_BYTES
        && !a.bytes().is_empty()
        && a.bytes() == b.bytes()
}
