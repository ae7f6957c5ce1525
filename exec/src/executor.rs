//! The contract of a runtime: a loaded model, where it comes from, how it is run, and which inputs it takes.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use indexmap::IndexMap;
use updp_ir::{DataType, Tensor};

use crate::device::{Device, Optimizer};
use crate::error::ExecError;

/// A loaded model that can be run.
pub trait Executor: Send {
    /// The runtime and its version, for example `ONNX Runtime 1.31.1 (cpu)`.
    fn name(&self) -> String;

    /// Names of the inputs a run must give, in graph order.
    fn input_names(&self) -> Vec<String>;

    /// Names of the outputs, in graph order.
    fn output_names(&self) -> Vec<String>;

    /// Runs the model once; the outputs come in graph order.
    ///
    /// # Errors
    /// X0301–X0306 for inputs or outputs that do not fit, X0401 when the runtime fails, X0402 when
    /// it panics; tract plans at the first run of a shape, so X0101 and X0104 as well.
    fn run(
        &mut self,
        inputs: &IndexMap<String, Tensor>,
    ) -> Result<IndexMap<String, Tensor>, ExecError>;

    /// Why [`Runtime::Auto`](crate::Runtime::Auto) did not take ONNX Runtime; `None` when it did or was not asked.
    fn fallback_reason(&self) -> Option<&ExecError> {
        None
    }
}

/// Where a model comes from.
#[derive(Clone, Copy, Debug)]
pub enum ModelSource<'a> {
    /// A whole model in memory, without external data.
    Bytes(&'a Bytes),
    /// A file; needed when weights lie in files beside it.
    Path(&'a Path),
}

/// How a model is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Graph rewriting by the runtime.
    pub optimizer: Optimizer,
    /// Threads inside an operator; `None` leaves it to the runtime, which takes one a core, or where fewer may be used takes
    /// so many. tract always uses one.
    pub threads: Option<NonZeroUsize>,
    /// What computes; tract knows the processor only.
    pub device: Device,
    /// The ONNX Runtime library; `None` searches as [`crate::find_library`] says.
    pub library: Option<PathBuf>,
    /// Where ONNX Runtime writes how long each node took when the session ends, as the start of a file name; `None`: nowhere.
    pub profile: Option<PathBuf>,
}

/// The declaration of one input in the model; `None` is unknown and fits every tensor.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) dtype: Option<DataType>,
    pub(crate) dims: Option<Vec<Option<usize>>>,
}

impl Declared {
    /// Refuses a tensor of another dtype or other dims.
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

/// Refuses a set of inputs that differs from the declared ones. Inputs of `optional` may be given as well.
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
