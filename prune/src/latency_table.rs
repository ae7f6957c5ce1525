//! The latency table: measured latencies of blocks and of their pruned forms, stored in a file for the next run.
//!
//! An entry belongs to a signature. A signature describes the computation of a part of a network without its weights
//! and names. So four equal blocks of a stage are measured only once, and the table works for every network that
//! contains an equal part.

use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::{Value, json};
use updp_exec::{
    Budget, Device, Executor, Interval, Measurement, ModelSource, Optimizer, Precision,
    RuntimeOptions, batch_plan, input_specs, measure, sample_inputs,
};
use updp_ir::infer::Shapes;
use updp_ir::{DataPlacement, Model, Tensor, order};
use updp_trainer::hash::Fnv;
use updp_trainer::other_inputs::OtherInput;

use crate::clock_threads;
use crate::config::LatencyConfig;
use crate::error::{PruneError, Result};
use crate::files;
use crate::session_latency::over_sessions;

/// Version of the file format.
const SCHEMA: &str = "updp-latency/1";
/// Number of runs before timing starts.
const WARM_UP: usize = 3;
/// Width of the interval of a form's time relative to its block, at which the measurement ends: ±2 %.
const FORM_WIDTH: f64 = 0.04;
/// Fewest rounds for blocks and forms.
const FORM_ROUNDS: usize = 15;

/// The conditions under which the measurements are valid.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// How models are run.
    pub runtime: RuntimeOptions,
    /// Value of a symbolic batch size.
    pub batch: usize,
    /// Most seconds of measurement per model. It ends earlier when the times are known within ±2 %.
    pub seconds: f64,
    /// Inputs that get constants. All others get drawn values.
    pub constants: Vec<OtherInput>,
}

impl Conditions {
    /// The conditions of a configuration.
    #[must_use]
    pub fn of(latency: &LatencyConfig, runtime: &RuntimeOptions) -> Self {
        let constants = Vec::new();
        let (batch, seconds) = (latency.batch, latency.seconds);
        Self { runtime: runtime.clone(), batch, seconds, constants }
    }
}

/// Latencies by conditions and signature.
#[derive(Debug)]
pub struct LatencyTable {
    path: Option<PathBuf>,
    conditions: Conditions,
    /// Median in milliseconds, by key.
    entries: IndexMap<String, f64>,
    /// Networks against the original, by key.
    comparisons: IndexMap<String, Comparison>,
    /// Chosen numbers of threads, by key.
    threads: IndexMap<String, usize>,
    /// Name of the runtime that measured last.
    runtime: String,
    is_changed: bool,
}

/// A network measured in turns with the original.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Median time of the original, in milliseconds.
    pub before_ms: f64,
    /// Median time of the network, in milliseconds.
    pub after_ms: f64,
    /// Geometric mean of the speedups of several pairs of sessions: above 1, the network is faster.
    pub speedup: f64,
    /// The 95 % confidence interval of the speedup.
    pub interval: Interval,
}

impl Comparison {
    /// The original against itself.
    fn equal(ms: f64) -> Self {
        let interval = Interval { low: 1.0, high: 1.0 };
        Self { before_ms: ms, after_ms: ms, speedup: 1.0, interval }
    }

    fn to_json(self) -> Value {
        json!([self.before_ms, self.after_ms, self.speedup, self.interval.low, self.interval.high])
    }

    fn of_json(value: &Value) -> Option<Self> {
        let number = |at: usize| value.get(at)?.as_f64().filter(|it| it.is_finite() && *it > 0.0);
        let interval = Interval { low: number(3)?, high: number(4)? };
        Some(Self { before_ms: number(0)?, after_ms: number(1)?, speedup: number(2)?, interval })
    }
}

