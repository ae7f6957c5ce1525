//! Folds a per-channel scale and shift into the weighted operators that read it.
//!
//! Before: `y = W·f(a ⊙ x + c) + b`, for one or several readers W, through carriers `f` before each reader (see
//! `lift::Carrier`: Transpose, Reshape, Squeeze, pools, nearest Resize, …)
//! After:  `y = (W ⊙ aᵀ)·f(x) + (b + W·c)`
//!
//! a, c `[I]`; W [O, I/g, k…] (Conv), [I, O/g, k…] (ConvTranspose), [O, I] or [I, O] (Gemm, MatMul).
//! Behind zero padding, `W·c` depends on the position. There the bias becomes an Add of a constant
//! [1, O, …]: the response of the padded operator to an image that is c at every position.
//!
//! 1. `read-elsewhere`: only weighted operators read the affine.
//! 2. `channel-axis`: the affine acts on the channels that each of them sums over.
//! 3. `transposed-shift`: a ConvTranspose takes a scale only; its response to c varies.
//! 4. `symbolic-spatial`: if this constant is needed, the spatial size is known.
//! 5. `border-too-large`: the constant takes at most the bytes or the share of the model in the options.
//! 6. `border-map`: only one reader needs it.
//! 7. `no-gain`: the rule adds no more Adds than it removes affines. It adds fewer unless the affine is a
//!    BatchNormalization (more expensive than an Add) or moves behind a bare MatMul once.
//! 8. `old-opset`: Add broadcasts as needed here from opset 7 on.
//! 9. `negative-scale`, `padded-mean`: a pool in between lets the affine pass.
//! 10. `overflow`: no weight leaves the range of its dtype.
//!
//! Source: papers.md L4(c), L7 (BN → conv), L8, L9. Measure: affine nodes before weighted operators.

use updp_ir::{NodeId, Use, ValueId};

use super::budget;
use super::composite::Composite;
use crate::error::{Declined, Stop};
use crate::kernel::{AffineMap, Obstacle};
use crate::lift::{Carrier, ChannelAffine, Form, Layout, Linear};
use crate::patch::{Operand, Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct FoldIntoConsumer;

/// One affine (or a scale and the shift after it) and its readers.
#[derive(Debug)]
pub struct Match {
    /// The nodes of the affine; the root is the last.
    affines: Vec<ChannelAffine>,
    composite: Composite,
    branches: Vec<Branch>,
    is_shared: bool,
}

impl Match {
    fn x(&self) -> ValueId {
        self.affines[0].x
    }

    fn has_batch_norm(&self) -> bool {
        self.affines.iter().any(|affine| affine.is_batch_norm)
    }

    /// Each branch with the factors and summands of its channels, if the affine fits every
    /// branch.
    fn numbers(&self, cx: &Context<'_>) -> Result<Vec<Numbers<'_>>, Declined> {
        if self.is_shared {
            let value = self.affines.last().map_or("", |a| cx.graph.value(a.y).name());
            let detail = format!("{value:?} is read by others too");
            return Err(Declined::new("read-elsewhere", detail));
        }
        let numbers = self.branches.iter().map(|branch| {
            let Branch { axis, unit, .. } = branch;
            let is_along = axis.is_none_or(|axis| axis == unit.channel_axis);
            let numbers = self.composite.for_channels(unit.in_channels).filter(|_| is_along);
            let name = || cx.describe(unit.main());
            let Some((scale, shift)) = numbers else {
                let detail = format!(
                    "the constant does not lie along the {} channels {:?} reads",
                    unit.in_channels,
                    name()
                );
                return Err(Declined::new("channel-axis", detail));
            };
            if unit.form == Form::ConvTranspose && !self.composite.is_pure_scale() {
                let detail = format!("{:?} makes no constant of a constant", name());
                return Err(Declined::new("transposed-shift", detail));
            }
            if let Some(layout) = &branch.layout {
                layout.check(cx, &scale, &shift)?;
            }
            Ok(Numbers { branch, scale, shift })
        });
        numbers.collect()
    }
}

/// A weighted operator and the path to it.
#[derive(Debug)]
struct Branch {
    /// The carriers on the path.
    layout: Option<Layout>,
    /// The axis of the channels where the operator reads.
    axis: Option<usize>,
    unit: Linear,
}

/// The affine in front of one branch, one number per input channel of its operator.
struct Numbers<'a> {
    branch: &'a Branch,
    scale: Vec<f64>,
    shift: Vec<f64>,
}

/// The form that a summand in front of an operator takes behind it.
enum Shift {
    Nothing,
    Bias(Vec<f64>),
    Border(Box<AffineMap>),
}

impl Rule for FoldIntoConsumer {
    type Match = Match;
    const NAME: &'static str = "fold-into-consumer";
    const SUMMARY: &'static str = "folds BatchNormalization, Mul, Add, Sub, Div into the Conv, ConvTranspose, Gemm or MatMul after it";
    const ROOTS: &'static [&'static str] = ChannelAffine::OPERATORS;

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let affine = ChannelAffine::at(cx, root)?;
        let users = cx.graph.users(affine.y);
        let to = |axis| -> Vec<Branch> {
            users.iter().filter_map(|user| branch(cx, affine.y, axis, *user)).collect()
        };
        let branches = to(affine.axis);
        if branches.is_empty() {
            return None;
        }
        let is_shared = branches.len() != users.len()
            || cx.graph.value(affine.y).is_output()
            || cx.graph.is_captured(affine.y);
        let composite = Composite::of(&affine);
        let needs_border =
            branches.iter().any(|b| b.unit.geometry.is_padded()) && !composite.is_pure_scale();
        if needs_border && let Some((above, both)) = pair(cx, &affine) {
            let branches = to(both.axis);
            let is_shared = is_shared || branches.len() != users.len();
            let affines = vec![above, affine];
            return (!branches.is_empty()).then_some(Match {
                affines,
                composite: both,
                branches,
                is_shared,
            });
        }
        Some(Match { affines: vec![affine], composite, branches, is_shared })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let mut planned = Vec::with_capacity(matched.branches.len());
        for Numbers { branch, scale, shift } in matched.numbers(cx)? {
            planned.push((branch, shifted(cx, &branch.unit, &scale, &shift)?, scale));
        }
        let added = planned.iter().filter(|(branch, shift, _)| adds_node(&branch.unit, shift));
        let borders = planned.iter().filter(|(_, shift, _)| matches!(shift, Shift::Border(_)));
        check_gain(cx, &matched, added.count(), borders.count())?;
        let mut patch = Patch::new();
        for (Branch { layout, unit, .. }, shift, scale) in planned {
            let out = Out::Value(unit.y);
            let x: Operand = match layout {
                None => matched.x().into(),
                Some(layout) => {
                    if let Some(first) = layout.nodes.first() {
                        patch.set_operand(*first, 0, matched.x());
                    }
                    unit.x.into()
                }
            };
            match &shift {
                Shift::Nothing => {
                    unit.emit_scaled_inputs(cx, &mut patch, x, &scale, unit.bias.as_deref(), out)?
                }
                Shift::Bias(bias) => {
                    unit.emit_scaled_inputs(cx, &mut patch, x, &scale, Some(bias), out)?
                }
                Shift::Border(map) => unit.emit_map(cx, &mut patch, x, map, out)?,
            };
            patch.remove_all(unit.nodes.iter().copied());
        }
        Ok(patch)
    }
}

