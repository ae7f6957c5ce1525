//! `bench A [B]`: latency, both models in turn.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use updp_exec::{
    Budget, Executor, Measurement, Optimizer, batch_plan, input_specs, measure, open, sample_inputs,
};
use updp_passes::{Options, pipeline, surgery};

use crate::block_report;
use crate::cli::{BenchArgs, MergePolicy};
use crate::error::CliError;
use crate::latency_table::{Conditions, LatencyTable};
use crate::model_file::ModelFile;
use crate::survey::Survey;
use crate::terminal::say;

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
    // A fixed batch stays what it is.
    let batch = inputs.values().next().and_then(|t| t.dims().first().copied()).unwrap_or(1);
    if arguments.json {
        say(&format!("{:#}", json(arguments, batch, &paths, &names, &result)));
        return Ok(());
    }
    say(&format!("batch {batch}, {}, A B B A in turns", threads(arguments)));
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

fn threads(arguments: &BenchArgs) -> String {
    match arguments.runtime.threads {
        None => "as many threads as the runtime takes".to_owned(),
        Some(count) => format!("{count} threads"),
    }
}

/// The measurement, schema `updp-bench/1`.
fn json(
    arguments: &BenchArgs,
    batch: usize,
    paths: &[&PathBuf],
    names: &[String],
    result: &Measurement,
) -> Value {
    let models: Vec<Value> = result
        .latencies
        .iter()
        .enumerate()
        .map(|(at, latency)| {
            json!({
                "path": paths[at].display().to_string(),
                "runtime": names[at],
                "median_ms": latency.median_ms,
                "p10_ms": latency.p10_ms,
                "p90_ms": latency.p90_ms,
                "min_ms": latency.min_ms,
                "runs": latency.runs,
                "speedup": result.speedups[at],
            })
        })
        .collect();
    json!({
        "schema": "updp-bench/1",
        "batch": batch,
        "threads": arguments.runtime.threads,
        "models": models,
    })
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
    let survey = Survey {
        model: &model,
        shrink: surgery::Shrink::Auto,
        options: &options,
        is_fitted: false,
        effort: f64::INFINITY,
    };
    let rows = survey.rows(surgery::blocks_of(&model)?, surgery::forms, Some(&mut table))?;
    table.save()?;
    if arguments.json {
        say(&format!("{:#}", block_report::json(&rows)));
        return Ok(());
    }
    say(&format!("batch {}, {}, {}", arguments.batch, threads(arguments), table.runtime()));
    say(&block_report::latencies(&rows));
    Ok(())
}