impl LatencyTable {
    /// Reads the table from a file if it exists; otherwise starts an empty table.
    ///
    /// # Errors
    /// C0015 when the file is not a table of this version.
    pub fn open(path: Option<&Path>, conditions: Conditions) -> Result<Self> {
        let mut table = Self {
            path: path.map(Path::to_owned),
            conditions,
            entries: IndexMap::new(),
            comparisons: IndexMap::new(),
            threads: IndexMap::new(),
            runtime: String::new(),
            is_changed: false,
        };
        let Some(path) = path.filter(|path| path.exists()) else { return Ok(table) };
        let failed = |detail: String| PruneError::LatencyTable { path: path.to_owned(), detail };
        if !path.is_file() {
            return Err(failed("it is no regular file".to_owned()));
        }
        let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
        let file: Value = serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?;
        if file["schema"] != SCHEMA {
            return Err(failed(format!("its schema is not {SCHEMA}")));
        }
        if !is_as_written(&file) {
            return Err(failed("it does not hold what was written (its hash differs)".to_owned()));
        }
        for (key, value) in file["median_ms"].as_object().into_iter().flatten() {
            let ms = value.as_f64().filter(|ms| ms.is_finite() && *ms > 0.0);
            let ms = ms.ok_or_else(|| failed(format!("entry {key:?} is no positive number")))?;
            table.entries.insert(key.clone(), ms);
        }
        for (key, value) in file["networks"].as_object().into_iter().flatten() {
            let known = Comparison::of_json(value);
            let known = known.ok_or_else(|| failed(format!("entry {key:?} is no comparison")))?;
            table.comparisons.insert(key.clone(), known);
        }
        for (key, value) in file["threads"].as_object().into_iter().flatten() {
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
            let count = count.filter(|count| *count > 0);
            let count = count.ok_or_else(|| failed(format!("entry {key:?} is no thread count")))?;
            table.threads.insert(key.clone(), count);
        }
        Ok(table)
    }

