//! Folds a per-channel scale and shift into the weighted operator before it.
//!
//! Before: `y = a ⊙ f(W·x + b) + c`, where `f` is any run of carriers (see `lift::Carrier`: Transpose, Reshape,
//! Squeeze, pools, nearest Resize, …) or nothing
//! After:  `y = f((a ⊙ W)·x + (a ⊙ b + c))`
//!
//! W [O, I/g, k…] (Conv), [I, O/g, k…] (ConvTranspose), [O, I] or [I, O] (Gemm, MatMul); a, b, c `[O]`.
//! The affine is a BatchNormalization in inference form or an Add, Sub, Mul or Div with a constant.
//!
//! 1. `channel-axis`: the affine acts on the channels that the operator makes, and on the same number of them.
//! 2. `read-twice`: nothing else reads the value between the two.
//! 3. `bias-stays`: an Add of a constant to a bare MatMul already is its bias.
//! 4. `negative-scale`: behind a MaxPool every factor is positive.
//! 5. `padded-mean`: behind an AveragePool that counts zeros of its padding nothing is added.
//! 6. `overflow`: no weight leaves the range of its dtype.
//!
//! Source: [UPDP] eq. 4; papers.md L7 (conv → BN), L8, L13. Measure: one affine node fewer.

use updp_ir::NodeId;

use crate::error::{Declined, Stop};
use crate::lift::{ChannelAffine, Form, Layout, Linear, layouts_above};
use crate::patch::{Operand, Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct FoldChannelAffine;

/// An affine, the nodes in between, and the operator that it folds into.
#[derive(Debug)]
pub struct Match {
    affine: ChannelAffine,
    above: Option<Layout>,
    unit: Linear,
}

impl Rule for FoldChannelAffine {
    type Match = Match;
    const NAME: &'static str = "fold-channel-affine";
    const SUMMARY: &'static str = "folds BatchNormalization, Mul, Add, Sub, Div into the Conv, ConvTranspose, Gemm or MatMul before it";
    const ROOTS: &'static [&'static str] = ChannelAffine::OPERATORS;

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let affine = ChannelAffine::at(cx, root)?;
        let above = layouts_above(cx, affine.x, affine.axis);
        let source = above.as_ref().map_or(affine.x, |layout| layout.value);
        let unit = Linear::producing(cx, source)?;
        // The unit's own bias Add is not an affine after it.
        if unit.nodes.contains(&root) {
            return None;
        }
        Some(Match { affine, above, unit })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let Match { affine, above, unit } = matched;
        let Some(above) = above else {
            let value = cx.graph.value(affine.x).name();
            let detail = format!("{value:?} is read elsewhere too");
            return Err(Declined::new("read-twice", detail).into());
        };
        let is_along = above.axis.is_none_or(|axis| axis == unit.channel_axis);
        let numbers = affine.for_channels(unit.out_channels).filter(|_| is_along);
        let Some((scale, shift)) = numbers else {
            let detail = format!(
                "the constant does not lie along the {} channels {:?} makes",
                unit.out_channels,
                cx.describe(unit.main())
            );
            return Err(Declined::new("channel-axis", detail).into());
        };
        let is_pure_shift = scale.iter().all(|a| *a == 1.0);
        if is_pure_shift && unit.form == (Form::MatMul { bias_add: None }) {
            return Err(Declined::new("bias-stays", "a bare MatMul has no place for a bias").into());
        }
        above.check(cx, &scale, &shift)?;
        let layouts = above.nodes;
        let mut patch = Patch::new();
        let hint = format!("{}_scaled", cx.graph.value(unit.y).name());
        let out = if layouts.is_empty() { Out::Value(affine.y) } else { Out::Fresh(hint) };
        let mut value = unit.emit_scaled(cx, &mut patch, &scale, &shift, out)?;
        for (at, layout) in layouts.iter().enumerate() {
            let is_last = at + 1 == layouts.len();
            let node = cx.graph.node(*layout).bare_copy();
            let hint = format!("{}_moved", cx.graph.value(affine.y).name());
            let out = if is_last { Out::Value(affine.y) } else { Out::Fresh(hint) };
            let operands = carried(cx, *layout, value);
            value = patch.node(node, *layout, operands, out);
        }
        patch.remove(affine.node);
        patch.remove_all(layouts);
        patch.remove_all(unit.nodes);
        Ok(patch)
    }
}

/// The operands of a carrier, with `value` as its data.
pub(super) fn carried(cx: &Context<'_>, carrier: NodeId, value: Operand) -> Vec<Operand> {
    let old = cx.graph.operands(carrier).into_iter().skip(1).map(Operand::from);
    std::iter::once(value).chain(old).collect()
}
