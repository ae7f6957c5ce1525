//! Pruning blocks that exact surgery does not open, from the command line: a classifier with gates and a plain CNN.

use std::path::Path;

use indexmap::IndexMap;
use serde_json::Value;
use tempfile::TempDir;
use updp_ir::{DataType, Node};
use updp_testkit::{Micro, Val, conv, encode, gemm, op_counts, read_model};

use super::command::{arguments, data};
use crate::prune::command::{ends, json, succeeds};

fn head(m: &mut Micro, x: &Val) {
    let pooled = m.unary("GlobalAveragePool", x);
    let flat = Val { rank: 2, ..m.apply(Node::new("Flatten"), &[&pooled]) };
    let y = m.gemm(&flat, &gemm(10));
    m.output(&y);
}

/// A stem, three inverted residuals with squeeze-and-excitation gates, and a head.
fn gated() -> Micro {
    let mut m = Micro::new(1);
    let x = m.input("x", &[1, 28, 28]);
    let mut at = m.conv(&x, &conv(8).kernel(3).stride(4).pad(1));
    for _ in 0..3 {
        let a = m.conv(&at, &conv(16));
        let a = m.unary("HardSwish", &a);
        let b = m.conv(&a, &conv(16).kernel(3).pad(1).groups(16));
        let b = m.unary("HardSwish", &b);
        let s = m.unary("GlobalAveragePool", &b);
        let s = m.conv(&s, &conv(4));
        let s = m.unary("Relu", &s);
        let s = m.conv(&s, &conv(16));
        let s = m.unary("HardSigmoid", &s);
        let b = m.apply(Node::new("Mul"), &[&b, &s]);
        let c = m.conv(&b, &conv(8));
        at = m.add(&c, &at);
    }
    head(&mut m, &at);
    m
}

/// Six plain convolutions, with a `LeakyRelu` behind each and a pool behind every second.
fn plain() -> Micro {
    let mut m = Micro::new(2);
    let x = m.input("x", &[1, 28, 28]);
    let mut at = x;
    for (layer, channels) in [8, 8, 8, 12, 12, 12].into_iter().enumerate() {
        at = m.conv(&at, &conv(channels).kernel(3).pad(1));
        at = m.unary("LeakyRelu", &at);
        if layer != 2 {
            let node = Node::new("MaxPool")
                .with("kernel_shape", vec![2_i64, 2])
                .with("strides", vec![2_i64, 2])
                .with("ceil_mode", 1_i64);
            at = m.apply(node, &[&at]);
        }
    }
    head(&mut m, &at);
    m
}

fn written(m: &Micro) -> (TempDir, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (input, output) = (path("in.onnx"), path("out.onnx"));
    std::fs::write(&input, encode(&m.build())).expect("written");
    (folder, input, output)
}

fn pruned(m: &Micro, count: usize) -> (Value, usize, usize) {
    let (folder, input, output) = written(m);
    let report = folder.path().join("r.json");
    let (report_text, count_text) = (report.display().to_string(), count.to_string());
    let data = data();
    let more =
        ["--prune", &count_text, "--force", "--allow-low-accuracy", "--report", &report_text];
    let text = succeeds(&arguments(&input, &output, &data, &more));
    assert!(text.contains(&format!("{count} of ")), "{text}");
    let convs = |path: &str| {
        op_counts(&read_model(Path::new(path)).graph).get("Conv").copied().unwrap_or(0)
    };
    let report = json(&report);
    // Where nothing is left to merge, there is nothing to compare.
    let status = report["verification"]["status"].as_str();
    assert!(matches!(status, Some("passed" | "unchanged")), "{status:?}");
    let values: Vec<f64> = (0..2 * 28 * 28).map(|at| f64::from(at % 7)).collect();
    let images = updp_testkit::tensor(DataType::Float, &[2, 1, 28, 28], &values);
    let given = IndexMap::from([("x".to_owned(), images)]);
    let made = updp_testkit::run(&read_model(Path::new(&output)), &given);
    let answers = made[0].to_f64().expect("numbers");
    assert!(answers.len() == 20 && answers.iter().all(|value| value.is_finite()), "{answers:?}");
    (report, convs(&input), convs(&output))
}

#[test]
fn blocks_with_gates_are_pruned_with_images() {
    let (report, before, after) = pruned(&gated(), 2);
    // Two blocks lose at least their expansion, their depthwise convolution and their gate.
    assert!(after + 2 * 4 <= before, "{before} -> {after}");
    let found = report["pruning"]["fit"]["blocks"].as_array().expect("a list");
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|block| block["kind"] == "inverted-residual"), "{found:?}");
}

#[test]
fn chains_over_pools_are_pruned_with_images() {
    let (report, before, after) = pruned(&plain(), 1);
    assert!(after < before, "{before} -> {after}");
    let found = report["pruning"]["fit"]["blocks"].as_array().expect("a list");
    assert!(found.iter().all(|block| block["kind"] == "chain"), "{found:?}");
}

#[test]
fn what_needs_exact_surgery_says_that_the_block_has_none() {
    let (_folder, input, output) = written(&gated());
    let none = ["prune", &input, "-o", &output, "--blocks", "1", "--recover", "none"];
    let text = ends(&none, 6, "squeeze-and-excitation");
    assert!(text.contains("--data"), "{text}");
    let data = data();
    let more =
        ["--blocks", "1", "--epochs", "1", "--method", "progressive", "--allow-low-accuracy"];
    ends(&arguments(&input, &output, &data, &more), 6, "--method fit and blend");
    assert!(!Path::new(&output).exists());
}

#[test]
fn inspect_lists_the_forms_of_blocks_that_are_only_fitted() {
    let (_folder, input, _output) = written(&gated());
    let text = succeeds(&["inspect", &input]);
    assert!(text.contains("only with images"), "{text}");
    assert!(text.contains("conv, dwpw, pw, low-rank, drop"), "{text}");
    let json = succeeds(&["inspect", &input, "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let block = &json["blocks"][0];
    assert_eq!(block["prunable"], true);
    assert!(block["fit_only"].as_str().is_some_and(|it| it.contains("gate")), "{block}");
}
