//! The native half of the Python module `updp_compile`: it runs commands and passes their events to a Python function.
//!
//! The Python half turns keyword arguments into options and documents into dataclasses.

mod events;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use pyo3::prelude::*;
use updp_compile::Error;

use crate::events::Events;

/// Why a command fails: code, message, cure and exit code of the command line.
type Failure = (String, String, Option<String>, u8);

/// The JSON document of a command, and why it fails.
type Outcome = (Option<String>, Option<Failure>);

/// See `_native.pyi` for the functions as Python sees them.
#[pymodule]
mod _native {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::{prefer_library_folder, run, use_worker};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        updp_compile::terminal::be_quiet();
        module.add("VERSION", env!("CARGO_PKG_VERSION"))
    }
}

/// Runs one command. The interpreter is free meanwhile. `listener` is called with each event; what it raises ends the work
/// and is raised here.
#[pyfunction]
fn run(py: Python<'_>, arguments: Vec<OsString>, listener: Py<PyAny>) -> PyResult<Outcome> {
    let mut events = Events::new(listener);
    let result = py.detach(|| {
        let run = AssertUnwindSafe(|| updp_compile::run_command(arguments, &mut events));
        std::panic::catch_unwind(run)
    });
    events.check(py)?;
    Ok(match result {
        Err(panic) => (None, Some(bug(&*panic))),
        Ok(Err(error)) => (None, Some(failure(&error))),
        Ok(Ok(outcome)) => {
            let document = outcome.document.map(|document| document.to_string());
            (document, outcome.failure.as_ref().map(failure))
        }
    })
}

/// Lets commands run models in processes of this program, the command line of the same version.
#[pyfunction]
fn use_worker(program: PathBuf) {
    updp_compile::cli::use_workers(program);
}

/// Names the folder of ONNX Runtime that belongs to this interpreter.
#[pyfunction]
fn prefer_library_folder(folder: PathBuf) {
    updp_exec::prefer_library_folder(folder);
}

fn failure(error: &Error) -> Failure {
    (error.code().to_owned(), error.to_string(), error.help(), error.exit_code())
}

/// The failure that a panic is.
fn bug(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message");
    let cure = "please report it with the model".to_owned();
    ("C0000".to_owned(), format!("internal error: {text}"), Some(cure), 1)
}
