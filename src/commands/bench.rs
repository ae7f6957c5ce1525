//! `bench A [B]`: latency, both models in turn.

use std::time::Duration;

use updp_exec::{Budget, Executor, Optimizer, measure, open, sample_inputs, symbol_plans};

use crate::cli::BenchArgs;
use crate::error::CliError;
use crate::model_file::ModelFile;
use crate::terminal::say;
use crate::verify::input_specs;

/// Runs the subcommand.
pub(super) fn run(arguments: &BenchArgs) -> Result<(), CliError> {
    let paths: Vec<_> = std::iter::once(&arguments.model).chain(&arguments.other).collect();
    let mut files = Vec::new();
    for path in &paths {
        files.push(ModelFile::open(path)?);
    }
    let (runtime, options) = arguments.runtime.split(Optimizer::All);
    let mut executors: Vec<Box<dyn Executor>> = Vec::new();
    for file in &files {
        executors.push(open(file.source.for_runtime(), runtime, &options)?);
    }
    let specs = input_specs(&files[0].model.graph)
        .ok_or_else(|| CliError::Unverifiable { detail: "an input has no known shape".into() })?;
    let mut plan = symbol_plans(&specs).into_iter().next().unwrap_or_default();
    for spec in &specs {
        match spec.dims.first() {
            Some(updp_exec::Dim::Symbol(name)) => {
                plan.symbols.insert(name.clone(), arguments.batch.get());
            }
            Some(updp_exec::Dim::Unknown) => {
                plan.unknown.insert((spec.name.clone(), 0), arguments.batch.get());
            }
            _ => {}
        }
    }
    let inputs = sample_inputs(&specs, 0, &plan)?;
    let names: Vec<String> = executors.iter().map(|executor| executor.name()).collect();
    let mut turns: Vec<&mut dyn Executor> = Vec::new();
    for executor in &mut executors {
        turns.push(executor.as_mut());
    }
    let seconds = arguments.seconds.clamp(0.05, 3600.0);
    let result = measure(&mut turns, &inputs, 3, Budget::Time(Duration::from_secs_f64(seconds)))?;
    for (at, latency) in result.latencies.iter().enumerate() {
        say(&format!(
            "{}: median {:.3} ms (p10 {:.3}, p90 {:.3}) over {} runs in {}",
            paths[at].display(),
            latency.median_ms,
            latency.p10_ms,
            latency.p90_ms,
            latency.runs,
            names[at]
        ));
    }
    if let Some(speedup) = result.speedups.get(1) {
        say(&format!("the second is {speedup:.2}x as fast as the first (median of pairs)"));
    }
    Ok(())
}
