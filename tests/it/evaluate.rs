//! `evaluate`: accuracy, agreement, classes and flipped images, as a table and as JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use updp_ir::DataPlacement;
use updp_testkit::read_model;
use updp_trainer::data::npz;

use crate::fixtures::folder;
use crate::schemas::assert_valid;

fn program(arguments: &[&str]) -> Output {
    let program = Command::new(env!("CARGO_BIN_EXE_updp-compile")).args(arguments).output();
    program.expect("the program starts")
}

fn data() -> String {
    folder().join("fmnist_test_1000.npz").to_string_lossy().into_owned()
}

fn trained(name: &str) -> String {
    folder().join(format!("trained/fmnist_{name}.bn.onnx")).to_string_lossy().into_owned()
}

/// `evaluate` with the data and their preprocessing; what it prints.
#[track_caller]
fn evaluate(models: &[&str], more: &[&str]) -> String {
    let data = data();
    let fixed = ["--data", &data, "--preprocess", "fashion-mnist"];
    let ran = program(&[&["evaluate"], models, &fixed, more].concat());
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("text")
}

#[track_caller]
fn refused(arguments: &[&str], code: &str, exit: i32) {
    let ran = program(arguments);
    let text = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(exit), "{text}");
    assert!(text.contains(&format!("error[{code}]")), "{text}");
}

/// The shares are those of fixtures/README.md, measured with ONNX Runtime in Python.
#[test]
fn accuracy_is_what_was_measured_with_the_fixtures() {
    let models = [trained("repvgg"), trained("vgg")];
    let report: Value =
        serde_json::from_str(&evaluate(&[&models[0], &models[1]], &["--json"])).expect("JSON");
    assert_valid(&report);
    assert_eq!(report["images"], 1000);
    for (at, expected) in [(0, 0.900), (1, 0.928)] {
        assert_eq!(report["models"][at]["top1"], expected);
        assert!(report["models"][at]["top5"].is_null(), "there are only ten classes");
        let classes = report["classes"].as_array().expect("a list");
        assert_eq!(classes.len(), 10);
        let count = |it: &Value| it["images"].as_f64().expect("a count");
        let right = |it: &Value| it["top1"][at].as_f64().expect("a share") * count(it);
        assert_eq!(classes.iter().map(count).sum::<f64>(), 1000.0);
        let share = classes.iter().map(right).sum::<f64>() / 1000.0;
        assert!((share - expected).abs() < 1e-9, "classes and whole do not agree");
    }
    let alone: Value = serde_json::from_str(&evaluate(&[&models[0]], &["--json"])).expect("JSON");
    assert_valid(&alone);
    assert_eq!(alone["models"][0]["top1"], 0.9);
    assert!(alone["agreement"].is_null() && alone["flipped_count"] == 0);
}

#[test]
fn a_compiled_model_agrees_on_every_image_and_another_one_flips_some() {
    let scene = tempfile::tempdir().expect("a folder");
    let out = scene.path().join("out.onnx").to_string_lossy().into_owned();
    let ran = program(&["compile", &trained("repvgg"), "-o", &out]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = evaluate(&[&trained("repvgg"), &out], &[]);
    assert!(text.contains("100.00 %") && text.contains("0 images change their class"), "{text}");

    let file = scene.path().join("report.json");
    let report = file.to_string_lossy().into_owned();
    let models = [trained("repvgg"), trained("vgg")];
    let text = evaluate(&[&models[0], &models[1]], &["--flipped", "3", "--report", &report]);
    assert!(
        text.contains("the first 3") && text.contains("npz[") && text.contains("label"),
        "{text}"
    );
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(&file).expect("written")).expect("JSON");
    assert_valid(&report);
    let count = report["flipped_count"].as_f64().expect("a count");
    let agreement = report["agreement"].as_f64().expect("two models");
    assert!((1.0 - agreement - count / 1000.0).abs() < 1e-9);
    let flipped = report["flipped"].as_array().expect("a list");
    assert_eq!(flipped.len(), 3);
    assert!(flipped.iter().all(|image| image["first"] != image["second"]));
}

