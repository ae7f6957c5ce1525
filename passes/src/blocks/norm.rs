//! Normalizations by statistics of the input: LayerNorm (whole and spelled out), GroupNorm, InstanceNorm.

use updp_ir::view::{Binary, BinaryOp};
use updp_ir::{NodeId, ValueId};

use super::flow::{Flow, is_read_only_by};
use crate::rule::Context;

/// The elements over which a normalization takes its statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Over the channels of each position.
    Layer,
    /// Over the positions of a group of channels.
    Group,
    /// Over the positions of each channel.
    Instance,
}

impl NormKind {
    /// The common name of the normalization.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Layer => "LayerNorm",
            Self::Group => "GroupNorm",
            Self::Instance => "InstanceNorm",
        }
    }
}

/// `y = γ·(x − mean)/√(var + ε) + β` with the statistics of x itself.
#[derive(Clone, Debug)]
pub struct Norm {
    /// The kind of statistics.
    pub kind: NormKind,
    /// Operand.
    pub x: ValueId,
    /// Result.
    pub y: ValueId,
    /// Axis of x that carries the channels.
    pub axis: usize,
    /// Channels.
    pub channels: usize,
    /// γ `[C]`; ones if the operator has none.
    pub scale: Vec<f64>,
    /// β `[C]`; zeros if the operator has none.
    pub shift: Vec<f64>,
    /// ε.
    pub epsilon: f64,
    /// Its nodes in topological order.
    pub nodes: Vec<NodeId>,
    /// Values of its constants, for names.
    pub parameters: Vec<ValueId>,
}

impl Norm {
    /// The normalization with the result `value`.
    #[must_use]
    pub fn ending_in(cx: &Context<'_>, flow: &Flow, value: ValueId) -> Option<Self> {
        let (node, slot) = cx.graph.producer(value)?;
        if slot != 0 || !cx.graph.node(node).domain().is_empty() {
            return None;
        }
        match cx.graph.node(node).op_type() {
            "LayerNormalization" => Self::layer(cx, node, value),
            "GroupNormalization" => Self::group(cx, node, value),
            "InstanceNormalization" => Self::instance(cx, node, value),
            "Reshape" => Self::reshaped_group(cx, node, value),
            "Div" => Self::spelled_out(cx, flow, node, value),
            _ => None,
        }
    }

    fn channels(cx: &Context<'_>, x: ValueId, axis: usize) -> Option<usize> {
        cx.shapes.of(x)?.known_dim(axis as i64)
    }

    fn vector(cx: &Context<'_>, value: ValueId, len: usize) -> Option<Vec<f64>> {
        cx.constant(value)?.to_f64().filter(|values| values.len() == len)
    }

    fn layer(cx: &Context<'_>, node: NodeId, y: ValueId) -> Option<Self> {
        let known = cx.graph.node(node);
        let x = cx.graph.operand(node, 0)?;
        let rank = cx.rank(x)?;
        let axis = known.int("axis").unwrap_or(-1);
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        if axis != rank as i64 - 1 {
            return None;
        }
        let channels = Self::channels(cx, x, rank - 1)?;
        let scale = cx.graph.operand(node, 1)?;
        let shift = cx.graph.operand(node, 2);
        let parameters = std::iter::once(scale).chain(shift).collect();
        Some(Self {
            kind: NormKind::Layer,
            x,
            y,
            axis: rank - 1,
            channels,
            scale: Self::vector(cx, scale, channels)?,
            shift: match shift {
                Some(shift) => Self::vector(cx, shift, channels)?,
                None => vec![0.0; channels],
            },
            epsilon: f64::from(known.float("epsilon").unwrap_or(1e-5)),
            nodes: vec![node],
            parameters,
        })
    }

    fn group(cx: &Context<'_>, node: NodeId, y: ValueId) -> Option<Self> {
        let known = cx.graph.node(node);
        let x = cx.graph.operand(node, 0)?;
        let channels = Self::channels(cx, x, 1)?;
        let groups = usize::try_from(known.int("num_groups")?).ok().filter(|g| *g > 0)?;
        // Below opset 21, γ and β hold one number per group.
        let spread = |value: ValueId| {
            if cx.opset >= 21 {
                return Self::vector(cx, value, channels);
            }
            let own = Self::vector(cx, value, groups)?;
            let width = channels / groups;
            Some((0..channels).map(|c| own[c / width.max(1)]).collect())
        };
        let (scale, shift) = (cx.graph.operand(node, 1)?, cx.graph.operand(node, 2)?);
        Some(Self {
            kind: NormKind::Group,
            x,
            y,
            axis: 1,
            channels,
            scale: spread(scale)?,
            shift: spread(shift)?,
            epsilon: f64::from(known.float("epsilon").unwrap_or(1e-5)),
            nodes: vec![node],
            parameters: vec![scale, shift],
        })
    }

    fn instance(cx: &Context<'_>, node: NodeId, y: ValueId) -> Option<Self> {
        let x = cx.graph.operand(node, 0)?;
        let channels = Self::channels(cx, x, 1)?;
        let (scale, shift) = (cx.graph.operand(node, 1)?, cx.graph.operand(node, 2)?);
        Some(Self {
            kind: NormKind::Instance,
            x,
            y,
            axis: 1,
            channels,
            scale: Self::vector(cx, scale, channels)?,
            shift: Self::vector(cx, shift, channels)?,
            epsilon: f64::from(cx.graph.node(node).float("epsilon").unwrap_or(1e-5)),
            nodes: vec![node],
            parameters: vec![scale, shift],
        })
    }

