//! Differences that come from the reference itself. These are outputs that it draws at random, and elements of
//! integer outputs (classes of an `ArgMax`, indices of a `TopK`) that depend only on rounding.
//!
//! This runs only after a comparison has failed, so that the common case costs nothing.

use indexmap::IndexMap;
use updp_exec::{ExecError, Executor, compare_tensors};
use updp_ir::Tensor;

use crate::noise;

/// Relative change of the float inputs, equal to the limit of one rewrite. An integer element counts
/// as decided if it stays the same under this change.
const NUDGE: f64 = updp_exec::ONE_REWRITE_LIMIT;
/// Number of nudges to try. Each one flips a near tie with a chance of at least one quarter.
const NUDGES: u64 = 8;

/// Whether the reference gives a different value of output `name` each time it runs.
///
/// # Errors
/// The error of the executor.
pub fn is_random(
    executor: &mut dyn Executor,
    inputs: &IndexMap<String, Tensor>,
    name: &str,
    limit: f64,
) -> Result<bool, ExecError> {
    // Both runs use one session, because a new session may start its generator at the same seed.
    let (first, second) = (executor.run(inputs)?, executor.run(inputs)?);
    Ok(first
        .get(name)
        .zip(second.get(name))
        .is_some_and(|(first, second)| !compare_tensors(first, second).is_within(limit)))
}

/// For an integer or bool output: the number of elements that differ although the reference decides
/// them, and the number that differ where it does not decide. `None` when the two outputs cannot be
/// compared in this way.
///
/// # Errors
/// The error of the executor.
pub fn split_differences(
    executor: &mut dyn Executor,
    inputs: &IndexMap<String, Tensor>,
    name: &str,
    reference: &Tensor,
    result: &Tensor,
) -> Result<Option<(usize, usize)>, ExecError> {
    let (Some(expected), Some(found)) = (reference.to_i64(), result.to_i64()) else {
        return Ok(None);
    };
    if reference.dtype() != result.dtype() || reference.dims() != result.dims() {
        return Ok(None);
    }
    let mut is_undecided = vec![false; expected.len()];
    for seed in 0..NUDGES {
        let Some(inputs) = noise::changed(inputs, seed, NUDGE) else { return Ok(None) };
        let outputs = executor.run(&inputs)?;
        let Some(values) = outputs.get(name).and_then(Tensor::to_i64) else { return Ok(None) };
        if values.len() != expected.len() {
            return Ok(None);
        }
        for (at, value) in values.iter().enumerate() {
            is_undecided[at] |= *value != expected[at];
        }
    }
    let (mut decided, mut undecided) = (0, 0);
    for at in (0..found.len()).filter(|at| found[*at] != expected[*at]) {
        if is_undecided[at] { undecided += 1 } else { decided += 1 }
    }
    Ok(Some((decided, undecided)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use updp_exec::{ModelSource, Optimizer, Options, Runtime, open};
    use updp_ir::{DataPlacement, DataType, Dim, ModelBuilder, Node};

    /// Runs `ArgMax` of two scores in tract and compares it with a result that has the other class.
    fn split(scores: [f32; 2]) -> Option<(usize, usize)> {
        let dims = [Dim::Known(1), Dim::Known(2)];
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &dims);
        builder.node(Node::new("ArgMax").with("axis", 1_i64), &["x"], &["y"]);
        builder.output("y", DataType::Int64, None);
        let model = builder.build().expect("well formed");
        let bytes = model.encode(&DataPlacement::Inline).expect("small").model_to_bytes();
        let options = Options { optimizer: Optimizer::Off, ..Options::default() };
        let mut executor =
            open(ModelSource::Bytes(&bytes), Runtime::Tract, &options).expect("tract loads it");
        let input = Tensor::from_f32(vec![1, 2], &scores).expect("two elements");
        let inputs = IndexMap::from([("x".to_owned(), input)]);
        let reference = executor.run(&inputs).expect("runs")["y"].clone();
        let class = reference.to_i64().expect("integers")[0];
        let result = Tensor::from_i64(vec![1, 1], &[1 - class]).expect("one element");
        split_differences(executor.as_mut(), &inputs, "y", &reference, &result).expect("runs")
    }

    #[test]
    fn a_near_tie_is_undecided_and_a_clear_case_is_not() {
        assert_eq!(split([1.0, 1.000_001]), Some((0, 1)));
        assert_eq!(split([1.0, 1.001]), Some((1, 0)));
    }
}