/// The images without their labels.
fn unlabelled(folder: &Path) -> PathBuf {
    let arrays = npz::read_npz(Path::new(&data())).expect("it is read");
    let images = arrays.iter().find(|(name, _)| *name != "labels").expect("images").1;
    let path = folder.join("images.npy");
    let dims: Vec<String> = images.dims().iter().map(ToString::to_string).collect();
    let kind = match images.dtype() {
        updp_ir::DataType::Uint8 => "|u1",
        updp_ir::DataType::Float => "<f4",
        other => panic!("{other}"),
    };
    let mut header =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({},), }}", dims.join(", "));
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(images.bytes().iter());
    std::fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn without_labels_agreement_is_what_there_is() {
    let scene = tempfile::tempdir().expect("a folder");
    let images = unlabelled(scene.path()).to_string_lossy().into_owned();
    let models = [trained("repvgg"), trained("vgg")];
    let fixed = ["--data", &images, "--preprocess", "fashion-mnist"];
    let ran = program(&[&["evaluate", &models[0], &models[1], "--json"], &fixed[..]].concat());
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let report: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    assert_valid(&report);
    assert!(report["models"][0]["top1"].is_null() && report["has_labels"] == false);
    assert!(report["agreement"].as_f64().expect("two models") > 0.5);
    let labelled: Value =
        serde_json::from_str(&evaluate(&[&models[0], &models[1]], &["--json"])).expect("JSON");
    assert_eq!(report["agreement"], labelled["agreement"]);
    refused(&[&["evaluate", &models[0]], &fixed[..]].concat(), "C0001", 2);
}

/// 1000 is no multiple of 48: the last batch is filled up, and no image is lost.
#[test]
fn a_fixed_batch_loses_no_image() {
    let scene = tempfile::tempdir().expect("a folder");
    let mut model = read_model(Path::new(&trained("repvgg")));
    let input = model.graph.required_inputs().next().expect("an input");
    model.graph.set_input_dims(input, &[48, 1, 28, 28]).expect("it fits");
    let bytes = model.encode(&DataPlacement::Inline).expect("small").model_to_bytes();
    let path = scene.path().join("fixed.onnx");
    std::fs::write(&path, bytes).expect("written");
    let fixed = path.to_string_lossy().into_owned();
    let report: Value =
        serde_json::from_str(&evaluate(&[&trained("repvgg"), &fixed], &["--json"])).expect("JSON");
    assert_eq!(report["images"], 1000);
    assert_eq!(report["agreement"], 1.0);
    assert_eq!(report["models"][0]["top1"], report["models"][1]["top1"]);
}

#[test]
fn errors_are_those_of_the_other_commands() {
    let model = trained("repvgg");
    let data = data();
    refused(&["evaluate", &model, "--data", "no/such/folder"], "T0101", 2);
    refused(&["evaluate", &model, "--data", &data, "--preprocess", "no-such"], "T0109", 2);
    refused(&["evaluate", "no/such.onnx", "--data", &data], "C0002", 3);
    refused(&["evaluate", &model], "C0001", 2);
    let ran = program(&["verify", &model, &trained("vgg")]);
    let text = String::from_utf8_lossy(&ran.stderr);
    assert!(text.contains("error[C0008]") && text.contains("updp-compile evaluate A B"), "{text}");
}

#[test]
fn labels_of_other_classes_are_refused_for_one_model() {
    let scene = tempfile::tempdir().expect("a folder");
    let idx = |name: &str, dims: &[u32], values: Vec<u8>| {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
        bytes.extend(values);
        let path = scene.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path.to_string_lossy().into_owned()
    };
    let images = idx("t10k-images-idx3-ubyte", &[4, 28, 28], vec![7; 4 * 28 * 28]);
    idx("t10k-labels-idx1-ubyte", &[4], vec![50, 51, 52, 53]);
    let (one, other) = (trained("repvgg"), trained("vgg"));
    let fixed = ["--data", &images, "--preprocess", "fashion-mnist"];
    refused(&[&["evaluate", &one], &fixed[..]].concat(), "C0001", 2);
    // Two models are compared with each other.
    let ran = program(&[&["evaluate", &one, &other], &fixed[..]].concat());
    let text = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && text.contains("does not have"), "{text}");
}
