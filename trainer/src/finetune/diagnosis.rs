//! Finds the operator at which the numbers of a diverged step became too large.

use indexmap::IndexMap;
use updp_autodiff::step::TrainingStep;
use updp_ir::{Graph, Model, Tensor, ValueId, order};
use updp_passes::surgery::part_between;

use crate::error::TrainerError;
use crate::run::Runner;
use crate::train::error::{Activation, Activations};

/// Runs the forward pass of a step again, in the portable form of the step, and checks the result of every operator of
/// the network. `given` holds the inputs of the step and the state that it read, by name.
///
/// # Errors
/// Errors of extracting the forward pass and of the runtime.
pub(super) fn activations(
    runner: &Runner,
    network: &Model,
    step: &TrainingStep,
    given: &IndexMap<String, Tensor>,
) -> Result<Option<Activations>, TrainerError> {
    let graph = &step.model.graph;
    let makers = makers(&network.graph)?;
    let known = makers.keys().filter(|name| graph.find(name).is_some());
    let known: Vec<&str> = known.map(String::as_str).collect();
    let forward = part_between(&step.model, &[], &known)?;
    let mut executor = runner.open(&forward)?;
    let wanted = executor.input_names();
    let inputs = given.iter().filter(|(name, _)| wanted.contains(name));
    let results =
        executor.run(&inputs.map(|(name, tensor)| (name.clone(), tensor.clone())).collect())?;
    let (mut largest, mut spoilt): (Option<Activation>, _) = (None, None);
    for (name, op) in &makers {
        let Some(values) = results.get(name).and_then(Tensor::to_f64) else { continue };
        let finite = values.iter().filter(|value| value.is_finite()).map(|value| value.abs());
        let magnitude = finite.fold(0.0, f64::max);
        let here = || Activation { name: name.clone(), op: op.clone(), magnitude };
        if largest.as_ref().is_none_or(|known| known.magnitude < magnitude) {
            largest = Some(here());
        }
        if spoilt.is_none() && values.iter().any(|value| !value.is_finite()) {
            spoilt = Some(here());
        }
    }
    Ok(largest.map(|largest| Activations { largest, spoilt }))
}

/// Operators by the names of their results, in the order of computation.
fn makers(graph: &Graph) -> Result<IndexMap<String, String>, TrainerError> {
    let mut makers = IndexMap::new();
    for node in order::topological(graph)? {
        let name = |value: ValueId| graph.value(value).name().to_owned();
        let results = graph.results(node).into_iter().flatten();
        let op = graph.node(node).op_type();
        makers.extend(results.map(|value| (name(value), op.to_owned())));
    }
    Ok(makers)
}
