//! Finds and loads the ONNX Runtime shared library.

mod places;
mod probe;
mod python;
mod scene;
mod version;

use std::env;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::error::ExecError;
use crate::quiet;

pub use places::{FoundLibrary, LibraryPlace, LibrarySearch};
pub use probe::ProbedLibrary;
pub(crate) use probe::{probe, probe_here};
pub use scene::prefer_library_folder;
pub(crate) use scene::{Scene, preferred_folder};

/// The runtime reads this before it starts its telemetry.
pub(crate) const TELEMETRY_VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// The oldest library that works with the compiled-in calls (`api-24`).
pub const OLDEST: &str = "1.24";

/// A loaded library and its environment; both stay until the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    path: PathBuf,
    pub(crate) environment: Environment,
    /// For example `1.31.1`.
    pub(crate) version: String,
    /// The libraries that could not be loaded, each with the reason.
    passed_over: Vec<(PathBuf, String)>,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Switches the telemetry of ONNX Runtime off for this process, through its environment variable. It does nothing if
/// the variable is already set.
///
/// The runtime reads the variable before anything else can reach it. Loading the library also switches telemetry off in
/// the environment that it makes, whether or not this function was called.
///
/// # Safety
/// No other thread may read or write the environment at the same time, neither in Rust nor in C. Call it first in `main`,
/// before any thread starts. A program that cannot do so starts with `ORT_DISABLE_TELEMETRY=1` instead.
#[expect(unsafe_code, reason = "setting a variable of the environment is unsafe once threads run")]
pub unsafe fn disable_telemetry() {
    if env::var_os(TELEMETRY_VARIABLE).is_some_and(|value| value == "1") {
        return;
    }
    // SAFETY: the caller promises that no other thread uses the environment.
    unsafe {
        env::set_var(TELEMETRY_VARIABLE, "1");
    }
}

/// The ONNX Runtime library that this process would load.
///
/// If the user names a place, with `explicit` or with the variable `ORT_DYLIB_PATH`, the library must be there, and no
/// other place is tried. Otherwise these places follow, the most trusted first:
///
/// 1. `target/ort` of the repository, if this program lies in the repository that it was built in.
/// 2. The folder of [`prefer_library_folder`].
/// 3. The Python prefix that contains this program.
/// 4. All others: `VIRTUAL_ENV`, `CONDA_PREFIX`, the prefixes of `python3` and `python` on `PATH`, the Python packages of
///    the user, the library paths of the system. Among these the newest library is taken, by the names of files.
///
/// The environment that the user installed this program into comes before a newer library elsewhere: its packages were
/// chosen to fit together, and what happens in other environments must not change what this program does. A library
/// older than [`OLDEST`] is passed over. Prefixes are found by path. Only if nothing was found, and `python3` lies
/// in no prefix (a shim of pyenv for example), it is asked once where its packages are.
///
/// # Errors
/// X0001 when there is no library, X0002 when the named place does not contain it, X0003 when all are too old.
pub fn find_library(explicit: Option<&Path>) -> Result<PathBuf, ExecError> {
    let found = Scene::of_this_process().choices(explicit)?;
    found
        .into_iter()
        .next()
        .map(|it| it.path)
        .ok_or(ExecError::LibraryNotFound { searched: Vec::new() })
}

/// Everything that [`find_library`] finds where no place is named, also what it passes over.
#[must_use]
pub fn search_libraries() -> LibrarySearch {
    Scene::of_this_process().search()
}

/// The library that the user names, with `explicit` or with the variable `ORT_DYLIB_PATH`; `None` without both.
///
/// # Errors
/// X0002 when the named place does not contain it.
pub fn named_library(explicit: Option<&Path>) -> Result<Option<FoundLibrary>, ExecError> {
    Scene::of_this_process().named(explicit).transpose()
}

/// Whether the user names the library: with a path, or with the variable `ORT_DYLIB_PATH`.
pub(crate) fn is_named(explicit: Option<&Path>) -> bool {
    explicit.is_some() || Scene::of_this_process().variable.is_some()
}

