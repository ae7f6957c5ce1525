//! Finds and loads the ONNX Runtime shared library.

use std::env;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::error::ExecError;
use crate::quiet;

/// The runtime reads this before it starts its telemetry.
pub(crate) const TELEMETRY_VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// The oldest library that works with the compiled-in calls (`api-24`).
const OLDEST: &str = "1.24";

/// A loaded library and its environment; both stay until the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    path: PathBuf,
    pub(crate) environment: Environment,
    /// For example `1.31.1`.
    pub(crate) version: String,
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

/// The places that a search looks at; tests can set them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    /// `ORT_DYLIB_PATH`.
    pub(crate) variable: Option<PathBuf>,
    /// This program's file.
    pub(crate) executable: Option<PathBuf>,
    /// The repository that this program was built in.
    pub(crate) repository: Option<PathBuf>,
    /// `VIRTUAL_ENV`.
    pub(crate) virtual_env: Option<PathBuf>,
    /// Folders of the system's library path.
    pub(crate) system: Vec<PathBuf>,
}

impl Scene {
    fn of_this_process() -> Self {
        let filled = |name| env::var_os(name).filter(|value| !value.is_empty());
        let variable = if cfg!(windows) {
            "PATH"
        } else if cfg!(target_os = "macos") {
            "DYLD_LIBRARY_PATH"
        } else {
            "LD_LIBRARY_PATH"
        };
        let mut system: Vec<PathBuf> =
            filled(variable).map(|value| env::split_paths(&value).collect()).unwrap_or_default();
        if cfg!(unix) {
            let triple = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
            let fixed = ["/usr/local/lib", "/opt/homebrew/lib", &triple, "/usr/lib64", "/usr/lib"];
            system.extend(fixed.iter().map(PathBuf::from));
        }
        Self {
            variable: filled("ORT_DYLIB_PATH").map(PathBuf::from),
            executable: env::current_exe().ok(),
            repository: Path::new(env!("CARGO_MANIFEST_DIR"))
                .parent()
                .and_then(|repository| repository.canonicalize().ok()),
            virtual_env: filled("VIRTUAL_ENV").map(PathBuf::from),
            system,
        }
    }

    /// Finds the library, in the order of [`find_library`].
    pub(crate) fn find(&self, explicit: Option<&Path>) -> Result<PathBuf, ExecError> {
        if let Some(named) = explicit.or(self.variable.as_deref()) {
            return named_library(named);
        }
        let folders = self.folders();
        folders
            .iter()
            .find_map(|folder| library_in(folder))
            .ok_or(ExecError::LibraryNotFound { searched: folders })
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        let executable = self.executable.as_deref();
        // Only a program that still lies where it was built: elsewhere anyone may have made a folder of this name.
        if let (Some(repository), Some(executable)) = (self.repository.as_deref(), executable)
            && executable.starts_with(repository)
        {
            let folder = repository.join("target").join("ort");
            if folder.is_dir() {
                folders.push(folder);
            }
        }
        let own_prefix = executable.and_then(|exe| exe.parent()?.parent());
        for prefix in own_prefix.into_iter().chain(self.virtual_env.as_deref()) {
            for packages in site_packages(prefix) {
                folders.push(packages.join("onnxruntime").join("capi"));
            }
        }
        folders.extend(self.system.iter().cloned());
        folders
    }
}

/// A library that the user named: the file itself, or the folder that contains it.
fn named_library(named: &Path) -> Result<PathBuf, ExecError> {
    if named.is_dir() {
        return library_in(named).ok_or_else(|| ExecError::LibraryUnusable {
            path: named.to_path_buf(),
            detail: format!("the folder holds no {DLL_PREFIX}onnxruntime{DLL_SUFFIX}"),
        });
    }
    // The system's loader looks up a bare file name.
    if named.exists() || named.components().count() == 1 {
        return Ok(named.to_path_buf());
    }
    Err(ExecError::LibraryUnusable { path: named.to_path_buf(), detail: "no such file".to_owned() })
}

/// `lib/python3*/site-packages` (or `Lib/site-packages`) of a Python prefix.
fn site_packages(prefix: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("python3") {
            found.push(entry.path().join("site-packages"));
        }
    }
    found.push(prefix.join("Lib").join("site-packages"));
    found.retain(|folder| folder.is_dir());
    found.sort();
    found
}

/// The file with the plain name if it exists, otherwise the highest version (`libonnxruntime.so.1.31.1`).
fn library_in(folder: &Path) -> Option<PathBuf> {
    let plain = folder.join(format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}"));
    if plain.is_file() {
        return Some(plain);
    }
    let is_library = |name: &str| {
        let Some(rest) = name.strip_prefix(&format!("{DLL_PREFIX}onnxruntime.")) else {
            return false;
        };
        let suffix = DLL_SUFFIX.trim_start_matches('.');
        rest.starts_with(&format!("{suffix}.")) || rest.ends_with(DLL_SUFFIX)
    };
    let mut found: Vec<(Vec<u64>, PathBuf)> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.split('.').filter_map(|part| part.parse().ok()).collect();
            is_library(&name).then(|| (version, entry.path()))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path)
}

/// The ONNX Runtime library that this process would load.
///
/// The search order is: `explicit`; the variable `ORT_DYLIB_PATH`; `target/ort` of the repository, if this program lies
/// in the repository that it was built in; `onnxruntime/capi` of the Python prefix that contains this program or
/// `VIRTUAL_ENV`; the system's library path. If the user names a place (the first two), the library
/// must be there, and no other place is tried.
///
/// # Errors
/// X0001 when there is no library, X0002 when the named place does not contain it.
pub fn find_library(explicit: Option<&Path>) -> Result<PathBuf, ExecError> {
    Scene::of_this_process().find(explicit)
}

/// Whether the user names the library: with a path, or with the variable `ORT_DYLIB_PATH`.
pub(crate) fn is_named(explicit: Option<&Path>) -> bool {
    explicit.is_some() || Scene::of_this_process().variable.is_some()
}

/// Loads the library once per process.
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
    let asked = find_library(explicit)?;
    let path = asked.canonicalize().unwrap_or(asked);
    if let Some(loaded) = &*slot {
        return if loaded.path == path {
            Ok(loaded.clone())
        } else {
            Err(ExecError::LibraryAlreadyLoaded { loaded: loaded.path.clone(), asked: path })
        };
    }
    let loaded = match quiet::catch(|| start(&path)) {
        Ok(result) => result?,
        Err(detail) => return Err(ExecError::RuntimeStart { path, detail }),
    };
    *slot = Some(loaded.clone());
    Ok(loaded)
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
    Ok(Loaded { path: path.to_path_buf(), environment, version })
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
