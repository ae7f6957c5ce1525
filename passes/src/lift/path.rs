//! The affine operators between a value and an earlier value. Branches and chains are made of these paths.

use updp_ir::view::{AveragePool, Pad, Slice};
use updp_ir::{ConvGeometry, NodeId, ValueId};

use super::{ChannelAffine, Form, Linear};
use crate::cost::{MapShape, Work, elements, elementwise_ns};
use crate::kernel::{AffineMap, Obstacle};
use crate::rule::Context;

/// Longest run of operators that is searched.
const MAX_STEPS: usize = 12;

/// One affine operator of a path.
#[derive(Clone, Debug)]
pub enum Step {
    /// A weighted operator.
    Linear(Linear),
    /// A per-channel scale and shift.
    Affine(ChannelAffine),
    /// A mean over a window, if it is a convolution (L14).
    Pool(AveragePool),
    /// Zeros around the spatial dims.
    Pad(Pad),
    /// A regular choice of positions and channels (L11b).
    Selection(Selection),
}

/// Every `stride`-th position and the channels in `sources`: a strided Slice, or a Pad of channels with
/// zeros. Together they are the option-A shortcut of CIFAR ResNets.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The node.
    pub node: NodeId,
    /// Input [N, C, …].
    pub x: ValueId,
    /// Input channels.
    pub in_channels: usize,
    /// Input channel of each result channel; `None` = zeros.
    pub sources: Vec<Option<usize>>,
    /// Strides, one per spatial dim.
    pub stride: Vec<usize>,
}

impl Selection {
    /// Reads a Slice or Pad that leaves the batch alone and drops positions only by its stride.
    fn at(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let x = cx.graph.operand(node, 0)?;
        let dims = cx.shapes.of(x)?.shape.clone().filter(|dims| dims.len() >= 3)?;
        let in_channels = dims[1].known()?;
        let rank = Some(dims.len());
        if cx.graph.node(node).is("Pad") {
            let pad = Pad::of(cx.graph, node, cx.opset, rank)?;
            let is_of_channels = [&pad.begin, &pad.end]
                .iter()
                .all(|side| side[0] == 0 && side[1] >= 0 && side[2..].iter().all(|p| *p == 0));
            if !is_of_channels || pad.value != 0.0 {
                return None;
            }
            let zeros = |count: i64| std::iter::repeat_n(None, count as usize);
            let sources = zeros(pad.begin[1])
                .chain((0..in_channels).map(Some))
                .chain(zeros(pad.end[1]))
                .collect();
            return Some(Self { node, x, in_channels, sources, stride: vec![1; dims.len() - 2] });
        }
        let slice = Slice::of(cx.graph, node, cx.opset, rank)?;
        let reaches_end = |axis: usize| {
            let size = dims[axis].known().map_or(i64::from(i32::MAX), |size| size as i64);
            slice.end[axis] >= size
        };
        let is_whole = |axis: usize| slice.start[axis] == 0 && reaches_end(axis);
        let is_regular = is_whole(0)
            && slice.step[0] == 1
            && (2..dims.len()).all(|axis| is_whole(axis) && slice.step[axis] > 0)
            && slice.step[1] == 1;
        if !is_regular {
            return None;
        }
        let place = |index: i64| {
            let from_end = if index < 0 { index.saturating_add(in_channels as i64) } else { index };
            from_end.clamp(0, in_channels as i64) as usize
        };
        let sources = (place(slice.start[1])..place(slice.end[1])).map(Some).collect();
        let stride = slice.step[2..].iter().map(|step| *step as usize).collect();
        Some(Self { node, x, in_channels, sources, stride })
    }
}

/// A run of affine operators in the direction of data flow; only the next operator reads each of them.
#[derive(Clone, Debug)]
pub struct Path {
    /// The value where it starts.
    pub source: ValueId,
    /// The operators; empty for the source itself.
    pub steps: Vec<Step>,
}

/// The axis of the channels of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Axis 1 of [N, C, spatial…] with this many spatial dims.
    Spatial(usize),
    /// This axis, the last axis of a fully connected operator.
    Connected(usize),
}

impl Step {
    fn at(cx: &Context<'_>, value: ValueId) -> Option<Self> {
        let (producer, _) = cx.graph.producer(value)?;
        match cx.graph.node(producer).op_type() {
            "AveragePool" => AveragePool::of(cx.graph, producer)
                .filter(|pool| {
                    !pool.ceil_mode && (pool.count_include_pad || !pool.geometry.is_padded())
                })
                .map(Self::Pool),
            "Pad" => {
                let rank = cx.rank(cx.graph.operand(producer, 0)?);
                Pad::of(cx.graph, producer, cx.opset, rank)
                    .filter(is_spatial_zeros)
                    .map(Self::Pad)
                    .or_else(|| Selection::at(cx, producer).map(Self::Selection))
            }
            "Slice" => Selection::at(cx, producer).map(Self::Selection),
            _ => Linear::producing(cx, value)
                .filter(|unit| unit.form != Form::ConvTranspose)
                .map(Self::Linear)
                .or_else(|| ChannelAffine::at(cx, producer).map(Self::Affine)),
        }
    }

