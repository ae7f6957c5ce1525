//! Verification: both models run in one runtime with its own optimizer off, and their outputs are compared.

use indexmap::IndexMap;
use updp_exec::{
    Comparison, ExecError, Executor, InputData, InputSpec, ModelSource, Optimizer, Runtime,
    RuntimeOptions, compare_tensors, input_specs, note_fallback, open,
};
use updp_ir::{Dim, Graph, Tensor};

use crate::drawn::drawn_runs;
use crate::error::VerifyError;
use crate::parts::Parts;
use crate::telling::{Silence, silent_outputs};
use crate::{noise, nondeterminism};

/// Number of images per run when data are given and the batch is symbolic.
const DATA_BATCH: usize = 100;

/// The worst difference of one output over all inputs.
#[derive(Clone, Debug)]
pub struct OutputResult {
    /// Output name.
    pub name: String,
    /// Largest max|Δ| / max|reference|.
    pub relative: f64,
    /// Root of the mean square difference, relative.
    pub rms: f64,
    /// Smallest cosine.
    pub cosine: f64,
    /// Smallest share of rows with the same largest entry.
    pub top1_agreement: Option<f64>,
    /// The limit it was compared with.
    pub limit: f64,
    /// Number of integer elements that differ only where the reference does not decide them: the
    /// reference itself changes them when its inputs change by 1e-5.
    pub undecided: usize,
    /// Relative difference that the reference itself shows when its inputs change by 1e-6; `None` unless the difference
    /// exceeded the limit. A small multiple of it is accepted (see [`noise`]).
    pub noise: Option<f64>,
    /// Why an equality proves nothing; `None` if the reference gave at least two values, so that it proves something.
    pub silence: Option<Silence>,
    /// The comparison in words, when it is not within the limit.
    pub failure: Option<String>,
}

/// The outcome of running two models.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Runtime and version.
    pub runtime: String,
    /// Number of runs, each with its own inputs.
    pub runs: usize,
    /// One row per output.
    pub outputs: Vec<OutputResult>,
    /// Outputs for which the reference gives different values each time; they are not compared.
    pub random: Vec<String>,
    /// Top-1 accuracy of the reference and of the model on the labels.
    pub top1: Option<(f64, f64)>,
    /// Number of parts that were compared, where no runtime could run the whole models.
    pub parts: Option<usize>,
    /// Every changed part, compared on the values that the reference has there; `None` if that was not possible.
    pub local: Option<Parts>,
}

impl Verification {
    /// Whether every output is within its limit, and every changed part that was compared.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.failure().is_none()
    }

    /// The worst relative difference.
    #[must_use]
    pub fn worst(&self) -> f64 {
        self.outputs.iter().map(|output| output.relative).fold(0.0, f64::max)
    }

    /// Whether an output differs by more than its limit, and the noise of the reference is the reason.
    #[must_use]
    pub fn is_noisy(&self) -> bool {
        self.outputs.iter().any(|output| output.noise.is_some())
    }

    /// Whether the noise of an output is so large that values decide nothing about a difference.
    #[must_use]
    pub fn is_chaotic(&self) -> bool {
        let is_failing = |output: &&OutputResult| output.failure.is_some();
        let mut failing = self.outputs.iter().filter(is_failing).peekable();
        let has_faulty_part = self.local.as_ref().is_some_and(|parts| parts.fault.is_some());
        !has_faulty_part
            && failing.peek().is_some()
            && failing.all(|it| it.noise.is_some_and(noise::is_chaotic))
    }

    /// Why the comparison proves nothing: no output of the reference has values that could show a difference. `None` if one
    /// has. Changed parts that were compared may still prove something.
    #[must_use]
    pub fn proves_nothing(&self) -> Option<String> {
        let first = self.outputs.first()?;
        let is_silent = self.outputs.iter().all(|output| output.silence.is_some());
        let why = first.silence.filter(|_| is_silent)?;
        let all =
            if self.outputs.len() == 1 { "" } else { ", and the other outputs prove no more" };
        Some(format!("output {:?}: {why}{all}", first.name))
    }

    /// The first failure in words: an output, else a part.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let failing = self.outputs.iter().find(|output| output.failure.is_some());
        match failing {
            Some(output) => Some(format!(
                "output {:?} differs: {} (limit {:e})",
                output.name,
                output.failure.as_deref().unwrap_or_default(),
                output.limit
            )),
            None => self.local.as_ref().and_then(|parts| parts.fault.clone()),
        }
    }

    fn add(&mut self, name: &str, comparison: &Comparison, limit: f64) {
        let failure = (!comparison.is_within(limit)).then(|| comparison.to_string());
        let (rms, cosine, top1) = match comparison {
            Comparison::Float(d) => (d.rms, d.cosine, d.top1_agreement),
            _ => (0.0, 1.0, None),
        };
        let at = self.outputs.iter().position(|output| output.name == name);
        let at = at.unwrap_or_else(|| {
            self.outputs.push(OutputResult {
                name: name.to_owned(),
                relative: 0.0,
                rms: 0.0,
                cosine: 1.0,
                top1_agreement: None,
                limit,
                undecided: 0,
                noise: None,
                silence: None,
                failure: None,
            });
            self.outputs.len() - 1
        });
        let row = &mut self.outputs[at];
        row.relative = row.relative.max(comparison.relative());
        row.rms = row.rms.max(rms);
        row.cosine = row.cosine.min(cosine);
        row.top1_agreement = match (row.top1_agreement, top1) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        row.failure = row.failure.take().or(failure);
    }
}

