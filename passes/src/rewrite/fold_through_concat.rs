//! Folds a per-channel scale and shift into the weighted operators whose results are joined before it.
//!
//! Before: `y = a ⊙ Concat(f₁(W₁·x₁ + b₁), f₂(W₂·x₂ + b₂), …) + c`, `fᵢ` carriers (see `lift::Carrier`) or nothing
//! After:  `y = Concat(f₁((a₁ ⊙ W₁)·x₁ + (a₁ ⊙ b₁ + c₁)), …)`
//!
//! aᵢ, cᵢ are the part of a, c that belongs to operand i if the Concat joins the channels, else all of it.
//!
//! 1. `read-twice`: nothing else reads the values in between.
//! 2. `concat-operand`: a weighted operator with constant weights makes every operand.
//! 3. `channel-axis`: the affine acts on the channels that each of them makes, and on the same number of them.
//! 4. `no-gain`: no bare MatMul would need an Add for its summand.
//! 5. `negative-scale`, `padded-mean`: a pool in between lets the affine pass.
//! 6. `overflow`: no weight leaves the range of its dtype.
//!
//! Source: papers.md L7, L11b. Measure: one affine node fewer.

use updp_ir::NodeId;

use super::fold_channel_affine::carried;
use crate::error::{Declined, Stop};
use crate::lift::{ChannelAffine, Form, Layout, Linear, layouts_above};
use crate::patch::{Operand, Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct FoldThroughConcat;

/// An affine and the Concat before it.
#[derive(Debug)]
pub struct Match {
    affine: ChannelAffine,
    concat: NodeId,
}

/// One operand of the Concat.
struct Part {
    unit: Linear,
    layout: Layout,
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Rule for FoldThroughConcat {
    type Match = Match;
    const NAME: &'static str = "fold-through-concat";
    const SUMMARY: &'static str = "folds BatchNormalization, Mul, Add, Sub, Div into the Convs joined by the Concat before it";
    const ROOTS: &'static [&'static str] = ChannelAffine::OPERATORS;

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let affine = ChannelAffine::at(cx, root)?;
        let (concat, _) = cx.graph.producer(affine.x)?;
        let node = cx.graph.node(concat);
        let is_plain = node.is("Concat") && !node.has_reference_attribute();
        let operands = cx.graph.operands(concat);
        let is_any_weighted = operands.iter().flatten().any(|value| {
            let layout = layouts_above(cx, *value, None);
            let source = layout.map_or(*value, |layout| layout.value);
            Linear::producing(cx, source).is_some()
        });
        (is_plain && is_any_weighted).then_some(Match { affine, concat })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let parts = matched.parts(cx)?;
        let Match { affine, concat } = matched;
        let mut patch = Patch::new();
        let mut operands = Vec::with_capacity(parts.len());
        for Part { unit, layout, scale, shift } in &parts {
            let hint = format!("{}_scaled", cx.graph.value(unit.y).name());
            let mut value = unit.emit_scaled(cx, &mut patch, scale, shift, Out::Fresh(hint))?;
            for carrier in &layout.nodes {
                let hint = format!("{}_part", cx.graph.value(affine.y).name());
                let node = cx.graph.node(*carrier).bare_copy();
                let given: Vec<Operand> = carried(cx, *carrier, value);
                value = patch.node(node, *carrier, given, Out::Fresh(hint));
            }
            operands.push(value);
            patch.remove_all(layout.nodes.iter().chain(&unit.nodes).copied());
        }
        let node = cx.graph.node(concat).bare_copy();
        patch.node(node, concat, operands, Out::Value(affine.y));
        patch.remove_all([affine.node, concat]);
        Ok(patch)
    }
}

impl Match {
    fn parts(&self, cx: &Context<'_>) -> Result<Vec<Part>, Declined> {
        let Self { affine, concat } = self;
        let shared = |value| {
            let name = cx.graph.value(value).name();
            Declined::new("read-twice", format!("{name:?} is read elsewhere too"))
        };
        if cx.graph.sole_use(affine.x).is_none() {
            return Err(shared(affine.x));
        }
        let joined = self.joined_axis(cx)?;
        let mut place = 0;
        let mut parts = Vec::new();
        for value in cx.graph.operands(*concat).into_iter().flatten() {
            let layout = layouts_above(cx, value, affine.axis).ok_or_else(|| shared(value))?;
            let name = cx.graph.value(value).name();
            let unit = Linear::producing(cx, layout.value).ok_or_else(|| {
                let detail = format!("no operator with constant weights makes {name:?}");
                Declined::new("concat-operand", detail)
            })?;
            let is_along = layout.axis.is_none_or(|axis| axis == unit.channel_axis);
            let numbers = if affine.axis.is_some() && affine.axis == Some(joined) {
                let range = place..place + unit.out_channels;
                place = range.end;
                let part = |all: &[f64]| all.get(range.clone()).map(<[f64]>::to_vec);
                part(&affine.scale)
                    .zip(part(&affine.shift))
                    .map(|(a, c)| (a, c.iter().map(|c| c + 0.0).collect()))
            } else {
                affine.for_channels(unit.out_channels)
            };
            let Some((scale, shift)) = numbers.filter(|_| is_along) else {
                return Err(self.other_axis(cx));
            };
            let is_bare = unit.form == (Form::MatMul { bias_add: None });
            if is_bare && shift.iter().any(|c| *c != 0.0) {
                let detail = format!("the MatMul that makes {name:?} has no place for a bias");
                return Err(Declined::new("no-gain", detail));
            }
            layout.check(cx, &scale, &shift)?;
            parts.push(Part { unit, layout, scale, shift });
        }
        if affine.axis == Some(joined) && place != affine.scale.len() {
            return Err(self.other_axis(cx));
        }
        Ok(parts)
    }

    /// The axis along which the operands are joined, counted from the front.
    fn joined_axis(&self, cx: &Context<'_>) -> Result<usize, Declined> {
        let axis = cx.graph.node(self.concat).int("axis");
        let known = axis.and_then(|axis| {
            let rank = if axis < 0 { cx.rank(self.affine.x)? as i64 } else { 0 };
            usize::try_from(axis + rank).ok()
        });
        known.ok_or_else(|| self.other_axis(cx))
    }

    fn other_axis(&self, cx: &Context<'_>) -> Declined {
        let name = cx.describe(self.concat);
        let detail = format!("the constant does not lie along the channels that {name:?} joins");
        Declined::new("channel-axis", detail)
    }
}
