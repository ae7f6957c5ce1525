//! Recomputes activations in the backward pass, so that the step does not keep them.
//!
//! A *trunk value* is a value that, at the time it is computed, is the only value of the forward pass that later nodes
//! still read. The part of the network between two trunk values is a piece, and neighbouring pieces form a *segment*.
//! In all segments except the last, the backward pass recomputes the inner values that it reads. It starts from the
//! trunk value x at the start of the segment; the step keeps x itself. With about √P segments for P pieces, the trunk
//! values and the values inside a segment take about the same memory (\[Chen16\]).
//!
//! Before: `y = f(x)`, `ū = b(ȳ, y)`. After: `x′ = Where(c, x, x)`, `y′ = f(x′)`, `ū = b(ȳ, y′)`. The truth value c is
//! computed from the gradient that enters the segment from behind and from the norms of the gradients of all parameters
//! behind it. `Where` returns x for every c, even if a gradient is NaN, so y′ = y. Because c waits for those gradients,
//! no runtime can merge y′ with y, or compute y′ before the segments behind no longer need their activations.

use std::collections::{BTreeMap, BTreeSet};

use updp_ir::{DataType, Graph, NodeId, ValueId, order};

use super::training_step::TrainingStep;
use crate::emit::Emit;
use crate::error::Result;

/// The step keeps values that are smaller than the largest kept value divided by this number, such as statistics of a
/// batch.
const SMALL: usize = 256;

/// The result of [`TrainingStep::recompute`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recomputed {
    /// The number of recomputed segments.
    pub segments: usize,
    /// The number of nodes that are computed twice.
    pub nodes: usize,
    /// The number of elements of the forward pass that the backward pass read before.
    pub kept_before: usize,
    /// The number of elements of the forward pass that the step still keeps for the backward pass.
    pub kept: usize,
}

impl TrainingStep {
    /// Makes the backward pass recompute the activations of chosen segments. The step then takes less memory, and at
    /// most the time of one more forward pass. Its results, names and states do not change.
    ///
    /// # Errors
    /// Errors of the graph.
    pub fn recompute(&mut self) -> Result<Recomputed> {
        let plan = Plan::of(self)?;
        let segments = plan.segments();
        let mut done = Recomputed { kept_before: plan.kept(&segments), ..Recomputed::default() };
        let mut emit = Emit::new(&mut self.model)?;
        emit.set_scope("recompute");
        let mut freed = 0;
        // Go backwards from the loss, so that everything that enters a segment from behind is already in place.
        for segment in segments.iter().rev().skip(1) {
            let Some(mut twice) = Twice::of(&mut emit, &plan, segment)? else { continue };
            freed += twice.write(&mut emit)?;
            done.segments += 1;
            done.nodes += twice.nodes;
        }
        done.kept = done.kept_before - freed;
        self.model.validate()?;
        Ok(done)
    }
}

/// The forward pass from one trunk value to the next.
#[derive(Clone, Debug, Default)]
struct Piece {
    /// Values computed in the piece, except the trunk value at its end.
    inner: BTreeSet<ValueId>,
    /// The inner values that the backward pass reads and that are not small.
    kept: Vec<ValueId>,
    /// The index of the piece. For a run of pieces, the index of the last one.
    last: usize,
    /// The trunk value at the end of the piece, and whether the backward pass reads it.
    end: Option<(ValueId, bool)>,
}

impl Piece {
    /// Appends the next piece.
    fn extend(&mut self, next: &Self) {
        if let Some((end, is_read)) = self.end {
            self.inner.insert(end);
            self.kept.extend(is_read.then_some(end));
        }
        self.inner.extend(&next.inner);
        self.kept.extend(&next.kept);
        (self.last, self.end) = (next.last, next.end);
    }
}

/// What is known about the step.
struct Plan {
    /// Nodes that outputs, loss and score depend on.
    forward: BTreeSet<NodeId>,
    /// Values of the forward pass that depend on the images, with their numbers of elements.
    sizes: BTreeMap<ValueId, usize>,
    /// Values with at most this number of elements stay kept.
    least: usize,
    /// The index of the piece that computes each value.
    places: BTreeMap<ValueId, usize>,
    pieces: Vec<Piece>,
    /// The square of the norm of each parameter's gradient.
    squares: Vec<ValueId>,
}

