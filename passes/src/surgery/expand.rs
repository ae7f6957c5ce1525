//! Gives each chosen block a second flow and mixes it with the block's own flow by λ.
//!
//! Inside: `v = old(u)` becomes `(1 − λ)·old(u) + λ·new(u)`. `new` is the identity for an activation, and a
//! BatchNorm for a normalization and for the GELU of a transformer's MLP. Forms with weights of their own mix at
//! the end of the branch instead ([UPDP] eq. 2).
//! The end: a block that ends in an activation gets `a = act(z); (1 − λ)·a + λ·BN(a)`. Any other block gets
//! `(1 − λ)·z + λ·BN(act(z))`, where `act` is its first inner activation.
//!
//! λ is one graph input, [`LAMBDA_INPUT`] `[blocks]`. At λ = 0 the network equals the original network.

use updp_ir::{DataType, Model, Node, NodeId, ValueId};

use super::geometry::{Shrink, apply, moved, with_context};
use super::mix::{Mixer, add_lambda, free_prefix, taken_over};
use super::{Choice, Form, low_rank};
use crate::blocks::{Activation, Block, BlockKind, Element, Norm};
use crate::error::{Declined, PassError};
use crate::kernel::{AffineMap, Obstacle};
use crate::lift::weights;
use crate::patch::{Operand, Out, Patch};
use crate::rule::Context;

/// Name of the graph input that holds λ, one number per block.
pub const LAMBDA_INPUT: &str = "updp_lambda";

/// ε of inserted BatchNorms.
pub(super) const EPSILON: f32 = 1e-5;

/// An inserted BatchNorm, by the names of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsertedNorm {
    /// Its result.
    pub result: String,
    /// Axis of the channels.
    pub axis: usize,
    /// Channels.
    pub channels: usize,
    /// Whether γ and β come from a normalization that it replaces; otherwise it starts as the identity.
    pub replaces_norm: bool,
    /// The constants: γ, β, mean and variance of a BatchNormalization, or factor and summand where the channels
    /// do not lie on axis 1.
    pub constants: Vec<String>,
}

/// The result of [`expand`].
#[derive(Clone, Debug, Default)]
pub struct Expansion {
    /// The inserted BatchNorms, in the order of the blocks.
    pub norms: Vec<InsertedNorm>,
}

/// Inserts the second flow of every choice, in order; the entries of λ have the same order.
///
/// # Errors
/// P0004 with the block that cannot take its form; an error of the graph primitives is our bug.
pub fn expand(
    model: &mut Model,
    choices: &[Choice],
    shrink: Shrink,
) -> Result<Expansion, PassError> {
    let mut expansion = Expansion::default();
    if choices.is_empty() {
        return Ok(expansion);
    }
    let prefix = free_prefix(model);
    let lambda = add_lambda(model, choices.len())?;
    for (at, choice) in choices.iter().enumerate() {
        // For a form with its own weights, the second flow is the operator that the moved branch would merge to.
        let planned = with_context(model, |cx| {
            let name = format!("{prefix}.block{}", choice.block.index);
            let mut plan = Plan::new(cx, &choice.block, name, lambda, at)?;
            plan.block(choice, shrink)?;
            Ok((plan.patch, plan.norms))
        });
        let (patch, norms) = planned.map_err(|d| choice.block.refused(d))?;
        apply(model, patch, &choice.block.name)?;
        expansion.norms.extend(norms);
    }
    Ok(expansion)
}

/// The edit of one block.
struct Plan<'a> {
    cx: &'a Context<'a>,
    block: &'a Block,
    dtype: DataType,
    anchor: NodeId,
    mixer: Mixer,
    patch: Patch,
    norms: Vec<InsertedNorm>,
    /// The end of the branch after its mix, if it is also the end of the block.
    mixed_end: Option<Operand>,
}

/// The axis of the channels of a value, and their number.
#[derive(Clone, Copy)]
struct Channels {
    axis: usize,
    count: usize,
}

