//! Fixes λ at 1: every mix becomes its new part, and what only the old part needed goes.

use updp_ir::{Model, Node, NodeId, ValueId};

use super::expand::LAMBDA_INPUT;
use crate::driver;
use crate::error::PassError;
use crate::options::Options;
use crate::patch::{Out, Patch};
use crate::pipeline;

/// Settles a network that [`super::expand`] made, or one read from a file that it was written to. A network
/// without the input [`LAMBDA_INPUT`] stays as it is. Returns the number of mixes.
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
/// P0005 when λ is read by something that is no mix; otherwise as [`driver::run`].
pub fn drop_baseline(model: &mut Model) -> Result<usize, PassError> {
    let Some(lambda) = model.graph.find(LAMBDA_INPUT) else { return Ok(0) };
    if !model.graph.required_inputs().any(|input| input == lambda) {
        return Ok(0);
    }
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
    if model.graph.is_read(lambda) {
        let reader = model.graph.users(lambda).first().map(|user| user.node);
        let node = reader.map(|node| model.graph.node(node).name().to_owned()).unwrap_or_default();
        return Err(PassError::NotAMix { node });
    }
    model.graph.remove_input(lambda)?;
    Ok(mixes.len())
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
    let missing = || PassError::NotAMix { node: LAMBDA_INPUT.to_owned() };
    let lambda = model.graph.find(LAMBDA_INPUT).ok_or_else(missing)?;
    let declared = model.graph.value(lambda).declared().and_then(updp_ir::TensorType::known_dims);
    let dims = declared.ok_or_else(missing)?;
    let values = vec![value; dims.iter().product()];
    let constant = updp_ir::Tensor::from_f32(dims, &values)?;
    let constant = model.graph.add_initializer("updp_lambda_value", constant);
    model.graph.redirect_uses(lambda, constant)?;
    model.graph.remove_input(lambda)?;
    Ok(())
}
