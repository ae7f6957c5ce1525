//! The work folder: intermediate results of a run, so that the same command can resume.
//!
//! A work folder is one that this program made: it holds our mark, with the version of its layout. A folder with other
//! contents is refused. One process at a time works in it, and holds its lock. Each job has a folder of its own in it,
//! with a mark that names the run that used it last. Only files with our names are ever removed, of jobs that this run
//! used, and never behind a link.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use updp_trainer::error::TrainerError;
use updp_trainer::files;
use updp_trainer::hash::Fnv;
use updp_trainer::observer::Observer;

use crate::error::{PruneError, Result};

/// Name of the file that marks a folder as a work folder.
const MARK: &str = "updp-compile.work";

/// Contents of the mark; another version of the layout has others.
const MARKED: &str = "{\"schema\":\"updp-work/1\"}\n";

/// Name of the file that marks the folder of a job.
const JOB_MARK: &str = "updp-compile.job";

/// Name of the latency table in a work folder.
pub(crate) const LATENCIES: &str = "latency.json";

/// The longest wait between two looks at a lock.
const LOOK: Duration = Duration::from_millis(100);

/// The work folder of a running process. Nobody else enters it until this value is dropped.
#[derive(Debug)]
pub struct WorkLock {
    /// `None` on a file system without locks.
    _file: Option<File>,
}

/// The process that is in a work folder.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    process: u32,
    since: String,
}

/// The mark of a job.
#[derive(Serialize, Deserialize)]
struct JobMark {
    schema: String,
    /// The run that used the job last.
    run: String,
}

/// The folder of one job in a work folder. A different key has a different folder. The key is hashed as JSON, so it
/// must contain its own version.
pub fn job(work: &Path, key: &impl Serialize) -> PathBuf {
    // A key is a plain struct of numbers and texts, which always serializes.
    let text = serde_json::to_vec(key).unwrap_or_default();
    work.join(format!("{:016x}", Fnv::of(&text)))
}

/// Refuses a folder that holds anything and is no work folder of this version. Long work starts with this.
///
/// # Errors
/// T0006.
pub fn refuse_foreign(work: &Path) -> Result<()> {
    let entries = match fs::read_dir(work) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(work, error.to_string())),
    };
    let (mut foreign, mut is_marked) = (None, false);
    for entry in entries.flatten() {
        let name = entry.file_name();
        refuse_link(work, &entry)?;
        is_marked |= name == MARK;
        if name != files::LOCK && !files::is_temporary(&name) {
            foreign.get_or_insert(name);
        }
    }
    match foreign {
        _ if is_marked => refuse_version(work),
        None => Ok(()),
        Some(name) => Err(unusable(
            work,
            format!(
                "it is not a work folder of this program, and holds {:?}",
                name.display().to_string()
            ),
        )),
    }
}

fn refuse_version(work: &Path) -> Result<()> {
    match fs::read_to_string(work.join(MARK)) {
        Ok(text) if text == MARKED => Ok(()),
        Ok(_) => Err(unusable(work, "another version of this program made it".to_owned())),
        Err(error) => Err(unusable(work, error.to_string())),
    }
}

/// Refuses a link that has the name of one of our files: it would lead writing elsewhere.
fn refuse_link(folder: &Path, entry: &DirEntry) -> Result<()> {
    let name = entry.file_name();
    let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
    let is_ours = is_job_name(&name)
        || is_result(&name)
        || [MARK, files::LOCK, LATENCIES].iter().any(|own| name == *own);
    if is_link && is_ours {
        let detail = format!("{:?} in it is a link", name.display().to_string());
        return Err(unusable(folder, detail));
    }
    Ok(())
}

fn unusable(work: &Path, detail: String) -> PruneError {
    TrainerError::Work { folder: work.display().to_string(), detail }.into()
}