impl<'a> Plan<'a> {
    fn new(
        cx: &'a Context<'a>,
        block: &'a Block,
        prefix: String,
        lambda: ValueId,
        choice: usize,
    ) -> Result<Self, Declined> {
        let unknown = || Declined::new("no-weights", "it has no weighted operator");
        let first = block.linears().next().ok_or_else(unknown)?;
        let anchor = cx.graph.producer(first.y).map(|(node, _)| node).ok_or_else(unknown)?;
        let dtype = first.dtype();
        let mut patch = Patch::new();
        let mixer = Mixer::new(cx, &mut patch, lambda, choice, dtype, prefix, anchor)?;
        Ok(Self { cx, block, dtype, anchor, mixer, patch, norms: Vec::new(), mixed_end: None })
    }

    fn block(&mut self, choice: &Choice, shrink: Shrink) -> Result<(), Declined> {
        let block = self.block;
        if choice.form.is_thin() {
            let detail = "a thin form has no second flow: it is fitted and put in place at once";
            return Err(Declined::new("thin", detail));
        }
        if choice.form == Form::Drop {
            let old = self.taken_over(block.result)?;
            self.mix(old, block.source.into(), Out::Value(block.result));
            return Ok(());
        }
        if choice.form.is_in_place(block.kind) {
            self.inside(choice.form)?;
        } else {
            self.beside(choice.form, shrink)?;
        }
        self.end()
    }

    fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.mixer.prefix)
    }

    /// Adds bypasses at every activation and normalization of the branch and of the attention half.
    fn inside(&mut self, form: Form) -> Result<(), Declined> {
        let block = self.block;
        let is_transformer = matches!(block.kind, BlockKind::VitLayer | BlockKind::Mlp);
        let attention = block.attention.as_ref().map(|half| &half.norm);
        for norm in attention.into_iter().chain(block.branch.iter().filter_map(|e| match e {
            Element::Norm(norm) => Some(norm),
            _ => None,
        })) {
            if form != Form::Norm {
                self.replace_norm(norm)?;
            }
        }
        for activation in block.branch.iter().filter_map(Element::activation) {
            let old = self.taken_over(activation.y)?;
            let new = if is_transformer {
                let channels = self.channels_of(activation.x)?;
                self.batch_norm(activation.x.into(), channels, None, "act_norm")?
            } else {
                activation.x.into()
            };
            let new = self.scaled(new, activation.gain, "act")?;
            self.mix(old, new, Out::Value(activation.y));
        }
        Ok(())
    }

    fn replace_norm(&mut self, norm: &Norm) -> Result<(), Declined> {
        let old = self.taken_over(norm.y)?;
        let own = (norm.scale.as_slice(), norm.shift.as_slice());
        let channels = Channels { axis: norm.axis, count: norm.channels };
        let new = self.batch_norm(norm.x.into(), channels, Some(own), "norm")?;
        self.mix(old, new, Out::Value(norm.y));
        Ok(())
    }

    /// Adds a second branch with weights of its own, mixed in where the branch meets the shortcut.
    fn beside(&mut self, form: Form, shrink: Shrink) -> Result<(), Declined> {
        let block = self.block;
        let map = branch_map(block, form, shrink)?;
        let end = block.branch.last().map(Element::y);
        let end = end.ok_or_else(|| Declined::new("no-branch", "the branch is empty"))?;
        let source = Operand::Value(block.branch_source);
        let new = if form == Form::DepthwisePointwise {
            let (depthwise, pointwise) = low_rank::split(&map).map_err(refuse)?;
            let middle = self.conv(source, &depthwise, "depthwise")?;
            self.conv(middle, &pointwise, "pointwise")?
        } else {
            let pointwise = low_rank::centre(&map).map_err(refuse)?;
            self.conv(source, &pointwise, "pointwise")?
        };
        let old = self.taken_over(end)?;
        if end == block.result {
            let out = Out::Fresh(self.name("mixed_branch"));
            self.mixed_end = Some(self.mix(old, new, out));
        } else {
            self.mix(old, new, Out::Value(end));
        }
        Ok(())
    }

    fn conv(&mut self, x: Operand, map: &AffineMap, part: &str) -> Result<Operand, Declined> {
        let name = self.name(part);
        let out = Out::Fresh(format!("{name}_result"));
        super::plan_conv(&mut self.patch, self.anchor, self.dtype, &name, x, map, out)
    }

    /// Adds the activation and BatchNorm at the end.
    fn end(&mut self) -> Result<(), Declined> {
        let block = self.block;
        let channels = self.channels_of(block.result)?;
        let old = match self.mixed_end {
            Some(end) => end,
            None => self.taken_over(block.result)?,
        };
        let activated = if block.end.is_some() {
            old
        } else {
            match block.branch.iter().find_map(Element::activation) {
                Some(activation) => {
                    let copy = self.copy_of(activation, old)?;
                    self.scaled(copy, 1.0 / activation.gain, "end")?
                }
                None => old,
            }
        };
        let new = self.batch_norm(activated, channels, None, "end_norm")?;
        self.mix(old, new, Out::Value(block.result));
        Ok(())
    }

    fn taken_over(&mut self, value: ValueId) -> Result<Operand, Declined> {
        taken_over(self.cx, &mut self.patch, value)
    }

    fn mix(&mut self, old: Operand, new: Operand, out: Out) -> Operand {
        self.mixer.mix(self.cx, &mut self.patch, old, new, out)
    }

    /// `factor·x`; `x` itself if the factor is 1.
    fn scaled(&mut self, x: Operand, factor: f64, part: &str) -> Result<Operand, Declined> {
        if factor == 1.0 {
            return Ok(x);
        }
        let name = self.name(&format!("{part}_gain{}", self.mixer.mixes));
        let factor = weights::stored(self.dtype, vec![1], &[factor])?;
        let factor = self.patch.constant(format!("{name}.factor"), factor, None);
        let mul = Node::new("Mul").named(&name);
        let out = Out::Fresh(format!("{name}_result"));
        Ok(self.patch.node(mul, self.anchor, vec![x, factor], out))
    }

    /// Copies the activation's nodes so that the copy reads `x`.
    fn copy_of(&mut self, activation: &Activation, x: Operand) -> Result<Operand, Declined> {
        let graph = self.cx.graph;
        let mut copies: Vec<(ValueId, Operand)> = vec![(activation.x, x)];
        let mut last = x;
        // The anchor must come after the values that the copy reads.
        let anchor = graph.producer(self.block.result).map_or(self.anchor, |(node, _)| node);
        for (at, node) in activation.nodes.iter().enumerate() {
            let operands = graph
                .operands(*node)
                .into_iter()
                .map(|operand| match operand {
                    None => Operand::Absent,
                    Some(value) => copies
                        .iter()
                        .find(|(known, _)| *known == value)
                        .map_or(Operand::Value(value), |(_, copy)| *copy),
                })
                .collect();
            let result = graph
                .sole_result(*node)
                .ok_or_else(|| Declined::new("no-producer", "an activation has several results"))?;
            let name = self.name(&format!("end_act{at}"));
            let copy = graph.node(*node).bare_copy().named(&name);
            last = self.patch.node(copy, anchor, operands, Out::Fresh(format!("{name}_result")));
            copies.push((result, last));
        }
        Ok(last)
    }

    /// Axis and number of the channels of a value in the branch.
    fn channels_of(&self, value: ValueId) -> Result<Channels, Declined> {
        let block = self.block;
        let rank = self.cx.rank(value);
        let is_token = matches!(block.kind, BlockKind::VitLayer | BlockKind::Mlp);
        let in_layout = |unit: &crate::lift::Linear| unit.y == value && !unit.is_conv();
        let axis = if is_token || block.linears().any(in_layout) {
            rank.and_then(|rank| rank.checked_sub(1))
        } else {
            Some(1)
        };
        let channels = axis.and_then(|axis| {
            let count = self.cx.shapes.of(value)?.known_dim(axis as i64)?;
            Some(Channels { axis, count })
        });
        channels.ok_or_else(|| {
            let name = self.cx.graph.value(value).name();
            Declined::new("unknown-channels", format!("the channels of {name:?} are not known"))
        })
    }

    /// A BatchNorm: the operator where the channels lie on axis 1 of an image, otherwise factor and summand.
    fn batch_norm(
        &mut self,
        x: Operand,
        Channels { axis, count: channels }: Channels,
        own: Option<(&[f64], &[f64])>,
        part: &str,
    ) -> Result<Operand, Declined> {
        let name = self.name(&format!("{part}{}", self.norms.len()));
        let rank = self.cx.rank(self.block.result).unwrap_or(4);
        let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
        let (scale, shift) = own.unwrap_or((&ones, &zeros));
        let is_operator = axis == 1 && rank >= 3 && !self.is_channel_last(axis, rank);
        let mut constants = Vec::new();
        let mut vector = |patch: &mut Patch, part: &str, dims: Vec<usize>, values: &[f64]| {
            let hint = format!("{name}.{part}");
            constants.push(hint.clone());
            Ok::<Operand, Declined>(patch.constant(
                hint,
                weights::stored(self.dtype, dims, values)?,
                None,
            ))
        };
        let patch = &mut self.patch;
        let result = format!("{name}_result");
        let anchor = self.anchor;
        let normed = if is_operator {
            let mut operands = vec![x];
            let parts = [("scale", scale), ("bias", shift), ("mean", &zeros), ("var", &ones)];
            for (part, values) in parts {
                operands.push(vector(patch, part, vec![channels], values)?);
            }
            let node = Node::new("BatchNormalization").named(&name).with("epsilon", EPSILON);
            patch.node(node, anchor, operands, Out::Fresh(result.clone()))
        } else {
            // Channels on the last axis broadcast as they are.
            let factor = vector(patch, "scale", vec![channels], scale)?;
            let summand = vector(patch, "bias", vec![channels], shift)?;
            let scaled = Out::Fresh(format!("{name}.scaled"));
            let mul = Node::new("Mul").named(&format!("{name}.mul"));
            let scaled = patch.node(mul, anchor, vec![x, factor], scaled);
            let add = Node::new("Add").named(&format!("{name}.add"));
            patch.node(add, anchor, vec![scaled, summand], Out::Fresh(result.clone()))
        };
        self.norms.push(InsertedNorm {
            result,
            axis,
            channels,
            replaces_norm: own.is_some(),
            constants,
        });
        Ok(normed)
    }

    /// Whether the channels of an axis-1 value lie last, as in `[B, C]`.
    fn is_channel_last(&self, axis: usize, rank: usize) -> bool {
        axis + 1 == rank && self.block.linears().any(|unit| !unit.is_conv())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn refuse(obstacle: Obstacle) -> Declined {
    Declined::new(obstacle.reason(), obstacle.to_string())
}

/// The branch as one map: every nonlinear element is replaced by its linear one, and the geometry is moved.
fn branch_map(block: &Block, form: Form, shrink: Shrink) -> Result<AffineMap, Declined> {
    let mut geometry = moved(block, form, shrink)?.into_iter();
    let mut whole: Option<AffineMap> = None;
    for element in &block.branch {
        let channels = whole.as_ref().map(AffineMap::out_channels);
        let rank = block.linears().next().map_or(2, |unit| unit.geometry.rank());
        let next = match element {
            Element::Activation(activation) if activation.gain == 1.0 => continue,
            Element::Activation(activation) => {
                let gains = vec![activation.gain; channels.unwrap_or(0)];
                let zeros = vec![0.0; gains.len()];
                AffineMap::diagonal(&gains, &zeros, rank).map_err(refuse)?
            }
            Element::Linear(unit) => {
                let no_map = || Declined::new("no-map", "a weighted operator is no map");
                let mut map = unit.map().ok_or_else(no_map)?;
                if let Some(new) = geometry.next() {
                    map = low_rank::reshaped(&map, &new);
                }
                map
            }
            Element::Affine(affine) => {
                let channels = channels.or_else(|| block.linears().next().map(|u| u.in_channels));
                let (scale, shift) =
                    channels.and_then(|channels| affine.for_channels(channels)).ok_or_else(
                        || Declined::new("channel-axis", "a constant lies on another axis"),
                    )?;
                AffineMap::diagonal(&scale, &shift, rank).map_err(refuse)?
            }
            Element::Norm(norm) => {
                AffineMap::diagonal(&norm.scale, &norm.shift, rank).map_err(refuse)?
            }
            _ => {
                return Err(Declined::new("not-affine", "the branch holds more than convolutions"));
            }
        };
        whole = Some(match whole {
            None => next,
            Some(before) => before.then(&next, None).map_err(refuse)?,
        });
    }
    whole.ok_or_else(|| Declined::new("no-branch", "the branch is empty"))
}
