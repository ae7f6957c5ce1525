//! `scripts/release.py`: what it packs it accepts, and what is damaged it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A small copy of the repository: what a release is made of.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { folder: TempDir::new().expect("a folder") };
        let texts = ["README.md", "CHANGELOG.md", "LICENSE", "LICENSE-MIT", "LICENSE-APACHE"];
        for name in texts.iter().chain(&["Cargo.toml", "docs/ci.md"]) {
            scene.write(name, &fs::read_to_string(root().join(name)).expect("text"));
        }
        scene.write("target/THIRD_PARTY_LICENSES.txt", "licences of crates");
        scene.program(env!("CARGO_PKG_VERSION"));
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("text")
    }

    /// A program that says its version.
    fn program(&self, version: &str) {
        self.write("program", &format!("#!/bin/sh\necho updp-compile {version}\n"));
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path("program"), mode).expect("executable");
    }

    /// Runs the script: whether it ends well, and what it says.
    fn script(&self, words: &[&str]) -> (bool, String) {
        let script = root().join("scripts/release.py");
        let mut python = Command::new("python3");
        python.arg(script).args(words).current_dir(self.folder.path());
        let ran = python.env("RELEASE_ROOT", self.folder.path()).output().expect("Python starts");
        let said = [ran.stdout, ran.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
        let said = said.concat();
        assert!(!said.contains("Traceback"), "{said}");
        (ran.status.success(), said)
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let (is_done, said) = self.script(words);
        assert!(is_done, "{said}");
        said
    }

    #[track_caller]
    fn refuses(&self, words: &[&str], reason: &str) {
        let (is_done, said) = self.script(words);
        assert!(!is_done && said.contains(reason), "{reason:?} in {said}");
    }

    /// Packs and sums.
    fn pack(&self) -> String {
        self.does(&["archive", "program", TARGET, "out"]);
        self.does(&["sums", "out"]);
        format!("out/updp-compile-{}-{TARGET}.tar.gz", env!("CARGO_PKG_VERSION"))
    }
}

#[test]
fn an_archive_is_verified_and_the_same_files_give_the_same_bytes() {
    let scene = Scene::new();
    let archive = scene.pack();
    let first = fs::read(scene.path(&archive)).expect("an archive");
    let said = scene.does(&["verify", "out", "--run", TARGET]);
    assert!(said.contains("and the program says"), "{said}");
    // The checksums are in the form that sha256sum reads.
    let mut sums = Command::new("sha256sum");
    let ran = sums.args(["-c", "SHA256SUMS"]).current_dir(scene.path("out")).output();
    let ran = ran.expect("sha256sum starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    scene.pack();
    assert!(fs::read(scene.path(&archive)).expect("an archive") == first, "two archives differ");
    scene.does(&["archive", "program", "x86_64-pc-windows-msvc", "out"]);
    scene.does(&["sums", "out"]);
    let said = scene.does(&["verify", "out", "--run", TARGET]);
    assert!(said.contains(".zip: names and size are right; not run"), "{said}");
}

#[test]
fn damage_another_version_and_strange_files_are_refused() {
    let scene = Scene::new();
    let archive = scene.pack();
    let mut bytes = fs::read(scene.path(&archive)).expect("an archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(scene.path(&archive), &bytes).expect("written");
    scene.refuses(&["verify", "out"], "another checksum");
    scene.pack();
    scene.write("out/more.txt", "not listed");
    scene.refuses(&["verify", "out"], "SHA256SUMS lists");
    scene.does(&["sums", "out"]);
    scene.refuses(&["verify", "out"], "more.txt is not of version");
    fs::remove_file(scene.path("out/more.txt")).expect("removed");
    scene.program("9.9.9");
    scene.pack();
    scene.refuses(&["verify", "out", "--run", TARGET], "the program says");
    scene.refuses(&["verify", "out", "--run", "aarch64-apple-darwin"], "there is no archive for");
    scene.write("out/updp_compile-9.9.9-py3-none-any.whl", "a wheel");
    scene.does(&["sums", "out"]);
    scene.refuses(&["verify", "out"], "9.9.9-py3-none-any.whl is not of version");
}

#[test]
fn a_new_version_reaches_every_file_and_cuts_the_changelog() {
    let scene = Scene::new();
    let old = env!("CARGO_PKG_VERSION");
    scene.write("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n\n- new\n");
    scene.refuses(&["set-version", "1.2", "2026-12-31"], "give a version");
    scene.does(&["set-version", "7.8.9", "2026-12-31"]);
    let manifest = scene.read("Cargo.toml");
    let own = manifest.lines().filter(|line| line.starts_with("updp-") && line.contains("path ="));
    for line in own.filter(|line| line.contains("version")) {
        assert!(line.contains("version = \"7.8.9\""), "{line}");
    }
    assert!(manifest.contains("\nversion = \"7.8.9\"\n"), "{manifest}");
    assert_eq!(manifest.matches("version = \"7.8.9\"").count(), 8, "the workspace and 7 crates");
    assert!(scene.read("CHANGELOG.md").contains("\n## [7.8.9] - 2026-12-31\n"));
    scene.refuses(&["set-version", "7.9.0", "2026-12-31"], "no heading [Unreleased]");
    let page = scene.read("docs/ci.md");
    assert!(page.contains("updp-compile@v7.8.9") && !page.contains(&format!("compile@v{old}")));
}

#[test]
fn the_manifests_and_the_changelog_of_the_repository_agree() {
    let script = root().join("scripts/release.py");
    let check = |tag: &[&str]| {
        let mut python = Command::new("python3");
        let ran = python.arg(&script).arg("check").args(tag).output().expect("Python starts");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        (ran.status.success(), said)
    };
    let (is_right, said) = check(&[]);
    assert!(is_right, "{said}");
    let (is_right, said) = check(&["--tag", "v99.0.0"]);
    assert!(!is_right && said.contains("the tag is v99.0.0"), "{said}");
}

#[test]
fn packed_crates_have_their_texts_and_sources_and_nothing_of_the_tests() {
    let crates = ["ir", "autodiff", "passes", "exec", "verify", "trainer", "prune", "compile"];
    for name in crates.map(|name| format!("updp-{name}")) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["package", "--list", "--offline", "--locked", "--allow-dirty", "-p", &name]);
        let ran = cargo.current_dir(root()).output().expect("cargo starts");
        let list = String::from_utf8_lossy(&ran.stdout).into_owned();
        let files: Vec<&str> = list.lines().collect();
        assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "src/lib.rs"] {
            assert!(files.contains(&file), "{name} lacks {file}");
        }
        let strange = ["tests/", "fixtures/", "examples/", "scripts/", "target/"];
        for file in files {
            assert!(!strange.iter().any(|folder| file.starts_with(folder)), "{name} has {file}");
        }
    }
}
