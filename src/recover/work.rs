//! The work folder: what a run keeps, so that the same command goes on, also where it was told to stop.

use std::path::{Path, PathBuf};

use super::Recover;
use crate::cli::Stage;
use crate::error::CliError;
use crate::terminal;

impl Recover<'_> {
    /// Whether this is where to stop; if so, says what was found and what goes on.
    pub(super) fn stops_after(&self, stage: Stage, found: &[String]) -> bool {
        if self.request.arguments.until != Some(stage) {
            return false;
        }
        for sentence in found {
            terminal::remark(sentence);
        }
        let place = self.work.map_or_else(String::new, |work| format!(" from {}", work.display()));
        terminal::remark(&format!(
            "stopped after {}; nothing was written; the same command without --until goes on{place}",
            match stage {
                Stage::Expand | Stage::Supernet => "the supernet",
                Stage::Search => "the search",
                Stage::Train => "the training",
            }
        ));
        true
    }
}

/// Name of the file that says whose folder it is.
const MARK: &str = "updp-compile.work";

/// Marks a folder as ours, so that it is known from one that was there before; makes it where it is not there.
///
/// # Errors
/// C0003 when it cannot be written to.
pub fn mark_work(work: &Path) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::Write {
        path: work.to_owned(),
        detail: error.to_string(),
    };
    std::fs::create_dir_all(work).map_err(failed)?;
    crate::write::text(&work.join(MARK), "work folder of updp-compile\n")
}

/// Removes what a run kept, and the folder itself where nothing else lies in it. What cannot be removed does no harm.
pub fn remove_work(work: &Path) {
    if !work.join(MARK).exists() {
        return;
    }
    for entry in std::fs::read_dir(work).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_job = name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit());
        if is_job {
            let _ = std::fs::remove_dir_all(entry.path());
        } else if name == MARK || name == "latency.json" {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir(work);
}

/// Removes a folder that was marked and then not used, as when a run was refused. What holds anything stays.
pub fn remove_empty_work(work: &Path) {
    if !work.join(MARK).exists() {
        return;
    }
    let entries = || std::fs::read_dir(work).into_iter().flatten().flatten();
    for entry in entries() {
        // Fails where something lies in it.
        let _ = std::fs::remove_dir(entry.path());
    }
    if entries().all(|entry| entry.file_name() == MARK) {
        let _ = std::fs::remove_file(work.join(MARK));
        let _ = std::fs::remove_dir(work);
    }
}

/// The work folder: the one asked for, else one beside the output.
#[must_use]
pub fn work_folder(asked: Option<&Path>, target: &Path) -> Option<PathBuf> {
    if let Some(asked) = asked {
        return Some(asked.to_owned());
    }
    if crate::model_file::is_pipe(target) || crate::write::is_special(target) {
        return None;
    }
    let mut name = target.file_name()?.to_owned();
    name.push(".work");
    Some(target.with_file_name(name))
}
