//! Ctrl-C: the program removes temporary folders, leaves no half-written files and ends with exit code 130.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::shell::own_command;

static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// The work folder of this command.
static KEPT: Mutex<Option<PathBuf>> = Mutex::new(None);
static HAS_WRITTEN: AtomicBool = AtomicBool::new(false);
static IS_DEFERRED: AtomicBool = AtomicBool::new(false);
static IS_REQUESTED: AtomicBool = AtomicBool::new(false);

/// While this value exists, the first signal only sets [`is_requested`]. A second signal ends the program.
#[derive(Debug)]
pub struct Deferred(());

impl Drop for Deferred {
    fn drop(&mut self) {
        IS_DEFERRED.store(false, Ordering::SeqCst);
    }
}

/// Defers signals for work that ends by itself soon.
#[must_use]
pub fn defer() -> Deferred {
    IS_DEFERRED.store(true, Ordering::SeqCst);
    Deferred(())
}

/// Whether a signal arrived while signals were deferred.
#[must_use]
pub fn is_requested() -> bool {
    IS_REQUESTED.load(Ordering::SeqCst)
}

/// Starts the thread that waits for SIGINT, SIGTERM and SIGHUP.
#[cfg(unix)]
pub fn install() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    tell_of_faults();
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return;
    };
    // Where no thread can be started, a signal ends the program without cleaning up.
    let _ = std::thread::Builder::new().spawn(move || {
        for signal in signals.forever() {
            handle(128 + signal);
        }
    });
}

/// Starts the thread that waits for Ctrl-C, Ctrl-Break and the end of the session.
#[cfg(windows)]
pub fn install() {
    // Where no thread can be started, an interrupt ends the program without cleaning up.
    let _ = ctrlc::set_handler(|| handle(130));
}

/// Ends the program with this exit code, unless the current work ends by itself soon.
fn handle(code: i32) {
    if IS_DEFERRED.load(Ordering::SeqCst) && !IS_REQUESTED.swap(true, Ordering::SeqCst) {
        crate::terminal::remark("stopping after this step; once more stops at once");
        return;
    }
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
    crate::terminal::note(&format!("help: {}", what_to_type()));
    // The lock is held until the end, so that no new folder can be registered.
    std::process::exit(code);
}

/// Makes errors of two signals that end a process: SIGBUS tells of a mapped file that another process cuts while it is
/// read, SIGABRT of an allocation that fails.
#[cfg(unix)]
#[expect(unsafe_code, reason = "a signal handler may call few functions only")]
fn tell_of_faults() {
    use rustix::process::Signal;
    use signal_hook::consts::{SIGABRT, SIGBUS};
    use signal_hook::low_level::{exit, register};

    const CUT: &[u8] =
        b"error[C0002]: a file that is being read was cut by another process, or its disk fails\n\
        help: run again when the file is complete\n";
    const ABORTED: &[u8] = b"error[C0000]: aborted, most often because no memory is left\n\
        help: give the program more memory; if there is enough, please report it with the line above\n";
    let tell = |text: &'static [u8], code: i32| {
        move || {
            let _ = rustix::io::write(rustix::stdio::stderr(), text);
            exit(code);
        }
    };
    // SAFETY: the handlers make two system calls, which handlers may: they write a constant and end the process.
    let _ = unsafe { register(SIGBUS, tell(CUT, 3)) };
    // SAFETY: as above.
    let _ = unsafe { register(SIGABRT, tell(ABORTED, 1)) };
    // A file above the limit of `ulimit -f` becomes an error of writing it, as on a full disk.
    // SAFETY: the handler does nothing.
    let _ = unsafe { register(Signal::XFSZ.as_raw(), || {}) };
}

/// Records the work folder, which keeps what is done when the program is interrupted.
pub fn keep(work: &Path) {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(work.to_owned());
}

/// What to type to go on after an interruption.
#[must_use]
pub fn what_to_type() -> String {
    let arguments: Vec<_> = std::env::args_os().collect();
    let command = own_command(&arguments);
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match kept.filter(|work| work.is_dir()) {
        Some(work) => {
            format!("what is done is kept in {}; to go on, type: {command}", work.display())
        }
        None => format!("to start again, type: {command}"),
    }
}

/// Runs `rename`, which gives written files their names. A signal waits until it is done, so that it cannot arrive
/// between renaming a model and renaming its data.
///
/// # Errors
/// The errors of `rename`.
pub fn uninterrupted<T, E>(rename: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let held = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = rename();
    drop(held);
    outcome
}

/// Records, within [`uninterrupted`], that the model has its name.
pub fn note_written() {
    HAS_WRITTEN.store(true, Ordering::SeqCst);
}

/// Registers `folder` for removal when the program is interrupted.
pub fn register(folder: &Path) {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner).push(folder.to_owned());
}

/// Unregisters a folder that no longer exists.
pub fn release(folder: &Path) {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| known != folder);
}