/// Loads the library once per process: the first that can be loaded of those that [`find_library`] finds.
///
/// Without an `explicit` path, a library that is already loaded is used.
///
/// # Errors
/// X0001–X0005.
pub(crate) fn load(explicit: Option<&Path>) -> Result<Loaded, ExecError> {
    let mut slot = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let (Some(loaded), None) = (&*slot, explicit) {
        return Ok(loaded.clone());
    }
    let mut passed_over = Vec::new();
    let mut first = None;
    for found in Scene::of_this_process().choices(explicit)? {
        let path = found.path.canonicalize().unwrap_or(found.path);
        if let Some(loaded) = &*slot {
            return if loaded.path == path {
                Ok(loaded.clone())
            } else {
                Err(ExecError::LibraryAlreadyLoaded { loaded: loaded.path.clone(), asked: path })
            };
        }
        let error = match quiet::catch(|| start(&path)) {
            Ok(Ok(loaded)) => return Ok(slot.insert(Loaded { passed_over, ..loaded }).clone()),
            Ok(Err(error)) => error,
            Err(detail) => ExecError::RuntimeStart { path: path.clone(), detail },
        };
        // A library that starts badly stays in the process.
        if matches!(error, ExecError::RuntimeStart { .. }) {
            return Err(error);
        }
        passed_over.push((path, error.to_string()));
        first.get_or_insert(error);
    }
    Err(first.unwrap_or(ExecError::LibraryNotFound { searched: Vec::new() }))
}

fn start(path: &Path) -> Result<Loaded, ExecError> {
    let builder = ort::init_from(path).map_err(|error| load_error(path, error))?;
    // Errors come back as values. The additional log lines of the runtime are dropped, not printed.
    let environment = builder
        .with_name("updp-compile")
        .with_telemetry(false)
        .with_logger(Arc::new(|_: LogLevel, _: &str, _: &str, _: &str, _: &str| {}))
        .build()
        .map_err(|error| ExecError::RuntimeStart {
            path: path.to_path_buf(),
            detail: error.to_string(),
        })?;
    environment.set_log_level(LogLevel::Error);
    let version = version(path).unwrap_or_else(|| format!("{OLDEST} or newer"));
    Ok(Loaded { path: path.to_path_buf(), environment, version, passed_over: Vec::new() })
}

fn load_error(path: &Path, error: ort::LoadDynamicError) -> ExecError {
    let path = path.to_path_buf();
    let detail = match error {
        ort::LoadDynamicError::BadVersion { version_str, .. } => {
            let needed = OLDEST.to_owned();
            return ExecError::LibraryTooOld { path, found: version_str, needed };
        }
        ort::LoadDynamicError::Dlopen { error, .. } => error.to_string(),
        ort::LoadDynamicError::MissingApi { .. } => "it does not export OrtGetApiBase".to_owned(),
        other @ ort::LoadDynamicError::InvalidVersionString => other.to_string(),
    };
    ExecError::LibraryUnusable { path, detail }
}

/// The version that the library at `path` reports; the `ort` crate does not expose it.
fn version(path: &Path) -> Option<String> {
    #[expect(unsafe_code, reason = "the version is only to be had through the C interface")]
    // SAFETY: `ort` has just loaded and checked this library. So no initializer runs again, and the
    // symbol has the type of the C header. The string lives as long as the library, which `ort`
    // never unloads.
    unsafe {
        let library = libloading::Library::new(path).ok()?;
        let base = library
            .get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(c"OrtGetApiBase")
            .ok()?;
        let text = ((*base()).GetVersionString)();
        CStr::from_ptr(text).to_str().ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_version_is_too_old() {
        let path = Path::new("/opt/libonnxruntime.so");
        let version_str = "1.23.2".to_owned();
        let found = ort::LoadDynamicError::BadVersion { version_str, path: path.to_path_buf() };
        let error = load_error(path, found);
        let text = "/opt/libonnxruntime.so is ONNX Runtime 1.23.2, at least 1.24 is needed";
        assert_eq!((error.code(), error.to_string().as_str()), ("X0003", text));
        let missing = ort::LoadDynamicError::MissingApi { path: path.to_path_buf() };
        assert_eq!(load_error(path, missing).code(), "X0002");
    }
}
