//! Going on after an interruption: the same bytes from any point on, one process at a time, and nothing believed that is
//! not what was written.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::command::data;
use crate::prune::command::{ends, run, scene, succeeds};

/// A run with a work folder.
struct Kept {
    folder: TempDir,
    command: Vec<String>,
    output: PathBuf,
    work: PathBuf,
}

impl Kept {
    /// Runs a command on a fixture to its end.
    fn run(model: &str, command: &str, more: &str) -> (Self, Vec<u8>) {
        let (folder, input, output) = scene(model);
        let work = folder.path().join("work");
        let table = folder.path().join("t.json").display().to_string();
        let (data, work_text) = (data(), work.display().to_string());
        let mut all = vec![command, &input, "-o", &output, "--data", &data];
        all.extend(["--preprocess", "fashion-mnist", "--images", "100", "--threads", "1"]);
        all.extend(["--work", &work_text]);
        if command == "prune" {
            all.extend(["--latency-table", &table, "--probe-seconds", "0.02", "--no-verify"]);
        }
        all.extend(more.split(' '));
        let command = all.iter().map(|word| (*word).to_owned()).collect();
        let kept = Self { folder, command, output: PathBuf::from(&output), work };
        let bytes = kept.bytes();
        (kept, bytes)
    }

    fn words(&self) -> Vec<&str> {
        self.command.iter().map(String::as_str).collect()
    }

    /// The result of a run.
    fn bytes(&self) -> Vec<u8> {
        let _ = fs::remove_file(&self.output);
        succeeds(&self.words());
        fs::read(&self.output).expect("written")
    }

    /// What a run tells on standard error.
    fn told(&self) -> String {
        let ran = run(&self.words());
        let text = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(0), "{text}");
        text
    }

    /// The entries in the order in which they were made.
    fn entries(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(&self.work).expect("there").flatten().map(|entry| entry.path());
        let files = folders.filter(|path| path.is_dir());
        let files = files.flat_map(|path| fs::read_dir(path).expect("there").flatten());
        let mut files: Vec<_> = files
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|it| it == "safetensors" || it == "jsonl"))
            .collect();
        let made = |path: &PathBuf| fs::metadata(path).and_then(|it| it.modified()).expect("known");
        files.sort_by_key(made);
        files
    }

    fn copy_to(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("made");
        for entry in fs::read_dir(from).expect("there").flatten() {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                Self::copy_to(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).expect("copied");
            }
        }
    }

    /// Runs again as if the first run had been killed after each of so many points, spread over its entries.
    fn goes_on_from(&self, points: usize, expected: &[u8]) {
        let entries = self.entries();
        assert!(entries.len() > points, "{} entries", entries.len());
        let whole = self.folder.path().join("whole");
        Self::copy_to(&self.work, &whole);
        for point in 1..=points {
            let left = point * entries.len() / (points + 1);
            fs::remove_dir_all(&self.work).expect("there");
            Self::copy_to(&whole, &self.work);
            for path in &entries[left..] {
                fs::remove_file(path).expect("there");
            }
            // A file of lines grows; the run may have been killed within a line.
            for path in
                entries[..left].iter().filter(|it| it.extension().is_some_and(|e| e == "jsonl"))
            {
                let text = fs::read(path).expect("there");
                fs::write(path, &text[..text.len() * 2 / 3]).expect("written");
            }
            let bytes = self.bytes();
            assert!(bytes == expected, "other bytes after {left} of {} entries", entries.len());
        }
    }
}

#[test]
fn a_pruning_ends_with_the_same_bytes_from_any_entry_on() {
    for (model, more, points) in [
        ("fmnist_resnet.bn", "--prune 3 --force", 3),
        ("fmnist_mobilenetv2.bn", "--prune 2 --force --form conv,pw", 1),
        ("fmnist_deit.bn", "--prune 2 --force --form norm", 1),
    ] {
        let (kept, expected) = Kept::run(model, "prune", more);
        kept.goes_on_from(points, &expected);
    }
}

#[test]
fn a_genetic_search_ends_with_the_same_bytes_from_any_entry_on() {
    let more = "--prune 3 --force --form conv --shortlist 1 --search genetic --evaluations 12";
    let (kept, expected) = Kept::run("fmnist_resnet.bn", "prune", more);
    kept.goes_on_from(2, &expected);
}

#[test]
fn a_supernet_ends_with_the_same_bytes_from_any_entry_on() {
    let more = "--prune 3 --force --form conv --shortlist 1 --supernet-epochs 1 --evaluations 8";
    let (kept, expected) = Kept::run("fmnist_resnet.bn", "prune", more);
    kept.goes_on_from(1, &expected);
}

