//! BatchNormalizations that use the statistics of the batch, differentiated in closed form.
//!
//! \[BN\]: μ = mean x, d = x − μ, σ² = Σ d² / m over batch and space, with m elements per channel. The node itself
//! stays in inference form and reads μ and σ². The training form of the operator writes into its inputs on ONNX
//! Runtime's CPU provider, and other providers refuse it.

use std::collections::BTreeMap;

use indexmap::IndexSet;
use updp_ir::{Model, Node, NodeId, ValueId, view};

use crate::emit::Emit;
use crate::error::{AutodiffError, Result};
use crate::rules::site::{Cotangent, Site};

/// A BatchNormalization that uses the statistics of the batch.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// The running mean before the step `[C]`.
    pub running_mean: ValueId,
    /// The running variance before the step `[C]`.
    pub running_var: ValueId,
    /// (1 − a)·running mean + a·μ `[C]`.
    pub next_mean: ValueId,
    /// (1 − a)·running variance + a·σ²·m/(m − 1) `[C]`.
    pub next_var: ValueId,
    scale: ValueId,
    /// d, with the shape of x.
    centred: ValueId,
    /// σ² `[C]`.
    variance: ValueId,
    epsilon: f64,
    /// m.
    count: usize,
}

/// The BatchNormalizations of a graph that use the statistics of the batch.
#[derive(Clone, Debug, Default)]
pub struct TrainForm {
    norms: BTreeMap<NodeId, BatchStatistics>,
}

impl TrainForm {
    /// Each BatchNormalization with its node.
    pub fn norms(&self) -> impl Iterator<Item = (NodeId, &BatchStatistics)> {
        self.norms.iter().map(|(node, statistics)| (*node, statistics))
    }

    /// The statistics of a node, or `None` if it does not use the statistics of the batch.
    pub(crate) fn statistics_of(&self, node: NodeId) -> Option<&BatchStatistics> {
        self.norms.get(&node)
    }

    /// Whether an operand is μ or σ² of one of these nodes. Its gradient is part of the gradient of x.
    pub(crate) fn is_statistic(&self, node: NodeId, slot: usize) -> bool {
        slot >= 3 && self.norms.contains_key(&node)
    }
}

/// Makes BatchNormalizations in inference form use the statistics of the batch, and computes the next running
/// statistics as PyTorch does: running ← (1 − `momentum`)·running + `momentum`·batch, with the unbiased variance.
///
/// [`crate::backward_through`] computes the gradients of these nodes.
///
/// # Errors
/// T0306 for a node that is not a BatchNormalization in inference form, has one value per channel, or shares its
/// running statistics with another node; T0303 for an input without a fixed size; T0304 for an old opset. After an
/// error the graph is unchanged.
pub fn train_form(model: &mut Model, nodes: &[NodeId], momentum: f64) -> Result<TrainForm> {
    let mut emit = Emit::new(model)?;
    let form = write(&mut emit, nodes, momentum);
    if form.is_err() {
        emit.roll_back();
    }
    form
}

/// [`train_form`] with a writer that the caller continues to use.
pub(crate) fn write(emit: &mut Emit<'_>, nodes: &[NodeId], momentum: f64) -> Result<TrainForm> {
    let mut form = TrainForm::default();
    let mut seen = IndexSet::new();
    let mut operands = Vec::new();
    for id in nodes {
        let (statistics, mean) = one(emit, *id, momentum)?;
        if !seen.insert(statistics.running_mean) || !seen.insert(statistics.running_var) {
            return Err(refuse(emit, *id, "it shares its running statistics"));
        }
        operands.push((*id, 3, mean));
        operands.push((*id, 4, statistics.variance));
        form.norms.insert(*id, statistics);
    }
    for (node, slot, value) in operands {
        emit.graph_mut().set_operand(node, slot, Some(value))?;
    }
    Ok(form)
}

fn refuse(emit: &Emit<'_>, id: NodeId, detail: &str) -> AutodiffError {
    AutodiffError::NoBatchNorm { node: emit.describe(id), detail: detail.to_owned() }
}

