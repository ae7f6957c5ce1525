//! ONNX Runtime through its shared library.

use std::num::NonZeroUsize;
use std::sync::{LazyLock, Mutex, PoisonError};

use indexmap::IndexMap;
use ort::ep;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, ValueType};
use updp_ir::Tensor;

use crate::device::{Device, Optimizer};
use crate::error::ExecError;
use crate::executor::{Declared, Executor, ModelSource, Options, check_inputs};
use crate::library::{self, Loaded};
use crate::operators;
use crate::ort_value::{dtype_of, from_sequence, from_value, to_value};
use crate::quiet;

/// A session of ONNX Runtime.
#[derive(Debug)]
pub struct OrtExecutor {
    runtime: String,
    device: Device,
    is_one_thread: bool,
    session: Session,
    inputs: Vec<Declared>,
    /// Initializers that a run may override.
    overridable: Vec<String>,
    outputs: Vec<String>,
}

impl OrtExecutor {
    /// Loads the library if it is not loaded yet, and then the model.
    ///
    /// # Errors
    /// X0001–X0005 for the library, X0101–X0103 for the model, X0201 when the device cannot be used,
    /// X0305 when an input or output is not a tensor.
    pub fn open(source: ModelSource<'_>, options: &Options) -> Result<Self, ExecError> {
        Self::open_saving(source, options, None)
    }

    /// Like [`Self::open`], and also writes the graph that the session really runs to `saved`.
    pub(crate) fn open_saving(
        source: ModelSource<'_>,
        options: &Options,
        saved: Option<&std::path::Path>,
    ) -> Result<Self, ExecError> {
        let (runtime, session) = open_session(source, options, saved, Purpose::Inference)?;
        let inputs = session.inputs().iter().map(declared).collect::<Result<_, _>>()?;
        let outputs = session.outputs().iter().map(output_name).collect::<Result<_, _>>()?;
        let overridable =
            session.overridable_initializers().iter().map(|i| i.name().to_owned()).collect();
        let device = options.device;
        let is_one_thread = device == Device::Cpu && options.threads == Some(NonZeroUsize::MIN);
        Ok(Self { runtime, device, is_one_thread, session, inputs, overridable, outputs })
    }
}

impl Executor for OrtExecutor {
    fn name(&self) -> String {
        format!("{} ({})", self.runtime, self.device)
    }

    fn input_names(&self) -> Vec<String> {
        self.inputs.iter().map(|declared| declared.name.clone()).collect()
    }

    fn output_names(&self) -> Vec<String> {
        self.outputs.clone()
    }

    fn run(
        &mut self,
        inputs: &IndexMap<String, Tensor>,
    ) -> Result<IndexMap<String, Tensor>, ExecError> {
        check_inputs(&self.inputs, &self.overridable, inputs)?;
        let runtime = &self.runtime;
        let session = &mut self.session;
        quiet::catch(|| {
            let values = inputs
                .iter()
                .map(|(name, tensor)| Ok((name.as_str(), to_value(runtime, name, tensor)?)))
                .collect::<Result<Vec<(&str, SessionInputValue<'_>)>, ExecError>>()?;
            let outputs =
                session.run(values).map_err(|error| ExecError::of_run(runtime, error.message()))?;
            let mut results = IndexMap::new();
            for (name, value) in &outputs {
                if matches!(value.dtype(), ValueType::Sequence(_)) {
                    results.extend(from_sequence(runtime, name, &value)?);
                } else {
                    results.insert(name.to_owned(), from_value(runtime, name, &value)?);
                }
            }
            Ok(results)
        })
        .map_err(|detail| ExecError::Panicked { runtime: runtime.clone(), detail })?
    }

    fn computes_on_calling_thread(&self) -> bool {
        self.is_one_thread
    }
}

/// The purpose of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Running a model.
    Inference,
    /// Steps that compute the same every time.
    Training,
    /// Like `Training`, but the GPU records the kernels of a step once and then launches them together.
    Recording,
}

/// A session and the name of its runtime.
pub(crate) fn open_session(
    source: ModelSource<'_>,
    options: &Options,
    saved: Option<&std::path::Path>,
    purpose: Purpose,
) -> Result<(String, Session), ExecError> {
    let loaded = library::load(options.library.as_deref())?;
    let runtime = format!("ONNX Runtime {}", loaded.version);
    if let ModelSource::Path(path) = source
        && let Err(error) = std::fs::metadata(path)
    {
        let detail = error.to_string();
        return Err(ExecError::ModelFile { path: path.to_path_buf(), detail });
    }
    let session = quiet::catch(|| -> Result<Session, ExecError> {
        let mut builder = configure(&loaded, &runtime, options, purpose)?
            .with_deterministic_compute(purpose != Purpose::Inference)
            .map_err(|error| rejected(&runtime, error.message()))?
            // With a pattern, all activations of a step get one block in addition to the memory that the arena took for
            // the first step. This doubles the memory and saves no time (docs/experiments/training-speed.md,
            // "Memory of a step").
            .with_memory_pattern(purpose != Purpose::Training)
            .map_err(|error| rejected(&runtime, error.message()))?;
        if let Some(saved) = saved {
            builder = builder
                .with_optimized_model_path(saved)
                .map_err(|error| rejected(&runtime, error.message()))?;
        }
        // The first session adds our domain to the runtime's own list. Two threads cannot safely do this at once.
        let first = HAS_OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let first = (!*first).then_some(first);
        let session = match source {
            ModelSource::Bytes(bytes) => builder.commit_from_memory(bytes),
            ModelSource::Path(path) => builder.commit_from_file(path),
        };
        if let Some(mut has_opened) = first {
            *has_opened = session.is_ok();
        }
        session.map_err(|error| not_loaded(&runtime, options.device, error.message()))
    })
    .map_err(|detail| ExecError::Panicked { runtime: runtime.clone(), detail })??;
    Ok((runtime, session))
}