    /// torch's export of GroupNorm: `Reshape [N, g, …] → InstanceNormalization → Reshape` back; γ and β
    /// follow as affines of their own.
    fn reshaped_group(cx: &Context<'_>, back: NodeId, y: ValueId) -> Option<Self> {
        let normed = cx.graph.operand(back, 0)?;
        let (middle, _) = cx.graph.producer(normed)?;
        if !cx.graph.node(middle).is("InstanceNormalization") {
            return None;
        }
        let grouped = cx.graph.operand(middle, 0)?;
        let (there, _) = cx.graph.producer(grouped)?;
        if !cx.graph.node(there).is("Reshape") {
            return None;
        }
        let x = cx.graph.operand(there, 0)?;
        let is_sole = |value| cx.graph.sole_use(value).is_some();
        if !is_sole(normed) || !is_sole(grouped) {
            return None;
        }
        let (of_x, of_y) = (cx.shapes.dims(x)?, cx.shapes.dims(y));
        if of_y.is_some_and(|dims| dims.len() != of_x.len() || dims[1] != of_x[1]) {
            return None;
        }
        let channels = Self::channels(cx, x, 1)?;
        let node = Self::instance(cx, middle, normed)?;
        let groups = node.scale.len();
        if groups == 0 || !channels.is_multiple_of(groups) {
            return None;
        }
        let spread = |v: &[f64]| (0..channels).map(|c| v[c / (channels / groups)]).collect();
        Some(Self {
            kind: NormKind::Group,
            x,
            y,
            axis: 1,
            channels,
            scale: spread(&node.scale),
            shift: spread(&node.shift),
            epsilon: node.epsilon,
            nodes: vec![there, middle, back],
            parameters: vec![],
        })
    }

    /// `(x − mean(x)) / √(mean((x − mean(x))²) + ε)` over one axis; γ and β follow as affines.
    fn spelled_out(cx: &Context<'_>, flow: &Flow, div: NodeId, y: ValueId) -> Option<Self> {
        let graph = cx.graph;
        let made_by = |value: ValueId, op: &str| {
            graph.producer(value).map(|(node, _)| node).filter(|node| graph.node(*node).is(op))
        };
        let centered = graph.operand(div, 0)?;
        let root = made_by(graph.operand(div, 1)?, "Sqrt")?;
        let sum = made_by(graph.operand(root, 0)?, "Add")?;
        let sum = Binary::of(graph, sum, cx.opset)?;
        let (variance, epsilon) = match (cx.constant(sum.a), cx.constant(sum.b)) {
            (None, Some(epsilon)) => (sum.a, epsilon),
            (Some(epsilon), None) => (sum.b, epsilon),
            _ => return None,
        };
        let mean_of_squares = made_by(variance, "ReduceMean")?;
        let square = graph.producer(graph.operand(mean_of_squares, 0)?)?.0;
        let squared = graph.operand(square, 0)?;
        let is_square = match graph.node(square).op_type() {
            "Pow" => cx.constant(graph.operand(square, 1)?)?.scalar_f64() == Some(2.0),
            "Mul" => graph.operand(square, 1) == Some(squared),
            _ => false,
        };
        let subtraction = |value: ValueId| {
            let node = made_by(value, "Sub")?;
            Binary::of(graph, node, cx.opset).filter(|b| b.op == BinaryOp::Sub)
        };
        let (first, second) = (subtraction(centered)?, subtraction(squared)?);
        let x = first.a;
        let mean = made_by(first.b, "ReduceMean")?;
        let is_of_x = graph.operand(mean, 0) == Some(x)
            && second.a == x
            && made_by(second.b, "ReduceMean").is_some_and(|m| graph.operand(m, 0) == Some(x));
        if !is_square || !is_of_x {
            return None;
        }
        let rank = cx.rank(x)?;
        let axis = reduced_axis(cx, mean, rank)?;
        if reduced_axis(cx, mean_of_squares, rank)? != axis {
            return None;
        }
        let channels = Self::channels(cx, x, axis)?;
        let nodes = flow.between(cx, x, y);
        let is_closed = nodes.iter().flat_map(|node| graph.results(*node)).flatten().all(|value| {
            value == y || is_read_only_by(cx, value, |reader| nodes.contains(&reader))
        });
        is_closed.then(|| Self {
            kind: NormKind::Layer,
            x,
            y,
            axis,
            channels,
            scale: vec![1.0; channels],
            shift: vec![0.0; channels],
            epsilon: epsilon.scalar_f64().unwrap_or(0.0),
            nodes,
            parameters: vec![],
        })
    }
}

/// The one axis of a mean, which stays as a dim of 1.
fn reduced_axis(cx: &Context<'_>, node: NodeId, rank: usize) -> Option<usize> {
    let known = cx.graph.node(node);
    let axes = match cx.graph.operand(node, 1) {
        Some(axes) => cx.constant(axes)?.to_i64()?,
        None => known.ints("axes")?.to_vec(),
    };
    let &[axis] = axes.as_slice() else { return None };
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    let axis = usize::try_from(axis).ok().filter(|axis| *axis < rank)?;
    (known.int("keepdims").unwrap_or(1) == 1).then_some(axis)
}
