//! The source of a model: a file, bytes, or a graph in memory.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use updp_ir::{DataPlacement, IrError, Model};

use super::Error;
use crate::model_file::ModelFile;

/// The path that stands for a model without a file. It has no folder, so it cannot have external data.
const NO_FILE: &str = "-";

/// A model to work on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source<'a> {
    /// A file. Its external data is in the same folder. `-` is standard input.
    Path(PathBuf),
    /// The bytes of a model without external data.
    Bytes(Bytes),
    /// A graph in memory.
    Model(&'a Model),
}

impl Source<'_> {
    /// Reads the model.
    ///
    /// # Errors
    /// C0002 if the file cannot be read, C0004 if bytes need external data or a graph does not fit into 2 GB, I codes
    /// for a malformed model.
    pub(crate) fn open(self) -> Result<ModelFile, Error> {
        match self {
            Self::Path(path) => ModelFile::open(&path),
            Self::Bytes(bytes) => ModelFile::read(Path::new(NO_FILE), bytes),
            Self::Model(model) => match model.encode(&DataPlacement::Inline) {
                Err(IrError::TooLargeForOneFile { .. }) => Err(Error::Pipe),
                encoded => ModelFile::read(Path::new(NO_FILE), encoded?.model_to_bytes()),
            },
        }
    }
}

impl From<PathBuf> for Source<'_> {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for Source<'_> {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<&PathBuf> for Source<'_> {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl From<&str> for Source<'_> {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl From<Bytes> for Source<'_> {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Source<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl<'a> From<&'a Model> for Source<'a> {
    fn from(model: &'a Model) -> Self {
        Self::Model(model)
    }
}
