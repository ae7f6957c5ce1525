//! Writes a sum of one value with itself as a product, where a weighted operator can take it up.
//!
//! Before: `y = x + x`, or `y = x + x + … + x` in one Sum
//! After:  `y = n · x`
//!
//! x float of any shape. Twice and three times a number are rounded as the sums are. The product is a
//! per-channel affine, which `fold-channel-affine` and `fold-into-consumer` know.
//!
//! 1. A weighted operator makes x, for this node alone, or only weighted operators read y (no match otherwise).
//!
//! Source: papers.md L8. Measure: one operand fewer.

use updp_ir::{Node, NodeId, ValueId};

use crate::error::Stop;
use crate::lift::{Linear, weights};
use crate::patch::{Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct WriteSumAsProduct;

/// A sum of equal operands.
#[derive(Debug)]
pub struct Match {
    node: NodeId,
    x: ValueId,
    y: ValueId,
    count: usize,
}

impl Rule for WriteSumAsProduct {
    type Match = Match;
    const NAME: &'static str = "write-sum-as-product";
    const SUMMARY: &'static str =
        "writes x + x beside a Conv, Gemm or MatMul as 2 x, which folds into it";
    const ROOTS: &'static [&'static str] = &["Add", "Sum"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let node = cx.graph.node(root);
        if cx.opset < 7 || node.has_reference_attribute() || !node.domain().is_empty() {
            return None;
        }
        let operands: Vec<ValueId> = cx.graph.operands(root).into_iter().collect::<Option<_>>()?;
        let x = *operands.first()?;
        let count = operands.len();
        let y = cx.graph.sole_result(root)?;
        if !(2..=3).contains(&count) || operands.iter().any(|own| *own != x) {
            return None;
        }
        cx.shapes.dtype(x).filter(|dtype| dtype.is_foldable_float())?;
        let value = cx.graph.value(x);
        let is_alone = cx.graph.users(x).len() == count
            && !value.is_output()
            && !value.is_pinned()
            && !cx.graph.is_captured(x);
        let users = cx.graph.users(y);
        let is_folded = is_alone && Linear::producing(cx, x).is_some()
            || !users.is_empty()
                && !cx.graph.value(y).is_output()
                && users.iter().all(|user| Linear::reading(cx, y, user.node).is_some());
        is_folded.then_some(Match { node: root, x, y, count })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let Match { node, x, y, count } = matched;
        let mut patch = Patch::new();
        let old = cx.graph.node(node);
        let Some(dtype) = cx.shapes.dtype(x) else { return Ok(patch) };
        let factor = weights::stored(dtype, vec![], &[count as f64])?;
        let hint = format!("{}.factor", cx.graph.value(y).name());
        let factor = patch.constant(hint, factor, None);
        let product = Node::new("Mul").named(old.name()).with_metadata_of(old);
        patch.node(product, node, vec![x.into(), factor], Out::Value(y));
        patch.remove(node);
        Ok(patch)
    }
}
