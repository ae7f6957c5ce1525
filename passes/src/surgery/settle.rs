//! Fixes λ and s: every mix becomes one of its two parts, and every fading kernel becomes its centre. Parts that only
//! the others needed are removed.

use updp_ir::{Model, Node, NodeId, TensorType, ValueId};

use super::expand::LAMBDA_INPUT;
use super::fade::{self, SHRINK_INPUT};
use crate::driver;
use crate::error::PassError;
use crate::options::Options;
use crate::patch::{Out, Patch};
use crate::pipeline;

/// Settles a network that [`super::expand`] or [`super::blend`] made, or that was written to a file and read back: λ is
/// 1 everywhere. A network without the input [`LAMBDA_INPUT`] stays as it is. Returns the number of mixes. Kernels that
/// [`super::fade_kernels`] wrote are settled as well.
///
/// # Errors
/// As [`drop_baseline`].
pub fn settle(model: &mut Model) -> Result<usize, PassError> {
    let mixes = drop_baseline(model)?;
    clean(model, mixes)?;
    Ok(mixes)
}

/// The subnet of a genome: entry `i` says whether λ's entry `i` is 1 (the block is pruned) or 0 (the block stays as it
/// is). Returns the number of mixes. The network is not merged.
///
/// # Errors
/// P0010 when λ has another number of entries or does not exist; otherwise as [`drop_baseline`].
pub fn subnet(model: &mut Model, pruned: &[bool]) -> Result<usize, PassError> {
    let entries = entries(model);
    if entries != pruned.len() {
        return Err(PassError::Genome { expected: entries, found: pruned.len() });
    }
    let mixes = keep_flows(model, &|index| pruned.get(index?).copied())?;
    clean(model, mixes)?;
    Ok(mixes)
}

/// The first half of settling: the baseline flow is removed and every value of the new flow keeps its name. An Identity
/// stands in the place of each mix. Estimates on the new flow use this network, because in a moved
/// geometry the baseline flow may not even run (a Reshape to a fixed size no longer fits).
///
/// # Errors
/// P0005 when a node that is no mix reads λ, or a node that fades no kernel reads s; otherwise as [`driver::run`].
pub fn drop_baseline(model: &mut Model) -> Result<usize, PassError> {
    if input_named(model, LAMBDA_INPUT).is_none() {
        return Ok(0);
    }
    fade::shrink_faded(model)?;
    keep_flows(model, &|_| Some(true))
}

/// Number of entries of the λ input; 0 if there is none.
#[must_use]
pub fn entries(model: &Model) -> usize {
    let input = model.graph.find(LAMBDA_INPUT);
    let declared = input.and_then(|input| model.graph.value(input).declared());
    declared.and_then(TensorType::known_dims).map_or(0, |dims| dims.iter().product())
}

/// Eliminates the Identities that stand in the place of mixes.
fn clean(model: &mut Model, mixes: usize) -> Result<(), PassError> {
    if mixes > 0 {
        let mut phases = pipeline::preparing_phases();
        phases.truncate(1);
        driver::run(model, &phases, &Options::default(), &mut |_, _| {})?;
    }
    Ok(())
}

/// Decides which flow of a mix stays, by the index of its entry of λ (`None` = not a constant): true = the new flow,
/// false = the old flow, `None` = no decision.
type Keep<'a> = &'a dyn Fn(Option<usize>) -> Option<bool>;

/// Replaces every mix by an Identity of the flow that stays, and drops the other flow and λ.
fn keep_flows(model: &mut Model, keep: Keep<'_>) -> Result<usize, PassError> {
    let Some(lambda) = input_named(model, LAMBDA_INPUT) else { return Ok(0) };
    let mixes = mixes(model, &factors(model, lambda));
    for mix in &mixes {
        let graph = &model.graph;
        let Some(result) = graph.sole_result(mix.sum) else { continue };
        let name = graph.node(mix.sum).name().to_owned();
        let is_new = keep(mix.index)
            .ok_or_else(|| PassError::NotAMix { input: LAMBDA_INPUT, node: name.clone() })?;
        let mut patch = Patch::new();
        let identity = Node::new("Identity").named(&name);
        let kept = if is_new { mix.new } else { mix.old };
        patch.node(identity, mix.sum, vec![kept.into()], Out::Value(result));
        patch.remove(mix.sum);
        patch.apply(&mut model.graph).map_err(|source| PassError::Apply {
            rule: "settle",
            node: name,
            source,
        })?;
    }
    let mut phases = pipeline::preparing_phases();
    phases.truncate(1);
    let dead = Options { only: ["eliminate-dead".to_owned()].into(), ..Options::default() };
    driver::run(model, &phases, &dead, &mut |_, _| {})?;
    remove_settled(model, LAMBDA_INPUT)?;
    remove_settled(model, SHRINK_INPUT)?;
    Ok(mixes.len())
}