impl Plan {
    fn of(step: &TrainingStep) -> Result<Self> {
        let graph = &step.model.graph;
        let order = order::topological(graph)?;
        let shapes = updp_ir::infer::Shapes::infer(graph, step.model.opset("").unwrap_or(0));
        let mut needed: BTreeSet<ValueId> = std::iter::once(&step.names.loss)
            .chain(&step.names.correct)
            .chain(&step.network_outputs)
            .filter_map(|name| graph.find(name))
            .collect();
        let mut forward = BTreeSet::new();
        for node in order.iter().rev() {
            if graph.results(*node).into_iter().flatten().any(|value| needed.contains(&value)) {
                needed.extend(graph.operands(*node).into_iter().flatten());
                needed.extend(graph.captures(*node));
                forward.insert(*node);
            }
        }
        let elements = |value| shapes.known_dims(value).map_or(0, |dims| dims.iter().product());
        let is_image = |value: &ValueId| shapes.known_dims(*value).is_some_and(|d| d.len() > 1);
        let images = step.network_inputs.iter().filter_map(|name| graph.find(name));
        let mut sizes: BTreeMap<ValueId, usize> =
            images.filter(is_image).map(|value| (value, elements(value))).collect();
        let mut data = Vec::new();
        for node in order.into_iter().filter(|node| forward.contains(node)) {
            let reads = |value: ValueId| sizes.contains_key(&value);
            if graph.operands(node).into_iter().flatten().any(reads) {
                data.push(node);
                let results = graph.results(node).into_iter().flatten();
                let results: Vec<_> = results.map(|value| (value, elements(value))).collect();
                sizes.extend(results);
            }
        }
        let (places, pieces) = (BTreeMap::new(), Vec::new());
        let squares = squares(step);
        let mut plan = Self { forward, sizes, least: 0, places, pieces, squares };
        plan.cut(step, &data);
        Ok(plan)
    }

    fn size(&self, value: ValueId) -> usize {
        self.sizes.get(&value).copied().unwrap_or(0)
    }

    fn is_large(&self, value: ValueId) -> bool {
        self.size(value) > self.least
    }

    /// Cuts the forward pass at its trunk values.
    fn cut(&mut self, step: &TrainingStep, data: &[NodeId]) {
        let graph = &step.model.graph;
        let readers = |value: ValueId, is_forward: bool| {
            let users = graph.users(value).into_iter();
            users.filter(|user| self.forward.contains(&user.node) == is_forward).count()
        };
        let largest = data.iter().flat_map(|node| graph.results(*node)).flatten();
        let largest = largest.filter(|value| readers(*value, false) > 0);
        let least = largest.map(|value| self.size(value)).max().unwrap_or(0) / SMALL;
        let mut places = BTreeMap::new();
        let mut live: BTreeMap<ValueId, usize> = BTreeMap::new();
        let mut pieces = vec![Piece::default()];
        for node in data {
            for value in graph.operands(*node).into_iter().flatten() {
                if let Some(left) = live.get_mut(&value) {
                    *left -= 1;
                    if *left == 0 {
                        live.remove(&value);
                    }
                }
            }
            for value in graph.results(*node).into_iter().flatten() {
                let left = readers(value, true);
                if left > 0 {
                    live.insert(value, left);
                }
                places.insert(value, pieces.len() - 1);
                let Some(piece) = pieces.last_mut() else { continue };
                piece.inner.insert(value);
                if readers(value, false) > 0 && self.size(value) > least {
                    piece.kept.push(value);
                }
            }
            let trunk = live.keys().next().copied().filter(|_| live.len() == 1);
            if let (Some(trunk), Some(piece)) = (trunk, pieces.last_mut())
                && piece.inner.remove(&trunk)
            {
                let before = piece.kept.len();
                piece.kept.retain(|value| *value != trunk);
                piece.end = Some((trunk, piece.kept.len() < before));
                let last = pieces.len();
                pieces.push(Piece { last, ..Piece::default() });
            }
        }
        (self.pieces, self.places, self.least) = (pieces, places, least);
    }

