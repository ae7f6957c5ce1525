//! Measuring latencies: whole models in turns, or the blocks of one model.

use std::path::PathBuf;
use std::time::Duration;

use updp_exec::{
    Budget, Executor, Interval, Latency, Optimizer, RuntimeOptions, batch_plan, combined,
    input_specs, measure, sample_inputs,
};
use updp_passes::{Options, pipeline, surgery};

use super::{Error, Observer, Source, error::check_cancelled, telling::Telling};
use updp_prune::latency_table::{Conditions, LatencyTable};
use updp_prune::profile::{BlockProfile, Profiler};
use updp_prune::structure::shown_forms;

/// Most sessions of a model, and the least time that they share with those of another model, in seconds.
const MOST_SESSIONS: usize = 8;
const LEAST_SECONDS: f64 = 0.5;

/// How latencies are measured.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Batch size for a model with an open batch dimension.
    pub batch: usize,
    /// Time for measuring all models together, in seconds.
    pub seconds: f64,
    /// How models are run.
    pub runtime: RuntimeOptions,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self { batch: 1, seconds: 4.0, runtime: RuntimeOptions::default() }
    }
}

/// Latencies of one or two models, measured in turns.
#[derive(Clone, Debug)]
pub struct BenchReport {
    /// Images per run: the number from the options, or the number that the model fixes.
    pub batch: usize,
    /// The models, in the given order.
    pub models: Vec<BenchedModel>,
}

/// One measured model.
#[derive(Clone, Debug)]
pub struct BenchedModel {
    /// The source of the model.
    pub path: PathBuf,
    /// Name and version of the runtime that ran it.
    pub runtime: String,
    /// Its times.
    pub latency: Latency,
    /// Its speedup over the first model: the geometric mean over the sessions, of medians of pairs.
    pub speedup: f64,
    /// The 95 % confidence interval of the speedup.
    pub interval: Interval,
}

/// Measures the latency of a model, in turns with `other` if that is given, in several sessions of each
/// (`updp_exec::sessions`).
///
/// # Errors
/// C0009 if an input has no known shape, X codes if a model cannot be run, and the errors of reading a model.
pub fn bench<'a>(
    model: impl Into<Source<'a>>,
    other: Option<Source<'a>>,
    options: &BenchOptions,
    observer: &mut dyn Observer,
) -> Result<BenchReport, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let mut files = vec![model.into().open()?];
    if let Some(other) = other {
        files.push(other.open()?);
    }
    let specs = input_specs(&files[0].model.graph)
        .ok_or_else(|| Error::Unverifiable { detail: "an input has no known shape".into() })?;
    let inputs = sample_inputs(&specs, 0, &batch_plan(&specs, options.batch))?;
    check_cancelled(observer)?;
    observer.progress("measuring", 0, 0);
    let seconds = options.seconds.clamp(0.05, 3600.0);
    let sessions = ((seconds / LEAST_SECONDS) as usize).clamp(1, MOST_SESSIONS);
    let budget = Budget::Time(Duration::from_secs_f64(seconds / sessions as f64));
    let (mut names, mut measured) = (Vec::new(), Vec::new());
    for _ in 0..sessions {
        check_cancelled(observer)?;
        let mut executors: Vec<Box<dyn Executor>> = Vec::new();
        for file in &files {
            let source = file.source.for_runtime();
            executors.push(options.runtime.open_fresh(source, Optimizer::All)?);
        }
        names = executors.iter().map(|executor| executor.name()).collect();
        let mut turns: Vec<&mut dyn Executor> = Vec::new();
        for executor in &mut executors {
            turns.push(executor.as_mut());
        }
        measured.push(measure(&mut turns, &inputs, 3, budget)?);
    }
    let result = match &measured[..] {
        [one] => one.clone(),
        many => combined(many),
    };
    let figures = result.latencies.into_iter().zip(result.speedups).zip(result.intervals);
    let measured = figures.zip(names).zip(files);
    Ok(BenchReport {
        // A fixed batch stays unchanged.
        batch: inputs.values().next().and_then(|t| t.dims().first().copied()).unwrap_or(1),
        models: measured
            .map(|((((latency, speedup), interval), runtime), file)| BenchedModel {
                path: file.source.path,
                runtime,
                latency,
                speedup,
                interval,
            })
            .collect(),
    })
}

/// How the blocks of a model are measured.
#[derive(Clone, Debug)]
pub struct BlockBenchOptions {
    /// Batch size for a model with an open batch dimension.
    pub batch: usize,
    /// Time for measuring each form of a block, in seconds.
    pub seconds: f64,
    /// Whether the forms contain every exact merge.
    pub merge_all: bool,
    /// A file that keeps measured latencies for the next run.
    pub latency_table: Option<PathBuf>,
    /// How models are run.
    pub runtime: RuntimeOptions,
}

impl Default for BlockBenchOptions {
    fn default() -> Self {
        Self {
            batch: 1,
            seconds: 0.25,
            merge_all: false,
            latency_table: None,
            runtime: RuntimeOptions::default(),
        }
    }
}

/// The blocks of a model with their latencies.
#[derive(Debug)]
pub struct BlockBenchReport {
    /// One entry for each block.
    pub blocks: Vec<BlockProfile>,
    /// Name and version of the runtime that measured; empty if the table had all latencies.
    pub runtime: String,
}

/// Measures every block of a model separately, unchanged and in each of its forms.
///
/// # Errors
/// C0015 if the latency table cannot be used, and the errors of reading and running the model.
pub fn bench_blocks<'a>(
    model: impl Into<Source<'a>>,
    options: &BlockBenchOptions,
    observer: &mut dyn Observer,
) -> Result<BlockBenchReport, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let mut model = model.into().open()?.model;
    pipeline::prepare(&mut model)?;
    check_cancelled(observer)?;
    let passes = Options { merge_all: options.merge_all, ..Options::default() };
    let conditions = Conditions {
        runtime: options.runtime.clone(),
        batch: options.batch,
        seconds: options.seconds,
        constants: Vec::new(),
    };
    let mut table = LatencyTable::open(options.latency_table.as_deref(), conditions)?;
    let profiler = Profiler {
        model: &model,
        shrink: surgery::Shrink::Auto,
        options: &passes,
        is_fitted: false,
        shows_fitted: false,
        effort: f64::INFINITY,
    };
    let blocks = surgery::blocks_of(&model)?;
    let fitted = shown_forms(&model, &blocks, None, profiler.shrink);
    let blocks = profiler.profiles(
        blocks,
        |block| match block.fit_only {
            Some(_) => fitted.get(&block.index).cloned().unwrap_or_default(),
            None => surgery::forms(block),
        },
        Some(&mut table),
        observer,
    )?;
    table.save()?;
    Ok(BlockBenchReport { blocks, runtime: table.runtime().to_owned() })
}
