//! `bench A [B]`: latency; two models run in turns.

use serde_json::{Value, json};

use super::write_report;
use crate::api::{self, BenchOptions, BenchReport, BlockBenchOptions, Source};
use crate::block_report;
use crate::cli::{BenchArgs, MergePolicy};
use crate::error::CliError;
use crate::listener::{Listener, Outcome};
use crate::report_page::{self, Origin};

/// Runs the subcommand.
pub(super) fn run(arguments: &BenchArgs, listener: &mut Listener<'_>) -> Result<Outcome, CliError> {
    arguments.paths().check()?;
    if arguments.per_block {
        return per_block(arguments, listener);
    }
    let options = BenchOptions {
        batch: arguments.batch.get(),
        seconds: arguments.seconds,
        runtime: arguments.runtime.options(),
    };
    let other = arguments.other.as_ref().map(Source::from);
    let report =
        listener.during(|observer| api::bench(&arguments.model, other, &options, observer))?;
    let document = json(arguments, &report);
    write_report(arguments.report.as_ref(), &document, || {
        let origin = origin(arguments, &report.models[0].runtime);
        report_page::benched(&report, &how(arguments, report.batch), &origin)
    })?;
    if arguments.json {
        listener.say(&format!("{document:#}"));
    } else {
        tell(arguments, &report, listener);
    }
    Ok(Outcome::of(document))
}

/// The report for people.
fn tell(arguments: &BenchArgs, report: &BenchReport, listener: &Listener<'_>) {
    listener.say(&how(arguments, report.batch));
    for model in &report.models {
        let latency = &model.latency;
        listener.say(&format!(
            "{}: median {:.3} ms (p10 {:.3}, p90 {:.3}) over {} runs in {}",
            model.path.display(),
            latency.median_ms,
            latency.p10_ms,
            latency.p90_ms,
            latency.runs,
            model.runtime
        ));
    }
    if let Some(second) = report.models.get(1) {
        let (speedup, interval) = (second.speedup, second.interval);
        listener.say(&format!(
            "the second is {speedup:.2}x as fast as the first ({:.2}-{:.2})",
            interval.low, interval.high
        ));
    }
}

/// How whole models are measured, in words.
fn how(arguments: &BenchArgs, batch: usize) -> String {
    format!("batch {batch}, {}, A B B A in turns", threads(arguments))
}

/// How the page came about.
fn origin(arguments: &BenchArgs, runtime: &str) -> Origin {
    let models = [Some(&arguments.model), arguments.other.as_ref()].into_iter().flatten();
    let origin = models
        .zip(["A", "B"])
        .fold(Origin::of(&arguments.command_line), |origin, (path, what)| origin.model(what, path));
    origin.fact("Runtime", runtime).threads(arguments.runtime.threads().map(usize::from))
}

fn threads(arguments: &BenchArgs) -> String {
    match arguments.runtime.threads() {
        None => "as many threads as the runtime takes".to_owned(),
        Some(count) => format!("{count} threads"),
    }
}

/// The measurement, schema `updp-bench/1`.
fn json(arguments: &BenchArgs, report: &BenchReport) -> Value {
    let models = report.models.iter().map(|model| {
        let latency = &model.latency;
        json!({
            "path": model.path.display().to_string(),
            "runtime": model.runtime,
            "median_ms": latency.median_ms,
            "p10_ms": latency.p10_ms,
            "p90_ms": latency.p90_ms,
            "min_ms": latency.min_ms,
            "runs": latency.runs,
            "speedup": model.speedup,
            "low": model.interval.low,
            "high": model.interval.high,
        })
    });
    json!({
        "schema": "updp-bench/1",
        "batch": report.batch,
        "threads": arguments.runtime.threads(),
        "models": models.collect::<Vec<Value>>(),
    })
}

/// Measures every block separately, unchanged and in each of its forms.
fn per_block(arguments: &BenchArgs, listener: &mut Listener<'_>) -> Result<Outcome, CliError> {
    let options = BlockBenchOptions {
        batch: arguments.batch.get(),
        seconds: (arguments.seconds / 16.0).clamp(0.02, 60.0),
        merge_all: arguments.merge == MergePolicy::All,
        latency_table: arguments.latency_table.clone(),
        runtime: arguments.runtime.options(),
    };
    let report =
        listener.during(|observer| api::bench_blocks(&arguments.model, &options, observer))?;
    let document = block_report::json(&report.blocks);
    let how = format!("batch {}, {}", arguments.batch, threads(arguments));
    write_report(arguments.report.as_ref(), &document, || {
        let origin = origin(arguments, &report.runtime);
        let name = arguments.model.file_name().unwrap_or_default().to_string_lossy();
        report_page::benched_blocks(&name, &report, &how, &origin)
    })?;
    if arguments.json {
        listener.say(&format!("{document:#}"));
    } else {
        listener.say(&format!("{how}, {}", report.runtime));
        listener.say(&block_report::latencies(&report.blocks));
    }
    Ok(Outcome::of(document))
}
