//! Weights that are also inputs: said, and made constants where that is asked for.

use std::path::Path;
use std::process::{Command, Output};

use updp_testkit::{Micro, WeightForm, conv, encode, prove, read_model};

/// Conv and BN whose weights are inputs with defaults.
fn micro() -> Micro {
    let mut m = Micro::new(520).weights(WeightForm::Listed);
    m.raw().ir_version(8);
    let x = m.input("x", &[4, 7, 6]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let y = m.bn(&y);
    m.output(&y);
    m
}

fn run(folder: &Path, arguments: &[&str]) -> (Output, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_updp-compile"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("the program starts");
    let told = [&ran.stdout[..], &ran.stderr].concat();
    (ran, String::from_utf8_lossy(&told).into_owned())
}

fn scene() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("in.onnx"), encode(&micro().build())).expect("written");
    folder
}

#[test]
fn weights_that_are_inputs_are_said_and_left() {
    let scene = scene();
    let report = ["--report", "r.json"];
    let (ran, told) =
        run(scene.path(), &[&["compile", "in.onnx", "out.onnx"], &report[..]].concat());
    assert!(ran.status.success() && told.contains("weights are also inputs"), "{told}");
    assert!(told.contains("--freeze-weights"), "{told}");
    let out = read_model(&scene.path().join("out.onnx"));
    assert_eq!(out.graph.node_count(), 2);
    let report = std::fs::read_to_string(scene.path().join("r.json")).expect("written");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert!(report["overridable_weights"].as_u64().expect("a number") >= 5, "{report}");
    assert_eq!(report["frozen_weights"], 0);
    let (_, told) = run(scene.path(), &["inspect", "in.onnx"]);
    assert!(told.contains("weights are also inputs"), "{told}");
    let (_, told) = run(scene.path(), &["inspect", "in.onnx", "--freeze-weights"]);
    assert!(!told.contains("weights are also inputs"), "{told}");
}

#[test]
fn frozen_weights_are_merged_and_no_longer_inputs() {
    let scene = scene();
    let line = ["compile", "in.onnx", "out.onnx", "--freeze-weights", "--report", "r.json"];
    let (ran, told) = run(scene.path(), &line);
    assert!(ran.status.success() && told.contains("weights made constants"), "{told}");
    let out = read_model(&scene.path().join("out.onnx"));
    assert_eq!(out.graph.node_count(), 1, "{told}");
    assert_eq!(out.graph.inputs().count(), 1, "only the image is an input");
    let mut before = micro().build();
    updp_compile::freeze_weights(&updp_compile::FreezeWeights::All, &mut before).expect("all");
    prove(&before, &out);
    let report = std::fs::read_to_string(scene.path().join("r.json")).expect("written");
    assert!(report.contains(r#""overridable_weights": 0"#), "{report}");
}

#[test]
fn named_weights_are_frozen_and_unknown_names_are_refused() {
    let scene = scene();
    let model = micro().build();
    let names: Vec<String> =
        model.graph.initializers().map(|id| model.graph.value(id).name().to_owned()).collect();
    let some = format!("--freeze-weights={},{}", names[0], names[1]);
    let (ran, told) = run(scene.path(), &["compile", "in.onnx", "out.onnx", &some]);
    assert!(ran.status.success() && told.contains("weights made constants: 2"), "{told}");
    let out = read_model(&scene.path().join("out.onnx"));
    assert_eq!(out.graph.inputs().count(), names.len() - 1);
    let wrong = format!("--freeze-weights={}x", names[0]);
    let (ran, told) = run(scene.path(), &["compile", "in.onnx", "out.onnx", &wrong]);
    assert_eq!(ran.status.code(), Some(2), "{told}");
    assert!(told.contains("error[C0001]") && told.contains("; near: "), "{told}");
    assert!(told.contains(&names[0]), "{told}");
}

#[test]
fn the_configuration_file_knows_the_option() {
    let scene = scene();
    std::fs::write(scene.path().join("c.toml"), "freeze-weights = true\n").expect("written");
    let line = ["compile", "in.onnx", "out.onnx", "--config", "c.toml"];
    let (ran, told) = run(scene.path(), &line);
    assert!(ran.status.success() && told.contains("weights made constants"), "{told}");
}

#[test]
fn pruning_asks_for_the_option_by_name() {
    let scene = scene();
    let (_, told) =
        run(scene.path(), &["prune", "in.onnx", "out.onnx", "--blocks", "1", "--recover", "none"]);
    assert!(told.contains("--freeze-weights"), "{told}");
}
