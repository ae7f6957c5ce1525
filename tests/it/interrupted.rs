//! Ctrl-C: what is said, and that the work stays.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use updp_testkit::{find_ort, skip};

use crate::fixtures::folder;

/// The words of a training of so many epochs.
fn training(model: &Path, output: &Path, epochs: &str) -> Vec<String> {
    let images = folder().join("fmnist_test_1000.npz");
    let text = |path: &Path| path.display().to_string();
    let mut words = vec!["train".to_owned(), text(model), "-o".to_owned(), text(output)];
    words.extend(["--data".to_owned(), text(&images)]);
    let rest = ["--preprocess", "fashion-mnist", "--images", "64", "--threads", "1", "--epochs"];
    words.extend(rest.iter().chain([&epochs]).map(|word| (*word).to_owned()));
    words
}

/// The folders of jobs in a work folder.
fn jobs(work: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(work).into_iter().flatten().flatten();
    let mut jobs: Vec<_> = entries.map(|it| it.path()).filter(|path| path.is_dir()).collect();
    jobs.sort();
    jobs
}

#[test]
fn an_interrupted_training_says_what_to_type_and_survives_another_with_the_same_output() {
    let test =
        "an_interrupted_training_says_what_to_type_and_survives_another_with_the_same_output";
    if find_ort().is_none() {
        return skip(test, "training needs ONNX Runtime");
    }
    let scene = tempfile::tempdir().expect("a folder");
    let model = folder().join("trained/fmnist_vgg.bn.onnx");
    let output = scene.path().join("a result.onnx");
    let words = training(&model, &output, "5000");
    let program = env!("CARGO_BIN_EXE_updp-compile");
    let mut command = Command::new(program);
    let mut child = command.args(&words).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut text = String::new();
    while !text.contains("epoch 1/") {
        assert!(lines.read_line(&mut text).expect("text") > 0, "it ended: {text}");
    }
    let id = Pid::from_raw(i32::try_from(child.id()).expect("a number")).expect("a process");
    kill_process(id, Signal::INT).expect("it runs");
    lines.read_to_string(&mut text).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{text}");
    let work = scene.path().join("a result.onnx.work");
    let told = format!("kept in {}; to go on, type: updp-compile train", work.display());
    assert!(text.contains(&told), "{text}");
    assert!(text.contains('\'') && text.contains("--epochs 5000"), "a shell can take it: {text}");
    let before = jobs(&work);
    assert_eq!(before.len(), 1, "{before:?}");
    let other = Command::new(program).args(training(&model, &output, "1")).output();
    let other = other.expect("it starts");
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stderr));
    assert!(output.exists());
    assert_eq!(jobs(&work), before, "the other training left what was not its own");
    let step = |path: PathBuf| path.extension().is_some_and(|it| it == "safetensors");
    let mut kept = fs::read_dir(&before[0]).expect("there").flatten().map(|it| it.path());
    assert!(kept.any(step), "no state of the training is left");
}
