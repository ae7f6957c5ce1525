//! Reverse accumulation: computes the cotangents of some values from the cotangents of others.
//!
//! v̄ = Σ over uses u = f(…, v, …) of (∂f/∂v)ᵀ·ū. The driver visits the nodes between a wanted value and a seed in
//! reverse topological order. It handles un-broadcasting, the sum over uses and zero filling; `rules/` does the rest.

use std::collections::{BTreeMap, BTreeSet};

use updp_ir::{DataType, Model, Node, NodeId, ValueId, order};

use crate::composite::Gelu;
use crate::emit::Emit;
use crate::error::{AutodiffError, Result};
use crate::rules;
use crate::rules::site::{Cotangent, Site};
use crate::train_form::TrainForm;

/// Writes the gradients of `wrt` into the model's graph.
///
/// Each seed is a value and its cotangent. The cotangent has the same dims and type as the value (for a scalar loss: a
/// constant 1). The result has one entry for each value of `wrt`: its cotangent, with its dims and type, or `None`
/// where the seeds do not depend on it. The driver does not visit nodes that lie on no path from `wrt` to a seed.
///
/// # Errors
/// T0301 and T0302 for a node on a path that has no gradient, T0303 for a value on a path without a fixed size, T0304
/// for an old opset, T0305 for a seed whose shape or type differs from that of its value, or for a value that is not a
/// float. After an error the graph is unchanged.
pub fn backward(
    model: &mut Model,
    seeds: &[(ValueId, ValueId)],
    wrt: &[ValueId],
) -> Result<Vec<Option<ValueId>>> {
    backward_through(model, &TrainForm::default(), seeds, wrt)
}

/// Like [`backward`], for a graph in which [`crate::train_form`] has changed some BatchNormalizations: the gradient
/// flows through the statistics of the batch in closed form.
///
/// # Errors
/// The same as for [`backward`].
pub fn backward_through(
    model: &mut Model,
    form: &TrainForm,
    seeds: &[(ValueId, ValueId)],
    wrt: &[ValueId],
) -> Result<Vec<Option<ValueId>>> {
    let mut emit = Emit::new(model)?;
    let gradients = gradients(&mut emit, form, seeds, wrt);
    if gradients.is_err() {
        emit.roll_back();
    }
    gradients
}

/// [`backward_through`] with a writer that the caller continues to use. After an error the caller must roll back.
pub(crate) fn gradients(
    emit: &mut Emit<'_>,
    form: &TrainForm,
    seeds: &[(ValueId, ValueId)],
    wrt: &[ValueId],
) -> Result<Vec<Option<ValueId>>> {
    let plan = Plan::new(emit, form, seeds, wrt)?;
    plan.check(emit, seeds)?;
    let mut sums = Sums::default();
    for (value, cotangent) in seeds {
        if plan.is_live(*value) {
            sums.add(*value, *cotangent);
        }
    }
    for node in plan.nodes.iter().rev() {
        visit(emit, form, &plan, &mut sums, *node)?;
    }
    emit.set_scope("gradient");
    wrt.iter().map(|value| sums.take(emit, *value)).collect()
}

/// The part of the graph that the driver visits.
struct Plan {
    /// Nodes on a path from `wrt` to a seed, in topological order.
    nodes: Vec<NodeId>,
    /// Values on a path.
    live: BTreeSet<ValueId>,
}

impl Plan {
    fn new(
        emit: &Emit<'_>,
        form: &TrainForm,
        seeds: &[(ValueId, ValueId)],
        wrt: &[ValueId],
    ) -> Result<Self> {
        let graph = emit.graph();
        for value in wrt.iter().chain(seeds.iter().map(|(value, _)| value)) {
            let dtype = emit.shapes().dtype(*value);
            if dtype.is_some_and(|dtype| !dtype.is_foldable_float()) {
                return Err(AutodiffError::dtype(&emit.name(*value), "a float", dtype));
            }
        }
        let order = order::topological(graph)?;
        let reached = Self::reached(emit, &order, wrt);
        let seeded = seeds.iter().map(|(value, _)| *value);
        let mut plan =
            Self { nodes: Vec::new(), live: seeded.filter(|v| reached.contains(v)).collect() };
        for id in order.iter().rev() {
            if !graph.results(*id).into_iter().flatten().any(|value| plan.is_live(value)) {
                continue;
            }
            let operands = graph.operands(*id).into_iter().enumerate();
            let differentiated: Vec<ValueId> = operands
                .filter(|(slot, _)| !form.is_statistic(*id, *slot))
                .filter_map(|(_, value)| value)
                .chain(graph.captures(*id))
                .filter(|value| reached.contains(value))
                .collect();
            if !differentiated.is_empty() {
                plan.nodes.push(*id);
                plan.live.extend(differentiated);
            }
        }
        plan.nodes.reverse();
        Ok(plan)
    }

