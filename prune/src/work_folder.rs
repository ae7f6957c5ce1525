//! The work folder: intermediate results of a run, so that the same command can resume.

use std::path::{Path, PathBuf};

use serde::Serialize;
use updp_trainer::hash::Fnv;

use crate::error::{PruneError, Result};
use crate::files;

/// Name of the file that marks a folder as a work folder.
const MARK: &str = "updp-compile.work";

/// Name of the latency table in a work folder.
pub(crate) const LATENCIES: &str = "latency.json";

/// The folder of one job in a work folder. A different key has a different folder. The key is hashed as JSON, so it
/// must contain its own version.
pub fn job(work: &Path, key: &impl Serialize) -> PathBuf {
    // A key is a plain struct of numbers and texts, which always serializes.
    let text = serde_json::to_vec(key).unwrap_or_default();
    work.join(format!("{:016x}", Fnv::of(&text)))
}

/// Marks a folder as a work folder. Creates the folder if it does not exist.
///
/// # Errors
/// C0003 when the folder cannot be written to.
pub fn mark(work: &Path) -> Result<()> {
    let failed = |error: std::io::Error| PruneError::Write {
        path: work.to_owned(),
        detail: error.to_string(),
    };
    std::fs::create_dir_all(work).map_err(failed)?;
    files::write(&work.join(MARK), b"work folder of updp-compile\n")
}

/// Removes the results of runs, and the folder itself if it contains nothing else. A folder without our mark stays.
/// Files that cannot be removed also stay; they do no harm.
pub fn remove(work: &Path) {
    if !work.join(MARK).exists() {
        return;
    }
    for entry in std::fs::read_dir(work).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_job = name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit());
        if is_job {
            let _ = std::fs::remove_dir_all(entry.path());
        } else if name == MARK || name == LATENCIES {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir(work);
}

/// Removes a marked folder that holds no results, for example after a rejected run.
pub fn remove_empty(work: &Path) {
    if !work.join(MARK).exists() {
        return;
    }
    let entries = || std::fs::read_dir(work).into_iter().flatten().flatten();
    for entry in entries() {
        // Fails if the folder is not empty.
        let _ = std::fs::remove_dir(entry.path());
    }
    if entries().all(|entry| entry.file_name() == MARK) {
        let _ = std::fs::remove_file(work.join(MARK));
        let _ = std::fs::remove_dir(work);
    }
}