    /// Writes the table back to its file, if it has a file and something was measured.
    ///
    /// # Errors
    /// C0003 when the file cannot be written.
    pub fn save(&self) -> Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.is_changed) else { return Ok(()) };
        let networks = self.comparisons.iter().map(|(key, it)| (key.clone(), it.to_json()));
        let networks: serde_json::Map<String, Value> = networks.collect();
        let mut file = json!({
            "schema": SCHEMA,
            "median_ms": self.entries,
            "networks": networks,
            "threads": self.threads,
        });
        file["hash"] = hash(&file).into();
        files::write(path, format!("{file:#}\n").as_bytes())
    }

    /// Median times in milliseconds of models that take the same inputs. Models that are not in the table are measured
    /// in turns, together with the first model, so that all times come from one run.
    ///
    /// # Errors
    /// Errors of opening and running the models.
    pub fn latencies(&mut self, models: &[&Model]) -> Result<Vec<f64>> {
        self.latencies_in(models, self.conditions.seconds)
    }

    /// The same as [`Self::latencies`], with the given number of seconds per model.
    ///
    /// # Errors
    /// Errors of opening and running the models.
    pub fn latencies_in(&mut self, models: &[&Model], seconds: f64) -> Result<Vec<f64>> {
        let mut keys = Vec::new();
        let mut opened: Vec<(usize, Box<dyn Executor>)> = Vec::new();
        let runtime = &self.conditions.runtime;
        let mut encoded: Vec<Bytes> = Vec::new();
        for model in models {
            encoded.push(model.encode(&DataPlacement::Inline)?.model_to_bytes());
        }
        let mut first = runtime.open(ModelSource::Bytes(&encoded[0]), Optimizer::All)?;
        self.runtime = first.name();
        let place = self.place(&self.runtime);
        for model in models {
            keys.push(format!("{place} {}", signature(model)));
        }
        if keys.iter().all(|key| self.entries.contains_key(key)) {
            return Ok(keys.iter().map(|key| self.entries[key]).collect());
        }
        for (at, bytes) in encoded.iter().enumerate().skip(1) {
            // Two forms may have the same signature. Only one of them is measured.
            if !keys[..at].contains(&keys[at]) {
                opened.push((at, runtime.open(ModelSource::Bytes(bytes), Optimizer::All)?));
            }
        }
        let mut turns: Vec<&mut dyn Executor> = vec![first.as_mut()];
        let mut slots = vec![0];
        for (at, executor) in &mut opened {
            slots.push(*at);
            turns.push(executor.as_mut());
        }
        let seconds = seconds * turns.len() as f64;
        let precision = Precision {
            width: FORM_WIDTH,
            least_rounds: FORM_ROUNDS,
            most_rounds: usize::MAX,
            most_time: Duration::from_secs_f64(seconds.clamp(0.02, 3600.0)),
        };
        let measured = self.in_turns(models[0], &mut turns, precision)?;
        // A known latency of the first model stays, so that earlier ratios to it remain valid.
        let base = self.entries.get(&keys[0]).copied();
        let base = base.unwrap_or(measured.latencies[0].median_ms);
        for (slot, speedup) in slots.iter().zip(&measured.speedups) {
            // Uses the paired ratio, so a slow period that affects both models cancels out. The ratio of the first
            // model is 1.
            self.entries.insert(keys[*slot].clone(), base / speedup);
        }
        self.is_changed = true;
        Ok(keys.iter().map(|key| self.entries[key]).collect())
    }

    /// A network against the original, from the table if it is there, otherwise measured with this precision.
    ///
    /// # Errors
    /// Errors of opening and running the models.
    pub fn compared(
        &mut self,
        original: &Model,
        network: &Model,
        precision: Precision,
    ) -> Result<Comparison> {
        self.compare(original, network, precision, true)
    }

    /// A network against the original, measured now whatever the table says. The table does not change. Both run in
    /// turns.
    ///
    /// # Errors
    /// Errors of opening and running the models.
    pub fn compared_afresh(
        &mut self,
        original: &Model,
        network: &Model,
        precision: Precision,
    ) -> Result<Comparison> {
        self.compare(original, network, precision, false)
    }

    fn compare(
        &mut self,
        original: &Model,
        network: &Model,
        precision: Precision,
        is_kept: bool,
    ) -> Result<Comparison> {
        let runtime = self.conditions.runtime.clone();
        let mut first = open(&runtime, original)?;
        self.runtime = first.name();
        let (own, other) = (signature(original), signature(network));
        let place = self.place(&self.runtime);
        let key = format!("{place} {own} {other} within {}", precision.width);
        if let Some(known) = self.comparisons.get(&key).filter(|_| is_kept) {
            return Ok(*known);
        }
        let found = if own == other {
            let measured = self.in_turns(original, &mut [first.as_mut()], precision)?;
            Comparison::equal(measured.latencies[0].median_ms)
        } else {
            drop(first);
            let pair = |number: usize| {
                // Every second pair is opened in the other order.
                if number.is_multiple_of(2) {
                    return Ok([open_fresh(&runtime, original)?, open_fresh(&runtime, network)?]);
                }
                let second = open_fresh(&runtime, network)?;
                Ok([open_fresh(&runtime, original)?, second])
            };
            over_sessions(precision, pair, |both, one| self.in_turns(original, both, one))?
        };
        if is_kept {
            self.comparisons.insert(key, found);
            self.is_changed = true;
        }
        Ok(found)
    }

    /// Chooses the number of threads of all following measurements, if the user did not: one thread where several are
    /// hardly faster or make times too noisy (`clock_threads::decide`). Returns the reason in a sentence; `None` when
    /// nothing changes.
    ///
    /// # Errors
    /// Errors of opening and running the model.
    pub fn choose_threads(&mut self, model: &Model) -> Result<Option<String>> {
        let runtime = self.conditions.runtime.clone();
        let many = clock_threads::default_count(&runtime);
        if runtime.threads.is_some() || runtime.device != Device::Cpu || many < 2 {
            return Ok(None);
        }
        let mut all = open(&runtime, model)?;
        let key = format!("{} {}", self.place(&all.name()), signature(model));
        let single = RuntimeOptions { threads: Some(NonZeroUsize::MIN), ..runtime.clone() };
        if let Some(known) = self.threads.get(&key) {
            if *known == 1 {
                self.conditions.runtime = single;
                return Ok(Some(clock_threads::again(many)));
            }
            return Ok(None);
        }
        if all.name().starts_with("tract") {
            // It always uses one.
            return Ok(None);
        }
        let mut one = open(&single, model)?;
        let mut both: Vec<&mut dyn Executor> = vec![one.as_mut()];
        both.push(all.as_mut());
        let measured = self.in_turns(model, &mut both, clock_threads::PRECISION)?;
        let reason = clock_threads::decide(&measured, many);
        self.threads.insert(key, if reason.is_some() { 1 } else { many });
        self.is_changed = true;
        if reason.is_some() {
            self.conditions.runtime = single;
        }
        Ok(reason)
    }

    /// Drawn inputs of a model, and the constants of the others.
    fn inputs(&self, model: &Model) -> Result<IndexMap<String, Tensor>> {
        let specs = input_specs(&model.graph).ok_or(PruneError::InputShape)?;
        let mut inputs = sample_inputs(&specs, 0, &batch_plan(&specs, self.conditions.batch))?;
        for constant in &self.conditions.constants {
            if let Some(drawn) = inputs.get_mut(constant.name()) {
                *drawn = constant.for_images(self.conditions.batch);
            }
        }
        Ok(inputs)
    }

    fn in_turns(
        &self,
        model: &Model,
        executors: &mut [&mut dyn Executor],
        precision: Precision,
    ) -> Result<Measurement> {
        let inputs = self.inputs(model)?;
        Ok(measure(executors, &inputs, WARM_UP, Budget::Precise(precision))?)
    }

    /// Number of threads that measured models get.
    #[must_use]
    pub fn threads(&self) -> usize {
        clock_threads::default_count(&self.conditions.runtime)
    }

    /// The runtime that measured last; empty before the first measurement.
    #[must_use]
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    fn place(&self, runtime: &str) -> String {
        let threads = self.conditions.runtime.thread_count();
        format!("{runtime} threads {threads} batch {}", self.conditions.batch)
    }
}