/// Inputs with the outputs of the reference.
pub type Run = (IndexMap<String, Tensor>, IndexMap<String, Tensor>);
type Runs = Vec<Run>;

/// A comparison that failed: number of the run, output, result.
type Failing = Vec<(usize, String, Tensor)>;

/// Runs a reference once and compares any number of models with it.
pub struct Oracle<'a> {
    source: ModelSource<'a>,
    options: RuntimeOptions,
    /// Name and version of the runtime that ran the reference.
    runtime: String,
    /// Inputs with the reference's outputs.
    runs: Runs,
    labels: Option<Vec<i64>>,
    limit: Option<f64>,
    /// The outputs whose values prove nothing.
    silent: IndexMap<String, Silence>,
}

impl<'a> Oracle<'a> {
    /// Runs the reference on `data`, or on `count` drawn inputs.
    ///
    /// # Errors
    /// C0009 when no runtime can run the reference; C0006 when the data do not fit.
    pub fn new(
        source: ModelSource<'a>,
        graph: &Graph,
        data: &InputData,
        count: usize,
        options: &RuntimeOptions,
    ) -> Result<Self, VerifyError> {
        let specs = input_specs(graph);
        let mut executor = options.open(source, Optimizer::Off).map_err(unverifiable)?;
        let mut runs = reference_runs(executor.as_mut(), graph, specs.as_deref(), data, count);
        if runs.is_err() && options.runtime == Runtime::Auto && !is_tract(&executor.name()) {
            // A runtime may load a model and still lack a kernel; its own error is shown.
            if let Ok(mut other) = open(source, Runtime::Tract, &options.session(Optimizer::Off))
                && let Ok(others) =
                    reference_runs(other.as_mut(), graph, specs.as_deref(), data, count)
            {
                if let Err(error) = &runs {
                    let (runtime, detail) = (executor.name(), error.to_string());
                    note_fallback(&ExecError::RunFailed { runtime, detail });
                }
                (executor, runs) = (other, Ok(others));
            }
        }
        let runs = runs?;
        if runs.is_empty() {
            return Err(VerifyError::Unverifiable { detail: "there is no input to run".into() });
        }
        Ok(Self {
            source,
            options: options.clone(),
            runtime: executor.name(),
            silent: silent_outputs(graph, runs.iter().map(|(_, outputs)| outputs)),
            runs,
            labels: data.labels.clone(),
            limit: None,
        })
    }

