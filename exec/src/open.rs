//! Loads a model in the runtime that the caller chose. Only this file knows both runtimes.

use crate::device::{Device, Runtime};
use crate::error::ExecError;
use crate::executor::{Executor, ModelSource, Options};
use crate::fallback::note_fallback;
use crate::library;
use crate::ort::OrtExecutor;
use crate::tract::TractExecutor;
use crate::worker::WorkerExecutor;

/// Loads a model in the chosen runtime, in a worker process where the options say so.
///
/// [`Runtime::Auto`] never hides its choice: [`Executor::name`] names the runtime, and
/// [`Executor::fallback_reason`] says why ONNX Runtime was not used; [`crate::take_fallback`] says it once for a
/// whole program. It never falls back to tract
/// when the options or the variable `ORT_DYLIB_PATH` name a library that cannot be loaded, or when the device is not the
/// processor.
///
/// # Errors
/// X0001–X0005 for the library, X0101–X0104 for the model, X0201 for the device, X0404–X0408 for the worker.
pub fn open(
    source: ModelSource<'_>,
    runtime: Runtime,
    options: &Options,
) -> Result<Box<dyn Executor>, ExecError> {
    let executor: Box<dyn Executor> = match (&options.worker, runtime) {
        (Some(worker), _) => Box::new(WorkerExecutor::open(source, runtime, options, worker)?),
        (None, Runtime::Ort) => Box::new(OrtExecutor::open(source, options)?),
        (None, Runtime::Tract) => Box::new(TractExecutor::open(source, options)?),
        (None, Runtime::Auto) => open_auto(source, options)?,
    };
    if let Some(reason) = executor.fallback_reason() {
        note_fallback(reason);
    }
    Ok(executor)
}

fn open_auto(source: ModelSource<'_>, options: &Options) -> Result<Box<dyn Executor>, ExecError> {
    let no_library = match library::load(options.library.as_deref()) {
        Ok(_) => None,
        Err(error)
            if library::is_named(options.library.as_deref()) || options.device != Device::Cpu =>
        {
            return Err(error);
        }
        Err(error) => Some(error),
    };
    if let Some(reason) = no_library {
        return Ok(Box::new(TractExecutor::open(source, options)?.with_fallback_reason(reason)));
    }
    let ort = match OrtExecutor::open(source, options) {
        Ok(executor) => return Ok(Box::new(executor)),
        Err(error @ (ExecError::DeviceUnavailable { .. } | ExecError::ModelFile { .. })) => {
            return Err(error);
        }
        Err(error) if options.device != Device::Cpu => return Err(error),
        Err(error) => error,
    };
    match TractExecutor::open(source, options) {
        Ok(executor) => Ok(Box::new(executor.with_fallback_reason(ort))),
        Err(tract) => Err(ExecError::NoRuntimeLoads { ort: Box::new(ort), tract: Box::new(tract) }),
    }
}
