//! The search for the library.

use std::cmp::Reverse;
use std::env;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::OLDEST;
use super::places::{FoundLibrary, LibraryPlace, LibrarySearch};
use super::{python, version};
use crate::error::ExecError;

/// The folder that an embedding program names.
static PREFERRED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Lets this process look into `folder` before any Python environment, unless a path or `ORT_DYLIB_PATH` names the
/// library. A Python module names `onnxruntime/capi` of the interpreter that imported it. Worker processes that start
/// afterwards look there too. A second call replaces the folder; a library that is already loaded stays.
pub fn prefer_library_folder(folder: PathBuf) {
    *PREFERRED.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder);
}

/// The folder of [`prefer_library_folder`].
pub(crate) fn preferred_folder() -> Option<PathBuf> {
    PREFERRED.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
    /// The folder of [`prefer_library_folder`].
    pub(crate) embedding: Option<PathBuf>,
    /// `VIRTUAL_ENV`.
    pub(crate) virtual_env: Option<PathBuf>,
    /// `CONDA_PREFIX`.
    pub(crate) conda: Option<PathBuf>,
    /// The folders of `PATH`.
    pub(crate) programs: Vec<PathBuf>,
    /// Where `pip install --user` installs to.
    pub(crate) user: Option<PathBuf>,
    /// Folders of the system's library path.
    pub(crate) system: Vec<PathBuf>,
    /// Whether an interpreter whose path tells nothing may be started.
    pub(crate) may_ask: bool,
}

impl Scene {
    pub(super) fn of_this_process() -> Self {
        let filled = |name| env::var_os(name).filter(|value| !value.is_empty());
        let folders = |name| -> Vec<PathBuf> {
            filled(name).map(|value| env::split_paths(&value).collect()).unwrap_or_default()
        };
        let mut system = folders(if cfg!(windows) {
            "PATH"
        } else if cfg!(target_os = "macos") {
            "DYLD_LIBRARY_PATH"
        } else {
            "LD_LIBRARY_PATH"
        });
        if cfg!(unix) {
            let triple = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
            let fixed = ["/usr/local/lib", "/opt/homebrew/lib", &triple, "/usr/lib64", "/usr/lib"];
            system.extend(fixed.iter().map(PathBuf::from));
        }
        let home = filled("HOME").map(|home| PathBuf::from(home).join(".local"));
        Self {
            variable: filled("ORT_DYLIB_PATH").map(PathBuf::from),
            executable: env::current_exe().ok(),
            repository: Path::new(env!("CARGO_MANIFEST_DIR"))
                .parent()
                .and_then(|repository| repository.canonicalize().ok()),
            embedding: preferred_folder(),
            virtual_env: filled("VIRTUAL_ENV").map(PathBuf::from),
            conda: filled("CONDA_PREFIX").map(PathBuf::from),
            programs: folders("PATH"),
            user: filled("PYTHONUSERBASE").map(PathBuf::from).or(home),
            system,
            may_ask: true,
        }
    }

    /// The library that the user names; `None` if no place is named.
    pub(super) fn named(&self, explicit: Option<&Path>) -> Option<Result<FoundLibrary, ExecError>> {
        let given = explicit.map(|path| (path, LibraryPlace::Named));
        let variable = self.variable.as_deref().map(|path| (path, LibraryPlace::Variable));
        let (path, place) = given.or(variable)?;
        Some(named_library(path).map(|path| FoundLibrary {
            version: version::of_library(&path),
            path,
            place,
        }))
    }

    /// Finds the library, in the order of [`super::find_library`].
    #[cfg(test)]
    pub(crate) fn find(&self, explicit: Option<&Path>) -> Result<PathBuf, ExecError> {
        self.choices(explicit).map(|mut found| found.swap_remove(0).path)
    }

    /// The libraries to try, in this order; at least one.
    ///
    /// # Errors
    /// X0001 to X0003.
    pub(super) fn choices(&self, explicit: Option<&Path>) -> Result<Vec<FoundLibrary>, ExecError> {
        if let Some(named) = self.named(explicit) {
            return Ok(vec![named?]);
        }
        let found = self.search();
        if !found.usable.is_empty() {
            return Ok(found.usable);
        }
        Err(match found.too_old.into_iter().next() {
            Some(FoundLibrary { path, version, .. }) => ExecError::LibraryTooOld {
                path,
                found: version.unwrap_or_default(),
                needed: OLDEST.to_owned(),
            },
            None => ExecError::LibraryNotFound { searched: found.searched },
        })
    }

