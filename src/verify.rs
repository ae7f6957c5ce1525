//! Verification: both models run in one runtime with its own optimizer off, outputs compared.

use indexmap::IndexMap;
use updp_exec::{
    Comparison, Dim, ExecError, Executor, InputSpec, ModelSource, Optimizer, SymbolSizes, open,
    sample_inputs, symbol_plans,
};
use updp_ir::{Graph, Tensor};

use crate::cli::RuntimeArgs;
use crate::data::InputData;
use crate::error::CliError;

/// Sizes tried for symbolic dims when the model refuses the usual ones.
const OTHER_SIZES: [usize; 6] = [1, 2, 4, 16, 32, 224];
/// Images run at once when data are given and the batch is symbolic.
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
    /// What it was held against.
    pub limit: f64,
    /// The comparison in words, when it is not within the limit.
    pub failure: Option<String>,
}

/// The outcome of running two models.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Runtime and version.
    pub runtime: String,
    /// Number of inputs run.
    pub runs: usize,
    /// One row an output.
    pub outputs: Vec<OutputResult>,
    /// Top-1 of reference and model on the labels.
    pub top1: Option<(f64, f64)>,
}

impl Verification {
    /// Whether every output is within its limit.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.outputs.iter().all(|output| output.failure.is_none())
    }

    /// The worst relative difference.
    #[must_use]
    pub fn worst(&self) -> f64 {
        self.outputs.iter().map(|output| output.relative).fold(0.0, f64::max)
    }

    /// The first failure in words.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let output = self.outputs.iter().find(|output| output.failure.is_some())?;
        Some(format!(
            "output {:?} differs: {} (limit {:e})",
            output.name,
            output.failure.as_deref().unwrap_or_default(),
            output.limit
        ))
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

/// What the graph asks to be fed; `None` when an input has no known rank or is no tensor.
#[must_use]
pub fn input_specs(graph: &Graph) -> Option<Vec<InputSpec>> {
    graph
        .required_inputs()
        .map(|id| {
            let value = graph.value(id);
            let ty = value.declared()?;
            let dims = ty.shape.as_ref()?.iter().map(|dim| match dim {
                updp_ir::Dim::Known(size) => Dim::Fixed(*size),
                updp_ir::Dim::Symbol(name) => Dim::Symbol(name.to_string()),
                updp_ir::Dim::Unknown => Dim::Unknown,
            });
            Some(InputSpec { name: value.name().to_owned(), dtype: ty.dtype, dims: dims.collect() })
        })
        .collect()
}

/// Inputs with the outputs of the reference.
type Runs = Vec<(IndexMap<String, Tensor>, IndexMap<String, Tensor>)>;

/// Runs a reference once and any number of models against it.
pub struct Oracle {
    arguments: RuntimeArgs,
    runtime: String,
    /// Inputs with the reference's outputs.
    runs: Runs,
    labels: Option<Vec<i64>>,
    limit: Option<f64>,
}

impl Oracle {
    /// Runs the reference on `data`, or on `count` drawn inputs.
    ///
    /// # Errors
    /// C0009 when no runtime can run the reference; C0006 when the data do not fit.
    pub fn new(
        source: ModelSource<'_>,
        graph: &Graph,
        data: &InputData,
        count: usize,
        arguments: &RuntimeArgs,
    ) -> Result<Self, CliError> {
        let (runtime, options) = arguments.split(Optimizer::Off);
        let mut executor = open(source, runtime, &options).map_err(unverifiable)?;
        let specs = input_specs(graph);
        let runs = if data.arrays.is_empty() {
            let specs = specs.ok_or_else(|| CliError::Unverifiable {
                detail: "an input has no known shape; give one with --input-data".into(),
            })?;
            drawn_runs(executor.as_mut(), &specs, count)?
        } else {
            let fixed = specs.and_then(|specs| match specs.first()?.dims.first()? {
                Dim::Fixed(size) => Some(*size),
                _ => None,
            });
            let mut runs = Vec::new();
            for batch in data.batches(fixed.unwrap_or(DATA_BATCH)) {
                let outputs = executor.run(&batch)?;
                runs.push((batch, outputs));
            }
            runs
        };
        if runs.is_empty() {
            return Err(CliError::Unverifiable { detail: "there is no input to run".into() });
        }
        Ok(Self {
            arguments: arguments.clone(),
            runtime: executor.name(),
            runs,
            labels: data.labels.clone(),
            limit: None,
        })
    }

