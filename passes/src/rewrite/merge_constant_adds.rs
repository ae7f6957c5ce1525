//! Adds up two constants that are added one after the other.
//!
//! Before: `y = (x ± A) ± B`
//! After:  `y = x + C`, `C = ±A ± B`
//!
//! A, B constants of any shapes that broadcast to x. Two border maps in a row are the usual case. Constants
//! along one axis belong to `merge-affine-pair`.
//!
//! 1. `read-twice`: nothing else reads the value between the two.
//! 2. `larger`: C has no more elements than the larger of A and B.
//! 3. `overflow`: no number leaves the range of its dtype.
//!
//! Source: papers.md L8. Measure: one Add fewer.

use ndarray::{ArrayD, IxDyn};
use updp_ir::view::{Binary, BinaryOp};
use updp_ir::{Node, NodeId, Tensor, ValueId};

use super::composite::Composite;
use crate::error::{Declined, Stop};
use crate::lift::{ChannelAffine, weights};
use crate::patch::{Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct MergeConstantAdds;

/// `y = x ± constant`.
#[derive(Debug)]
struct Shift {
    node: NodeId,
    x: ValueId,
    y: ValueId,
    constant: ValueId,
    tensor: Tensor,
    is_negative: bool,
}

impl Shift {
    fn at(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let view = Binary::of(cx.graph, node, cx.opset)?;
        let (x, constant, tensor) = match (cx.constant(view.a), cx.constant(view.b)) {
            (None, Some(right)) => (view.a, view.b, right),
            (Some(left), None) if view.op == BinaryOp::Add => (view.b, view.a, left),
            _ => return None,
        };
        let is_sum = matches!(view.op, BinaryOp::Add | BinaryOp::Sub);
        if !is_sum || !tensor.dtype().is_foldable_float() {
            return None;
        }
        let is_negative = view.op == BinaryOp::Sub;
        Some(Self { node, x, y: view.y, constant, tensor, is_negative })
    }

    /// The constant with its sign, in f64.
    fn values(&self) -> Option<ArrayD<f64>> {
        let values = self.tensor.to_f64()?;
        let array = ArrayD::from_shape_vec(IxDyn(self.tensor.dims()), values).ok()?;
        Some(if self.is_negative { -array } else { array })
    }
}

/// Two additions in the direction of data flow.
#[derive(Debug)]
pub struct Match {
    first: Shift,
    second: Shift,
}

impl Rule for MergeConstantAdds {
    type Match = Match;
    const NAME: &'static str = "merge-constant-adds";
    const SUMMARY: &'static str = "adds up two constants that are added one after the other";
    const ROOTS: &'static [&'static str] = &["Add", "Sub"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let second = Shift::at(cx, root)?;
        let (producer, _) = cx.graph.producer(second.x)?;
        let first = Shift::at(cx, producer)?;
        let is_of_channels = || {
            let (above, below) = (ChannelAffine::at(cx, producer)?, ChannelAffine::at(cx, root)?);
            Composite::of(&above).then(&below)
        };
        if first.tensor.dtype() != second.tensor.dtype() || is_of_channels().is_some() {
            return None;
        }
        Some(Match { first, second })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let Match { first, second } = matched;
        if cx.graph.sole_use(first.y).is_none() {
            let name = cx.graph.value(first.y).name();
            return Err(
                Declined::new("read-twice", format!("{name:?} is read elsewhere too")).into()
            );
        }
        let (larger, smaller) = if first.tensor.len() >= second.tensor.len() {
            (&first, &second)
        } else {
            (&second, &first)
        };
        let sum = larger.values().zip(smaller.values()).and_then(|(larger, smaller)| {
            let missing = larger.ndim().checked_sub(smaller.ndim())?;
            let dims = [vec![1; missing], smaller.shape().to_vec()].concat();
            let smaller = smaller.into_shape_with_order(dims).ok()?;
            Some(&larger + &smaller.broadcast(larger.raw_dim())?)
        });
        let Some(sum) = sum else {
            let (a, b) = (first.tensor.dims(), second.tensor.dims());
            let detail = format!("the constants {a:?} and {b:?} span more together");
            return Err(Declined::new("larger", detail).into());
        };
        let values: Vec<f64> = sum.iter().copied().collect();
        let stored = weights::stored(second.tensor.dtype(), sum.shape().to_vec(), &values)?;
        let mut patch = Patch::new();
        let hint = cx.graph.value(larger.constant).name().to_owned();
        let constant = patch.constant(hint, stored, Some(larger.constant));
        let old = cx.graph.node(second.node);
        let node = if old.is("Add") {
            old.bare_copy()
        } else {
            Node::new("Add").named(old.name()).with_metadata_of(old)
        };
        patch.node(node, second.node, vec![first.x.into(), constant], Out::Value(second.y));
        patch.remove_all([first.node, second.node]);
        Ok(patch)
    }
}