    /// Looks at every place that nobody had to name.
    pub(crate) fn search(&self) -> LibrarySearch {
        let mut found = LibrarySearch::default();
        for name in ["python3", "python"] {
            let program = python::on_path(&self.programs, name);
            found.pythons.extend(program.filter(|program| !found.pythons.contains(program)));
        }
        for (place, folder) in self.folders(&found.pythons) {
            found.look(place, folder);
        }
        if found.usable.is_empty()
            && self.may_ask
            && let Some(shim) = found.pythons.first().cloned()
            && !python::prefixes(&shim).iter().any(|prefix| !python::packages(prefix).is_empty())
        {
            for packages in python::ask(&shim) {
                found.look(LibraryPlace::Python, capi(&packages));
            }
        }
        for list in [&mut found.usable, &mut found.too_old] {
            list.sort_by_key(|it| {
                let numbers = it.version.as_deref().map(version::numbers);
                (it.place.rank(), Reverse(numbers))
            });
        }
        found
    }

    /// The folders that may hold a library, the most trusted first.
    fn folders(&self, pythons: &[PathBuf]) -> Vec<(LibraryPlace, PathBuf)> {
        let mut folders = Vec::new();
        let executable = self.executable.as_deref();
        // Only a program that still lies where it was built: elsewhere anyone may have made a folder of this name.
        if let (Some(repository), Some(executable)) = (self.repository.as_deref(), executable)
            && executable.starts_with(repository)
        {
            let folder = repository.join("target").join("ort");
            if folder.is_dir() {
                folders.push((LibraryPlace::Repository, folder));
            }
        }
        folders.extend(self.embedding.iter().map(|it| (LibraryPlace::Embedding, it.clone())));
        let own = executable.and_then(|exe| exe.parent()?.parent()).map(Path::to_path_buf);
        let on_path = pythons.iter().flat_map(|program| python::prefixes(program));
        let prefixes = [
            (LibraryPlace::OwnPrefix, own),
            (LibraryPlace::VirtualEnv, self.virtual_env.clone()),
            (LibraryPlace::Conda, self.conda.clone()),
        ];
        let prefixes = prefixes.into_iter().filter_map(|(place, prefix)| Some((place, prefix?)));
        let prefixes = prefixes.chain(on_path.map(|prefix| (LibraryPlace::Python, prefix)));
        let user = self.user.iter().map(|user| (LibraryPlace::User, user.clone()));
        for (place, prefix) in prefixes.chain(user) {
            folders.extend(python::packages(&prefix).iter().map(|it| (place, capi(it))));
            if place == LibraryPlace::Conda {
                // The package onnxruntime-cpp.
                folders.push((place, prefix.join("lib")));
            }
        }
        folders.extend(self.system.iter().map(|it| (LibraryPlace::System, it.clone())));
        folders
    }
}

impl LibrarySearch {
    /// Looks into a folder, unless that was done before.
    fn look(&mut self, place: LibraryPlace, folder: PathBuf) {
        if self.searched.contains(&folder) {
            return;
        }
        let path = library_in(&folder);
        self.searched.push(folder);
        let Some(path) = path else { return };
        let real = |path: &Path| path.canonicalize().ok();
        let mut known = self.usable.iter().chain(&self.too_old);
        if known.any(|known| real(&known.path) == real(&path)) {
            return;
        }
        let version = version::of_library(&path);
        let oldest = version::numbers(OLDEST);
        let is_too_old = version.as_deref().is_some_and(|it| version::numbers(it) < oldest);
        let list = if is_too_old { &mut self.too_old } else { &mut self.usable };
        list.push(FoundLibrary { path, place, version });
    }
}

/// The folder of the library in a folder of Python packages.
fn capi(packages: &Path) -> PathBuf {
    packages.join("onnxruntime").join("capi")
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