    /// The number of elements that the segments keep, including the trunk values between them.
    fn kept(&self, segments: &[Piece]) -> usize {
        let ends = |it: &Piece| it.end.filter(|(_, is_read)| *is_read).map(|(end, _)| end);
        let all = segments.iter().flat_map(|it| it.kept.iter().copied().chain(ends(it)));
        all.map(|value| self.size(value)).sum()
    }

    /// About √P runs of pieces, with about the same number of kept elements each.
    fn segments(&self) -> Vec<Piece> {
        let weigh = |piece: &Piece| piece.kept.iter().map(|v| self.size(*v)).sum::<usize>();
        let weights: Vec<usize> = self.pieces.iter().map(weigh).collect();
        let count = weights.iter().filter(|weight| **weight > 0).count();
        let share = weights.iter().sum::<usize>() as f64 / (count as f64).sqrt().ceil().max(1.0);
        let (mut segments, mut held) = (vec![Piece::default()], 0.0);
        for (piece, weight) in self.pieces.iter().zip(weights) {
            if held > 0.0 && held + weight as f64 / 2.0 > share {
                segments.push(Piece::default());
                held = 0.0;
            }
            if let Some(segment) = segments.last_mut() {
                segment.extend(piece);
            }
            held += weight as f64;
        }
        segments
    }
}

/// The squares whose sum is the square of the norm of all gradients.
fn squares(step: &TrainingStep) -> Vec<ValueId> {
    let graph = &step.model.graph;
    let mut squares = Vec::new();
    let mut pending: Vec<ValueId> = graph.find(&step.names.gradient_norm).into_iter().collect();
    while let Some(value) = pending.pop() {
        let Some((node, _)) = graph.producer(value) else { continue };
        if graph.node(node).is("ReduceSumSquare") {
            squares.push(value);
        } else {
            pending.extend(graph.operands(node).into_iter().flatten());
        }
    }
    squares
}

/// A segment that is computed a second time.
struct Twice<'a> {
    plan: &'a Plan,
    segment: &'a Piece,
    /// The first node of the backward pass that reads a recomputed value.
    anchor: NodeId,
    /// A part of the gradient that enters the segment from behind.
    gradient: ValueId,
    /// The squared norms of the gradients of the parameters behind the segment.
    norms: Vec<ValueId>,
    /// The truth value computed from the gradient and the norms.
    condition: Option<ValueId>,
    /// All nodes in topological order.
    order: Vec<NodeId>,
    /// Values that are recomputed or held back, by the values they equal.
    again: BTreeMap<ValueId, ValueId>,
    nodes: usize,
}

impl<'a> Twice<'a> {
    /// Returns `None` if there is nothing to recompute or no gradient to wait for.
    fn of(emit: &mut Emit<'_>, plan: &'a Plan, segment: &'a Piece) -> Result<Option<Self>> {
        let graph = emit.graph();
        let order = order::topological(graph)?;
        let is_backward = |node: &NodeId| !plan.forward.contains(node);
        let reads = |node: NodeId, values: &dyn Fn(ValueId) -> bool| {
            graph.operands(node).into_iter().flatten().any(values)
        };
        // The nodes of the backward pass that read these values, directly or through other nodes, and their results.
        let following = |is_read: &dyn Fn(ValueId) -> bool| {
            let (mut nodes, mut values) = (Vec::new(), BTreeSet::new());
            for node in order.iter().copied().filter(is_backward) {
                if reads(node, is_read) || reads(node, &|value| values.contains(&value)) {
                    values.extend(graph.results(node).into_iter().flatten());
                    nodes.push(node);
                }
            }
            (nodes, values)
        };
        let (own, own_values) = following(&|value| segment.kept.contains(&value));
        let Some(anchor) = own.first().copied() else { return Ok(None) };
        let is_behind = |value| plan.places.get(&value).is_some_and(|at| *at > segment.last);
        let (_, gradients) = following(&is_behind);
        let enters = |value: &ValueId| gradients.contains(value) && !own_values.contains(value);
        let mut operands = own.iter().flat_map(|node| graph.operands(*node)).flatten();
        let Some(gradient) = operands.find(enters) else { return Ok(None) };
        let norms = plan.squares.iter().copied().filter(enters).collect();
        let (condition, again, nodes) = (None, BTreeMap::new(), 0);
        Ok(Some(Self { plan, segment, anchor, gradient, norms, condition, order, again, nodes }))
    }

