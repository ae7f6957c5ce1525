//! The pages of commands that do not prune: compile, evaluate and finetune, each in a browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use updp_testkit::{find_ort, skip};

use crate::browser::assert_shows;
use crate::fixtures::folder;

/// A folder whose path is one long word: no page may be wider than its window because of it.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        let name = "a_path_as_long_as_people_give_to_their_data_sets_with_no_space_in_it_";
        Self(tempfile::Builder::new().prefix(name).tempdir().expect("a folder"))
    }

    /// Copies a file of the fixtures into the folder and returns its path.
    fn copy(&self, name: &str) -> String {
        let from = folder().join(name);
        let to = self.0.path().join(from.file_name().expect("a file"));
        std::fs::copy(from, &to).expect("a fixture");
        to.to_string_lossy().into_owned()
    }

    fn model(&self, name: &str) -> String {
        self.copy(&format!("trained/fmnist_{name}.bn.onnx"))
    }

    fn data(&self) -> String {
        self.copy("fmnist_test_1000.npz")
    }

    /// Runs a command with `--report` and returns its page.
    #[track_caller]
    fn page(&self, arguments: &[&str]) -> PathBuf {
        let mut command = Command::new(env!("CARGO_BIN_EXE_updp-compile"));
        let ran = command.current_dir(self.0.path()).args(arguments).args(["--report", "r.html"]);
        let ran = ran.output().expect("the program starts");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        self.0.path().join("r.html")
    }
}

/// SHA-256 of a file as another program says it; `None` where there is no such program.
fn sha256(path: &Path) -> Option<String> {
    let ran = Command::new("sha256sum").arg(path).output().ok()?;
    String::from_utf8(ran.stdout).ok()?.split_whitespace().next().map(str::to_owned)
}

#[test]
fn a_compilation_is_shown_with_its_command_and_the_hashes_of_both_models() {
    let scene = Scene::new();
    let input = scene.model("repvgg");
    let page = scene.page(&["compile", &input, "-o", "my out.onnx", "--threads", "1"]);
    let headings = ["Verification", "Sizes", "Rewrites", "Network before and after"];
    assert_shows(&page, &headings);
    assert_shows(&page, &["How this page was made"]);
    let html = std::fs::read_to_string(&page).expect("written");
    let command = format!(
        "updp-compile compile {input} -o &#39;my out.onnx&#39; --threads 1 --report r.html"
    );
    assert!(html.contains(&command), "{command}: {html}");
    assert!(html.contains("<dt>Threads</dt><dd>1</dd>"), "{html}");
    for path in [Path::new(&input), &scene.0.path().join("my out.onnx")] {
        if let Some(hash) = sha256(path) {
            assert!(html.contains(&hash), "{hash} of {}", path.display());
        }
    }
}

#[test]
fn pruning_of_the_structure_alone_is_shown_as_not_usable() {
    let scene = Scene::new();
    let input = scene.model("resnet");
    let more = ["--blocks", "1,2", "--recover", "none", "--no-verify"];
    let page = scene.page(&[&["prune", &input, "-o", "out.onnx"], &more[..]].concat());
    assert_shows(&page, &["Warning", "Multiply-adds of the pruned blocks", "Sizes"]);
}

#[test]
fn an_evaluation_is_shown_with_the_change_of_each_class() {
    let scene = Scene::new();
    let (first, second, data) = (scene.model("repvgg"), scene.model("vgg"), scene.data());
    let fixed = ["--data", &data, "--preprocess", "fashion-mnist", "--images", "200"];
    let page = scene.page(&[&["evaluate", &first, &second], &fixed[..]].concat());
    let headings = ["Change of each class", "Classes", "Images that change their class"];
    assert_shows(&page, &headings);
}

#[test]
fn a_training_is_shown_with_its_curves() {
    if find_ort().is_none() {
        return skip("a training as a page", "there is no ONNX Runtime");
    }
    let scene = Scene::new();
    let (input, data) = (scene.model("vgg"), scene.data());
    let fixed = ["--data", &data, "--preprocess", "fashion-mnist", "--val-split", "0.5"];
    let short = ["--images", "64", "--epochs", "2", "--batch-size", "16"];
    let page =
        scene.page(&[&["finetune", &input, "-o", "out.onnx"], &fixed[..], &short[..]].concat());
    assert_shows(&page, &["Training", "How this page was made"]);
}

#[test]
fn latencies_are_shown_of_whole_models_and_of_blocks() {
    let scene = Scene::new();
    let (first, second) = (scene.model("repvgg"), scene.model("vgg"));
    let page = scene.page(&["bench", &first, &second, "--seconds", "0.2", "--threads", "1"]);
    assert_shows(&page, &["Latency", "How this page was made"]);
    let html = std::fs::read_to_string(&page).expect("written");
    assert!(html.contains("Speed of B against A"), "{html}");
    let page = scene.page(&["bench", &first, "--per-block", "--seconds", "0.5", "--threads", "1"]);
    assert_shows(&page, &["Blocks", "How this page was made"]);
    let html = std::fs::read_to_string(&page).expect("written");
    assert!(html.contains(">conv<"), "{html}");
}
