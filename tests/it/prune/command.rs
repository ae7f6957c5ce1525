//! Pruning from the command line: files, reports, exit codes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use updp_testkit::{Micro, conv, encode, find_ort, op_counts, read_model};

use super::fixture;
use crate::schemas::assert_valid;

/// The program under way, which says nothing.
pub(crate) fn started(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_updp-compile"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_updp-compile"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

#[track_caller]
pub(crate) fn succeeds(arguments: &[&str]) -> String {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[track_caller]
pub(crate) fn ends(arguments: &[&str], code: i32, message: &str) -> String {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(message), "no {message:?} in {text:?}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

pub(crate) fn scene(model: &str) -> (TempDir, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out.onnx").display().to_string();
    (folder, fixture(model).display().to_string(), output)
}

/// What was written to this file, held against its schema.
#[track_caller]
pub(crate) fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("written");
    let document = serde_json::from_str(&text).expect("JSON");
    assert_valid(&document);
    document
}

#[test]
fn prunes_the_blocks_asked_for_and_reports_them() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let report = folder.path().join("r.json");
    let text = succeeds(&[
        &input,
        "-o",
        &output,
        "--blocks",
        "3,5,9",
        "--recover",
        "none",
        "--form",
        "conv",
        "--merge",
        "all",
        "--report",
        &report.display().to_string(),
    ]);
    assert!(text.starts_with("pruned without recovery: the network is not usable"), "{text}");
    assert!(text.contains("3 of 11 blocks"), "{text}");
    assert!(text.contains("merged against settled"), "{text}");
    let report = json(&report);
    assert_eq!(report["pruning"]["usable"], false);
    let blocks = report["pruning"]["blocks"].as_array().expect("a list");
    let indices: Vec<u64> = blocks.iter().filter_map(|block| block["index"].as_u64()).collect();
    assert_eq!(indices, [3, 5, 9]);
    assert!(blocks.iter().all(|block| block["form"] == "conv"));
    assert_eq!(report["verification"]["status"], "passed");
    // Two blocks lose their projections too.
    assert_eq!(
        (&report["input"]["ops"]["Conv"], &report["output"]["ops"]["Conv"]),
        (&26.into(), &21.into())
    );
}

#[test]
fn the_same_command_gives_the_same_bytes() {
    let (folder, input, output) = scene("fmnist_mobilenetv2.bn");
    let arguments = ["--blocks", "all", "--recover", "none", "--form", "dwpw", "--force", "-q"];
    let second = folder.path().join("second.onnx").display().to_string();
    succeeds(&[&[input.as_str(), "-o", &output], &arguments[..]].concat());
    succeeds(&[&[input.as_str(), "-o", &second], &arguments[..]].concat());
    assert_eq!(std::fs::read(&output).expect("written"), std::fs::read(&second).expect("written"));
    // A pruned model is a model like any other: it can be pruned again.
    succeeds(&[
        &output,
        "-o",
        &second,
        "--blocks",
        "all",
        "--recover",
        "none",
        "--form",
        "conv",
        "--merge",
        "all",
        "-q",
    ]);
}

#[test]
fn expands_to_a_network_that_is_the_input_at_lambda_zero() {
    let (_folder, input, output) = scene("fmnist_convnext.bn");
    let text = succeeds(&[
        &input, "-o", &output, "--blocks", "0-2", "--form", "conv", "--force", "--until", "expand",
    ]);
    assert!(text.contains("updp_lambda"), "{text}");
    assert!(text.contains("equal:"), "{text}");
    let expanded = read_model(Path::new(&output));
    assert_eq!(expanded.graph.required_inputs().count(), 2);
    ends(
        &[
            &output,
            "-o",
            &format!("{output}.again"),
            "--blocks",
            "0",
            "--form",
            "conv",
            "--merge",
            "all",
            "--recover",
            "none",
        ],
        2,
        "P0009",
    );
}

#[test]
fn data_give_statistics_to_batch_norms() {
    let (_folder, input, output) = scene("fmnist_deit.bn");
    let data = crate::fixtures::folder().join("fmnist_test_1000.npz").display().to_string();
    let without = succeeds(&[
        &input,
        "-o",
        &output,
        "--blocks",
        "1,3",
        "--form",
        "conv",
        "--force",
        "--recover",
        "none",
    ]);
    assert!(without.contains("statistics of noise"), "{without}");
    let with = succeeds(&[
        &input,
        "-o",
        &output,
        "--blocks",
        "1,3",
        "--form",
        "conv",
        "--force",
        "--recover",
        "none",
        "--input-data",
        &data,
    ]);
    assert!(!with.contains("statistics of noise"), "{with}");
    assert!(with.contains("top-1 on the labels"), "{with}");
}

#[test]
fn refuses_what_cannot_be_pruned() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let out = ["-o", output.as_str()];
    let with = |rest: &[&'static str]| -> Vec<String> {
        let all = [&[input.as_str()], &out[..], rest].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let cases: [(&[&'static str], i32, &str); 8] = [
        (&["--blocks", "3"], 2, "--recover none"),
        (&["--blocks", "11", "--recover", "none"], 2, "C0013"),
        (&["--blocks", "x", "--recover", "none"], 2, "C0001"),
        (&["--blocks", "5-3", "--recover", "none"], 2, "no range"),
        (&["--recover", "none"], 2, "--blocks"),
        (&["--force"], 2, "--blocks"),
        (&["--blocks", "0", "--recover", "none", "--form", "norm"], 6, "C0014"),
        (&["--blocks", "0", "--recover", "fit"], 2, "C0001"),
    ];
    for (rest, code, message) in cases {
        let arguments = with(rest);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        ends(&arguments, code, message);
        assert!(!Path::new(&output).exists(), "{rest:?} left a file");
    }
    let plain = fixture("tv_vgg_mini.legacy17-train").display().to_string();
    ends(
        &[&plain, "-o", &output, "--blocks", "all", "--recover", "none"],
        6,
        "can only be fitted to images",
    );
    let damaged = folder.path().join("table.json");
    std::fs::write(&damaged, "{\"schema\": \"something else\"}").expect("written");
    let table = damaged.display().to_string();
    ends(
        &[&input, "-o", &output, "--blocks", "0", "--recover", "none", "--latency-table", &table],
        2,
        "C0015",
    );
}

/// A block whose pruned forms are all more work than it is: a depthwise pair.
fn gains_nothing(folder: &TempDir) -> PathBuf {
    let mut m = Micro::new(501);
    let x = m.input("x", &[256, 28, 28]);
    let a = m.conv(&x, &conv(256).kernel(3).pad(1).groups(256));
    let a = m.unary("Relu", &a);
    let b = m.conv(&a, &conv(256).groups(256));
    let sum = m.add(&b, &x);
    let y = m.unary("Relu", &sum);
    m.output(&y);
    let path = folder.path().join("depthwise.onnx");
    std::fs::write(&path, encode(&m.build())).expect("written");
    path
}

#[test]
fn a_block_that_gets_slower_is_refused_with_its_latencies_unless_forced() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = gains_nothing(&folder).display().to_string();
    let output = folder.path().join("out.onnx").display().to_string();
    let common = [&input, "-o", &output, "--blocks", "0", "--recover", "none", "--form", "dwpw"];
    ends(&common, 6, "slower than the block's");
    assert!(!Path::new(&output).exists());
    succeeds(&[&common[..], &["--force"]].concat());
}

#[test]
fn measured_latencies_are_kept_and_used_again() {
    let (folder, input, output) = scene("tv_vgg_mini.legacy13-preserve");
    let table = folder.path().join("latency.json");
    let path = table.display().to_string();
    succeeds(&["bench", &input, "--per-block", "--seconds", "0.4", "--latency-table", &path]);
    let first = json(&table);
    assert_eq!(first["schema"], "updp-latency/1");
    assert!(first["median_ms"].as_object().is_some_and(|entries| entries.len() >= 4));
    succeeds(&[
        &input,
        "-o",
        &output,
        "--blocks",
        "all",
        "--recover",
        "none",
        "--force",
        "--latency-table",
        &path,
    ]);
    // Everything was in the table: nothing was measured anew.
    assert_eq!(json(&table), first);
}

#[test]
fn inspect_shows_blocks_as_table_json_and_page() {
    let (folder, input, _) = scene("timm_mobilenetv2_mini.legacy17-preserve");
    let text = succeeds(&["inspect", &input]);
    assert!(text.contains("inverted-residual"), "{text}");
    assert!(text.contains("8 of 8 blocks can be pruned"), "{text}");
    let value: Value =
        serde_json::from_str(&succeeds(&["inspect", &input, "--json"])).expect("JSON");
    assert_valid(&value);
    let blocks = value["blocks"].as_array().expect("a list");
    assert_eq!(blocks.len(), 8);
    assert!(
        blocks
            .iter()
            .all(|block| block["prunable"] == true && block["baseline"]["macs"].as_u64() > Some(0))
    );
    let page = folder.path().join("map.html");
    succeeds(&[
        "inspect",
        &input,
        "--latency",
        "--form",
        "dwpw",
        "--map",
        &page.display().to_string(),
    ]);
    crate::browser::assert_shows(&page, &["timm_mobilenetv2_mini.legacy17-preserve.onnx"]);
    let page = std::fs::read_to_string(&page).expect("written");
    assert!(
        page.contains("<svg") && page.contains("blocks.0.0") && page.contains("measured"),
        "{page}"
    );
    assert!(!page.contains("http"), "the page needs nothing from outside");
}

#[test]
fn exact_compilation_says_what_pruning_could_do() {
    let (_folder, input, output) = scene("fmnist_resnet.bn");
    let text = succeeds(&[&input, "-o", &output]);
    assert!(text.contains("11 of its 11 blocks could be pruned"), "{text}");
    let counts = op_counts(&read_model(Path::new(&output)).graph);
    assert_eq!(counts.get("BatchNormalization"), None);
}

#[test]
fn bench_prints_json() {
    let (_folder, input, _) = scene("fmnist_vgg.bn");
    let text = succeeds(&["bench", &input, &input, "--seconds", "0.2", "--batch", "2", "--json"]);
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_valid(&value);
    assert_eq!(value["schema"], "updp-bench/1");
    assert_eq!(value["models"].as_array().map(Vec::len), Some(2));
    let is_ort =
        value["models"][0]["runtime"].as_str().is_some_and(|name| name.starts_with("ONNX"));
    assert_eq!(is_ort, find_ort().is_some());
}

#[test]
fn pruning_never_writes_over_the_tensors_of_its_input() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let external = folder.path().join("external.onnx").display().to_string();
    succeeds(&[&input, "-o", &external, "--external-data", "-q"]);
    let data = format!("{external}.data");
    let before = std::fs::read(&data).expect("written");
    let common = ["--blocks", "1", "--form", "conv", "--merge", "all", "--recover", "none", "-q"];
    ends(
        &[&[external.as_str(), "-o", &data], &common[..]].concat(),
        2,
        "would overwrite the tensors of the model",
    );
    assert_eq!(std::fs::read(&data).expect("still there"), before);
    succeeds(&[&[external.as_str(), "-o", &output], &common[..]].concat());
}

#[test]
fn blocks_that_all_leaves_alone_are_named() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let report = folder.path().join("r.json");
    let path = report.display().to_string();
    let text = succeeds(&[
        &input,
        "-o",
        &output,
        "--blocks",
        "all",
        "--form",
        "drop",
        "--merge",
        "all",
        "--recover",
        "none",
        "--report",
        &path,
    ]);
    // Strided blocks have no identity to fall back on.
    assert!(text.contains("left alone: block 2: it has only conv, dwpw, pw"), "{text}");
    let left = json(&report)["pruning"]["left_alone"].as_array().map(Vec::len);
    assert_eq!(left, Some(3));
}

