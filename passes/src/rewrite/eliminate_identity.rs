//! Bypasses nodes that change nothing.
//!
//! Before: `y = f(x)`, where `f` is the identity
//! After:  readers of `y` read `x`
//!
//! `f` is an Identity, a Dropout in inference form, an Add or Sub of zeros, a Mul or Div by ones, a Pad of
//! nothing, a Transpose that moves nothing, a Cast to the present dtype, or a Sum or Concat of one operand.
//!
//! 1. `zero-sign`: `x + 0` turns −0 into +0, so it goes only where no node sees the sign of a zero. `x − 0` and
//!    `x + (−0)` change nothing.
//! 2. `boundary`: `y` is no graph output, no body reads it and no annotation names it; otherwise
//!    the node that makes `x` can make `y` instead.
//!
//! Measure: one node fewer.

use updp_ir::view::{self, Pad, Transpose};
use updp_ir::{DataType, NodeId, Origin, ValueId};

use super::zero_sign;
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
}

impl Rule for EliminateIdentity {
    type Match = Match;
    const NAME: &'static str = "eliminate-identity";
    const SUMMARY: &'static str = "bypasses Identity, inference Dropout, + 0, x 1, empty Pad, and other nodes that change nothing";
    const ROOTS: &'static [&'static str] = &[
        "Identity",
        "Dropout",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pad",
        "Transpose",
        "Cast",
        "Sum",
        "Concat",
    ];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let node = cx.graph.get_node(root)?;
        if node.has_reference_attribute() {
            return None;
        }
        let mut drops_zero_sign = false;
        let x = match node.op_type() {
            "Identity" => cx.graph.operand(root, 0)?,
            "Dropout" => {
                let data = cx.graph.operand(root, 0)?;
                view::is_inference_dropout(cx.graph, root, cx.opset).then_some(data)?
            }
            "Pad" => {
                let rank = cx.rank(cx.graph.operand(root, 0)?);
                let pad = Pad::of(cx.graph, root, cx.opset, rank)?;
                pad.begin.iter().chain(&pad.end).all(|p| *p == 0).then_some(pad.x)?
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
            "Sum" | "Concat" => {
                let operands = cx.graph.operands(root);
                (operands.len() == 1).then(|| operands[0]).flatten()?
            }
            _ => {
                let affine = ChannelAffine::at(cx, root)?;
                drops_zero_sign = !affine.is_identity();
                affine.is_addition_of_zero().then_some(affine.x)?
            }
        };
        Some(Match { node: root, x, y: cx.graph.result(root, 0)?, drops_zero_sign })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let Match { node, x, y, drops_zero_sign } = matched;
        if drops_zero_sign && !zero_sign::is_unseen(cx, y) {
            let detail = format!("{:?} adds 0, and that turns -0 into +0", cx.describe(node));
            return Err(Declined::new("zero-sign", detail).into());
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
