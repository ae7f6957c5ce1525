//! One per-channel scale and shift: `y = a·x + c` along one axis, or with one number for all elements.

use updp_ir::view::{BatchNorm, Binary, BinaryOp};
use updp_ir::{Node, NodeId, Tensor, ValueId};

use crate::kernel::batch_norm_affine;
use crate::rule::Context;

/// A node that maps each channel `k` of one axis to `scale[k]·x + shift[k]`.
#[derive(Clone, Debug)]
pub struct ChannelAffine {
    /// The node.
    pub node: NodeId,
    /// Input.
    pub x: ValueId,
    /// Result, of the same shape as the input.
    pub y: ValueId,
    /// The axis of the channels; `None` if one number serves every element.
    pub axis: Option<usize>,
    /// Factors: one, or one per channel.
    pub scale: Vec<f64>,
    /// Summands: the same number as factors; −0 = none (see [`is_no_summand`]).
    pub shift: Vec<f64>,
    /// Whether this is a BatchNormalization.
    pub is_batch_norm: bool,
}

impl ChannelAffine {
    /// The operators that may be one.
    pub const OPERATORS: &'static [&'static str] =
        &["BatchNormalization", "Add", "Sub", "Mul", "Div", "Neg", "Sum", "Mean"];

    /// Reads a BatchNormalization (inference), a Neg, an Add, Sub, Mul or Div with a constant, or a Sum or
    /// Mean of one value and constants. The constants vary along at most one axis and do not widen the result.
    #[must_use]
    pub fn at(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        match cx.graph.get_node(node)?.op_type() {
            "BatchNormalization" => Self::batch_norm(cx, node),
            "Add" | "Sub" | "Mul" | "Div" => Self::binary(cx, node),
            "Neg" => Self::negation(cx, node),
            "Sum" | "Mean" => Self::sum(cx, node),
            _ => None,
        }
    }

    fn batch_norm(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let view = BatchNorm::of(cx.graph, node, cx.opset)?;
        let read = |value| cx.constant(value)?.to_f64();
        let (gamma, beta) = (read(view.scale)?, read(view.bias)?);
        let (mean, var) = (read(view.mean)?, read(view.var)?);
        let channels = gamma.len();
        if channels == 0 || [beta.len(), mean.len(), var.len()] != [channels; 3] {
            return None;
        }
        let affine = batch_norm_affine(&gamma, &beta, &mean, &var, view.epsilon).ok()?;
        Some(Self {
            node,
            x: view.x,
            y: view.y,
            axis: Some(1),
            scale: affine.scale,
            shift: affine.shift,
            is_batch_norm: true,
        })
    }

    fn binary(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let view = Binary::of(cx.graph, node, cx.opset)?;
        let (x, constant, is_constant_left) = match (cx.constant(view.a), cx.constant(view.b)) {
            (None, Some(right)) => (view.a, right, false),
            (Some(left), None) => (view.b, left, true),
            _ => return None,
        };
        if !constant.dtype().is_foldable_float() {
            return None;
        }
        let axis = channel_axis(cx, x, &constant)?;
        let values = constant.to_f64()?;
        let (ones, nothing) = (vec![1.0; values.len()], vec![-0.0; values.len()]);
        let negated = |v: &[f64]| v.iter().map(|x| -x).collect::<Vec<f64>>();
        let (scale, shift) = match (view.op, is_constant_left) {
            (BinaryOp::Add, _) => (ones, values),
            (BinaryOp::Mul, _) => (values, nothing),
            (BinaryOp::Sub, false) => (ones, negated(&values)),
            (BinaryOp::Sub, true) => (negated(&ones), values),
            (BinaryOp::Div, false) => {
                if values.contains(&0.0) {
                    return None;
                }
                (values.iter().map(|v| 1.0 / v).collect(), nothing)
            }
            (BinaryOp::Div, true) => return None,
        };
        Some(Self { node, x, y: view.y, axis: axis.axis(), scale, shift, is_batch_norm: false })
    }

    fn negation(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        plain(cx, node)?;
        let x = cx.graph.operand(node, 0)?;
        cx.shapes.dtype(x).filter(|dtype| dtype.is_foldable_float())?;
        let y = cx.graph.sole_result(node)?;
        let (scale, shift) = (vec![-1.0], vec![-0.0]);
        Some(Self { node, x, y, axis: None, scale, shift, is_batch_norm: false })
    }

    /// A Sum or Mean with one operand that is no constant.
    fn sum(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let known = plain(cx, node).filter(|_| cx.opset >= 8)?;
        let operands: Vec<ValueId> = cx.graph.operands(node).into_iter().collect::<Option<_>>()?;
        let count = operands.len() as f64;
        let (constants, data): (Vec<_>, Vec<_>) = operands
            .into_iter()
            .map(|value| (value, cx.constant(value)))
            .partition(|o| o.1.is_some());
        let &[(x, _)] = data.as_slice() else { return None };
        let mut axis = None;
        let mut shift = vec![-0.0];
        for tensor in constants.into_iter().filter_map(|(_, tensor)| tensor) {
            if !tensor.dtype().is_foldable_float() {
                return None;
            }
            let own = channel_axis(cx, x, &tensor)?.axis();
            if axis.is_some() && own.is_some() && axis != own {
                return None;
            }
            let values = tensor.to_f64()?;
            let channels = shift.len().max(values.len());
            let (sum, values) = (spread(axis, &shift, channels)?, spread(own, &values, channels)?);
            shift = sum.iter().zip(values).map(|(sum, value)| sum + value).collect();
            axis = axis.or(own);
        }
        let divisor = if known.is("Mean") { count } else { 1.0 };
        let shift: Vec<f64> = shift.iter().map(|c| c / divisor).collect();
        let scale = vec![1.0 / divisor; shift.len()];
        let y = cx.graph.sole_result(node)?;
        Some(Self { node, x, y, axis, scale, shift, is_batch_norm: false })
    }

    /// Whether the node changes nothing, not even the sign of a zero.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.scale.iter().all(|a| *a == 1.0) && self.shift.iter().all(|c| is_no_summand(*c))
    }

    /// Whether the node changes at most the sign of a zero, as `x + 0` does.
    #[must_use]
    pub fn is_addition_of_zero(&self) -> bool {
        self.scale.iter().all(|a| *a == 1.0) && self.shift.iter().all(|c| *c == 0.0)
    }

    /// Factors and summands for `channels` channels; `None` if their number differs.
    #[must_use]
    pub fn for_channels(&self, channels: usize) -> Option<(Vec<f64>, Vec<f64>)> {
        let scale = spread(self.axis, &self.scale, channels)?;
        Some((scale, summands(self.axis, &self.shift, channels)?))
    }
}

