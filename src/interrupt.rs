//! Ctrl-C: temporary folders are removed, nothing half-written stays, exit code 130.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Starts the thread that waits for SIGINT, SIGTERM and SIGHUP.
pub fn install() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let folders = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
            for folder in folders.iter() {
                let _ = std::fs::remove_dir_all(folder);
            }
            crate::terminal::note("error[C0011]: interrupted; nothing was written");
            // Held until the end, so that no new folder can be registered.
            std::process::exit(128 + if signal == SIGINT { 2 } else { signal });
        }
    });
}

/// Has `folder` removed when the program is interrupted.
pub fn register(folder: &Path) {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner).push(folder.to_owned());
}

/// Forgets a folder that is gone.
pub fn release(folder: &Path) {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| known != folder);
}
