//! Where Python keeps packages, found by path: no interpreter runs, but one whose path tells nothing.

use std::collections::BTreeMap;
use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest wait for the answer of an interpreter.
const ANSWER: Duration = Duration::from_secs(5);

/// The wait between two looks at an interpreter that was asked.
const LOOK: Duration = Duration::from_millis(5);

/// What interpreters answered. An interpreter is asked once.
static ANSWERS: Mutex<BTreeMap<PathBuf, Vec<PathBuf>>> = Mutex::new(BTreeMap::new());

/// The folders of packages in a Python prefix: `lib/python3*/site-packages`, `dist-packages` as Debian has it, `lib64` as
/// Fedora has it, and `Lib/site-packages` as Windows has it.
pub(super) fn packages(prefix: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for lib in ["lib", "lib64"] {
        for entry in std::fs::read_dir(prefix.join(lib)).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("python3") {
                found.extend(["site-packages", "dist-packages"].map(|it| entry.path().join(it)));
            }
        }
    }
    found.push(prefix.join("Lib").join("site-packages"));
    found.retain(|folder| folder.is_dir());
    found.sort();
    found
}

/// The program that a shell would start for this name. Folders that are not absolute are left out: what lies there
/// changes with the current folder.
pub(super) fn on_path(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    let file = format!("{name}{EXE_SUFFIX}");
    let absolute = folders.iter().filter(|folder| folder.is_absolute());
    absolute.map(|folder| folder.join(&file)).find(|path| is_program(path))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|known| known.is_file() && known.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// The prefixes of an interpreter: around its path as it is, and around the file that the path leads to. A virtual
/// environment has links to the interpreter that it was made with.
pub(super) fn prefixes(program: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in [Some(program.to_path_buf()), program.canonicalize().ok()].into_iter().flatten() {
        let folder = path.parent();
        // On Windows the interpreter itself lies in the prefix, and that of a virtual environment in Scripts.
        let around = [folder.filter(|_| cfg!(windows)), folder.and_then(Path::parent)];
        for prefix in around.into_iter().flatten().map(Path::to_path_buf) {
            // Debian's own interpreter takes what pip installs from there.
            let local = (prefix == Path::new("/usr")).then(|| prefix.join("local"));
            for prefix in [Some(prefix), local].into_iter().flatten() {
                if !found.contains(&prefix) {
                    found.push(prefix);
                }
            }
        }
    }
    found
}

/// The folders of packages that an interpreter names. It starts at most once, and has 5 s to answer; without an answer
/// there are none.
pub(super) fn ask(program: &Path) -> Vec<PathBuf> {
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    answers.entry(program.to_path_buf()).or_insert_with(|| answer(program)).clone()
}

fn answer(program: &Path) -> Vec<PathBuf> {
    let mut command = Command::new(program);
    command.args(["-c", "import sys; print('\\n'.join(sys.path))"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return Vec::new() };
    if !ends_well(&mut child) {
        let _ = child.kill();
        let _ = child.wait();
        return Vec::new();
    }
    let Ok(output) = child.wait_with_output() else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let folders = text.lines().map(PathBuf::from);
    folders.filter(|folder| folder.is_absolute() && folder.is_dir()).collect()
}

fn ends_well(child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < ANSWER {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(LOOK),
            Err(_) => return false,
        }
    }
    false
}