    /// Holds every output against this limit instead of that of its dtype.
    #[must_use]
    pub fn with_limit(mut self, limit: Option<f64>) -> Self {
        self.limit = limit;
        self
    }

    /// Runs a model on the same inputs and compares.
    ///
    /// # Errors
    /// C0008 when the runtime that ran the reference cannot run the model.
    pub fn compare(&self, source: ModelSource<'_>) -> Result<Verification, CliError> {
        let (runtime, options) = self.arguments.split(Optimizer::Off);
        // The same runtime as the reference: a fallback here would hide a model it rejects.
        let runtime = match runtime {
            updp_exec::Runtime::Auto if self.runtime.starts_with("tract") => {
                updp_exec::Runtime::Tract
            }
            updp_exec::Runtime::Auto => updp_exec::Runtime::Ort,
            chosen => chosen,
        };
        let rejected = |error: ExecError| CliError::VerificationFailed {
            detail: format!("{} ran the reference but not the result: {error}", self.runtime),
        };
        let mut executor = open(source, runtime, &options).map_err(rejected)?;
        let mut verification = Verification {
            runtime: executor.name(),
            runs: self.runs.len(),
            ..Verification::default()
        };
        let mut hits = (0_usize, 0_usize, 0_usize);
        for (inputs, reference) in &self.runs {
            let outputs = executor.run(inputs).map_err(rejected)?;
            for (name, comparison) in updp_exec::compare(reference, &outputs) {
                let dtype = reference.get(&name).map(Tensor::dtype);
                let limit = dtype.map_or(0.0, updp_exec::whole_network_limit);
                verification.add(&name, &comparison, self.limit.unwrap_or(limit));
            }
            if let Some(labels) = &self.labels {
                count_hits(labels, reference, &outputs, &mut hits);
            }
        }
        if hits.2 > 0 {
            let share = |count: usize| count as f64 / hits.2 as f64;
            verification.top1 = Some((share(hits.0), share(hits.1)));
        }
        Ok(verification)
    }
}

fn unverifiable(error: ExecError) -> CliError {
    match error.code() {
        "X0001" | "X0002" | "X0003" | "X0004" | "X0005" | "X0201" => error.into(),
        _ => CliError::Unverifiable { detail: error.to_string() },
    }
}

/// Draws inputs the reference accepts and runs it on them.
fn drawn_runs(
    executor: &mut dyn Executor,
    specs: &[InputSpec],
    count: usize,
) -> Result<Runs, CliError> {
    let plans = symbol_plans(specs);
    let mut first_error = None;
    for plans in std::iter::once(plans.clone()).chain(OTHER_SIZES.iter().map(|s| sized(&plans, *s)))
    {
        match run_plans(executor, specs, &plans, count.max(plans.len())) {
            Ok(runs) => return Ok(runs),
            Err(error) => _ = first_error.get_or_insert(error),
        }
    }
    let detail = first_error.map_or_else(String::new, |error| error.to_string());
    Err(CliError::Unverifiable {
        detail: format!("the model does not run on drawn inputs: {detail}"),
    })
}

/// The same plans with every size that is no batch set to `size`.
fn sized(plans: &[SymbolSizes], size: usize) -> Vec<SymbolSizes> {
    let fixed = |v: &usize| if *v == 1 || *v == 3 { *v } else { size };
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
) -> Result<Runs, ExecError> {
    let mut runs = Vec::with_capacity(count);
    for seed in 0..count {
        let inputs = sample_inputs(specs, seed as u64, &plans[seed % plans.len()])?;
        let outputs = executor.run(&inputs)?;
        runs.push((inputs, outputs));
    }
    Ok(runs)
}

/// Counts rows of the first output whose largest entry is the label: reference, model, rows.
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
