//! The contract of a runtime: a loaded model, its source, its run options, and the inputs that it accepts.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use indexmap::IndexMap;
use updp_ir::{DataType, Tensor};

use crate::clock::Clock;
use crate::device::{Device, Optimizer};
use crate::error::ExecError;
use crate::worker::WorkerOptions;

/// A loaded model that can be run.
pub trait Executor: Send {
    /// The runtime and its version, for example `ONNX Runtime 1.31.1 (cpu)`.
    fn name(&self) -> String;

    /// Names of the inputs that a run must give, in graph order.
    fn input_names(&self) -> Vec<String>;

    /// Names of the outputs, in graph order.
    fn output_names(&self) -> Vec<String>;

    /// Runs the model once; the outputs come in graph order.
    ///
    /// # Errors
    /// X0301–X0306 for inputs or outputs that do not fit, X0401 when the runtime fails, X0402 when
    /// it panics, X0404–X0408 when its process ends. tract makes a plan at the first run of a shape, so X0101 and X0104 are possible too.
    fn run(
        &mut self,
        inputs: &IndexMap<String, Tensor>,
    ) -> Result<IndexMap<String, Tensor>, ExecError>;

    /// Runs the model this often and returns the time of each run in milliseconds. A time includes passing the inputs
    /// and copying the outputs.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn time(
        &mut self,
        inputs: &IndexMap<String, Tensor>,
        runs: usize,
        clock: Clock,
    ) -> Result<Vec<f64>, ExecError> {
        (0..runs).map(|_| clock.timed(|| self.run(inputs))).collect()
    }

    /// Whether the calling thread computes everything: the processor, with one thread. Then the processor time of this
    /// thread is the latency, also on a machine that other processes keep busy.
    fn computes_on_calling_thread(&self) -> bool {
        false
    }

    /// Why [`Runtime::Auto`](crate::Runtime::Auto) did not use ONNX Runtime; `None` when it did, or when the caller
    /// chose another setting.
    fn fallback_reason(&self) -> Option<&ExecError> {
        None
    }
}

/// The source of a model.
#[derive(Clone, Copy, Debug)]
pub enum ModelSource<'a> {
    /// A whole model in memory, without external data.
    Bytes(&'a Bytes),
    /// A file; required when weights are stored in separate files.
    Path(&'a Path),
}

/// Options for running a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Graph rewriting by the runtime.
    pub optimizer: Optimizer,
    /// Threads inside an operator. With `None` the runtime decides: it uses one per core, or fewer where the process
    /// may use only fewer. tract always uses one.
    pub threads: Option<NonZeroUsize>,
    /// The device that computes; tract supports only the processor.
    pub device: Device,
    /// The ONNX Runtime library; `None` searches as [`crate::find_library`] describes.
    pub library: Option<PathBuf>,
    /// Start of the name of the file to which ONNX Runtime writes the time of each node when the session ends; `None`
    /// writes no file.
    pub profile: Option<PathBuf>,
    /// Runs the model in a worker process; with `None` it runs in this process.
    pub worker: Option<WorkerOptions>,
    /// Threads of ONNX Runtime that have no work sleep. By default they wait in a loop for a while, which makes single
    /// runs faster and takes the cores from whatever computes between runs. It changes no result.
    pub sleeps: bool,
}

/// The declaration of one input in the model; `None` means unknown and fits every tensor.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) dtype: Option<DataType>,
    pub(crate) dims: Option<Vec<Option<usize>>>,
}

impl Declared {
    /// Refuses a tensor with a different dtype or different dims.
    ///
    /// # Errors
    /// X0303.
    pub(crate) fn check(&self, tensor: &Tensor) -> Result<(), ExecError> {
        if self.fits(tensor) {
            return Ok(());
        }
        Err(ExecError::InputMismatch {
            name: self.name.clone(),
            expected: self.to_string(),
            found: format!("{} {:?}", tensor.dtype(), tensor.dims()),
        })
    }

    pub(crate) fn fits(&self, tensor: &Tensor) -> bool {
        self.dtype.is_none_or(|dtype| dtype == tensor.dtype())
            && self.dims.as_ref().is_none_or(|dims| {
                dims.len() == tensor.dims().len()
                    && dims.iter().zip(tensor.dims()).all(|(d, n)| d.is_none_or(|d| d == *n))
            })
    }
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            Some(dtype) => write!(f, "{dtype}")?,
            None => f.write_str("?")?,
        }
        let Some(dims) = &self.dims else { return Ok(()) };
        let dims: Vec<_> =
            dims.iter().map(|d| d.map_or_else(|| "?".to_owned(), |d| d.to_string())).collect();
        write!(f, " [{}]", dims.join(", "))
    }
}

/// Refuses a set of inputs that differs from the declared ones. The inputs in `optional` may also be given.
pub(crate) fn check_inputs(
    declared: &[Declared],
    optional: &[String],
    inputs: &IndexMap<String, Tensor>,
) -> Result<(), ExecError> {
    for declared in declared {
        let Some(tensor) = inputs.get(&declared.name) else {
            return Err(ExecError::InputMissing { name: declared.name.clone() });
        };
        declared.check(tensor)?;
    }
    for name in inputs.keys() {
        if !declared.iter().any(|d| d.name == *name) && !optional.contains(name) {
            let known = declared.iter().map(|d| d.name.clone()).collect();
            return Err(ExecError::InputUnknown { name: name.clone(), known });
        }
    }
    Ok(())
}
