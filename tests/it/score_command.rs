//! `--score-command`: the user's own measure scores the input model and the result, and decides how much is pruned.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::fixtures::folder;

const PROGRAM: &str = env!("CARGO_BIN_EXE_updp-compile");

fn run(arguments: &[&str], output: &Path) -> Output {
    let model = folder().join("trained/fmnist_resnet.bn.onnx");
    let mut command = Command::new(PROGRAM);
    command.args(arguments).arg(model).arg("-o").arg(output);
    command.output().expect("it starts")
}

/// A command that prints the accuracy on the shipped images, with a word before it.
fn accuracy() -> String {
    let data = folder().join("fmnist_test_1000.npz");
    let data = data.display();
    format!(
        "echo accuracy $('{PROGRAM}' evaluate {{model}} --data '{data}' --preprocess none --json | grep -m1 top1 | cut -d: -f2 | tr -d ,)"
    )
}

fn gates(report: &Path) -> Value {
    let text = std::fs::read_to_string(report).expect("a report");
    serde_json::from_str::<Value>(&text).expect("JSON")["gates"].clone()
}

#[test]
fn a_compiled_model_keeps_its_score() {
    let folder = tempfile::tempdir().expect("a folder");
    let (output, report) = (folder.path().join("o.onnx"), folder.path().join("r.json"));
    let score = accuracy();
    let told = report.to_str().expect("text");
    let arguments = ["--score-command", &score, "--max-score-drop", "0", "--report", told];
    let result = run(&arguments, &output);
    let text = String::from_utf8_lossy(&result.stderr).into_owned()
        + &String::from_utf8_lossy(&result.stdout);
    assert_eq!(result.status.code(), Some(0), "{text}");
    assert!(text.contains("score 0.905 -> 0.905"), "{text}");
    let score = &gates(&report)["score"];
    assert_eq!((score["before"].as_f64(), score["after"].as_f64()), (Some(0.905), Some(0.905)));
}

#[test]
fn the_command_decides_how_much_is_pruned() {
    let folder = tempfile::tempdir().expect("a folder");
    let (output, report) = (folder.path().join("o.onnx"), folder.path().join("r.json"));
    let data = crate::fixtures::folder().join("fmnist_test_1000.npz");
    let (data, told) = (data.to_str().expect("text"), report.to_str().expect("text"));
    let score = accuracy();
    let arguments = [
        "--data",
        data,
        "--preprocess",
        "none",
        "--max-drop",
        "0.02",
        "--score-command",
        &score,
        "--report",
        told,
    ];
    let result = run(&arguments, &output);
    let text = String::from_utf8_lossy(&result.stderr).into_owned();
    assert_eq!(result.status.code(), Some(0), "{text}");
    assert!(text.contains("score 0.905 -> "), "{text}");
    let score = &gates(&report)["score"];
    let after = score["after"].as_f64().expect("a number");
    assert!(after >= 0.905 - 0.02 - 1e-9, "{score}");
    let text = std::fs::read_to_string(&report).expect("a report");
    let found: Value = serde_json::from_str(&text).expect("JSON");
    let blocks = found["pruning"]["blocks"].as_array().map_or(0, Vec::len);
    assert!(blocks > 0, "{text}");
}

#[test]
fn a_command_without_a_score_ends_before_the_work_and_a_lost_score_misses_the_gate() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("o.onnx");
    let result = run(&["--score-command", "echo no score of {model}; exit 3"], &output);
    let text = String::from_utf8_lossy(&result.stderr).into_owned();
    assert_eq!(result.status.code(), Some(2), "{text}");
    assert!(text.contains("C0022") && text.contains("exit status: 3"), "{text}");
    assert!(!output.exists());
    let result = run(&["--score-command", "echo 1"], &output);
    assert_eq!(result.status.code(), Some(2), "without the place of the model");
    // The size in bytes: the result has no BatchNormalization any more, so it is smaller.
    let score = "wc -c < {model}";
    let result = run(&["--score-command", score, "--max-score-drop", "1"], &output);
    let text = String::from_utf8_lossy(&result.stderr).into_owned();
    assert_eq!(result.status.code(), Some(7), "{text}");
    assert!(text.contains("at most 1 may be lost"), "{text}");
    assert!(output.exists(), "the result is written all the same");
}
