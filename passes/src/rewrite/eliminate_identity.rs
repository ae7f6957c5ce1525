//! Bypasses nodes that change nothing.
//!
//! Before: `y = f(x)`, where `f` is the identity
//! After:  readers of `y` read `x`
//!
//! `f` is an Identity, a Dropout in inference form, an Add or Sub of zeros, a Mul or Div by ones, a Transpose
//! that moves nothing, a Cast to the present dtype, or one of these where shapes and constants prove that
//! nothing changes:
//!
//! - Reshape, Flatten, Squeeze, Unsqueeze (also several in a row), Expand, Tile, Slice, Gather, Split, Concat
//!   with empty parts, Where, Pad in any mode, `DepthToSpace` and `SpaceToDepth` of blocks of one;
//! - Resize and Upsample by 1, pools with a window of one, means and other reductions over axes of one element;
//! - Clip between infinities, `LeakyRelu` and PRelu of slope 1, the power 1, two Neg in a row, and Sum, Mean, Max
//!   and Min of one operand.
//!
//! 1. `zero-sign`: `x + 0` turns −0 into +0, and so may a sum or mean of one element; it goes only where no node
//!    sees the sign of a zero. `x − 0` and `x + (−0)` change nothing.
//! 2. `infinities`: a Clip of floats without bounds turns infinities into the largest finite number, so it stays.
//! 3. `boundary`: `y` is no graph output, no body reads it and no annotation names it; otherwise
//!    the node that makes `x` can make `y` instead.
//!
//! Measure: one node fewer.

use updp_ir::view::{self, Transpose};
use updp_ir::{DataType, NodeId, Origin, ValueId};

use super::{unchanged, zero_sign};
use crate::error::{Declined, Stop};
use crate::lift::ChannelAffine;
use crate::patch::{Operand, Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct EliminateIdentity;

/// A node with its operand and its result.
#[derive(Debug)]
pub struct Match {
    node: NodeId,
    x: ValueId,
    y: ValueId,
    /// Whether it turns −0 into +0.
    drops_zero_sign: bool,
    /// Whether it turns infinities into finite numbers.
    clips_infinities: bool,
}

/// The operators that [`unchanged`] does not know.
const OWN: &[&str] = &["Identity", "Dropout", "Transpose", "Cast", "Add", "Sub", "Mul", "Div"];

impl EliminateIdentity {
    /// The operators that may change nothing where they stand.
    #[must_use]
    pub fn operators() -> Vec<&'static str> {
        OWN.iter().chain(unchanged::OPERATORS).copied().collect()
    }
}

impl Rule for EliminateIdentity {
    type Match = Match;
    const NAME: &'static str = "eliminate-identity";
    const SUMMARY: &'static str = "bypasses nodes that change nothing: Identity, + 0, x 1, and Reshape, Resize, Pad, Slice and others that keep all";
    const ROOTS: &'static [&'static str] = &[];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let node = cx.graph.get_node(root)?;
        if node.has_reference_attribute() {
            return None;
        }
        let mut drops_zero_sign = false;
        let mut clips_infinities = false;
        // So that the lists miss none of them.
        if ![OWN, unchanged::OPERATORS].iter().any(|known| known.contains(&node.op_type())) {
            return None;
        }
        let x = match node.op_type() {
            "Identity" => cx.graph.operand(root, 0)?,
            "Dropout" => {
                let data = cx.graph.operand(root, 0)?;
                view::is_inference_dropout(cx.graph, root, cx.opset).then_some(data)?
            }
            "Transpose" => {
                let rank = cx.rank(cx.graph.operand(root, 0)?);
                let transpose = Transpose::of(cx.graph, root, rank)?;
                transpose.is_identity().then_some(transpose.x)?
            }
            "Cast" => {
                let x = cx.graph.operand(root, 0)?;
                let to = DataType::from_code(i32::try_from(node.int("to")?).ok()?);
                (cx.shapes.of(x)?.dtype == to).then_some(x)?
            }
            "Add" | "Sub" | "Mul" | "Div" => {
                let affine = ChannelAffine::at(cx, root)?;
                drops_zero_sign = !affine.is_identity();
                affine.is_addition_of_zero().then_some(affine.x)?
            }
            op if unchanged::OPERATORS.contains(&op) => {
                let unchanged = unchanged::unchanged(cx, root)?;
                drops_zero_sign = unchanged.drops_zero_sign;
                clips_infinities = unchanged.clips_infinities;
                unchanged.x
            }
            _ => return None,
        };
        Some(Match {
            node: root,
            x,
            y: cx.graph.result(root, 0)?,
            drops_zero_sign,
            clips_infinities,
        })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let Match { node, x, y, drops_zero_sign, clips_infinities } = matched;
        if drops_zero_sign && !zero_sign::is_unseen(cx, y) {
            let detail = format!("{:?} may turn -0 into +0 as it adds 0", cx.describe(node));
            return Err(Declined::new("zero-sign", detail).into());
        }
        if clips_infinities {
            let name = cx.describe(node);
            let detail =
                format!("{name:?} has no bounds, so its bounds are the largest finite numbers");
            return Err(Declined::new("infinities", detail).into());
        }
        let mut patch = Patch::new();
        patch.remove(node);
        if is_free(cx, y) {
            patch.redirect(y, x);
            return Ok(patch);
        }
        let Some(producer) = moved_producer(cx, x) else {
            let (x, y) = (cx.graph.value(x).name(), cx.graph.value(y).name());
            let detail = format!("{y:?} must keep its name, and so must {x:?}");
            return Err(Declined::new("boundary", detail).into());
        };
        let operands = cx.graph.operands(producer).into_iter().map(Operand::from).collect();
        let copy = cx.graph.node(producer).bare_copy();
        patch.node(copy, producer, operands, Out::Value(y));
        patch.redirect(x, y);
        patch.remove(producer);
        Ok(patch)
    }
}

/// Whether every reading of the value is an operand of a node of this graph.
fn is_free(cx: &Context<'_>, value: ValueId) -> bool {
    let known = cx.graph.value(value);
    !known.is_output() && !known.is_pinned() && !cx.graph.is_captured(value)
}

/// The node that makes `value`, if it can make another value in its place.
fn moved_producer(cx: &Context<'_>, value: ValueId) -> Option<NodeId> {
    if !is_free(cx, value) || cx.graph.value(value).origin() != Origin::Result {
        return None;
    }
    let (producer, slot) = cx.graph.producer(value)?;
    let is_plain = slot == 0
        && cx.graph.sole_result(producer) == Some(value)
        && !cx.graph.node(producer).has_bodies();
    is_plain.then_some(producer)
}
