//! Loads the library to see what it offers, in a worker process where there is one.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::ptr;

use serde::{Deserialize, Serialize};

use super::load;
use crate::error::ExecError;
use crate::executor::Options;
use crate::quiet;
use crate::worker::{self, wire};

/// A library that was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedLibrary {
    /// Its file, links resolved.
    #[serde(with = "wire::path")]
    pub path: PathBuf,
    /// The version that it tells, such as `1.27.0`.
    pub version: String,
    /// The execution providers that it was built with, such as `CUDAExecutionProvider`. The libraries that a provider
    /// needs may still be missing.
    pub providers: Vec<String>,
    /// Libraries that came first and could not be loaded, each with the reason.
    pub passed_over: Vec<(String, String)>,
}

/// Loads the library as [`crate::open()`] does with these options, and tells what it offers. With a worker in the options
/// a library that crashes ends that process only.
///
/// # Errors
/// X0001 to X0005 for the library, X0404 to X0407 for the worker.
pub(crate) fn probe(options: &Options) -> Result<ProbedLibrary, ExecError> {
    match &options.worker {
        Some(worker) => worker::probe(options, worker),
        None => probe_here(options.library.as_deref()),
    }
}

/// Loads the library in this process, and tells what it offers.
///
/// # Errors
/// X0001 to X0005.
pub(crate) fn probe_here(library: Option<&Path>) -> Result<ProbedLibrary, ExecError> {
    let loaded = load(library)?;
    let passed_over = loaded.passed_over.iter();
    Ok(ProbedLibrary {
        providers: quiet::catch(providers)
            .map_err(|detail| ExecError::RuntimeStart { path: loaded.path.clone(), detail })?,
        passed_over: passed_over
            .map(|(path, reason)| (path.display().to_string(), reason.clone()))
            .collect(),
        path: loaded.path,
        version: loaded.version,
    })
}

/// The execution providers of the loaded library, in its own order; none if it does not tell.
fn providers() -> Vec<String> {
    let api = ort::api();
    let (mut names, mut count) = (ptr::null_mut(), 0);
    #[expect(unsafe_code, reason = "`ort` asks for one provider at a time")]
    // SAFETY: the library is loaded. It fills both places, or returns a status that is released here. The names are
    // `count` strings that end with 0, and stay until they are released.
    unsafe {
        let status = (api.GetAvailableProviders)(&raw mut names, &raw mut count);
        if !status.0.is_null() {
            (api.ReleaseStatus)(status.0);
            return Vec::new();
        }
        let found = (0..usize::try_from(count).unwrap_or(0))
            .map(|at| CStr::from_ptr(*names.add(at)).to_string_lossy().into_owned())
            .collect();
        let status = (api.ReleaseAvailableProviders)(names, count);
        if !status.0.is_null() {
            (api.ReleaseStatus)(status.0);
        }
        found
    }
}
