//! Ctrl-C: temporary folders are removed, nothing half-written stays, exit code 130.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static HAS_WRITTEN: AtomicBool = AtomicBool::new(false);

/// Starts the thread that waits for SIGINT, SIGTERM and SIGHUP.
pub fn install() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let folders = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
            for folder in folders.iter() {
                let _ = std::fs::remove_dir_all(folder);
            }
            let written = if HAS_WRITTEN.load(Ordering::SeqCst) {
                "the model is written"
            } else {
                "nothing was written"
            };
            crate::terminal::note(&format!("error[C0011]: interrupted; {written}"));
            // Held until the end, so that no new folder can be registered.
            std::process::exit(128 + if signal == SIGINT { 2 } else { signal });
        }
    });
}

/// Runs `rename`, which gives written files their names; a signal waits until it is done, so that it
/// cannot fall between the names of a model and of its data.
///
/// # Errors
/// Those of `rename`.
pub fn uninterrupted<T, E>(rename: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let held = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = rename();
    HAS_WRITTEN.fetch_or(outcome.is_ok(), Ordering::SeqCst);
    drop(held);
    outcome
}

/// Has `folder` removed when the program is interrupted.
pub fn register(folder: &Path) {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner).push(folder.to_owned());
}

/// Forgets a folder that is gone.
pub fn release(folder: &Path) {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| known != folder);
}
