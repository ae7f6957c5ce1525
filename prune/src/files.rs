//! Writes the files of this crate: first completely under another name, then renamed.

use std::io::{self, Write};
use std::path::Path;

use crate::error::{PruneError, Result};

/// Writes a complete file. Writes directly to a device or a pipe and replaces any other file. A link stays a link.
///
/// # Errors
/// Errors of the file system.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_special = path.metadata().is_ok_and(|known| !known.is_file() && !known.is_dir());
    if is_special {
        return std::fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let real = if path.is_symlink() { std::fs::canonicalize(path).ok() } else { None };
    let real = real.unwrap_or_else(|| path.to_owned());
    let half = real.with_extension("half");
    std::fs::write(&half, bytes)?;
    std::fs::rename(&half, &real)
}

/// The same as [`replace`], with an error for the user.
///
/// # Errors
/// C0003 when the file cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes)
        .map_err(|error| PruneError::Write { path: path.to_owned(), detail: error.to_string() })
}