/// The weighted operator at the end of this reading of `value`, through carriers.
fn branch(cx: &Context<'_>, value: ValueId, axis: Option<usize>, user: Use) -> Option<Branch> {
    if let Some(unit) = Linear::reading(cx, value, user.node) {
        return Some(Branch { layout: None, axis, unit });
    }
    let first = Carrier::below(cx, user.node, axis).filter(|_| user.slot == 0)?;
    let layout = Layout::from(cx, &first)?;
    let reader = cx.graph.sole_use(layout.value)?;
    let unit = Linear::reading(cx, layout.value, reader.node)?;
    Some(Branch { axis: layout.axis, layout: Some(layout), unit })
}

/// A bare shift with the affine above it, if nothing else reads the value between them.
fn pair(cx: &Context<'_>, affine: &ChannelAffine) -> Option<(ChannelAffine, Composite)> {
    cx.graph.sole_use(affine.x).filter(|_| !affine.is_batch_norm)?;
    let (producer, _) = cx.graph.producer(affine.x)?;
    let above = ChannelAffine::at(cx, producer)?;
    let both = Composite::of(&above).then(affine)?;
    Some((above, both))
}

/// The summand `shift [I]` moved behind the operator; a border map already includes `scale [I]`.
fn shifted(
    cx: &Context<'_>,
    unit: &Linear,
    scale: &[f64],
    shift: &[f64],
) -> Result<Shift, Declined> {
    let declined = |o: Obstacle| Declined::new(o.reason(), o.to_string());
    if shift.iter().all(|c| *c == 0.0) {
        return Ok(Shift::Nothing);
    }
    let map = unit
        .map()
        .ok_or_else(|| Declined::new("transposed-shift", "a ConvTranspose has no affine map"))?;
    let size = cx.spatial(unit.x);
    let element = unit.dtype().bits().unwrap_or(64) / 8;
    let limit = budget::limit(cx);
    if let (true, Some(size)) = (unit.geometry.is_padded(), &size)
        && let Some(output) = map.output_size(size)
    {
        let sizes = output.iter().chain([&unit.out_channels, &element]);
        let bytes = sizes.fold(1_usize, |product, size| product.saturating_mul(*size));
        if bytes > limit {
            return Err(declined(Obstacle::BorderTooLarge { bytes, limit }));
        }
    }
    let map = map.shift_input(shift, size.as_deref()).map_err(declined)?;
    if map.border.is_none() {
        return Ok(Shift::Bias(map.bias));
    }
    Ok(Shift::Border(Box::new(map.scale_cols(scale).map_err(declined)?)))
}

/// Whether the operator needs one more node with that shift.
fn adds_node(unit: &Linear, shift: &Shift) -> bool {
    match shift {
        Shift::Nothing => false,
        Shift::Bias(bias) => {
            unit.form == (Form::MatMul { bias_add: None }) && bias.iter().any(|b| *b != 0.0)
        }
        Shift::Border(_) => true,
    }
}

fn check_gain(
    cx: &Context<'_>,
    matched: &Match,
    added: usize,
    borders: usize,
) -> Result<(), Declined> {
    if added > 0 && cx.opset < 7 {
        let detail = format!("opset {} broadcasts by attribute", cx.opset);
        return Err(Declined::new("old-opset", detail));
    }
    if borders > 0 && matched.branches.len() > 1 {
        return Err(Declined::new("border-map", "one of several readers needs a border map"));
    }
    let removed = matched.affines.len();
    let is_worth_a_swap = matched.has_batch_norm() || (borders == 0 && !is_bias(cx, matched));
    if added < removed || (added == removed && is_worth_a_swap) {
        return Ok(());
    }
    Err(Declined::new("no-gain", format!("{added} Add for {removed} affine is no gain")))
}

/// Whether the affine is the bias of the MatMul before it.
fn is_bias(cx: &Context<'_>, matched: &Match) -> bool {
    matched.affines.iter().any(|affine| {
        Linear::producing(cx, affine.y).is_some_and(|unit| unit.nodes.contains(&affine.node))
    })
}
