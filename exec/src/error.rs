//! Errors of the runtimes, with stable `X` codes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use updp_ir::DataType;

use crate::device::Device;
use crate::operators;
use crate::worker::{self, wire};

/// A runtime that is not available, or a model that the runtime cannot load or run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum ExecError {
    #[error("no ONNX Runtime library found; looked at {}", list_paths(.searched))]
    LibraryNotFound {
        #[serde(with = "wire::paths")]
        searched: Vec<PathBuf>,
    },
    #[error("{} is not a usable ONNX Runtime library: {detail}", .path.display())]
    LibraryUnusable {
        #[serde(with = "wire::path")]
        path: PathBuf,
        detail: String,
    },
    #[error("{} is ONNX Runtime {found}, at least {needed} is needed", .path.display())]
    LibraryTooOld {
        #[serde(with = "wire::path")]
        path: PathBuf,
        found: String,
        needed: String,
    },
    #[error(
        "ONNX Runtime is already loaded from {}, {} cannot be loaded as well",
        .loaded.display(),
        .asked.display()
    )]
    LibraryAlreadyLoaded {
        #[serde(with = "wire::path")]
        loaded: PathBuf,
        #[serde(with = "wire::path")]
        asked: PathBuf,
    },
    #[error("ONNX Runtime from {} does not start: {detail}", .path.display())]
    RuntimeStart {
        #[serde(with = "wire::path")]
        path: PathBuf,
        detail: String,
    },

    #[error("{runtime} does not load the model: {detail}")]
    ModelRejected { runtime: String, detail: String },
    #[error("{runtime} has no operator {op}: {detail}")]
    OperatorUnsupported { runtime: String, op: String, detail: String },
    #[error("{} cannot be read: {detail}", .path.display())]
    ModelFile {
        #[serde(with = "wire::path")]
        path: PathBuf,
        detail: String,
    },
    #[error("no runtime loads the model; ONNX Runtime: {ort}; tract: {tract}")]
    NoRuntimeLoads { ort: Box<ExecError>, tract: Box<ExecError> },

    #[error("the device {device} cannot be used by {runtime}: {detail}")]
    DeviceUnavailable { runtime: String, device: Device, detail: String },

    #[error("input {name:?} of the model was not given")]
    InputMissing { name: String },
    #[error("the model has no input {name:?}, only {known:?}")]
    InputUnknown { name: String, known: Vec<String> },
    #[error("input {name:?} is declared {expected}, given {found}")]
    InputMismatch { name: String, expected: String, found: String },
    #[error("{runtime} takes no tensors of dtype {dtype} (value {name:?})")]
    DtypeUnsupported {
        runtime: String,
        name: String,
        #[serde(with = "wire::dtype")]
        dtype: DataType,
    },
    #[error("value {name:?} is of type {kind}, only tensors are supported")]
    NotATensor { name: String, kind: String },
    #[error("string {index} of {name:?} is not text: {detail}")]
    BadString { name: String, index: usize, detail: String },
    #[error("the model has no output {name:?}, only {known:?}")]
    OutputUnknown { name: String, known: Vec<String> },
    #[error("the state {input:?} is {expected}, and its next value {output:?} is declared {found}")]
    StateMismatch { input: String, output: String, expected: String, found: String },
    #[error("{name:?} is named twice")]
    NamedTwice { name: String },

    #[error("{runtime} fails to run the model: {detail}")]
    RunFailed { runtime: String, detail: String },
    #[error("{runtime} panicked: {detail}")]
    Panicked { runtime: String, detail: String },
    #[error("an operator of a training step does not fit its operands: {detail}")]
    OperatorUnfit { runtime: String, detail: String },

    #[error("the process that {did} {model} died: {how}")]
    WorkerDied { did: String, model: String, how: String },
    #[error("{model} was not {did} within {seconds} s")]
    WorkerTime { did: String, model: String, seconds: u64 },
    #[error("{model} needs more than the {mib} MiB of memory that it may use")]
    WorkerMemory { model: String, mib: u64 },
    #[error("{} cannot be started to run models: {detail}", .program.display())]
    WorkerStart {
        #[serde(with = "wire::path")]
        program: PathBuf,
        detail: String,
    },
    #[error("the process that runs models does not answer: {detail}")]
    WorkerBroken { detail: String },

    #[error("no samples can be drawn for input {name:?}: dtype {dtype}")]
    SampleDtype {
        name: String,
        #[serde(with = "wire::dtype")]
        dtype: DataType,
    },
    #[error("no samples can be drawn for input {name:?}: dims {dims:?} are too large")]
    SampleSize { name: String, dims: Vec<usize> },
}