    /// The runtime that ran the reference; a fallback would hide that this runtime rejects a model.
    pub(crate) fn runtime(&self) -> (Runtime, updp_exec::Options) {
        let runtime = match self.options.runtime {
            Runtime::Auto if is_tract(&self.runtime) => Runtime::Tract,
            Runtime::Auto => Runtime::Ort,
            chosen => chosen,
        };
        (runtime, self.options.session(Optimizer::Off))
    }

    /// Compares every output with this limit instead of the limit of its dtype.
    #[must_use]
    pub fn with_limit(mut self, limit: Option<f64>) -> Self {
        self.limit = limit;
        self
    }

    /// The inputs with the reference's outputs.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Runs a model on the same inputs and compares.
    ///
    /// # Errors
    /// C0008 when the runtime that ran the reference cannot run the model.
    pub fn compare(&self, source: ModelSource<'_>) -> Result<Verification, VerifyError> {
        let (runtime, options) = self.runtime();
        let rejected = |error: ExecError| VerifyError::VerificationFailed {
            detail: format!("{} ran the reference but not the result: {error}", self.runtime),
        };
        let mut executor = open(source, runtime, &options).map_err(rejected)?;
        let mut verification = Verification {
            runtime: executor.name(),
            runs: self.runs.len(),
            ..Verification::default()
        };
        let mut hits = (0_usize, 0_usize, 0_usize);
        let is_foreign = self.has_foreign_labels();
        let mut failing = Failing::new();
        for (run, (inputs, reference)) in self.runs.iter().enumerate() {
            let outputs = executor.run(inputs).map_err(rejected)?;
            for (name, comparison) in updp_exec::compare(reference, &outputs) {
                let limit = self.limit_of(reference.get(&name));
                verification.add(&name, &comparison, limit);
                if !comparison.is_within(limit)
                    && let Some(tensor) = outputs.get(&name)
                {
                    failing.push((run, name, tensor.clone()));
                }
            }
            if let Some(labels) = self.labels.as_ref().filter(|_| !is_foreign) {
                count_hits(labels, reference, &outputs, &mut hits);
            }
        }
        for row in &mut verification.outputs {
            row.silence = self.silent.get(&row.name).copied();
        }
        if hits.2 > 0 {
            let share = |count: usize| count as f64 / hits.2 as f64;
            verification.top1 = Some((share(hits.0), share(hits.1)));
        }
        if !failing.is_empty() {
            drop(executor);
            self.reconsider(&mut verification, &failing)?;
        }
        Ok(verification)
    }

    /// Whether a label names a class that the reference does not have.
    fn has_foreign_labels(&self) -> bool {
        let first = self.runs.first().and_then(|(_, outputs)| outputs.values().next());
        let classes = first.and_then(|tensor| tensor.dims().last().copied()).unwrap_or(0) as i64;
        self.labels.iter().flatten().any(|label| !(0..classes).contains(label))
    }

    fn limit_of(&self, reference: Option<&Tensor>) -> f64 {
        let limit = reference.map_or(0.0, |tensor| updp_exec::whole_network_limit(tensor.dtype()));
        self.limit.unwrap_or(limit)
    }