#[test]
fn fits_of_another_goal_change_no_bit() {
    let (kept, expected) = Kept::run("fmnist_resnet.bn", "prune", "--prune 2 --force --form conv");
    fs::remove_dir_all(&kept.work).expect("there");
    let mut other = kept.command.clone();
    let at = other.iter().position(|word| word == "--prune").expect("given");
    other.splice(at..=at + 1, ["--blocks".to_owned(), "4,7".to_owned()]);
    succeeds(&other.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(kept.bytes() == expected, "it started from fits over other stops");
}

#[test]
fn a_training_goes_on_from_an_earlier_state_and_from_the_start() {
    let (kept, expected) = Kept::run("fmnist_resnet.bn", "train", "--epochs 101 --batch-size 32");
    let states = kept.entries();
    let states: Vec<&PathBuf> = states
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it == "safetensors"))
        .collect();
    assert_eq!(states.len(), 2, "{states:?}");
    fs::remove_file(states[1]).expect("there");
    assert!(kept.bytes() == expected, "going on from the state before differs");
    for state in states {
        flip(state, 0.8);
    }
    let warned = kept.told();
    assert_eq!(warned.matches("damaged").count(), 1, "{warned}");
    assert!(fs::read(&kept.output).expect("written") == expected, "starting anew differs");
}

/// Flips one bit of a file at this share of its length.
fn flip(path: &Path, share: f64) {
    let mut bytes = fs::read(path).expect("there");
    let at = (bytes.len() as f64 * share) as usize;
    bytes[at] ^= 4;
    fs::write(path, bytes).expect("written");
}

#[test]
fn what_is_not_what_was_written_is_made_again_with_one_warning() {
    let more = "--prune 2 --force --form conv --shortlist 1 --search greedy";
    let (kept, expected) = Kept::run("fmnist_resnet.bn", "prune", more);
    let entries = kept.entries();
    // Weights, numbers in the header, and a score in a line.
    for share in [0.02, 0.98] {
        let (lines, fits): (Vec<&PathBuf>, Vec<&PathBuf>) =
            entries.iter().partition(|path| path.extension().is_some_and(|it| it == "jsonl"));
        flip(fits[0], share);
        flip(fits[fits.len() - 1], share);
        flip(lines[0], share);
        let told = kept.told();
        assert_eq!(told.matches("does not hold what was written").count(), 1, "{told}");
        assert!(told.contains("and 2 more"), "{told}");
        assert!(
            fs::read(&kept.output).expect("written") == expected,
            "a flip at {share} changed it"
        );
    }
    // An entry under the name of another is not believed either.
    let fits: Vec<&PathBuf> = entries
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it == "safetensors"))
        .collect();
    fs::copy(fits[0], fits[1]).expect("copied");
    assert!(kept.told().contains("does not hold what was written"));
    assert!(fs::read(&kept.output).expect("written") == expected);
    let told = kept.told();
    assert!(!told.contains("what was written"), "it was made again: {told}");
    let table = kept.folder.path().join("t.json");
    let text = fs::read_to_string(&table).expect("there");
    let at = text.find("\": 0.").expect("a latency") + 5;
    fs::write(&table, format!("{}9{}", &text[..at], &text[at..])).expect("written");
    ends(&kept.words(), 2, "error[C0015]");
}

#[test]
fn two_runs_at_once_end_with_the_same_bytes_and_a_third_is_told_who_is_in_the_folder() {
    let more = "--prune 2 --force --form conv";
    let (kept, expected) = Kept::run("fmnist_resnet.bn", "prune", more);
    fs::remove_dir_all(&kept.work).expect("there");
    let second = kept.folder.path().join("second.onnx");
    let mut command = kept.command.clone();
    let own = kept.output.display().to_string();
    for word in &mut command {
        if *word == own {
            *word = second.display().to_string();
        }
    }
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let other = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(&words));
        assert!(kept.bytes() == expected);
        other.join().expect("no panic")
    });
    assert_eq!(other.status.code(), Some(0), "{}", String::from_utf8_lossy(&other.stderr));
    assert!(fs::read(second).expect("written") == expected);
    let lock = kept.work.join("updp-compile.lock");
    let file = fs::OpenOptions::new().write(true).open(&lock).expect("there");
    file.try_lock().expect("nobody is in it");
    let before = kept.entries();
    let words = [kept.words(), vec!["--work-wait", "0"]].concat();
    let told = ends(&words, 2, "error[C0024]");
    assert!(told.contains("is in use: process ") && told.contains(", since 2"), "{told}");
    assert_eq!(kept.entries(), before);
}

#[test]
fn a_folder_that_is_not_ours_is_refused_and_what_is_of_another_job_stays() {
    let more = "--prune 1 --force --form conv";
    let (kept, _) = Kept::run("fmnist_resnet.bn", "prune", more);
    // Without --work, beside the output: another job is kept there already.
    let mut own = kept.output.clone().into_os_string();
    own.push(".work");
    let own = PathBuf::from(own);
    fs::rename(&kept.work, &own).expect("moved");
    let jobs = || -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(&own).expect("there").flatten().map(|entry| entry.path());
        entries.filter(|path| path.is_dir()).collect()
    };
    let others = jobs();
    let mut command = kept.command.clone();
    let at = command.iter().position(|word| word == "--work").expect("given");
    command.splice(at..=at + 1, ["--seed".to_owned(), "5".to_owned()]);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    succeeds(&words);
    assert_eq!(jobs(), others, "only what this run kept is gone");
    // A folder of the user.
    let photos = kept.folder.path().join("photos");
    fs::create_dir(&photos).expect("made");
    fs::write(photos.join("1.png"), "mine").expect("written");
    let photos_text = photos.display().to_string();
    let words = [words, vec!["--work", &photos_text]].concat();
    ends(&words, 2, "error[T0006]");
    assert_eq!(fs::read_dir(&photos).expect("there").count(), 1);
}
