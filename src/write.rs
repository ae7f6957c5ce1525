//! Writing models: each model is written completely into a temporary folder beside the target, flushed to the disk, then
//! renamed. An existing file keeps its permissions.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use updp_ir::Encoded;
use updp_trainer::files::{self, folder_of};

use crate::error::CliError;
use crate::interrupt;
use crate::model_file::is_pipe;

/// A written model that does not have its final name yet; if it is dropped, it leaves no trace.
#[derive(Debug)]
pub struct Staged {
    folder: StagingFolder,
    target: PathBuf,
    data_name: Option<String>,
}

/// A temporary folder beside a target; if it is dropped or interrupted, it leaves no trace. What a killed process left
/// there is swept by the next one.
#[derive(Debug)]
pub struct StagingFolder {
    folder: Option<TempDir>,
    /// Says that this process lives.
    _lock: File,
}

impl StagingFolder {
    /// Makes a folder beside `target`, and returns it with the resolved path of the target. A symbolic link stays a
    /// link: the file that it points to is replaced.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn beside(target: &Path) -> io::Result<(Self, PathBuf)> {
        let real = if target.is_symlink() { fs::canonicalize(target).ok() } else { None };
        let real = real.unwrap_or_else(|| target.to_owned());
        files::sweep(folder_of(&real));
        let prefix = files::temporary_prefix();
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(folder_of(&real))?;
        let lock = File::create(folder.path().join(files::LOCK))?;
        // Where a file system has no locks, nothing is swept.
        let _ = lock.try_lock();
        interrupt::register(folder.path());
        Ok((Self { folder: Some(folder), _lock: lock }, real))
    }

    /// The path of a name in this folder.
    #[must_use]
    pub fn place(&self, name: &str) -> PathBuf {
        self.folder.as_ref().map_or_else(|| PathBuf::from(name), |it| it.path().join(name))
    }
}

impl Drop for StagingFolder {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            let path = folder.path().to_owned();
            drop(folder);
            interrupt::release(&path);
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    CliError::Write { path: path.to_owned(), detail: error.to_string() }
}

impl Staged {
    fn new(target: &Path) -> Result<Self, CliError> {
        let (folder, target) =
            StagingFolder::beside(target).map_err(|error| failed(target, &error))?;
        Ok(Self { folder, target, data_name: None })
    }

    /// Writes an encoded model beside `target`; its data file is called `data_name`.
    ///
    /// # Errors
    /// C0003.
    pub fn encoded(target: &Path, encoded: &Encoded, data_name: &str) -> Result<Self, CliError> {
        let mut staged = Self::new(target)?;
        if encoded.has_data() {
            staged.data_name = Some(data_name.to_owned());
            staged.fill(data_name, |sink| encoded.write_data(sink))?;
        }
        let name = staged.model_name();
        staged.fill(&name, |sink| encoded.write_model(sink))?;
        Ok(staged)
    }

    /// Writes these bytes: a report, or a model that equals its input.
    ///
    /// # Errors
    /// C0003.
    pub fn copy(target: &Path, bytes: &[u8]) -> Result<Self, CliError> {
        let staged = Self::new(target)?;
        staged.fill(&staged.model_name(), |sink| sink.write_all(bytes))?;
        Ok(staged)
    }

    fn model_name(&self) -> String {
        self.target.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    fn fill(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        let path = self.folder.place(name);
        let mut sink =
            BufWriter::new(File::create(&path).map_err(|error| failed(&self.target, &error))?);
        write(&mut sink)
            .and_then(|()| sink.flush())
            .and_then(|()| sink.get_ref().sync_all())
            .map_err(|error| failed(&self.target, &error))
    }

    /// The temporary path of the model file; its data file is beside it.
    #[must_use]
    pub fn model_path(&self) -> PathBuf {
        self.folder.place(&self.model_name())
    }

    /// Gives the files their names; the data file comes first.
    ///
    /// # Errors
    /// C0003.
    pub fn commit(self) -> Result<(), CliError> {
        self.place(interrupt::note_written)
    }

    /// Gives the files their names, and calls `placed` before a signal can arrive.
    fn place(self, placed: impl FnOnce()) -> Result<(), CliError> {
        let folder = folder_of(&self.target);
        let known = self.target.metadata().ok();
        interrupt::uninterrupted(|| {
            if let Some(data) = &self.data_name {
                let (staged, target) = (self.folder.place(data), folder.join(data));
                // The tensors of a private model are private.
                if let Some(known) = target.metadata().ok().as_ref().or(known.as_ref()) {
                    files::keep_owner(known, &staged);
                }
                fs::rename(staged, target)?;
            }
            if let Some(known) = &known {
                files::keep_owner(known, &self.model_path());
            }
            fs::rename(self.model_path(), &self.target).inspect(|()| placed())?;
            files::sync_folder(folder)
        })
        .map_err(|error| failed(&self.target, &error))
    }
}

/// Whether `target` is a device or a pipe: the program writes to it but never replaces it.
#[must_use]
pub fn is_special(target: &Path) -> bool {
    target.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// Writes to a device or pipe.
///
/// # Errors
/// C0003.
pub fn special(target: &Path, bytes: &[u8]) -> Result<(), CliError> {
    fs::OpenOptions::new()
        .write(true)
        .open(target)
        .and_then(|mut sink| sink.write_all(bytes))
        .map_err(|error| failed(target, &error))
}

/// Writes a new file and flushes it to the disk.
///
/// # Errors
/// Any error of the file system.
pub fn synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes a complete small text file.
///
/// # Errors
/// C0003.
pub fn text(target: &Path, content: &str) -> Result<(), CliError> {
    if is_special(target) {
        return special(target, content.as_bytes());
    }
    Staged::copy(target, content.as_bytes())?.place(|| {})
}

/// Writes the bytes of a complete model to a file, a device, or standard output (`-`).
///
/// # Errors
/// C0003.
pub fn model(target: &Path, bytes: &[u8]) -> Result<(), CliError> {
    if is_pipe(target) {
        let mut out = io::stdout().lock();
        return out
            .write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|error| failed(Path::new("-"), &error));
    }
    if is_special(target) {
        return special(target, bytes);
    }
    Staged::copy(target, bytes)?.commit()
}
