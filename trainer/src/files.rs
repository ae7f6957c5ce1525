//! Files that exist whole or not at all: written under a temporary name, then renamed. What the user named is flushed to
//! the disk before and after, and so survives a power cut.
//!
//! A temporary name holds the number of the process, and the process holds a lock on the file. So a later process finds
//! what a dead one left ([`sweep`]) and never takes what a living one needs.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Start of every temporary name.
const PREFIX: &str = ".updp-";

/// The locked file in a temporary folder.
pub const LOCK: &str = "updp-compile.lock";

/// A temporary file without a lock, of a process that seems to run, is left this long: its owner may be about to lock it.
const GRACE: Duration = Duration::from_secs(2);

/// Start of the temporary names of this process; random letters follow.
#[must_use]
pub fn temporary_prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// The folder that a file lies in; `.` for a bare name.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a complete file that the user named. Writes directly to a device or a pipe and replaces any other file. A link
/// stays a link, and an existing file keeps its permissions.
///
/// # Errors
/// Errors of the file system.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.metadata().is_ok_and(|known| !known.is_file() && !known.is_dir()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let real = if path.is_symlink() { fs::canonicalize(path).ok() } else { None };
    let real = real.unwrap_or_else(|| path.to_owned());
    sweep(folder_of(&real));
    put(&real, bytes, true)
}

/// Writes a complete file of our own. A link at its place is replaced, not what it points to. It is not flushed to the
/// disk, which takes longer than making many an entry again: its hash shows what a power cut damaged.
///
/// # Errors
/// Errors of the file system.
pub fn replace_own(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, false)
}

fn put(path: &Path, bytes: &[u8], is_flushed: bool) -> io::Result<()> {
    let mut file = tempfile::Builder::new();
    let prefix = temporary_prefix();
    file.prefix(&prefix);
    #[cfg(unix)]
    file.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = file.tempfile_in(folder_of(path))?;
    // Where a file system has no locks, nothing is swept.
    let _ = file.as_file().try_lock();
    file.write_all(bytes)?;
    if is_flushed {
        file.as_file().sync_all()?;
    }
    if let Ok(known) = path.symlink_metadata()
        && known.is_file()
    {
        keep_owner(&known, file.path());
    }
    file.persist(path).map_err(|error| error.error)?;
    if is_flushed { sync_folder(folder_of(path)) } else { Ok(()) }
}

/// Gives a new file the permissions of the file that it replaces, and its owner where that is allowed.
pub fn keep_owner(known: &Metadata, new: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let own = new.metadata().ok().map(|own| (own.uid(), own.gid()));
        if own != Some((known.uid(), known.gid())) {
            let _ = std::os::unix::fs::chown(new, Some(known.uid()), Some(known.gid()));
        }
    }
    // After the change of the owner, which clears some bits. What cannot be set is left.
    let _ = fs::set_permissions(new, known.permissions());
}

/// Flushes a folder to the disk, so that the names in it survive a power cut.
///
/// # Errors
/// Errors of the disk. A file system that cannot flush folders gives none.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Only Unix can open and flush a folder.
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if is_not_offered(&error) => Ok(()),
        outcome => outcome,
    }
}

/// Whether the folder cannot be flushed at all, which is no failure of the disk.
fn is_not_offered(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

/// Removes the temporary files and folders in a folder whose process has ended.
pub fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = owner(&name).filter(|owner| *owner != std::process::id()) else {
            continue;
        };
        // The kind of the entry itself: nothing behind a link is looked at.
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        if kind.is_file() && is_abandoned(&path, owner) {
            let _ = fs::remove_file(&path);
        } else if kind.is_dir() && is_abandoned(&path.join(LOCK), owner) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Whether a name is a temporary name of this program, and of which process.
fn owner(name: &OsStr) -> Option<u32> {
    let (process, random) = name.to_str()?.strip_prefix(PREFIX)?.split_once('-')?;
    let is_random = random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
    process.parse().ok().filter(|_| is_random)
}

/// Whether a name is a temporary name of this program.
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    owner(name).is_some()
}

/// Whether no living process owns a temporary file: nobody holds its lock, and its owner is gone or had time to lock it.
fn is_abandoned(path: &Path, owner: u32) -> bool {
    let Ok(known) = path.symlink_metadata() else { return false };
    let Some(file) = known.is_file().then(|| File::open(path).ok()).flatten() else { return false };
    if file.try_lock().is_err() {
        return false;
    }
    let age = known.modified().ok().and_then(|time| time.elapsed().ok());
    !is_running(owner) || age.is_some_and(|age| age >= GRACE)
}

/// Whether a process seems to run. Where that cannot be known, the answer is yes.
fn is_running(process: u32) -> bool {
    let of = |name: &str| PathBuf::from(format!("/proc/{name}")).exists();
    !of("self") || of(&process.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that has ended.
    fn dead() -> u32 {
        let mut child = std::process::Command::new("true").spawn().expect("it starts");
        child.wait().expect("it ends");
        child.id()
    }

    #[test]
    fn what_dead_processes_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |name: String| folder.path().join(name);
        let (dead, elsewhere) = (dead(), tempfile::tempdir().expect("a folder"));
        let gone = place(format!("{PREFIX}{dead}-aaaaaa"));
        fs::write(&gone, "half").expect("written");
        let gone_folder = place(format!("{PREFIX}{dead}-bbbbbb"));
        fs::create_dir(&gone_folder).expect("made");
        fs::write(gone_folder.join(LOCK), "").expect("written");
        fs::write(gone_folder.join("model.onnx"), "half").expect("written");
        // A living process: locked, or about to be locked.
        let held = place(format!("{PREFIX}{dead}-cccccc"));
        let lock = File::create(&held).expect("made");
        lock.try_lock().expect("locked");
        let running = place(format!("{PREFIX}1-dddddd"));
        fs::write(&running, "half").expect("written");
        // Not ours.
        let unmarked = place(format!("{PREFIX}{dead}-eeeeee"));
        fs::create_dir(&unmarked).expect("made");
        fs::write(unmarked.join("photo.png"), "").expect("written");
        let named = place(format!("{PREFIX}notes"));
        fs::write(&named, "").expect("written");
        fs::write(elsewhere.path().join(LOCK), "").expect("written");
        let link = place(format!("{PREFIX}{dead}-ffffff"));
        #[cfg(unix)]
        std::os::unix::fs::symlink(elsewhere.path(), &link).expect("linked");
        sweep(folder.path());
        assert!(!gone.exists() && !gone_folder.exists());
        for kept in [&held, &running, &unmarked, &named, &elsewhere.path().join(LOCK)] {
            assert!(kept.exists(), "{} is gone", kept.display());
        }
        assert!(cfg!(not(unix)) || link.is_symlink());
        drop(lock);
        sweep(folder.path());
        assert!(!held.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_replaced_file_keeps_its_permissions_and_a_link_of_the_user_stays() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        fs::write(&path, "old").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        replace(&link, b"new").expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"new");
        assert!(link.is_symlink());
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        replace_own(&link, b"own").expect("written");
        assert!(!link.is_symlink(), "a link in our own folder is replaced");
        assert_eq!(fs::read(&path).expect("there"), b"new");
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 2);
    }
}