/// Whether a file is a table that holds what was written.
pub(crate) fn is_whole(path: &Path) -> bool {
    let file = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    file.is_some_and(|file: Value| file["schema"] == SCHEMA && is_as_written(&file))
}

/// Whether the hash of a table is the one in it. A table without a hash is taken as it is.
fn is_as_written(file: &Value) -> bool {
    file.get("hash").is_none_or(|written| *written == hash(file))
}

/// A hash of the numbers of a table.
fn hash(file: &Value) -> String {
    let parts = ["median_ms", "networks", "threads"].map(|part| file[part].to_string());
    format!("{:016x}", Fnv::of(parts.join("\n").as_bytes()))
}

fn open(runtime: &RuntimeOptions, model: &Model) -> Result<Box<dyn Executor>> {
    let bytes = model.encode(&DataPlacement::Inline)?.model_to_bytes();
    Ok(runtime.open(ModelSource::Bytes(&bytes), Optimizer::All)?)
}

fn open_fresh(runtime: &RuntimeOptions, model: &Model) -> Result<Box<dyn Executor>> {
    let bytes = model.encode(&DataPlacement::Inline)?.model_to_bytes();
    Ok(runtime.open_fresh(ModelSource::Bytes(&bytes), Optimizer::All)?)
}

/// A short hash of a model's computation without its weights and names.
#[must_use]
pub fn signature(model: &Model) -> String {
    let graph = &model.graph;
    let shapes = Shapes::infer(graph, model.opset("").unwrap_or(0));
    let mut numbers = IndexMap::new();
    let mut text = String::new();
    let dims = |value: updp_ir::ValueId| match graph.constant_initializer(value) {
        Some(tensor) => format!("{}{:?}", tensor.dtype(), tensor.dims()),
        None => shapes.of(value).map_or_else(|| "?".to_owned(), ToString::to_string),
    };
    for input in graph.required_inputs() {
        let number = numbers.len();
        numbers.insert(input, number);
        let _ = write!(text, "{};", dims(input));
    }
    for node in order::topological(graph).unwrap_or_default() {
        let known = graph.node(node);
        let _ = write!(text, "{}(", known.op_type());
        for operand in graph.operands(node) {
            let Some(operand) = operand else {
                text.push_str("-,");
                continue;
            };
            let _ = match numbers.get(&operand) {
                Some(number) => write!(text, "{number},"),
                None => write!(text, "{},", dims(operand)),
            };
        }
        for name in known.attribute_names() {
            let value = known.attribute(name).map(|a| (a.i, a.f, a.ints.clone(), a.s.clone()));
            let _ = write!(text, "{name}={value:?},");
        }
        for result in graph.results(node).into_iter().flatten() {
            let number = numbers.len();
            numbers.insert(result, number);
        }
        text.push_str(");");
    }
    let half = |seed: u64| {
        let mut hash = Fnv::with_seed(seed);
        hash.bytes(text.as_bytes());
        hash.value()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}
