//! The programs in `examples/` do what they say.

use std::path::PathBuf;

use updp_testkit::{find_ort, skip};

use crate::fixtures::folder;

#[path = "../../examples/compile.rs"]
#[expect(dead_code, reason = "the test calls what `main` calls")]
mod compile;

#[path = "../../examples/prune.rs"]
#[expect(dead_code, reason = "the test calls what `main` calls")]
mod prune;

#[path = "../../examples/finetune.rs"]
#[expect(dead_code, reason = "the test calls what `main` calls")]
mod finetune;

/// A folder for the result, the model of that name, and the images it knows.
fn scene(model: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let images = folder().join("fmnist_test_1000.npz");
    (tempfile::tempdir().expect("a folder"), folder().join(model), images)
}

#[test]
fn compiling_a_file_writes_a_smaller_network() {
    let scene = tempfile::tempdir().expect("a folder");
    let out = scene.path().join("out.onnx");
    let model = folder().join("trained/fmnist_repvgg.bn.onnx");
    let text = compile::run(&model, &out).expect("it compiles");
    assert!(text.contains("verification: passed"), "{text}");
    assert!(out.is_file());
}

#[test]
fn pruning_with_images_names_its_blocks_and_stages() {
    let (scene, model, images) = scene("trained/fmnist_resnet.bn.onnx");
    let out = scene.path().join("out.onnx");
    let text = prune::run(&model, &out, &images, "fashion-mnist", 1).expect("it prunes");
    assert_eq!(text.lines().filter(|line| line.starts_with("block ")).count(), 1, "{text}");
    for stage in ["measuring blocks", "fitting blocks", "measuring the result"] {
        assert!(text.contains(stage), "{stage}: {text}");
    }
    assert!(text.contains("after:  accuracy"), "{text}");
    assert!(out.is_file());
}

#[test]
fn fine_tuning_tells_every_epoch() {
    if find_ort().is_none() {
        return skip("fine_tuning_tells_every_epoch", "ONNX Runtime is missing");
    }
    let (scene, model, images) = scene("trained/fmnist_resnet.bn.onnx");
    let out = scene.path().join("out.onnx");
    let text = finetune::run(&model, &out, &images, "fashion-mnist", 2).expect("it trains");
    assert!(text.contains("epoch 1: accuracy") && text.contains("epoch 2: accuracy"), "{text}");
    assert!(out.is_file());
}
