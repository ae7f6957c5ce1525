//! The pages of commands that do not prune: compile, evaluate and finetune, each in a browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use updp_testkit::{find_ort, skip};

use crate::browser::assert_shows;
use crate::fixtures::folder;

/// Runs a command with `--report` and returns its page; the folder lives as long as the page is needed.
#[track_caller]
fn page(arguments: &[&str]) -> (TempDir, PathBuf) {
    let scene = tempfile::tempdir().expect("a folder");
    let path = scene.path().join("r.html");
    let mut command = Command::new(env!("CARGO_BIN_EXE_updp-compile"));
    let ran = command.current_dir(scene.path()).args(arguments).args(["--report", "r.html"]);
    let ran = ran.output().expect("the program starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    (scene, path)
}

fn model(name: &str) -> String {
    folder().join(format!("trained/fmnist_{name}.bn.onnx")).to_string_lossy().into_owned()
}

fn data() -> String {
    folder().join("fmnist_test_1000.npz").to_string_lossy().into_owned()
}

/// SHA-256 of a file as another program says it; `None` where there is no such program.
fn sha256(path: &Path) -> Option<String> {
    let ran = Command::new("sha256sum").arg(path).output().ok()?;
    String::from_utf8(ran.stdout).ok()?.split_whitespace().next().map(str::to_owned)
}

#[test]
fn a_compilation_is_shown_with_its_command_and_the_hashes_of_both_models() {
    let input = model("repvgg");
    let (scene, page) = page(&["compile", &input, "-o", "my out.onnx", "--threads", "1"]);
    let headings = ["Verification", "Sizes", "Rewrites", "Network before and after"];
    assert_shows(&page, &headings);
    assert_shows(&page, &["How this page was made"]);
    let html = std::fs::read_to_string(&page).expect("written");
    let command = format!(
        "updp-compile compile {input} -o &#39;my out.onnx&#39; --threads 1 --report r.html"
    );
    assert!(html.contains(&command), "{command}: {html}");
    assert!(html.contains("<dt>Threads</dt><dd>1</dd>"), "{html}");
    for path in [Path::new(&input), &scene.path().join("my out.onnx")] {
        if let Some(hash) = sha256(path) {
            assert!(html.contains(&hash), "{hash} of {}", path.display());
        }
    }
}

#[test]
fn pruning_of_the_structure_alone_is_shown_as_not_usable() {
    let input = model("resnet");
    let more = ["--blocks", "1,2", "--recover", "none", "--no-verify"];
    let (_scene, page) = page(&[&["prune", &input, "-o", "out.onnx"], &more[..]].concat());
    assert_shows(&page, &["Warning", "Multiply-adds of the pruned blocks", "Sizes"]);
}

#[test]
fn an_evaluation_is_shown_with_the_change_of_each_class() {
    let (first, second, data) = (model("repvgg"), model("vgg"), data());
    let fixed = ["--data", &data, "--preprocess", "fashion-mnist", "--images", "200"];
    let (_scene, page) = page(&[&["evaluate", &first, &second], &fixed[..]].concat());
    let headings = ["Change of each class", "Classes", "Images that change their class"];
    assert_shows(&page, &headings);
}

#[test]
fn a_training_is_shown_with_its_curves() {
    if find_ort().is_none() {
        return skip("a training as a page", "there is no ONNX Runtime");
    }
    let (input, data) = (model("vgg"), data());
    let fixed = ["--data", &data, "--preprocess", "fashion-mnist", "--val-split", "0.5"];
    let short = ["--images", "64", "--epochs", "2", "--batch-size", "16"];
    let (_scene, page) =
        page(&[&["finetune", &input, "-o", "out.onnx"], &fixed[..], &short[..]].concat());
    assert_shows(&page, &["Training", "How this page was made"]);
}
