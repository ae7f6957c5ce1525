//! The places of libraries, and how much each is trusted.

use std::path::PathBuf;

use serde::Serialize;

/// Where a library of ONNX Runtime was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LibraryPlace {
    /// The caller named it.
    Named,
    /// `ORT_DYLIB_PATH` names it.
    Variable,
    /// `target/ort` of the repository that this program lies in.
    Repository,
    /// The folder that the program around this library named.
    Embedding,
    /// The Python prefix that contains this program.
    OwnPrefix,
    /// The virtual environment that is active (`VIRTUAL_ENV`).
    VirtualEnv,
    /// The conda environment that is active (`CONDA_PREFIX`).
    Conda,
    /// A Python on the search path of programs.
    Python,
    /// What `pip install --user` installed.
    User,
    /// A library path of the system.
    System,
}

impl LibraryPlace {
    /// The place in words, behind "found in" or "taken from".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Named => "the path given",
            Self::Variable => "ORT_DYLIB_PATH",
            Self::Repository => "target/ort of the repository that this program lies in",
            Self::Embedding => "the Python that this program runs in",
            Self::OwnPrefix => "the Python environment that this program lies in",
            Self::VirtualEnv => "the active virtual environment",
            Self::Conda => "the active conda environment",
            Self::Python => "a Python on PATH",
            Self::User => "the Python packages of this user",
            Self::System => "a library path of the system",
        }
    }

    /// Places of a lower rank come first, whatever the versions are. Among places of the same rank the newest library
    /// comes first.
    #[must_use]
    pub fn rank(self) -> u8 {
        match self {
            Self::Named | Self::Variable => 0,
            Self::Repository => 1,
            Self::Embedding => 2,
            Self::OwnPrefix => 3,
            Self::VirtualEnv | Self::Conda | Self::Python | Self::User | Self::System => 4,
        }
    }
}

/// A library that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLibrary {
    /// Its file.
    pub path: PathBuf,
    /// Where it was found.
    pub place: LibraryPlace,
    /// Its version, as the names of files tell it; `None` if they do not.
    pub version: Option<String>,
}

/// Everything that a search for the library found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LibrarySearch {
    /// The libraries that are new enough, or of unknown version, in the order in which they are tried.
    pub usable: Vec<FoundLibrary>,
    /// The libraries that are older than [`crate::OLDEST_LIBRARY`].
    pub too_old: Vec<FoundLibrary>,
    /// The folders that were searched.
    pub searched: Vec<PathBuf>,
    /// The interpreters that were seen.
    pub pythons: Vec<PathBuf>,
}
