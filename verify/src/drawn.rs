//! Draws inputs that a model accepts.

use std::ops::Range;

use updp_exec::{
    ExecError, Executor, InputSpec, SymbolSizes, batch_plan, sample_inputs_in, symbol_plans,
};
use updp_ir::{Dim, Graph};

use crate::error::VerifyError;
use crate::oracle::Run;

type Runs = Vec<Run>;

/// Sizes to try for symbolic dims when the model refuses the usual ones.
const OTHER_SIZES: [usize; 16] =
    [1, 2, 4, 16, 32, 224, 112, 128, 160, 192, 256, 320, 384, 416, 512, 640];
/// Ranges of drawn integers: first indices, then values that also fit small tables, then no zeros.
const INTEGER_RANGES: [Range<u8>; 4] = [0..3, 0..2, 0..1, 1..2];
/// Maximum number of elements drawn for one run, for all inputs together: 1 GiB of f32.
const MAX_DRAWN_ELEMENTS: usize = 1 << 28;

/// Draws inputs that the reference accepts, and runs it on them. It tries sizes of open dims, batches and ranges of
/// integers until the reference accepts them.
///
/// # Errors
/// C0009 when it accepts none.
pub(crate) fn drawn_runs(
    executor: &mut dyn Executor,
    graph: &Graph,
    specs: &[InputSpec],
    count: usize,
) -> Result<Runs, VerifyError> {
    let has_integers = specs.iter().any(|spec| spec.dtype.is_integer());
    let ranges = if has_integers { &INTEGER_RANGES[..] } else { &INTEGER_RANGES[..1] };
    let mut first_error = None;
    for plans in plans(graph, specs) {
        for range in ranges {
            match run_plans(executor, specs, &plans, count.max(plans.len()), range) {
                Ok(runs) => return Ok(runs),
                Err(error) => _ = first_error.get_or_insert(error),
            }
        }
    }
    let detail = first_error.map_or_else(String::new, |error| error.to_string());
    Err(VerifyError::Unverifiable {
        detail: format!("the model does not run on drawn inputs: {detail}"),
    })
}

/// Sizes to run at, the usual ones first. A graph may hold reshapes that fit one batch only, so each size is tried with
/// the usual batches, with one image, and with the batch of the declared outputs.
fn plans(graph: &Graph, specs: &[InputSpec]) -> Vec<Vec<SymbolSizes>> {
    let usual = symbol_plans(specs);
    let has_open_dims = specs.iter().flat_map(|s| &s.dims).any(|d| !matches!(d, Dim::Known(_)));
    if !has_open_dims {
        return vec![usual];
    }
    let mut batches = vec![1];
    for output in graph.outputs() {
        let shape = graph.value(output).declared().and_then(|ty| ty.shape.as_ref());
        if let Some(Some(batch)) = shape.and_then(|dims| dims.first()).map(Dim::known)
            && !batches.contains(&batch)
        {
            batches.push(batch);
        }
    }
    let mut plans = vec![usual.clone()];
    plans.extend(batches.iter().map(|batch| vec![batch_plan(specs, *batch)]));
    for size in OTHER_SIZES {
        plans.push(sized(&usual, size, &[1, 3]));
        plans.extend(
            batches.iter().map(|batch| sized(&[batch_plan(specs, *batch)], size, &[*batch])),
        );
    }
    plans
}

/// Refuses inputs that have more than [`MAX_DRAWN_ELEMENTS`] elements in total.
fn check_size(specs: &[InputSpec], plan: &SymbolSizes) -> Result<(), ExecError> {
    let mut total = 0_usize;
    for spec in specs {
        let dims: Vec<usize> = (0..spec.dims.len()).map(|axis| plan.size_of(spec, axis)).collect();
        total = total.saturating_add(dims.iter().copied().fold(1, usize::saturating_mul));
        if total > MAX_DRAWN_ELEMENTS {
            return Err(ExecError::SampleSize { name: spec.name.clone(), dims });
        }
    }
    Ok(())
}

/// The same plans with every size set to `size`, except the batches.
fn sized(plans: &[SymbolSizes], size: usize, batches: &[usize]) -> Vec<SymbolSizes> {
    let fixed = |v: &usize| if batches.contains(v) { *v } else { size };
    plans
        .iter()
        .map(|plan| SymbolSizes {
            symbols: plan.symbols.iter().map(|(k, v)| (k.clone(), fixed(v))).collect(),
            unknown: plan.unknown.iter().map(|(k, v)| (k.clone(), fixed(v))).collect(),
        })
        .collect()
}

fn run_plans(
    executor: &mut dyn Executor,
    specs: &[InputSpec],
    plans: &[SymbolSizes],
    count: usize,
    integers: &Range<u8>,
) -> Result<Runs, ExecError> {
    let mut runs = Vec::with_capacity(count);
    for seed in 0..count {
        let plan = &plans[seed % plans.len()];
        check_size(specs, plan)?;
        let inputs = sample_inputs_in(specs, seed as u64, plan, integers.clone())?;
        let outputs = executor.run(&inputs)?;
        runs.push((inputs, outputs));
    }
    Ok(runs)
}