fn list_paths(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
}

/// The command that installs the CPU runtime.
pub const INSTALL: &str = "pip install 'onnxruntime>=1.24'";

/// The command that installs the runtime for GPUs of NVIDIA.
pub const INSTALL_CUDA: &str = "pip install 'onnxruntime-gpu[cuda,cudnn]>=1.24'";

/// The command that looks at everything.
const DOCTOR: &str = "updp-compile doctor shows what was found";

impl ExecError {
    /// Every code of this crate; docs/errors.md explains causes and remedies.
    pub const CODES: &[&str] = &[
        "X0001", "X0002", "X0003", "X0004", "X0005", "X0101", "X0102", "X0103", "X0104", "X0201",
        "X0301", "X0302", "X0303", "X0304", "X0305", "X0306", "X0307", "X0308", "X0309", "X0401",
        "X0402", "X0403", "X0404", "X0405", "X0406", "X0407", "X0408", "X0501", "X0502",
    ];

    /// The stable code shown to users.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::LibraryNotFound { .. } => "X0001",
            Self::LibraryUnusable { .. } => "X0002",
            Self::LibraryTooOld { .. } => "X0003",
            Self::LibraryAlreadyLoaded { .. } => "X0004",
            Self::RuntimeStart { .. } => "X0005",
            Self::ModelRejected { .. } => "X0101",
            Self::OperatorUnsupported { .. } => "X0102",
            Self::ModelFile { .. } => "X0103",
            Self::NoRuntimeLoads { .. } => "X0104",
            Self::DeviceUnavailable { .. } => "X0201",
            Self::InputMissing { .. } => "X0301",
            Self::InputUnknown { .. } => "X0302",
            Self::InputMismatch { .. } => "X0303",
            Self::DtypeUnsupported { .. } => "X0304",
            Self::NotATensor { .. } => "X0305",
            Self::BadString { .. } => "X0306",
            Self::OutputUnknown { .. } => "X0307",
            Self::StateMismatch { .. } => "X0308",
            Self::NamedTwice { .. } => "X0309",
            Self::RunFailed { .. } => "X0401",
            Self::Panicked { .. } => "X0402",
            Self::OperatorUnfit { .. } => "X0403",
            Self::WorkerDied { .. } => "X0404",
            Self::WorkerTime { .. } => "X0405",
            Self::WorkerMemory { .. } => "X0406",
            Self::WorkerStart { .. } => "X0407",
            Self::WorkerBroken { .. } => "X0408",
            Self::SampleDtype { .. } => "X0501",
            Self::SampleSize { .. } => "X0502",
        }
    }

    /// Whether this machine lacks the runtime or the device, regardless of the model: X0001 to X0005 and X0201.
    #[must_use]
    pub fn is_runtime_missing(&self) -> bool {
        matches!(
            self,
            Self::LibraryNotFound { .. }
                | Self::LibraryUnusable { .. }
                | Self::LibraryTooOld { .. }
                | Self::LibraryAlreadyLoaded { .. }
                | Self::RuntimeStart { .. }
                | Self::DeviceUnavailable { .. }
        )
    }

    /// Whether every runtime that was tried failed to load the model: X0101 to X0104.
    #[must_use]
    pub fn is_model_refused(&self) -> bool {
        matches!(
            self,
            Self::ModelRejected { .. }
                | Self::OperatorUnsupported { .. }
                | Self::ModelFile { .. }
                | Self::NoRuntimeLoads { .. }
        )
    }

    /// Whether the caller's inputs do not fit the inputs that the model declares: X0301 to X0303.
    #[must_use]
    pub fn is_input_unfit(&self) -> bool {
        matches!(
            self,
            Self::InputMissing { .. } | Self::InputUnknown { .. } | Self::InputMismatch { .. }
        )
    }

    /// The error of a run that failed in ONNX Runtime. The text shows whether an operator of this crate panicked or
    /// refused.
    pub(crate) fn of_run(runtime: &str, detail: &str) -> Self {
        let (runtime, detail) = (runtime.to_owned(), detail.to_owned());
        if detail.contains(operators::PANICKED) {
            Self::Panicked { runtime, detail }
        } else if detail.contains(operators::REFUSED) {
            Self::OperatorUnfit { runtime, detail }
        } else {
            Self::RunFailed { runtime, detail }
        }
    }

    /// This error, or [`Self::WorkerMemory`] if a runtime says that it got no memory under a limit of so many bytes.
    pub(crate) fn or_memory(self, limit: u64, model: &str) -> Self {
        let (Self::RunFailed { detail, .. }
        | Self::ModelRejected { detail, .. }
        | Self::Panicked { detail, .. }) = &self
        else {
            return self;
        };
        if limit > 0 && worker::says_no_memory(detail) {
            return Self::WorkerMemory { model: model.to_owned(), mib: limit >> 20 };
        }
        self
    }

    /// Advice for the user, in lower case and without a full stop; `None` when the error text is enough.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::LibraryNotFound { .. } | Self::LibraryTooOld { .. } => {
                format!("install it: {INSTALL}; {DOCTOR}")
            }
            Self::LibraryUnusable { .. } | Self::RuntimeStart { .. } => format!(
                "give the path of libonnxruntime with --ort-lib or ORT_DYLIB_PATH, or install it: \
                 {INSTALL}; {DOCTOR}"
            ),
            Self::LibraryAlreadyLoaded { .. } => "one process can load one library".to_owned(),
            Self::OperatorUnsupported { runtime, .. }
            | Self::ModelRejected { runtime, .. }
            | Self::DtypeUnsupported { runtime, .. }
            | Self::RunFailed { runtime, .. }
            | Self::Panicked { runtime, .. }
                if runtime.starts_with("tract") =>
            {
                format!("ONNX Runtime runs more models: {INSTALL}")
            }
            Self::NoRuntimeLoads { .. } => {
                "--no-verify compiles without running the model".to_owned()
            }
            Self::DeviceUnavailable { device, .. } => match device {
                Device::Cpu => return None,
                Device::Cuda => format!("install it: {INSTALL_CUDA}; {DOCTOR}"),
                Device::TensorRt => format!("install it: {INSTALL_CUDA} tensorrt; {DOCTOR}"),
                Device::MiGraphX => {
                    format!("install it: pip install 'onnxruntime-migraphx>=1.24'; {DOCTOR}")
                }
            },
            Self::InputMismatch { .. } | Self::SampleSize { .. } => {
                "give the sizes with --input-shape".to_owned()
            }
            Self::SampleDtype { .. } => "give the inputs with --input-data".to_owned(),
            Self::WorkerDied { .. } => {
                "this is a fault of the runtime; another version (--ort-lib) or runtime (--runtime) may run the model"
                    .to_owned()
            }
            Self::WorkerTime { .. } => "give more time with --run-timeout".to_owned(),
            Self::WorkerMemory { .. } => {
                "give more with --run-memory, or use smaller sizes or a smaller --batch".to_owned()
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_about_errors_tell_runtime_model_and_inputs_apart() {
        let text = String::new;
        let answers = |error: &ExecError| {
            [error.is_runtime_missing(), error.is_model_refused(), error.is_input_unfit()]
        };
        let device = Device::Cuda;
        let rejected = ExecError::ModelRejected { runtime: text(), detail: text() };
        let cases = [
            (ExecError::LibraryNotFound { searched: Vec::new() }, [true, false, false]),
            (
                ExecError::DeviceUnavailable { runtime: text(), device, detail: text() },
                [true, false, false],
            ),
            (
                ExecError::NoRuntimeLoads {
                    ort: Box::new(rejected.clone()),
                    tract: Box::new(rejected.clone()),
                },
                [false, true, false],
            ),
            (rejected, [false, true, false]),
            (ExecError::InputMissing { name: text() }, [false, false, true]),
            (
                ExecError::DtypeUnsupported {
                    runtime: text(),
                    name: text(),
                    dtype: DataType::String,
                },
                [false; 3],
            ),
            (ExecError::RunFailed { runtime: text(), detail: text() }, [false; 3]),
        ];
        for (error, expected) in cases {
            assert_eq!(answers(&error), expected, "{}", error.code());
        }
    }
}