fn one(emit: &mut Emit<'_>, id: NodeId, momentum: f64) -> Result<(BatchStatistics, ValueId)> {
    let view = view::BatchNorm::of(emit.graph(), id, emit.opset())
        .ok_or_else(|| refuse(emit, id, "it is none in inference form"))?;
    let dims = emit.dims(view.x)?;
    let count = dims[0] * dims[2..].iter().product::<usize>();
    if count < 2 {
        return Err(refuse(emit, id, "one value a channel has no variance"));
    }
    emit.set_scope(&format!("train.{}", emit.describe(id)));
    let axes = batch_axes(dims.len());
    let mean = emit.reduce("ReduceMean", view.x, &axes, true)?;
    let centred = emit.sub(view.x, mean)?;
    // ONNX Runtime is faster at sums over batch and space than at sums of squares.
    let squares = emit.mul(centred, centred)?;
    let squares = emit.reduce_sum(squares, &axes, false)?;
    let variance = emit.scale(squares, 1.0 / count as f64)?;
    let mean = emit.reshape(mean, &[dims[1]])?;
    emit.record_fused_alternative(Node::new("BatchStatistics"), &[view.x], &[mean, squares])?;
    let mut next = [view.mean, view.var];
    let parts = [(mean, momentum), (squares, momentum / (count - 1) as f64)];
    for (running, (value, share)) in next.iter_mut().zip(parts) {
        let kept = emit.scale(*running, 1.0 - momentum)?;
        let new = emit.scale(value, share)?;
        *running = emit.add(kept, new)?;
    }
    let statistics = BatchStatistics {
        running_mean: view.mean,
        running_var: view.var,
        next_mean: next[0],
        next_var: next[1],
        scale: view.scale,
        centred,
        variance,
        epsilon: view.epsilon,
        count,
    };
    Ok((statistics, mean))
}

/// Every axis except the channels.
fn batch_axes(rank: usize) -> Vec<usize> {
    std::iter::once(0).chain(2..rank).collect()
}

/// `scale` ⊙ x + `bias` with one number per channel, as a BatchNormalization: one pass over x `[N, C, …]`.
fn affine(emit: &mut Emit<'_>, x: ValueId, scale: ValueId, bias: ValueId) -> Result<ValueId> {
    let (dtype, channels) = (emit.dtype(x)?, emit.dims(scale)?);
    let zero = emit.floats(dtype, &channels, &vec![0.0; channels[0]])?;
    let one = emit.floats(dtype, &channels, &vec![1.0; channels[0]])?;
    let node = Node::new("BatchNormalization").with("epsilon", 0.0_f32);
    emit.node(node, &[x, scale, bias, zero, one].map(Some))
}

impl BatchStatistics {
    /// With r = 1/√(σ² + ε): β̄ = Σ ȳ, γ̄ = r·Σ ȳ⊙d, x̄ = γ·r ⊙ (ȳ − β̄/m − d ⊙ r·γ̄/m). This is computed as a ⊙ ȳ + (b
    /// ⊙ d + c) with one a, b and c per channel.
    pub(crate) fn vjp(&self, emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
        let axes = batch_axes(emit.dims(self.centred)?.len());
        let dy = site.dy(emit)?;
        let shifted = emit.shift(self.variance, self.epsilon)?;
        let deviation = emit.call("Sqrt", &[shifted])?;
        let inverse = emit.call("Reciprocal", &[deviation])?;
        let dbias = emit.reduce_sum(dy, &axes, false)?;
        let mut back = vec![Cotangent::NotDifferentiable; 5];
        back[2] = Cotangent::Value(dbias);
        if !site.wants(0) && !site.wants(1) {
            return Ok(back);
        }
        let product = emit.mul(dy, self.centred)?;
        let along = emit.reduce_sum(product, &axes, false)?;
        let dscale = emit.mul(inverse, along)?;
        back[1] = Cotangent::Value(dscale);
        if site.wants(0) {
            let (x, mean) = (site.operand(emit, 0)?, site.operand(emit, 3)?);
            let share = 1.0 / self.count as f64;
            let gain = emit.mul(self.scale, inverse)?;
            let slope = emit.mul(inverse, dscale)?;
            let negative = emit.scale(gain, -share)?;
            let (slope, level) = (emit.mul(negative, slope)?, emit.mul(negative, dbias)?);
            let rest = affine(emit, self.centred, slope, level)?;
            let mut channel = vec![1; emit.dims(dy)?.len()];
            channel[1] = emit.dims(gain)?[0];
            let gain = emit.reshape(gain, &channel)?;
            let part = emit.mul(dy, gain)?;
            let dx = emit.add(part, rest)?;
            back[0] = Cotangent::Value(dx);
            let node = Node::new("BatchNormGradient").with("epsilon", self.epsilon as f32);
            emit.record_fused_alternative(
                node,
                &[x, mean, self.variance, self.scale, dy],
                &[dx, dscale, dbias],
            )?;
        }
        Ok(back)
    }
}
