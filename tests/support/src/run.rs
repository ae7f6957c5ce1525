//! Runs models in every available runtime, with the runtime's own optimizer off.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use indexmap::IndexMap;
use updp_exec::{
    ExecError, Executor, InputSpec, ModelSource, Optimizer, Options, Runtime, SymbolSizes,
    find_library, open, sample_inputs, symbol_plans,
};
use updp_ir::{Model, Origin, Tensor, ValueId};

use crate::proof::encode;

/// Tensors fed, by input name.
pub type Inputs = IndexMap<String, Tensor>;
/// Tensors computed, by output name in graph order.
pub type Outputs = IndexMap<String, Tensor>;

/// The ONNX Runtime library that tests use: the one that `updp-exec` finds, otherwise `target/ort`
/// of this checkout.
#[must_use]
pub fn find_ort() -> Option<PathBuf> {
    if let Ok(path) = find_library(None) {
        return Some(path);
    }
    let here = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/ort"));
    let library = here.join("libonnxruntime.so");
    library.is_file().then_some(library)
}

/// Reports that a test cannot run, and why.
///
/// # Panics
/// When `UPDP_NO_SKIP` is set: `make test` provides everything, so no test may be skipped there.
pub fn skip(test: &str, reason: &str) {
    assert!(std::env::var_os("UPDP_NO_SKIP").is_none(), "{test} would be skipped: {reason}");
    println!("skipped {test}: {reason}");
}

/// A model loaded in one runtime.
pub struct Session {
    /// The runtime.
    pub runtime: Runtime,
    executor: Box<dyn Executor>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("runtime", &self.executor.name()).finish()
    }
}

impl Session {
    /// Options of every session. They ask for one thread, because tests already keep every core busy, and the threads
    /// of a pool would only wait for each other in a loop.
    fn options(library: Option<PathBuf>) -> Options {
        Options { library, threads: NonZeroUsize::new(1), ..Options::default() }
    }

    /// Loads a model with the optimizer off.
    ///
    /// # Errors
    /// The runtime's reason for refusing the model.
    pub fn open(model: &Model, runtime: Runtime) -> Result<Self, ExecError> {
        let options = Self::options(if runtime == Runtime::Ort { find_ort() } else { None });
        let bytes = encode(model);
        let executor = open(ModelSource::Bytes(&bytes), runtime, &options)?;
        Ok(Self { runtime, executor })
    }

    /// Loads a model in ONNX Runtime with the optimizer off, for models that are made for this runtime alone.
    ///
    /// # Errors
    /// The runtime's reason for refusing the model, or that its library is not found.
    pub fn ort(model: &Model) -> Result<Self, ExecError> {
        Self::open(model, Runtime::Ort)
    }

    /// Loads a model in ONNX Runtime with its optimizer fully on, as a trainer runs it.
    ///
    /// # Errors
    /// As [`Session::ort`].
    pub fn ort_optimized(model: &Model) -> Result<Self, ExecError> {
        let options = Options { optimizer: Optimizer::All, ..Self::options(find_ort()) };
        let bytes = encode(model);
        let executor = open(ModelSource::Bytes(&bytes), Runtime::Ort, &options)?;
        Ok(Self { runtime: Runtime::Ort, executor })
    }

    /// The runtime and its version.
    #[must_use]
    pub fn name(&self) -> String {
        self.executor.name()
    }

    /// Runs once.
    ///
    /// # Errors
    /// The error of the runtime.
    pub fn run(&mut self, inputs: &Inputs) -> Result<Outputs, ExecError> {
        self.executor.run(inputs)
    }
}

/// The runtimes of this machine: always tract, and ONNX Runtime where its library is found.
pub(crate) fn runtimes() -> Vec<Runtime> {
    let mut runtimes = vec![Runtime::Tract];
    if find_ort().is_some() {
        runtimes.push(Runtime::Ort);
    }
    runtimes
}

/// The model in every runtime that loads it.
#[must_use]
pub fn sessions(model: &Model) -> Vec<Session> {
    runtimes().into_iter().filter_map(|runtime| Session::open(model, runtime).ok()).collect()
}

/// Runs a model once: in ONNX Runtime where it is found and accepts the model, otherwise in tract.
///
/// # Panics
/// When no runtime runs it.
#[must_use]
pub fn run(model: &Model, inputs: &Inputs) -> Outputs {
    let mut failures = Vec::new();
    for runtime in runtimes().into_iter().rev() {
        match Session::open(model, runtime).and_then(|mut session| session.run(inputs)) {
            Ok(outputs) => return outputs,
            Err(error) => failures.push(error.to_string()),
        }
    }
    panic!("no runtime runs the model: {}", failures.join("; "))
}

/// Random inputs for a model, each with its own seed. A symbolic batch alternates between 1 and 3.
///
/// `with_defaults` also feeds the float inputs that have a default (overridable initializers).
///
/// # Panics
/// When an input has no tensor type with dims, or a type that cannot be drawn.
#[must_use]
pub fn draw_inputs(model: &Model, runs: usize, seed: u64, with_defaults: bool) -> Vec<Inputs> {
    let graph = &model.graph;
    // An integer default is structure (pads, axes, a shape): a different value gives a different graph.
    let is_drawn = |id: &ValueId| {
        let value = graph.value(*id);
        value.origin() == Origin::Input
            || with_defaults && value.tensor().is_some_and(|t| t.dtype().is_foldable_float())
    };
    let ids: Vec<ValueId> = graph.inputs().filter(is_drawn).collect();
    let specs: Vec<InputSpec> = ids
        .into_iter()
        .map(|id| {
            let value = graph.value(id);
            let declared = value.declared().expect("an input to draw declares its type");
            let dims = declared.shape.as_ref().expect("an input to draw declares its dims");
            InputSpec { name: value.name().to_owned(), dtype: declared.dtype, dims: dims.clone() }
        })
        .collect();
    let plans: Vec<SymbolSizes> = symbol_plans(&specs);
    (0..runs)
        .map(|at| {
            sample_inputs(&specs, seed + at as u64, &plans[at % plans.len()])
                .unwrap_or_else(|error| panic!("inputs cannot be drawn: {error}"))
        })
        .collect()
}