    /// Writes the recomputation and makes the backward pass read it. Returns the number of elements that need not be
    /// kept.
    fn write(&mut self, emit: &mut Emit<'_>) -> Result<usize> {
        emit.set_anchor(self.anchor);
        let nodes = self.cone(emit.graph());
        self.nodes = nodes.len();
        for node in nodes {
            let operands = emit.graph().operands(node);
            let operands: Vec<_> = operands
                .into_iter()
                .map(|operand| operand.map(|value| self.operand(emit, value)).transpose())
                .collect::<Result<_>>()?;
            let copy = emit.graph().node(node).bare_copy();
            let new = emit.node(copy, &operands)?;
            if let Some(old) = emit.graph().sole_result(node) {
                self.again.insert(old, new);
            }
        }
        let mut freed = 0;
        for value in &self.segment.kept {
            let Some(new) = self.again.get(value) else { continue };
            let users = emit.graph().users(*value).into_iter();
            for user in users.filter(|user| !self.plan.forward.contains(&user.node)) {
                emit.graph_mut().set_operand(user.node, user.slot, Some(*new))?;
            }
            freed += self.plan.size(*value);
        }
        Ok(freed)
    }

    /// The nodes that compute the values that the backward pass reads from the kept values, in topological order.
    fn cone(&self, graph: &Graph) -> Vec<NodeId> {
        let mut nodes = BTreeSet::new();
        let mut pending = self.segment.kept.clone();
        while let Some(value) = pending.pop() {
            let is_inner = self.segment.inner.contains(&value) && self.plan.is_large(value);
            let Some((node, _)) = graph.producer(value).filter(|_| is_inner) else { continue };
            let is_single = graph.sole_result(node).is_some() && !graph.node(node).has_bodies();
            if is_single && nodes.insert(node) {
                pending.extend(graph.operands(node).into_iter().flatten());
            }
        }
        self.order.iter().copied().filter(|node| nodes.contains(node)).collect()
    }

    /// The value that the recomputation reads in place of a value. Weights and small values stay as they are.
    fn operand(&mut self, emit: &mut Emit<'_>, value: ValueId) -> Result<ValueId> {
        if let Some(again) = self.again.get(&value) {
            return Ok(*again);
        }
        if !self.plan.is_large(value) {
            return Ok(value);
        }
        let condition = self.condition(emit)?;
        let held = emit.call("Where", &[condition, value, value])?;
        self.again.insert(value, held);
        Ok(held)
    }

    /// Whether the first element of the gradient or one of the norms is NaN, as a truth value `[]`.
    fn condition(&mut self, emit: &mut Emit<'_>) -> Result<ValueId> {
        if let Some(condition) = self.condition {
            return Ok(condition);
        }
        let rank = emit.dims(self.gradient)?.len();
        let axes: Vec<usize> = (0..rank).collect();
        let (zeros, ones) = (vec![0; rank], vec![1; rank]);
        let first = match rank {
            0 => self.gradient,
            _ => emit.slice(self.gradient, &axes, &zeros, &ones, &ones)?,
        };
        let first = emit.reshape(first, &[])?;
        let mut terms = vec![emit.cast(first, DataType::Float)?];
        terms.extend(&self.norms);
        let sum = emit.call("Sum", &terms)?;
        let condition = emit.call("IsNaN", &[sum])?;
        self.condition = Some(condition);
        Ok(condition)
    }
}