/// Enters a work folder: makes it if it does not exist, marks it, and keeps other processes out. Waits for a process that
/// is in it, as long as `wait`.
///
/// # Errors
/// T0006 for a folder that is not ours, C0024 when another process stays in it, C0011 when the observer cancels, C0003
/// when it cannot be written to.
pub fn enter(work: &Path, wait: Duration, observer: &mut dyn Observer) -> Result<WorkLock> {
    let failed =
        |error: io::Error| PruneError::Write { path: work.to_owned(), detail: error.to_string() };
    let start = Instant::now();
    let mut is_told = false;
    loop {
        refuse_foreign(work)?;
        fs::create_dir_all(work).map_err(failed)?;
        let holder = match try_lock(work) {
            // The folder is gone: the process that was in it has ended.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
            Ok(Tried::Busy(holder)) => holder,
            Ok(Tried::NoLocks) => {
                observer.message(&format!(
                    "the file system of {} has no locks: no other run may use this folder now",
                    work.display()
                ));
                mark(work).map_err(failed)?;
                return Ok(WorkLock { _file: None });
            }
            Ok(Tried::Held(file)) => {
                mark(work).map_err(failed)?;
                return Ok(WorkLock { _file: Some(file) });
            }
        };
        if observer.is_cancelled() {
            return Err(PruneError::Interrupted);
        }
        let left = wait.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(PruneError::WorkInUse { work: work.to_owned(), holder });
        }
        if !std::mem::replace(&mut is_told, true) {
            observer.message(&format!("waiting for the work folder: {holder} is in it"));
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// What came of the try to lock a folder.
enum Tried {
    Held(File),
    /// The process that holds the lock.
    Busy(String),
    NoLocks,
}

fn try_lock(work: &Path) -> io::Result<Tried> {
    let path = work.join(files::LOCK);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
    match file.try_lock() {
        Ok(()) if is_at(&file, &path) => {
            let own = Holder { process: std::process::id(), since: utc(SystemTime::now()) };
            let text = serde_json::to_string(&own)?;
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(text.as_bytes())?;
            Ok(Tried::Held(file))
        }
        // The process that had the lock has removed its file.
        Ok(()) => Err(ErrorKind::NotFound.into()),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let known = file.read_to_string(&mut text).ok();
            let holder = known.and_then(|_| serde_json::from_str::<Holder>(&text).ok());
            Ok(Tried::Busy(holder.map_or_else(
                || "another process".to_owned(),
                |it| format!("process {}, since {},", it.process, it.since),
            )))
        }
        Err(TryLockError::Error(_)) => Ok(Tried::NoLocks),
    }
}

/// Whether an open file is the one that has this path now.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |known: fs::Metadata| (known.dev(), known.ino());
        file.metadata().map(id).ok() == path.symlink_metadata().map(id).ok()
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// Marks a folder that is locked, and sweeps it.
fn mark(work: &Path) -> io::Result<()> {
    files::sweep(work);
    if work.join(MARK).exists() {
        return Ok(());
    }
    files::replace_own(&work.join(MARK), MARKED.as_bytes())
}

/// Enters the folder of a job in a work folder that is locked, and says that this run uses it.
///
/// # Errors
/// T0006 when it cannot be written to, or holds a link.
pub fn enter_job(folder: &Path) -> std::result::Result<(), TrainerError> {
    let failed =
        |detail: String| TrainerError::Work { folder: folder.display().to_string(), detail };
    fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
    for entry in fs::read_dir(folder).map_err(|error| failed(error.to_string()))?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) && is_result(&entry.file_name()) {
            return Err(failed(format!("{} in it is a link", entry.file_name().display())));
        }
    }
    files::sweep(folder);
    let mark = JobMark { schema: "updp-job/1".to_owned(), run: own_run().to_owned() };
    let text = serde_json::to_string(&mark).map_err(|error| failed(error.to_string()))?;
    files::replace_own(&folder.join(JOB_MARK), text.as_bytes())
        .map_err(|error| failed(error.to_string()))
}

/// Names this process among all that ever ran.
fn own_run() -> &'static str {
    static RUN: OnceLock<String> = OnceLock::new();
    RUN.get_or_init(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{}-{}", std::process::id(), since.as_nanos())
    })
}

/// Removes the results of the jobs that this run used, and the folder itself if it then holds nothing of another job.
/// Nothing is removed from a folder without our mark, behind a link, or while another process is in it. Files that cannot
/// be removed also stay; they do no harm.
pub fn remove(work: &Path) {
    tidy(work, &[LATENCIES, MARK, files::LOCK], |folder, mark| {
        if mark.run == own_run() {
            remove_job(folder);
        }
    });
}

/// Removes a marked folder that holds no results, for example after a rejected run.
pub fn remove_empty(work: &Path) {
    tidy(work, &[MARK, files::LOCK], |folder, _| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name());
        if names.all(|name| name == JOB_MARK) {
            remove_job(folder);
        }
    });
}

/// Calls `of_job` for every job of a work folder, and then removes the folder if only files of these names are left.
fn tidy(work: &Path, last: &[&str], of_job: impl Fn(&Path, &JobMark)) {
    if work.is_symlink() || !work.join(MARK).is_file() || refuse_foreign(work).is_err() {
        return;
    }
    let Ok(Tried::Held(_lock)) = try_lock(work) else { return };
    let entries = || fs::read_dir(work).into_iter().flatten().flatten();
    for entry in entries() {
        let folder = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder
            && is_job_name(&entry.file_name())
            && let Some(mark) = job_mark(&folder)
        {
            of_job(&folder, &mark);
        }
    }
    let is_last = |name: &OsStr| last.iter().any(|own| name == *own);
    if entries().all(|entry| is_last(&entry.file_name())) {
        for name in last {
            let _ = fs::remove_file(work.join(name));
        }
        let _ = fs::remove_dir(work);
    }
}

fn job_mark(folder: &Path) -> Option<JobMark> {
    serde_json::from_slice(&fs::read(folder.join(JOB_MARK)).ok()?).ok()
}