    /// Removes failures that come from the reference itself (see [`nondeterminism`]).
    ///
    /// # Errors
    /// C0009 when every output is random.
    fn reconsider(
        &self,
        verification: &mut Verification,
        failing: &Failing,
    ) -> Result<(), VerifyError> {
        let (runtime, options) = self.runtime();
        let mut executor = open(self.source, runtime, &options)?;
        let mut standing: IndexMap<&str, bool> = IndexMap::new();
        let mut noises: IndexMap<usize, IndexMap<String, f64>> = IndexMap::new();
        for (run, name, result) in failing {
            let (inputs, outputs) = &self.runs[*run];
            let Some(reference) = outputs.get(name) else { continue };
            let limit = self.limit_of(Some(reference));
            if verification.random.contains(name) {
                continue;
            }
            if nondeterminism::is_random(executor.as_mut(), inputs, name, limit)? {
                verification.random.push(name.clone());
                continue;
            }
            if reference.dtype().is_foldable_float() {
                if !noises.contains_key(run) {
                    noises.insert(*run, noise::of_outputs(executor.as_mut(), inputs, outputs)?);
                }
                let noise = noises[run].get(name).copied().filter(|_| self.limit.is_none());
                let relative = compare_tensors(reference, result).relative();
                let is_noise = noise.is_some_and(|it| relative <= noise::allowance(it));
                *standing.entry(name).or_insert(false) |= !is_noise;
                let row = verification.outputs.iter_mut().find(|row| row.name == *name);
                if let (Some(row), Some(noise)) = (row, noise) {
                    row.noise = Some(row.noise.unwrap_or(0.0).max(noise));
                }
                continue;
            }
            let split = nondeterminism::split_differences(
                executor.as_mut(),
                inputs,
                name,
                reference,
                result,
            )?;
            let row = verification.outputs.iter_mut().find(|row| row.name == *name);
            if let (Some((0, undecided)), Some(row)) = (split, row) {
                row.undecided += undecided;
                standing.entry(name).or_insert(false);
            } else {
                standing.insert(name, true);
            }
        }
        for row in &mut verification.outputs {
            if standing.get(row.name.as_str()) == Some(&false) {
                row.failure = None;
                if row.noise.is_none() {
                    row.relative = 0.0;
                }
            }
        }
        let random = verification.random.clone();
        verification.outputs.retain(|row| !random.contains(&row.name));
        if verification.outputs.is_empty() {
            return Err(VerifyError::Unverifiable {
                detail: "every output of the model is random: it gives other values each time"
                    .into(),
            });
        }
        Ok(())
    }
}

fn is_tract(name: &str) -> bool {
    name.starts_with("tract")
}

/// Runs the reference on the given data, or on drawn inputs.
fn reference_runs(
    executor: &mut dyn Executor,
    graph: &Graph,
    specs: Option<&[InputSpec]>,
    data: &InputData,
    count: usize,
) -> Result<Runs, VerifyError> {
    if data.arrays.is_empty() {
        let specs = specs.ok_or_else(|| VerifyError::Unverifiable {
            detail: "an input has no known shape; give one with --input-data".into(),
        })?;
        return drawn_runs(executor, graph, specs, count);
    }
    let fixed = specs.and_then(|specs| match specs.first()?.dims.first()? {
        Dim::Known(size) => Some(*size),
        _ => None,
    });
    let mut runs = Vec::new();
    for batch in data.batches(fixed.unwrap_or(DATA_BATCH)) {
        let outputs = executor.run(&batch)?;
        runs.push((batch, outputs));
    }
    Ok(runs)
}

fn unverifiable(error: ExecError) -> VerifyError {
    match error {
        ExecError::LibraryNotFound { .. }
        | ExecError::LibraryUnusable { .. }
        | ExecError::LibraryTooOld { .. }
        | ExecError::LibraryAlreadyLoaded { .. }
        | ExecError::RuntimeStart { .. }
        | ExecError::DeviceUnavailable { .. } => error.into(),
        _ => VerifyError::Unverifiable { detail: error.to_string() },
    }
}

/// Counts the rows of the first output whose largest entry is the label: reference, model, rows.
fn count_hits(
    labels: &[i64],
    reference: &IndexMap<String, Tensor>,
    outputs: &IndexMap<String, Tensor>,
    hits: &mut (usize, usize, usize),
) {
    let classes = |map: &IndexMap<String, Tensor>| -> Option<Vec<usize>> {
        let tensor = map.values().next()?;
        let width = *tensor.dims().last()?;
        let values = tensor.to_f64()?;
        Some(values.chunks(width.max(1)).map(largest).collect())
    };
    let (Some(a), Some(b)) = (classes(reference), classes(outputs)) else { return };
    let from = hits.2;
    for (row, (a, b)) in a.iter().zip(&b).enumerate() {
        let Some(label) = labels.get(from + row) else { return };
        hits.0 += usize::from(*a as i64 == *label);
        hits.1 += usize::from(*b as i64 == *label);
        hits.2 += 1;
    }
}

fn largest(row: &[f64]) -> usize {
    row.iter()
        .enumerate()
        .fold((0, f64::MIN), |best, (at, v)| if *v > best.1 { (at, *v) } else { best })
        .0
}