    /// Values that depend on `wrt` through operators with a gradient.
    fn reached(emit: &Emit<'_>, order: &[NodeId], wrt: &[ValueId]) -> BTreeSet<ValueId> {
        let graph = emit.graph();
        let is_float =
            |value: &ValueId| emit.shapes().dtype(*value).is_none_or(DataType::is_foldable_float);
        let mut reached: BTreeSet<ValueId> = wrt.iter().copied().collect();
        for id in order {
            let node = graph.node(*id);
            if node.domain().is_empty() && rules::is_without_gradient(node.op_type()) {
                continue;
            }
            let mut reads = graph.operands(*id).into_iter().flatten().chain(graph.captures(*id));
            if reads.any(|value| reached.contains(&value)) {
                reached.extend(graph.results(*id).into_iter().flatten().filter(is_float));
            }
        }
        reached
    }

    fn is_live(&self, value: ValueId) -> bool {
        self.live.contains(&value)
    }

    /// Checks that every node has a rule and every value has a size, before anything is written.
    fn check(&self, emit: &Emit<'_>, seeds: &[(ValueId, ValueId)]) -> Result<()> {
        let graph = emit.graph();
        // Check the operators first: no shape is known behind an unknown operator.
        for id in &self.nodes {
            let node = graph.node(*id);
            if !node.domain().is_empty() || !rules::has_gradient(node.op_type()) {
                let op = match node.domain() {
                    "" => node.op_type().to_owned(),
                    domain => format!("{domain}.{}", node.op_type()),
                };
                return Err(AutodiffError::Operator { node: emit.describe(*id), op });
            }
        }
        for id in &self.nodes {
            for value in graph.operands(*id).into_iter().chain(graph.results(*id)).flatten() {
                if self.is_live(value) {
                    emit.dims(value)?;
                }
            }
        }
        for (value, cotangent) in seeds {
            let (expected, found) = (signature(emit, *value)?, signature(emit, *cotangent)?);
            if expected != found {
                return Err(AutodiffError::Type { value: emit.name(*cotangent), expected, found });
            }
        }
        Ok(())
    }
}

/// The type and dims of a value as text.
fn signature(emit: &Emit<'_>, value: ValueId) -> Result<String> {
    Ok(format!("{}{:?}", emit.dtype(value)?, emit.dims(value)?))
}

/// The cotangents of each value so far, one for each use.
#[derive(Default)]
struct Sums(BTreeMap<ValueId, Vec<ValueId>>);

impl Sums {
    fn add(&mut self, value: ValueId, cotangent: ValueId) {
        self.0.entry(value).or_default().push(cotangent);
    }

    /// The sum of the cotangents of a value, or `None` if it has none.
    fn take(&mut self, emit: &mut Emit<'_>, value: ValueId) -> Result<Option<ValueId>> {
        let Some(terms) = self.0.get(&value).cloned() else { return Ok(None) };
        let mut sum = None;
        for term in terms {
            sum = Some(match sum {
                None => term,
                Some(sum) => emit.add(sum, term)?,
            });
        }
        if let Some(sum) = sum {
            self.0.insert(value, vec![sum]);
        }
        Ok(sum)
    }
}

fn visit(
    emit: &mut Emit<'_>,
    form: &TrainForm,
    plan: &Plan,
    sums: &mut Sums,
    id: NodeId,
) -> Result<()> {
    let operands = emit.graph().operands(id);
    let results = emit.graph().results(id);
    emit.set_scope(&format!("gradient.{}", emit.describe(id)));
    let mut cotangents = Vec::with_capacity(results.len());
    for result in &results {
        cotangents.push(match result {
            Some(value) => sums.take(emit, *value)?,
            None => None,
        });
    }
    if cotangents.iter().all(Option::is_none) {
        return Ok(());
    }
    if let (Some(gelu), [Some(y)], [Some(dy)]) = (Gelu::of(emit, id), &results[..], &cotangents[..])
        && plan.is_live(gelu.x)
    {
        // The inner nodes get no cotangent from here, so nothing is written for them.
        let dx = rules::gelu::gradient(emit, gelu, *dy)?;
        emit.record_fused_alternative(Node::new("Gelu"), &[gelu.x], &[*y])?;
        sums.add(gelu.x, dx);
        return Ok(());
    }
    let wants = operands.iter().map(|value| value.is_some_and(|v| plan.is_live(v))).collect();
    let site = Site { node: id, operands: operands.clone(), results, cotangents, wants };
    let back = match form.statistics_of(id) {
        Some(statistics) => statistics.vjp(emit, &site)?,
        None => rules::vjp(emit, &site)?,
    };
    for ((slot, value), cotangent) in operands.iter().enumerate().zip(back) {
        if let (Some(value), Cotangent::Value(cotangent), true) =
            (*value, cotangent, site.wants(slot))
        {
            let dims = emit.dims(value)?;
            let summed = emit.sum_to(cotangent, &dims)?;
            sums.add(value, summed);
        }
    }
    Ok(())
}