    /// The value that the operator reads.
    #[must_use]
    pub fn x(&self) -> ValueId {
        match self {
            Self::Linear(unit) => unit.x,
            Self::Affine(affine) => affine.x,
            Self::Pool(pool) => pool.x,
            Self::Pad(pad) => pad.x,
            Self::Selection(selection) => selection.x,
        }
    }

    /// The operator's nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        match self {
            Self::Linear(unit) => unit.nodes.clone(),
            Self::Affine(affine) => vec![affine.node],
            Self::Pool(pool) => vec![pool.node],
            Self::Pad(pad) => vec![pad.node],
            Self::Selection(selection) => vec![selection.node],
        }
    }

    /// The domain that the weighted operator of this step works on; `None` for other steps.
    fn domain(&self) -> Option<Domain> {
        match self {
            Self::Linear(unit) if unit.is_conv() => Some(Domain::Spatial(unit.geometry.rank())),
            Self::Linear(unit) => Some(Domain::Connected(unit.channel_axis)),
            Self::Pool(pool) => Some(Domain::Spatial(pool.geometry.rank())),
            Self::Pad(pad) => Some(Domain::Spatial(pad.begin.len().checked_sub(2)?)),
            Self::Selection(selection) => Some(Domain::Spatial(selection.stride.len())),
            Self::Affine(_) => None,
        }
    }

    /// The step as a map of `channels` input channels; `None` if it does not act on them.
    #[must_use]
    pub fn map(&self, domain: Domain, channels: usize) -> Option<AffineMap> {
        let rank = if let Domain::Spatial(rank) = domain { rank } else { 0 };
        match self {
            Self::Linear(unit) => unit.map(),
            Self::Affine(affine) => {
                let axis = match domain {
                    Domain::Spatial(_) => 1,
                    Domain::Connected(axis) => axis,
                };
                if affine.axis.is_some_and(|own| own != axis) {
                    return None;
                }
                let (scale, shift) = affine.for_channels(channels)?;
                AffineMap::diagonal(&scale, &shift, rank).ok()
            }
            Self::Pool(pool) => {
                let ConvGeometry { kernel, stride, pad_begin, pad_end, .. } = &pool.geometry;
                AffineMap::average_pool(channels, kernel, stride, pad_begin, pad_end).ok()
            }
            Self::Pad(pad) => {
                let size = |v: &[i64]| v[2..].iter().map(|p| *p as usize).collect::<Vec<_>>();
                AffineMap::zero_pad(channels, &size(&pad.begin), &size(&pad.end)).ok()
            }
            Self::Selection(selection) => {
                let Selection { in_channels, sources, stride, .. } = selection;
                AffineMap::selection(*in_channels, sources, stride)
                    .ok()
                    .filter(|_| *in_channels == channels)
            }
        }
    }

    fn shape(&self, domain: Domain, channels: usize) -> Option<MapShape> {
        match self {
            Self::Linear(unit) => Some(MapShape::of_unit(unit)),
            _ => self.map(domain, channels).map(|map| MapShape::of(&map)),
        }
    }

    /// Number of result channels for `channels` input channels.
    fn out_channels(&self, channels: usize) -> usize {
        match self {
            Self::Linear(unit) => unit.out_channels,
            Self::Selection(selection) => selection.sources.len(),
            _ => channels,
        }
    }

    /// Whether a per-channel constant is added. Later padding would turn this constant into a border.
    fn has_shift(&self) -> bool {
        match self {
            Self::Linear(unit) => unit.bias.as_ref().is_some_and(|b| b.iter().any(|v| *v != 0.0)),
            Self::Affine(affine) => affine.shift.iter().any(|c| *c != 0.0),
            Self::Pool(_) | Self::Pad(_) | Self::Selection(_) => false,
        }
    }
}

fn is_spatial_zeros(pad: &Pad) -> bool {
    let all = || pad.begin.iter().chain(&pad.end);
    pad.value == 0.0
        && pad.begin.len() >= 3
        && all().all(|p| *p >= 0)
        && pad.begin[..2].iter().chain(&pad.end[..2]).all(|p| *p == 0)
}