fn input_named(model: &Model, name: &str) -> Option<ValueId> {
    model.graph.required_inputs().find(|input| model.graph.value(*input).name() == name)
}

/// Removes an input that no node may read any more.
fn remove_settled(model: &mut Model, input: &'static str) -> Result<(), PassError> {
    let Some(value) = input_named(model, input) else { return Ok(()) };
    let graph = &mut model.graph;
    if graph.is_read(value) {
        let reader = graph.users(value).first().map(|user| user.node);
        let node = reader.map(|node| graph.node(node).name().to_owned()).unwrap_or_default();
        return Err(PassError::NotAMix { input, node });
    }
    Ok(graph.remove_input(value)?)
}

/// A value computed from λ, with the entry that it comes from; `None` = an entry that is no constant.
type Factor = (ValueId, Option<usize>);

/// The values that hold λ of a block, and the values that hold 1 − λ.
struct Factors {
    own: Vec<Factor>,
    rest: Vec<Factor>,
}

fn factors(model: &Model, lambda: ValueId) -> Factors {
    let graph = &model.graph;
    let (mut own, mut rest) = (Vec::new(), Vec::new());
    let mut pending = vec![(lambda, None)];
    while let Some((value, index)) = pending.pop() {
        for user in graph.users(value) {
            let node = graph.node(user.node);
            let Some(result) = graph.sole_result(user.node) else { continue };
            if user.slot == 0 && (node.is("Gather") || node.is("Cast")) {
                let entry = if node.is("Gather") { entry(model, user.node) } else { index };
                own.push((result, entry));
                pending.push((result, entry));
            } else if user.slot == 1 && node.is("Sub") {
                rest.push((result, index));
            }
        }
    }
    Factors { own, rest }
}

/// The one entry that a Gather takes.
fn entry(model: &Model, gather: NodeId) -> Option<usize> {
    let index = model.graph.operand(gather, 1)?;
    match model.graph.constant_initializer(index)?.to_i64()?[..] {
        [entry] => usize::try_from(entry).ok(),
        _ => None,
    }
}

/// `sum = (1 − λ)·old + λ·new`, where λ is entry `index`.
struct Mix {
    sum: NodeId,
    old: ValueId,
    new: ValueId,
    index: Option<usize>,
}

fn mixes(model: &Model, factors: &Factors) -> Vec<Mix> {
    let graph = &model.graph;
    let part = |value: ValueId, factors: &[Factor]| -> Option<(ValueId, Option<usize>)> {
        let (node, _) = graph.producer(value).filter(|(node, _)| graph.node(*node).is("Mul"))?;
        let factor = graph.operand(node, 0)?;
        let (_, index) = factors.iter().find(|(known, _)| *known == factor)?;
        Some((graph.operand(node, 1)?, *index))
    };
    let mix = |sum: NodeId| -> Option<Mix> {
        let (a, b) = (graph.operand(sum, 0)?, graph.operand(sum, 1)?);
        let ((old, rest), (new, index)) = (part(a, &factors.rest)?, part(b, &factors.own)?);
        (rest == index).then_some(Mix { sum, old, new, index })
    };
    graph.nodes().into_iter().filter(|node| graph.node(*node).is("Add")).filter_map(mix).collect()
}

/// Fixes λ at one number for every block, so that the network can run at it without the input.
///
/// # Errors
/// P0005 when the network has no λ; an error of the graph primitives is our bug.
pub fn fix_lambda(model: &mut Model, value: f32) -> Result<(), PassError> {
    fix(model, LAMBDA_INPUT, value)
}

/// Fixes s at one number, as [`fix_lambda`] does λ.
///
/// # Errors
/// P0005 when the network has no s; an error of the graph primitives is our bug.
pub fn fix_shrink(model: &mut Model, value: f32) -> Result<(), PassError> {
    fix(model, SHRINK_INPUT, value)
}

fn fix(model: &mut Model, input: &'static str, value: f32) -> Result<(), PassError> {
    let missing = || PassError::NotAMix { input, node: String::new() };
    let found = model.graph.find(input).ok_or_else(missing)?;
    let declared = model.graph.value(found).declared().and_then(TensorType::known_dims);
    let dims = declared.ok_or_else(missing)?;
    let values = vec![value; dims.iter().product()];
    let constant = updp_ir::Tensor::from_f32(dims, &values)?;
    let constant = model.graph.add_initializer(&format!("{input}_value"), constant);
    model.graph.redirect_uses(found, constant)?;
    model.graph.remove_input(found)?;
    Ok(())
}