/// The node, if it is of the default domain with plain attributes.
fn plain<'a>(cx: &'a Context<'_>, node: NodeId) -> Option<&'a Node> {
    let known = cx.graph.get_node(node)?;
    (known.domain().is_empty() && !known.has_reference_attribute()).then_some(known)
}

/// Whether adding `c` changes no number. That holds for −0 only: `−0 + (+0)` is +0.
#[must_use]
pub fn is_no_summand(c: f64) -> bool {
    c == 0.0 && c.is_sign_negative()
}

/// One number per channel; `None` if their number differs. One number serves all channels if there is no axis.
#[must_use]
pub fn spread(axis: Option<usize>, values: &[f64], channels: usize) -> Option<Vec<f64>> {
    match values.len() {
        len if len == channels => Some(values.to_vec()),
        1 if axis.is_none() => Some(vec![values[0]; channels]),
        _ => None,
    }
}

/// As [`spread`], with +0 where nothing is added: a stored bias has no negative zeros of our making.
#[must_use]
pub fn summands(axis: Option<usize>, values: &[f64], channels: usize) -> Option<Vec<f64>> {
    let values = spread(axis, values, channels)?;
    Some(values.into_iter().map(|c| c + 0.0).collect())
}

/// The axis along which a constant varies.
enum Variation {
    Nothing,
    Axis(usize),
}

impl Variation {
    fn axis(&self) -> Option<usize> {
        if let Self::Axis(axis) = self { Some(*axis) } else { None }
    }
}

/// The one axis of `x` along which `constant` varies. `None` if it varies along several axes, widens
/// the result, or the axis cannot be known.
fn channel_axis(cx: &Context<'_>, x: ValueId, constant: &Tensor) -> Option<Variation> {
    let dims = constant.dims();
    if dims.is_empty() {
        return Some(Variation::Nothing);
    }
    let rank = cx.rank(x)?;
    let offset = rank.checked_sub(dims.len())?;
    let mut varying = dims.iter().enumerate().filter(|(_, d)| **d != 1);
    let Some((at, size)) = varying.next() else { return Some(Variation::Nothing) };
    if varying.next().is_some() || *size == 0 {
        return None;
    }
    let axis = at + offset;
    // The constant would widen a size-1 or unknown axis of x.
    (cx.shapes.of(x)?.known_dim(axis as i64) == Some(*size)).then_some(Variation::Axis(axis))
}