#[test]
fn gates_hold_for_compiling_too_and_the_result_is_written_either_way() {
    let (folder, input, output) = scene("fmnist_repvgg.bn");
    let path = folder.path().join("r.json");
    let report = path.display().to_string();
    let held = ["--min-speedup", "0.01", "--max-bytes", "1GB"];
    let all = [input.as_str(), "-o", &output, "--threads", "2", "--report", &report];
    let text = succeeds(&[&all[..], &held].concat());
    assert!(text.contains("at least 0.01 asked for"), "{text}");
    let gates = json(&path)["gates"].clone();
    assert_eq!(gates["bytes"], std::fs::metadata(&output).expect("written").len());
    assert!(gates["speedup"].as_f64().expect("measured") > 0.01);
    assert_eq!(gates["missed"].as_array().map(Vec::len), Some(0));

    std::fs::remove_file(&output).expect("it is there");
    let missed = ["--min-speedup", "1000", "--max-bytes", "1kB"];
    ends(&[&all[..], &missed].concat(), 7, "times as fast as the input model instead of 1000; ");
    assert!(Path::new(&output).exists());
    assert_eq!(json(&path)["gates"]["missed"].as_array().map(Vec::len), Some(2));
    ends(&[&all[..], &["--max-bytes", "1 apple"]].concat(), 2, "error[C0001]");
    let early = ["--blocks", "1", "--until", "expand", "--max-bytes", "1kB"];
    ends(&[&all[..], &early].concat(), 2, "--max-bytes are for finished networks");
}
