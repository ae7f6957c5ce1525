//! Fixes λ and s at 1: every mix becomes its new part, every kernel that fades its centre, and what only the old parts needed goes.

use updp_ir::{Model, Node, NodeId, ValueId};

use super::expand::LAMBDA_INPUT;
use super::fade::{self, SHRINK_INPUT};
use crate::driver;
use crate::error::PassError;
use crate::options::Options;
use crate::patch::{Out, Patch};
use crate::pipeline;

/// Settles a network that [`super::expand`] made, or one read from a file that it was written to. A network
/// without the input [`LAMBDA_INPUT`] stays as it is. Returns the number of mixes. What [`super::fade_kernels`] wrote is settled with it.
///
/// # Errors
/// As [`drop_baseline`].
pub fn settle(model: &mut Model) -> Result<usize, PassError> {
    let mixes = drop_baseline(model)?;
    if mixes > 0 {
        let mut phases = pipeline::preparing_phases();
        phases.truncate(1);
        driver::run(model, &phases, &Options::default(), &mut |_, _| {})?;
    }
    Ok(mixes)
}

/// The first half of settling: the baseline flow goes, every value of the new flow keeps its name, an Identity
/// standing where a mix was. What is estimated on the new flow is estimated here: in a moved geometry the
/// baseline flow need not even run (a Reshape to a fixed size does not fit any more).
///
/// # Errors
/// P0005 when λ is read by something that is no mix, or s by something that fades no kernel; otherwise as [`driver::run`].
pub fn drop_baseline(model: &mut Model) -> Result<usize, PassError> {
    let Some(lambda) = input_named(model, LAMBDA_INPUT) else { return Ok(0) };
    fade::shrink_faded(model)?;
    let (new, old) = factors(model, lambda);
    let mixes = mixes(model, &new, &old);
    for (sum, operand) in &mixes {
        let graph = &model.graph;
        let Some(result) = graph.sole_result(*sum) else { continue };
        let mut patch = Patch::new();
        let name = graph.node(*sum).name().to_owned();
        let identity = Node::new("Identity").named(&name);
        patch.node(identity, *sum, vec![(*operand).into()], Out::Value(result));
        patch.remove(*sum);
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

/// Removes an input that nothing may read any more.
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

/// The values that are λ of a block, and those that are 1 − λ.
fn factors(model: &Model, lambda: ValueId) -> (Vec<ValueId>, Vec<ValueId>) {
    let graph = &model.graph;
    let mut own = Vec::new();
    let mut pending = vec![lambda];
    let mut rest = Vec::new();
    while let Some(value) = pending.pop() {
        for user in graph.users(value) {
            let node = graph.node(user.node);
            let Some(result) = graph.sole_result(user.node) else { continue };
            if user.slot == 0 && (node.is("Gather") || node.is("Cast")) {
                own.push(result);
                pending.push(result);
            } else if user.slot == 1 && node.is("Sub") {
                rest.push(result);
            }
        }
    }
    (own, rest)
}

/// Sums `(1 − λ)·old + λ·new` with their new part.
fn mixes(model: &Model, new: &[ValueId], old: &[ValueId]) -> Vec<(NodeId, ValueId)> {
    let graph = &model.graph;
    let part = |value: ValueId, factors: &[ValueId]| -> Option<ValueId> {
        let (node, _) = graph.producer(value).filter(|(node, _)| graph.node(*node).is("Mul"))?;
        let factor = graph.operand(node, 0)?;
        factors.contains(&factor).then(|| graph.operand(node, 1))?
    };
    let mut found = Vec::new();
    for node in graph.nodes() {
        if !graph.node(node).is("Add") {
            continue;
        }
        let (Some(a), Some(b)) = (graph.operand(node, 0), graph.operand(node, 1)) else { continue };
        if part(a, old).is_some()
            && let Some(operand) = part(b, new)
        {
            found.push((node, operand));
        }
    }
    found
}

/// Fixes λ at one number for every block, so that the network can be run at it without the input.
///
/// # Errors
/// P0005 when the network has no λ; what the primitives of the graph refuse.
pub fn fix_lambda(model: &mut Model, value: f32) -> Result<(), PassError> {
    fix(model, LAMBDA_INPUT, value)
}

/// Fixes s at one number, as [`fix_lambda`] does λ.
///
/// # Errors
/// P0005 when the network has no s; what the primitives of the graph refuse.
pub fn fix_shrink(model: &mut Model, value: f32) -> Result<(), PassError> {
    fix(model, SHRINK_INPUT, value)
}

fn fix(model: &mut Model, input: &'static str, value: f32) -> Result<(), PassError> {
    let missing = || PassError::NotAMix { input, node: String::new() };
    let found = model.graph.find(input).ok_or_else(missing)?;
    let declared = model.graph.value(found).declared().and_then(updp_ir::TensorType::known_dims);
    let dims = declared.ok_or_else(missing)?;
    let values = vec![value; dims.iter().product()];
    let constant = updp_ir::Tensor::from_f32(dims, &values)?;
    let constant = model.graph.add_initializer(&format!("{input}_value"), constant);
    model.graph.redirect_uses(found, constant)?;
    model.graph.remove_input(found)?;
    Ok(())
}