/// Removes our files in the folder of a job, and the folder if nothing else is in it.
fn remove_job(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_result(&entry.file_name()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_file(folder.join(JOB_MARK));
    let _ = fs::remove_dir(folder);
}

fn is_job_name(name: &OsStr) -> bool {
    let hex = |name: &str| name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.to_str().is_some_and(hex)
}

/// Whether a file in the folder of a job has the name of a result.
fn is_result(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let ends = |ending: &str, starts: &[&str]| {
        let stem = name.strip_suffix(ending);
        stem.is_some_and(|stem| starts.iter().any(|start| stem.starts_with(start)))
    };
    matches!(name, "front.json" | "steps.csv" | "journal.jsonl")
        || ends(".safetensors", &["block", "set", "step-"])
        || ends(".jsonl", &["sets", "supernet"])
}

/// A point in time, such as `2026-11-30 18:04:05 UTC`.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days since March of the year 0, in cycles of 400 years.
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + 400 * cycle + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use updp_trainer::observer::Silent;

    use super::*;

    const NO_WAIT: Duration = Duration::ZERO;

    fn entered(work: &Path) -> Result<WorkLock> {
        enter(work, NO_WAIT, &mut Silent)
    }

    fn write(path: &Path) {
        fs::write(path, "x").expect("written");
    }

    #[test]
    fn one_process_is_in_a_folder_and_the_next_is_told_which() {
        let folder = tempfile::tempdir().expect("a folder");
        let work = folder.path().join("a/b");
        let lock = entered(&work).expect("it is new");
        let error = entered(&work).expect_err("it is taken");
        assert_eq!(error.code(), "C0024");
        let own = format!("process {}, since 2", std::process::id());
        assert!(error.to_string().contains(&own), "{error}");
        remove(&work);
        assert!(work.join(MARK).exists(), "nothing is removed from under another");
        drop(lock);
        drop(entered(&work).expect("it is free again"));
        write(&work.join(LATENCIES));
        remove_empty(&work);
        assert!(work.join(LATENCIES).exists(), "what was found before stays");
        fs::remove_file(work.join(LATENCIES)).expect("removed");
        remove_empty(&work);
        assert!(!work.exists() && work.with_file_name("").exists());
    }

    #[test]
    fn a_folder_of_the_user_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let photo = folder.path().join("photo.png");
        write(&photo);
        let error = entered(folder.path()).expect_err("not ours");
        assert_eq!(error.code(), "T0006");
        assert!(error.to_string().contains("photo.png"), "{error}");
        remove(folder.path());
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1);
        fs::remove_file(&photo).expect("removed");
        fs::write(folder.path().join(MARK), "{\"schema\":\"updp-work/9\"}\n").expect("written");
        let error = entered(folder.path()).expect_err("another version");
        assert!(error.to_string().contains("another version"), "{error}");
    }

    #[test]
    fn only_results_of_jobs_of_this_run_are_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let work = folder.path().join("w");
        drop(entered(&work).expect("new"));
        let (own, other, foreign) = (job(&work, &1), job(&work, &2), job(&work, &3));
        enter_job(&own).expect("made");
        write(&own.join("block0.safetensors"));
        write(&own.join("notes.txt"));
        enter_job(&other).expect("made");
        let mark = "{\"schema\":\"updp-job/1\",\"run\":\"1-1\"}";
        fs::write(other.join(JOB_MARK), mark).expect("written");
        write(&other.join("block0.safetensors"));
        fs::create_dir(&foreign).expect("made");
        write(&foreign.join("block0.safetensors"));
        write(&work.join(LATENCIES));
        remove(&work);
        assert!(!own.join("block0.safetensors").exists(), "it is of this run");
        for kept in [
            own.join("notes.txt"),
            other.join("block0.safetensors"),
            foreign.join("block0.safetensors"),
            work.join(LATENCIES),
            work.join(MARK),
        ] {
            assert!(kept.exists(), "{} is gone", kept.display());
        }
        for folder in [&own, &other, &foreign] {
            fs::remove_dir_all(folder).expect("removed");
        }
        remove(&work);
        assert!(!work.exists());
    }

    #[cfg(unix)]
    #[test]
    fn nothing_behind_a_link_is_written_or_removed() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let (work, outside) = (folder.path().join("w"), folder.path().join("outside"));
        drop(entered(&work).expect("new"));
        let own = job(&work, &1);
        enter_job(&own).expect("made");
        fs::create_dir(&outside).expect("made");
        let precious = outside.join("block0.safetensors");
        write(&precious);
        fs::copy(own.join(JOB_MARK), outside.join(JOB_MARK)).expect("copied");
        symlink(&precious, own.join("block0.safetensors")).expect("linked");
        assert_eq!(enter_job(&own).expect_err("a link").code(), "T0006");
        remove(&work);
        assert!(precious.exists() && own.join("block0.safetensors").is_symlink());
        fs::remove_file(own.join("block0.safetensors")).expect("removed");
        symlink(&outside, job(&work, &2)).expect("linked");
        assert_eq!(entered(&work).expect_err("a link").code(), "T0006");
        remove(&work);
        assert!(precious.exists());
        fs::remove_file(job(&work, &2)).expect("removed");
        let link = folder.path().join("link");
        symlink(&work, &link).expect("linked");
        remove(&link);
        assert!(work.join(MARK).exists(), "the folder is behind a link");
    }

    #[test]
    fn times_are_told_as_dates() {
        let at = |seconds| utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(at(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(at(1_796_061_845), "2026-11-30 18:04:05 UTC");
    }
}
