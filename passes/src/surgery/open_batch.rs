//! Opens the batch of a network that was exported with a fixed batch, for measurements and for running many images
//! at once. Written models keep the fixed batch.

use indexmap::IndexSet;
use updp_ir::{Model, Tensor, ValueId};

use super::geometry::with_context;
use super::{LAMBDA_INPUT, SHRINK_INPUT};
use crate::error::PassError;

/// Name of the opened axis.
const SYMBOL: &str = "updp_batch";

/// The required inputs except λ and the shrinking factor.
#[must_use]
pub fn data_inputs(model: &Model) -> Vec<ValueId> {
    let is_factor =
        |input: &ValueId| [LAMBDA_INPUT, SHRINK_INPUT].contains(&model.graph.value(*input).name());
    model.graph.required_inputs().filter(|input| !is_factor(input)).collect()
}

/// The names of the values that are computed from an input, and its own.
#[must_use]
pub fn computed_from(model: &Model, input: &str) -> IndexSet<String> {
    let graph = &model.graph;
    let mut found: IndexSet<ValueId> = graph.find(input).into_iter().collect();
    let mut at = 0;
    while let Some(value) = found.get_index(at).copied() {
        let users = graph.users(value).into_iter().map(|user| user.node);
        let nodes: Vec<_> = users.chain(graph.capturing_nodes(value)).collect();
        found.extend(nodes.into_iter().flat_map(|node| graph.results(node)).flatten());
        at += 1;
    }
    found.into_iter().map(|value| graph.value(value).name().to_owned()).collect()
}

/// Makes axis 0 of these inputs symbolic; the first one says how large the fixed batch is. Every Reshape to constant dims that start with the old
/// size then accepts any size. Returns whether there was a fixed batch to open. Only a run shows whether the network
/// computes each image on its own.
///
/// # Errors
/// An error of the graph primitives.
pub fn open_batch(model: &mut Model, inputs: &[&str]) -> Result<bool, PassError> {
    let ids: Vec<ValueId> = inputs.iter().filter_map(|name| model.graph.find(name)).collect();
    let batch = |model: &Model, input: ValueId| {
        model.graph.value(input).declared().and_then(|ty| ty.known_dim(0))
    };
    let Some(size) = ids.first().and_then(|input| batch(model, *input)) else { return Ok(false) };
    for input in ids {
        if batch(model, input) == Some(size) {
            model.graph.open_axis(input, SYMBOL)?;
        }
    }
    let size = size as i64;
    let reshapes: Vec<_> = with_context(model, |cx| {
        let nodes = cx.graph.nodes().into_iter();
        nodes
            .filter(|node| cx.graph.node(*node).is("Reshape"))
            .filter_map(|node| {
                let dims = cx.constant(cx.graph.operand(node, 1)?)?.to_i64()?;
                let allows_zero = cx.graph.node(node).int("allowzero") == Some(1);
                Some((node, opened(&dims, size, allows_zero)?))
            })
            .collect()
    });
    for (node, dims) in reshapes {
        let tensor = Tensor::from_i64(vec![dims.len()], &dims)?;
        let constant = model.graph.add_initializer("updp_open_dims", tensor);
        model.graph.set_operand(node, 1, Some(constant))?;
    }
    Ok(true)
}

/// Dims that start with the batch, changed to accept any size; `None` if they do not start with it or cannot change.
fn opened(dims: &[i64], size: i64, allows_zero: bool) -> Option<Vec<i64>> {
    let (first, rest) = dims.split_first()?;
    if *first != size || rest.is_empty() {
        return None;
    }
    let is_free = rest.iter().all(|dim| *dim > 0);
    let first = if is_free { -1 } else { 0 };
    (is_free || !allows_zero).then(|| [&[first], rest].concat())
}

#[cfg(test)]
mod tests {
    use super::opened;

    #[test]
    fn dims_that_start_with_the_batch_take_any_other() {
        assert_eq!(opened(&[1, 64], 1, false), Some(vec![-1, 64]));
        assert_eq!(opened(&[1, -1], 1, false), Some(vec![0, -1]));
        assert_eq!(opened(&[1, -1], 1, true), None);
        assert_eq!(opened(&[8, 64], 1, false), None);
        assert_eq!(opened(&[1], 1, false), None);
    }
}