impl Path {
    /// The value itself, then longer and longer paths that end in it. Only the next operator may read each
    /// operator, and only one reader may read `value`.
    #[must_use]
    pub fn ending_in(cx: &Context<'_>, value: ValueId) -> Vec<Self> {
        let mut paths = vec![Self { source: value, steps: vec![] }];
        let mut at = value;
        while paths.len() <= MAX_STEPS && cx.graph.sole_use(at).is_some() {
            let Some(step) = Step::at(cx, at) else { break };
            at = step.x();
            let mut steps = vec![step];
            if let Some(last) = paths.last() {
                steps.extend(last.steps.iter().cloned());
            }
            paths.push(Self { source: at, steps });
        }
        paths
    }

    /// Every node of the path.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.steps.iter().flat_map(Step::nodes)
    }

    /// The weighted operators of the path.
    pub fn units(&self) -> impl Iterator<Item = &Linear> {
        self.steps.iter().filter_map(|step| match step {
            Step::Linear(unit) => Some(unit),
            _ => None,
        })
    }

    /// The domain that the operators work on; `None` if no operator tells it, or if they disagree.
    #[must_use]
    pub fn domain(&self) -> Option<Domain> {
        let mut domains = self.steps.iter().filter_map(Step::domain);
        let first = domains.next()?;
        domains.all(|domain| domain == first).then_some(first)
    }

    /// Number of input channels of the first weighted operator; the operators before it keep this number.
    #[must_use]
    pub fn in_channels(&self) -> Option<usize> {
        self.units().next().map(|unit| unit.in_channels)
    }

    /// The path as one map of `channels` input channels on an input of these spatial dims.
    ///
    /// `None` if a step does not act on the channels.
    ///
    /// # Errors
    /// The condition of the algebra that does not hold.
    #[must_use]
    pub fn map(
        &self,
        domain: Domain,
        channels: usize,
        input: Option<&[usize]>,
    ) -> Option<Result<AffineMap, Obstacle>> {
        let rank = if let Domain::Spatial(rank) = domain { rank } else { 0 };
        let mut whole: Option<AffineMap> = None;
        let mut channels_now = channels;
        for step in &self.steps {
            let next = step.map(domain, channels_now)?;
            channels_now = step.out_channels(channels_now);
            whole = Some(match whole {
                None => next,
                Some(before) => match before.then(&next, input.filter(|_| rank > 0)) {
                    Ok(map) => map,
                    Err(obstacle) => return Some(Err(obstacle)),
                },
            });
        }
        Some(Ok(whole.unwrap_or_else(|| AffineMap::identity(channels, rank))))
    }

    /// Sizes of the map, without composing weights; `None` if a step does not act on the channels.
    #[must_use]
    pub fn shape(&self, domain: Domain, channels: usize) -> Option<MapShape> {
        let rank = if let Domain::Spatial(rank) = domain { rank } else { 0 };
        let mut whole = MapShape::of(&AffineMap::identity(channels, rank));
        let mut channels_now = channels;
        let mut is_shifted = false;
        for step in &self.steps {
            let next = step.shape(domain, channels_now)?;
            channels_now = step.out_channels(channels_now);
            let meets_shift = is_shifted && next.geometry.is_padded();
            whole = whole.then(&next);
            whole.has_border |= meets_shift;
            is_shifted |= step.has_shift();
        }
        Some(whole)
    }

    /// The work of the operators as they stand.
    #[must_use]
    pub fn work(&self, domain: Domain, channels: usize, input: Option<&[usize]>) -> Work {
        let rank = if let Domain::Spatial(rank) = domain { rank } else { 0 };
        let mut size = input.map(<[usize]>::to_vec);
        let mut channels_now = channels;
        let mut total = Work::default();
        for step in &self.steps {
            if let Some(shape) = step.shape(domain, channels_now) {
                match step {
                    Step::Affine(_) | Step::Pad(_) | Step::Selection(_) => {
                        let made = elements(channels_now, size.as_deref(), rank);
                        total.ns += elementwise_ns(made, 1);
                    }
                    _ => {
                        let own = shape.work(size.as_deref());
                        total.ns += own.ns;
                        total.macs += own.macs;
                    }
                }
                if rank > 0 {
                    size = size.map(|size| shape.output_size(&size));
                }
            }
            channels_now = step.out_channels(channels_now);
        }
        total
    }
}

/// The sizes that the cost model takes for an input: spatial dims, or the rows of a fully connected operator.
#[must_use]
pub fn input_size(cx: &Context<'_>, value: ValueId, domain: Domain) -> Option<Vec<usize>> {
    match domain {
        Domain::Spatial(_) => cx.spatial(value),
        Domain::Connected(axis) => {
            let dims = cx.shapes.of(value)?.shape.clone()?;
            // A symbolic batch counts as 1.
            let rows = dims.iter().take(axis).skip(1).map(|d| d.known().unwrap_or(1));
            Some(vec![rows.product::<usize>().max(1)])
        }
    }
}
