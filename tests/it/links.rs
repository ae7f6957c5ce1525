//! External data behind links: allowed beside the real model file, refused elsewhere.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use updp_ir::DataPlacement;
use updp_testkit::{Micro, conv};

use crate::prune::command::{ends, succeeds};

/// Writes a model and its data as `model` and `data`; the model names its data `inner`.
fn write(model: &Path, data: &Path, inner: &str) {
    let mut m = Micro::new(61);
    let x = m.input("x", &[16, 6, 6]);
    let y = m.conv(&x, &conv(16).kernel(3).pad(1).no_bias());
    let y = m.bn(&y);
    m.output(&y);
    let placement = DataPlacement::External { file_name: inner.to_owned() };
    let encoded = m.build().encode(&placement).expect("encodes");
    assert!(encoded.has_data());
    for path in [model, data] {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    }
    std::fs::write(model, encoded.model_to_bytes()).expect("written");
    let mut bytes = Vec::new();
    encoded.write_data(&mut bytes).expect("written");
    std::fs::write(data, bytes).expect("written");
}

fn link(to: impl AsRef<Path>, from: &Path) {
    std::fs::create_dir_all(from.parent().expect("a folder")).expect("made");
    symlink(to, from).expect("linked");
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Compiles, inspects and verifies.
#[track_caller]
fn is_read(folder: &TempDir, model: &Path) {
    let output = text(&folder.path().join("out.onnx"));
    succeeds(&[&text(model), "-o", &output]);
    succeeds(&["verify", &text(model), &output]);
    succeeds(&["inspect", &text(model)]);
}

#[track_caller]
fn is_refused(folder: &TempDir, model: &Path) {
    let output = folder.path().join("out.onnx");
    ends(&[&text(model), "-o", &text(&output)], 3, "error[I0206]");
    assert!(!output.exists());
}

/// The layout of a cache: blobs by hash, and snapshots of links to them.
fn cache(folder: &TempDir, below: &str) -> (PathBuf, PathBuf) {
    let snapshot = folder.path().join("snapshots/abc").join(below);
    (folder.path().join("blobs"), snapshot)
}

#[test]
fn both_files_may_be_links_into_one_folder() {
    for below in ["onnx", "", "a/b"] {
        let folder = TempDir::new().expect("a folder");
        let (blobs, snapshot) = cache(&folder, below);
        write(&blobs.join("0a"), &blobs.join("1b"), "model.onnx.data");
        link(blobs.join("0a"), &snapshot.join("model.onnx"));
        link(blobs.join("1b"), &snapshot.join("model.onnx.data"));
        is_read(&folder, &snapshot.join("model.onnx"));
    }
}

#[test]
fn links_may_be_relative_and_lead_over_links() {
    let folder = TempDir::new().expect("a folder");
    let (blobs, snapshot) = cache(&folder, "onnx");
    write(&blobs.join("0a"), &blobs.join("1b"), "weights/part.bin");
    link("../../../blobs/0a", &snapshot.join("first.onnx"));
    link("first.onnx", &snapshot.join("model.onnx"));
    link("../../../../blobs/1b", &snapshot.join("weights/part.bin"));
    is_read(&folder, &snapshot.join("model.onnx"));
}

#[test]
fn data_elsewhere_stay_refused() {
    // The model is no link, its data are.
    let folder = TempDir::new().expect("a folder");
    let (blobs, snapshot) = cache(&folder, "onnx");
    write(&snapshot.join("model.onnx"), &blobs.join("1b"), "model.onnx.data");
    link(blobs.join("1b"), &snapshot.join("model.onnx.data"));
    is_refused(&folder, &snapshot.join("model.onnx"));
    // Both are links, into different folders.
    for data in ["other/1b", "1b", "blobs_too/1b"] {
        let folder = TempDir::new().expect("a folder");
        let (blobs, snapshot) = cache(&folder, "onnx");
        let data = folder.path().join(data);
        write(&blobs.join("0a"), &data, "model.onnx.data");
        link(blobs.join("0a"), &snapshot.join("model.onnx"));
        link(&data, &snapshot.join("model.onnx.data"));
        is_refused(&folder, &snapshot.join("model.onnx"));
    }
}
