//! The latency table: measured latencies of blocks and of their pruned forms, kept in a file for the next run.
//!
//! An entry belongs to a signature: what a part of a network computes apart from its weights and names. So the
//! four equal blocks of a stage are measured once, and the table serves every network that holds such a part.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::{Value, json};
use updp_exec::{
    Budget, Executor, ModelSource, Optimizer, RuntimeOptions, batch_plan, input_specs, measure,
    sample_inputs,
};
use updp_ir::infer::Shapes;
use updp_ir::{DataPlacement, Model, order};
use updp_trainer::hash::Fnv;

use crate::config::LatencyConfig;
use crate::error::{PruneError, Result};
use crate::files;

/// Version of the file.
const SCHEMA: &str = "updp-latency/1";
/// Runs before the clock counts.
const WARM_UP: usize = 3;

/// What the measurements hold for.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// How models are run.
    pub runtime: RuntimeOptions,
    /// Size of a symbolic batch.
    pub batch: usize,
    /// Seconds for each model.
    pub seconds: f64,
}

impl Conditions {
    /// The conditions of a configuration.
    #[must_use]
    pub fn of(latency: &LatencyConfig, runtime: &RuntimeOptions) -> Self {
        Self { runtime: runtime.clone(), batch: latency.batch, seconds: latency.seconds }
    }
}

/// Latencies by conditions and signature.
#[derive(Debug)]
pub struct LatencyTable {
    path: Option<PathBuf>,
    conditions: Conditions,
    /// Median in milliseconds by key.
    entries: IndexMap<String, f64>,
    /// Name of the runtime that ran last.
    runtime: String,
    is_changed: bool,
}

impl LatencyTable {
    /// Reads the table of a file that is there, or starts an empty one.
    ///
    /// # Errors
    /// C0015 when the file is no table of this version.
    pub fn open(path: Option<&Path>, conditions: Conditions) -> Result<Self> {
        let mut table = Self {
            path: path.map(Path::to_owned),
            conditions,
            entries: IndexMap::new(),
            runtime: String::new(),
            is_changed: false,
        };
        let Some(path) = path.filter(|path| path.exists()) else { return Ok(table) };
        let failed = |detail: String| PruneError::LatencyTable { path: path.to_owned(), detail };
        let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
        let file: Value = serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?;
        if file["schema"] != SCHEMA {
            return Err(failed(format!("its schema is not {SCHEMA}")));
        }
        for (key, value) in file["median_ms"].as_object().into_iter().flatten() {
            let ms = value.as_f64().filter(|ms| ms.is_finite() && *ms > 0.0);
            let ms = ms.ok_or_else(|| failed(format!("entry {key:?} is no positive number")))?;
            table.entries.insert(key.clone(), ms);
        }
        Ok(table)
    }

    /// Writes the table back to its file, when there is one and something was measured.
    ///
    /// # Errors
    /// C0003.
    pub fn save(&self) -> Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.is_changed) else { return Ok(()) };
        let file = json!({ "schema": SCHEMA, "median_ms": self.entries });
        files::write(path, format!("{file:#}\n").as_bytes())
    }

    /// Medians in milliseconds of models that take the same inputs, the ones not in the table measured in
    /// turns, together with the first so that all are of one run.
    ///
    /// # Errors
    /// What opening and running the models refuses.
    pub fn latencies(&mut self, models: &[&Model]) -> Result<Vec<f64>> {
        self.latencies_in(models, self.conditions.seconds)
    }

    /// As [`Self::latencies`], with so many seconds for each model.
    ///
    /// # Errors
    /// What opening and running the models refuses.
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
            // Two forms may come to the same: one is measured.
            if !keys[..at].contains(&keys[at]) {
                opened.push((at, runtime.open(ModelSource::Bytes(bytes), Optimizer::All)?));
            }
        }
        let specs = input_specs(&models[0].graph).ok_or(PruneError::InputShape)?;
        let inputs = sample_inputs(&specs, 0, &batch_plan(&specs, self.conditions.batch))?;
        let mut turns: Vec<&mut dyn Executor> = vec![first.as_mut()];
        let mut slots = vec![0];
        for (at, executor) in &mut opened {
            slots.push(*at);
            turns.push(executor.as_mut());
        }
        let seconds = seconds * turns.len() as f64;
        let budget = Budget::Time(Duration::from_secs_f64(seconds.clamp(0.02, 3600.0)));
        let measured = measure(&mut turns, &inputs, WARM_UP, budget)?;
        // What is known of the first stays, so that earlier ratios to it hold.
        let base = self.entries.get(&keys[0]).copied();
        let base = base.unwrap_or(measured.latencies[0].median_ms);
        for (slot, speedup) in slots.iter().zip(&measured.speedups) {
            // By the paired ratio: a slow spell that hits both cancels out. The first one's is 1.
            self.entries.insert(keys[*slot].clone(), base / speedup);
        }
        self.is_changed = true;
        Ok(keys.iter().map(|key| self.entries[key]).collect())
    }

    /// The runtime that measured last; empty before.
    #[must_use]
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    fn place(&self, runtime: &str) -> String {
        let threads = self.conditions.runtime.thread_count();
        format!("{runtime} threads {threads} batch {}", self.conditions.batch)
    }
}

/// What a model computes apart from its weights and names, as a short hash.
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
