//! Puts trained tensors back into the network that the step was built from.

use indexmap::IndexMap;
use updp_ir::{Model, Tensor};

use super::prepare;
use super::state::{State, StateKind};
use super::training_step::TrainingStep;
use crate::error::{AutodiffError, Result};

/// Which tensors a settled network gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The current parameters and running statistics.
    Current,
    /// Their moving averages.
    Average,
}

impl TrainingStep {
    /// Returns the network that this step was built from, with trained tensors in place of its own, under the same
    /// names.
    ///
    /// `states` maps the names of the step's inputs to tensors. A parameter that is not in `states` keeps its tensor.
    /// The network must be the one that the step was built from, read again.
    ///
    /// # Errors
    /// T0309 for a tensor of another type or other dims, or a network without the initializer.
    pub fn settle(
        &self,
        mut network: Model,
        states: &IndexMap<String, Tensor>,
        which: Settled,
    ) -> Result<Model> {
        prepare::prepare(&mut network)?;
        let is_wanted = |state: &&State| match which {
            Settled::Current => {
                matches!(state.kind, StateKind::Parameter | StateKind::Statistic)
            }
            Settled::Average => state.kind == StateKind::Average,
        };
        for state in self.states.iter().filter(is_wanted) {
            if let Some(tensor) = states.get(&state.input) {
                put(&mut network, state, tensor)?;
            }
        }
        network.validate()?;
        Ok(network)
    }
}

fn put(network: &mut Model, state: &State, tensor: &Tensor) -> Result<()> {
    let refuse = |detail: String| AutodiffError::State { state: state.input.clone(), detail };
    let (found, expected) = (tensor, &state.initial);
    if found.dtype() != expected.dtype() || found.dims() != expected.dims() {
        return Err(refuse(format!(
            "it is {}{:?}, not {}{:?}",
            found.dtype(),
            found.dims(),
            expected.dtype(),
            expected.dims()
        )));
    }
    let graph = &mut network.graph;
    let old = graph.find(&state.source);
    let missing = || refuse(format!("the network has no initializer {:?}", state.source));
    let old = old.filter(|value| graph.constant_initializer(*value).is_some());
    let old = old.ok_or_else(missing)?;
    let new = graph.add_initializer(&state.source, tensor.clone());
    graph.redirect_uses(old, new)?;
    graph.take_over_initializer(new, old)?;
    Ok(())
}
