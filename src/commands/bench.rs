//! `bench A [B]`: latency, both models in turn.

use std::time::Duration;

use updp_exec::{Budget, Executor, Optimizer, measure, open, sample_inputs};
use updp_passes::{Options, pipeline, surgery};

use crate::cli::{BenchArgs, MergePolicy};
use crate::error::CliError;
use crate::latency_table::{Conditions, LatencyTable, batch_plan};
use crate::model_file::ModelFile;
use crate::report;
use crate::survey::Survey;
use crate::terminal::say;
use crate::verify::input_specs;

/// Runs the subcommand.
pub(super) fn run(arguments: &BenchArgs) -> Result<(), CliError> {
    if arguments.per_block {
        return per_block(arguments);
    }
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
    let plan = batch_plan(&specs, arguments.batch.get());
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

/// Every block by itself, as it is and in every form it offers.
fn per_block(arguments: &BenchArgs) -> Result<(), CliError> {
    let file = ModelFile::open(&arguments.model)?;
    let mut model = file.model;
    pipeline::prepare(&mut model)?;
    let options = Options { merge_all: arguments.merge == MergePolicy::All, ..Options::default() };
    let conditions = Conditions {
        runtime: arguments.runtime.clone(),
        batch: arguments.batch.get(),
        seconds: (arguments.seconds / 16.0).clamp(0.02, 60.0),
    };
    let mut table = LatencyTable::open(arguments.latency_table.as_deref(), conditions)?;
    let survey = Survey { model: &model, shrink: surgery::Shrink::Auto, options: &options };
    let rows = survey.rows(surgery::forms, Some(&mut table))?;
    table.save()?;
    let threads = arguments.runtime.threads.map_or("all".to_owned(), |n| n.to_string());
    say(&format!("batch {}, {threads} threads, {}", arguments.batch, table.runtime()));
    say(&report::latencies(&rows));
    Ok(())
}