/// The runtime's declaration of an input or output.
pub(crate) fn declared(outlet: &Outlet) -> Result<Declared, ExecError> {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(ExecError::NotATensor { name, kind: outlet.dtype().to_string() });
    };
    // The runtime reports an unknown rank as no dims, just like a scalar.
    let dims = (!shape.is_empty())
        .then(|| shape.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Vec<_>>());
    Ok(Declared { name, dtype: dtype_of(*ty), dims })
}

/// The name of an output: a tensor, or a sequence of tensors.
fn output_name(outlet: &Outlet) -> Result<String, ExecError> {
    match outlet.dtype() {
        ValueType::Sequence(of) if matches!(**of, ValueType::Tensor { .. }) => {
            Ok(outlet.name().to_owned())
        }
        _ => declared(outlet).map(|declared| declared.name),
    }
}

/// Sets the session options: graph level, threads, device and, for the processor, our own operators. Nothing is
/// logged.
fn configure(
    loaded: &Loaded,
    runtime: &str,
    options: &Options,
    purpose: Purpose,
) -> Result<SessionBuilder, ExecError> {
    let level = match options.optimizer {
        Optimizer::Off => GraphOptimizationLevel::Disable,
        Optimizer::All => GraphOptimizationLevel::All,
    };
    let mut builder = SessionBuilder::new(&loaded.environment)
        .map_err(|error| rejected(runtime, error.message()))?
        .with_optimization_level(level)
        .map_err(|error| rejected(runtime, error.message()))?
        .with_log_level(LogLevel::Error)
        .map_err(|error| rejected(runtime, error.message()))?
        .with_intra_op_spinning(!options.sleeps)
        .map_err(|error| rejected(runtime, error.message()))?;
    if let Some(threads) = threads(options.threads) {
        builder = builder
            .with_intra_threads(threads.get())
            .map_err(|error| rejected(runtime, error.message()))?;
    }
    if let Some(prefix) = &options.profile {
        builder =
            builder.with_profiling(prefix).map_err(|error| rejected(runtime, error.message()))?;
    }
    // Without `error_on_failure`, the processor silently replaces a provider that cannot start.
    let tf32 = options.optimizer == Optimizer::All;
    let cuda = || {
        let provider = ep::CUDA::default().with_tf32(tf32);
        provider.with_cuda_graph(purpose == Purpose::Recording).build().error_on_failure()
    };
    let providers = match options.device {
        Device::Cpu => {
            let domain = operators::domain().map_err(|error| rejected(runtime, error.message()))?;
            let builder = builder.with_operators(domain);
            return builder.map_err(|error| rejected(runtime, error.message()));
        }
        Device::Cuda => vec![cuda()],
        Device::TensorRt => vec![ep::TensorRT::default().build().error_on_failure(), cuda()],
        Device::MiGraphX => vec![ep::MIGraphX::default().build().error_on_failure()],
    };
    builder.with_execution_providers(providers).map_err(|error| ExecError::DeviceUnavailable {
        runtime: runtime.to_owned(),
        device: options.device,
        detail: error.message().to_owned(),
    })
}

/// Number of threads a session gets when `asked` is requested; `None` means that the runtime starts one per core.
#[must_use]
pub fn threads(asked: Option<NonZeroUsize>) -> Option<NonZeroUsize> {
    asked.or(*ALLOWED_BELOW_CORES)
}

/// The number of allowed threads where an affinity or a container's quota allows fewer than there are cores. The
/// runtime would start one per core, and these threads would wait for each other in loops. The number is looked up
/// once, because the lookup reads files of the system.
static ALLOWED_BELOW_CORES: LazyLock<Option<NonZeroUsize>> = LazyLock::new(|| {
    let allowed = std::thread::available_parallelism().ok()?;
    (allowed.get() < num_cpus::get_physical()).then_some(allowed)
});

/// Whether a session was opened in this process.
static HAS_OPENED: Mutex<bool> = Mutex::new(false);

fn rejected(runtime: &str, detail: &str) -> ExecError {
    ExecError::ModelRejected { runtime: runtime.to_owned(), detail: detail.to_owned() }
}

/// Classifies the runtime's message when a session cannot be made.
fn not_loaded(runtime: &str, device: Device, detail: &str) -> ExecError {
    if let Some(op) = unsupported_operator(detail) {
        let (runtime, detail) = (runtime.to_owned(), detail.to_owned());
        return ExecError::OperatorUnsupported { runtime, op, detail };
    }
    let of_provider = ["CUDA failure", "CUDNN failure", "TensorRT EP", "MIGraphX", "cudaSetDevice"];
    if device != Device::Cpu && of_provider.iter().any(|text| detail.contains(text)) {
        let (runtime, detail) = (runtime.to_owned(), detail.to_owned());
        return ExecError::DeviceUnavailable { runtime, device, detail };
    }
    rejected(runtime, detail)
}

/// The operator that a refusal names; the runtime has three wordings for it.
fn unsupported_operator(detail: &str) -> Option<String> {
    let word = |text: &str| {
        let end = text.find([' ', '(', ',']).unwrap_or(text.len());
        let word = text[..end].trim_end_matches(':');
        (!word.is_empty()).then(|| word.to_owned())
    };
    if let Some((before, _)) = detail.split_once("is not a registered function/op") {
        return word(before.trim_end().rsplit(' ').next()?);
    }
    for start in ["Could not find an implementation for ", "No Op registered for "] {
        if let Some((_, after)) = detail.split_once(start) {
            return word(after);
        }
    }
    None
}
