//! Writes the files of this crate that the user names, with errors for the user.

use std::path::Path;

use updp_trainer::files;

use crate::error::{PruneError, Result};

/// Writes a complete file ([`files::replace`]).
///
/// # Errors
/// C0003 when the file cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    files::replace(path, bytes)
        .map_err(|error| PruneError::Write { path: path.to_owned(), detail: error.to_string() })
}
