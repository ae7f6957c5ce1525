//! Reading models: memory-mapped files, and external data that must lie inside the folder of the model.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use indexmap::IndexMap;
use memmap2::Mmap;
use updp_ir::{ExternalRef, IrError, Model};
use updp_trainer::files::folder_of;

use crate::error::CliError;
use crate::untrusted;

/// Largest model file, in bytes: protobuf has no larger messages.
const LARGEST_MODEL: u64 = 1 << 31;

/// A model and its source.
#[derive(Debug)]
pub struct ModelFile {
    /// The bytes that the model was read from.
    pub source: Source,
    /// The decoded model.
    pub model: Model,
}

/// The bytes of a model file, and the names of the files that hold its tensors.
#[derive(Debug)]
pub struct Source {
    /// The path as typed; `-` for standard input.
    pub path: PathBuf,
    /// The model file.
    pub bytes: Bytes,
    /// Files with external data. The model gives their names relative to its folder.
    pub data_files: Vec<PathBuf>,
}

impl ModelFile {
    /// Maps and reads a model; `-` reads standard input.
    ///
    /// # Errors
    /// C0002 if the file cannot be read, I codes for errors in its contents.
    pub fn open(path: &Path) -> Result<Self, CliError> {
        let bytes = if is_pipe(path) { read_stdin()? } else { map(path, true)? };
        Self::read(path, bytes)
    }

    /// Reads a model from bytes that the file `path` holds or will hold.
    ///
    /// # Errors
    /// I codes for errors in the bytes.
    pub fn read(path: &Path, bytes: Bytes) -> Result<Self, CliError> {
        let (model, data_files) = decode(path, &bytes)?;
        untrusted::distrust_model(&model);
        Ok(Self { source: Source { path: path.to_owned(), bytes, data_files }, model })
    }

    /// Size of the model and its data files, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.source.total_bytes()
    }
}

impl Source {
    /// Reads the model again from the same bytes.
    ///
    /// # Errors
    /// As [`ModelFile::open`].
    pub fn again(&self) -> Result<Model, CliError> {
        Ok(decode(&self.path, &self.bytes)?.0)
    }

    /// The source from which a runtime loads the model.
    #[must_use]
    pub fn for_runtime(&self) -> updp_exec::ModelSource<'_> {
        if self.data_files.is_empty() {
            updp_exec::ModelSource::Bytes(&self.bytes)
        } else {
            updp_exec::ModelSource::Path(&self.path)
        }
    }

    /// Size of the model and its data files, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let data = self.data_files.iter().filter_map(|file| std::fs::metadata(file).ok());
        self.bytes.len() as u64 + data.map(|m| m.len()).sum::<u64>()
    }

    /// Whether writing to `path` would overwrite tensors of this model.
    #[must_use]
    pub fn has_data_file(&self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else { return false };
        self.data_files.iter().any(|file| file.canonicalize().is_ok_and(|file| file == path))
    }
}

/// Whether a path stands for standard input or output.
#[must_use]
pub fn is_pipe(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read_stdin() -> Result<Bytes, CliError> {
    read_all(std::io::stdin().lock()).map_err(|error| CliError::Read {
        path: "-".into(),
        detail: error.to_string(),
        is_model: true,
    })
}

/// Reads a pipe or a device to its end, which an endless one does not have.
fn read_all(source: impl Read) -> std::io::Result<Bytes> {
    let mut bytes = Vec::new();
    source.take(LARGEST_MODEL + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_MODEL {
        return Err(std::io::Error::other(
            "it does not end within 2 GiB, which no model file exceeds",
        ));
    }
    Ok(bytes.into())
}

fn decode(path: &Path, bytes: &Bytes) -> Result<(Model, Vec<PathBuf>), CliError> {
    let is_piped = is_pipe(path);
    let mut files: IndexMap<PathBuf, Bytes> = IndexMap::new();
    let mut wants_pipe_data = false;
    let model = Model::decode(bytes.clone(), &mut |reference| {
        if is_piped {
            wants_pipe_data = true;
            return Err(IrError::ExternalDataMissing { name: reference.tensor.clone() });
        }
        external(path, reference, &mut files)
    });
    if wants_pipe_data {
        return Err(CliError::Pipe);
    }
    Ok((model?, files.into_keys().collect()))
}

/// The bytes that a reference points to, from a file that is really inside the folder of the model. If the model
/// is a link, this is the folder of the link, or the folder of the real model file: caches keep both files in one
/// folder under other names.
fn external(
    model: &Path,
    reference: &ExternalRef,
    files: &mut IndexMap<PathBuf, Bytes>,
) -> Result<Bytes, IrError> {
    let fail = |detail: String| IrError::ExternalData { name: reference.tensor.clone(), detail };
    let folder = folder_of(model);
    let path = folder.join(&reference.location);
    if !files.contains_key(&path) {
        let shown = &reference.location;
        let root = folder.canonicalize().map_err(|e| fail(format!("the folder: {e}")))?;
        let real = path.canonicalize().map_err(|e| fail(format!("file {shown:?}: {e}")))?;
        let beside_model = || {
            let model = model.canonicalize().ok()?;
            Some(real.starts_with(model.parent()?))
        };
        if !real.starts_with(&root) && beside_model() != Some(true) {
            return Err(IrError::ExternalPathEscapes {
                name: reference.tensor.clone(),
                location: shown.clone(),
            });
        }
        // This is checked before the file is opened: opening a named pipe would wait for a writer.
        if !real.is_file() {
            return Err(fail(format!("file {shown:?} is no regular file")));
        }
        let bytes = map(&real, false).map_err(|e| fail(format!("file {shown:?}: {e}")))?;
        files.insert(path.clone(), bytes);
    }
    let bytes = files.get(&path).cloned().unwrap_or_default();
    let total = bytes.len() as u64;
    let length = reference.length.unwrap_or(total.saturating_sub(reference.offset));
    let end = reference.offset.checked_add(length).filter(|end| *end <= total);
    let end = end.ok_or_else(|| {
        fail(format!(
            "bytes {} to {} lie outside file {:?} of {total} bytes",
            reference.offset,
            reference.offset.saturating_add(length),
            reference.location
        ))
    })?;
    Ok(bytes.slice(reference.offset as usize..end as usize))
}

/// Maps a regular file into memory; reads any other file.
///
/// # Errors
/// C0002.
#[expect(unsafe_code, reason = "mapping a file is unsafe because others may change it")]
pub fn map(path: &Path, is_model: bool) -> Result<Bytes, CliError> {
    let fail = |error: std::io::Error| CliError::Read {
        path: path.to_owned(),
        detail: error.to_string(),
        is_model,
    };
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if metadata.is_dir() {
        return Err(fail(std::io::Error::other("it is a folder")));
    }
    if !metadata.is_file() {
        return read_all(file).map_err(fail);
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is read-only and private to this process. If another process truncates the file while we read it,
    // the program ends with SIGBUS, like any reader of mapped files. Our own writer never changes a file in place: it
    // renames new files over old names.
    let map = unsafe { Mmap::map(&file) }.map_err(fail)?;
    Ok(Bytes::from_owner(map))
}
