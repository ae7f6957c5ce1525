//! Real exports and trained networks: outputs, node counts, bytes.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::Value as Json;
use updp_ir::{Model, Tensor};
use updp_testkit::{
    Inputs, decode, encode, node_total, op_counts, prove_network, read_model, run, signature,
};

use crate::compile::compile;

/// Limit against the exporter's own output, as max|Δ| / max|ref|: the limit of issue 2.
const EXPORTER_LIMIT: f64 = 1e-5;

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn models(part: &str) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder().join(part)).expect("fixtures are committed");
    let mut models: Vec<(String, PathBuf)> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), path))
        .collect();
    models.sort();
    assert!(!models.is_empty(), "no fixtures in {part}");
    models
}

fn manifest() -> Json {
    let text = std::fs::read_to_string(folder().join("exported/manifest.json")).expect("committed");
    serde_json::from_str(&text).expect("JSON")
}

fn compiled(path: &Path) -> Model {
    let mut model = read_model(path);
    compile(&mut model);
    model
}

fn recorded_input(name: &str) -> Tensor {
    let raw = std::fs::read(folder().join("exported").join(name)).expect("committed");
    let size = if name == "input_64.f32" { 64 } else { 32 };
    let values: Vec<f32> =
        raw.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    Tensor::from_f32(vec![2, 3, size, size], &values).expect("two images")
}

#[test]
fn exported_models_give_the_exporters_own_outputs() {
    let manifest = manifest();
    let mut failures = Vec::new();
    for (name, path) in models("exported") {
        let row = &manifest[&name];
        if row["ort_max_abs_err"].is_null() {
            continue;
        }
        let expected: Vec<f64> = row["output"]
            .as_array()
            .expect("numbers")
            .iter()
            .map(|number| number.as_f64().expect("a number"))
            .collect();
        let model = compiled(&path);
        let input = model.graph.required_inputs().next().expect("one input");
        let input = model.graph.value(input).name().to_owned();
        let file = row["input"].as_str().expect("a file name");
        let inputs: Inputs = IndexMap::from([(input, recorded_input(file))]);
        let outputs = run(&model, &inputs);
        let found = outputs[0].to_f64().expect("floats");
        assert_eq!(found.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0.0_f64, |largest, v| largest.max(v.abs()));
        let apart =
            expected.iter().zip(&found).fold(0.0_f64, |apart, (a, b)| apart.max((a - b).abs()));
        println!("{name}: {:.2e}, {} nodes", apart / largest, node_total(&model.graph));
        if apart > EXPORTER_LIMIT * largest {
            failures.push(format!("{name}: {:.2e}", apart / largest));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn exported_models_keep_their_signature_and_function() {
    for (name, path) in models("exported") {
        let before = read_model(&path);
        let after = compiled(&path);
        assert_eq!(signature(&before), signature(&after), "{name}");
        assert!(node_total(&after.graph) <= node_total(&before.graph), "{name}");
        if !name.contains("-train") {
            println!("{name}");
            prove_network(&before, &after);
        }
    }
}

#[test]
fn a_model_in_training_form_keeps_its_norms() {
    let path = folder().join("exported/tv_vgg_mini.legacy17-train.onnx");
    let (before, after) = (read_model(&path), compiled(&path));
    let (was, is) = (op_counts(&before.graph), op_counts(&after.graph));
    for op in ["Conv", "BatchNormalization", "Dropout", "Relu", "Gemm"] {
        assert_eq!(is.get(op), was.get(op), "{op}");
    }
}

#[test]
fn trained_networks_stay_the_same_function() {
    for (name, path) in models("trained") {
        let before = read_model(&path);
        let after = compiled(&path);
        println!("{name}: {} -> {}", node_total(&before.graph), node_total(&after.graph));
        prove_network(&before, &after);
        assert!(!op_counts(&after.graph).contains_key("BatchNormalization"), "{name}");
    }
}

#[test]
fn train_forms_end_as_plain_networks() {
    for (name, nodes) in [
        ("exported/timm_repvgg_mini.legacy17-preserve.onnx", 19),
        ("exported/timm_repvgg_mini.legacy17-eval.onnx", 19),
        ("exported/timm_mobileone_mini.legacy17-preserve.onnx", 17),
        ("exported/tv_resnet18_mini.legacy17-preserve.onnx", 48),
        ("exported/tv_resnet34_mini.legacy17-preserve.onnx", 88),
        ("exported/tv_vgg_mini.legacy13-preserve.onnx", 23),
    ] {
        let after = compiled(&folder().join(name));
        let counts = op_counts(&after.graph);
        assert_eq!(node_total(&after.graph), nodes, "{name}: {counts:?}");
    }
}

#[test]
fn folded_and_kept_exports_end_alike() {
    for (kept, folded) in [
        ("timm_repvgg_mini.legacy17-preserve.onnx", "timm_repvgg_mini.legacy17-eval.onnx"),
        ("tv_resnet18_mini.legacy17-preserve.onnx", "tv_resnet18_mini.legacy17-eval.onnx"),
    ] {
        let counts = |name: &str| op_counts(&compiled(&folder().join("exported").join(name)).graph);
        assert_eq!(counts(kept), counts(folded), "{kept}");
    }
}

#[test]
fn the_same_input_twice_gives_the_same_bytes_and_again_changes_nothing() {
    for part in ["exported", "trained"] {
        for (name, path) in models(part) {
            let bytes = encode(&compiled(&path));
            assert!(bytes == encode(&compiled(&path)), "{name}: two runs differ");
            let mut again = decode(bytes.clone()).expect("reads its own output");
            let log = compile(&mut again);
            assert!(encode(&again) == bytes, "{name}: {:?}", log.rewrites);
        }
    }
}
