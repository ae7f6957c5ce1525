//! Which ONNX Runtime is found, what `doctor` says of it, and that a fallback to tract is told.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use updp_testkit::{find_ort, skip};

use crate::fixtures::folder;
use crate::schemas::assert_valid;

/// A machine with nothing on it: this program outside of its repository, and no variable set.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().expect("a folder") };
        let program = scene.at("app/bin/updp-compile");
        fs::create_dir_all(program.parent().expect("a folder")).expect("made");
        if fs::hard_link(env!("CARGO_BIN_EXE_updp-compile"), &program).is_err() {
            fs::copy(env!("CARGO_BIN_EXE_updp-compile"), &program).expect("copied");
        }
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An environment of Python with a file as its library, and an interpreter that must not be started.
    fn environment(&self, name: &str, version: &str, library: Option<&Path>) -> PathBuf {
        let capi = self.at(name).join("lib/python3.12/site-packages/onnxruntime/capi");
        fs::create_dir_all(&capi).expect("made");
        let file = capi.join(format!("libonnxruntime.so.{version}"));
        match library {
            Some(library) => symlink(library, &file).expect("linked"),
            None => fs::write(&file, b"no library").expect("written"),
        }
        let python = self.at(name).join("bin/python3");
        fs::create_dir_all(python.parent().expect("a folder")).expect("made");
        let started = self.at("started");
        fs::write(&python, format!("#!/bin/sh\ntouch '{}'\n", started.display())).expect("written");
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).expect("set");
        file
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.at("app/bin/updp-compile"));
        command.env_clear().env("HOME", self.at("home")).env("PATH", self.at("nothing"));
        command
    }

    fn doctor(&self, set: &[(&str, &Path)], code: i32) -> Value {
        let mut command = self.command();
        command.args(["doctor", "--json"]).envs(set.iter().copied());
        let ran = command.output().expect("the program starts");
        assert_eq!(ran.status.code(), Some(code), "{}", told(&ran));
        let report = serde_json::from_slice(&ran.stdout).expect("JSON");
        assert_valid(&report);
        assert!(!self.at("started").exists(), "an interpreter was started");
        report
    }
}

fn told(ran: &Output) -> String {
    String::from_utf8_lossy(&ran.stderr).into_owned()
}

fn paths(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|it| it["path"].as_str()).collect()
}

/// Whether the system itself has a library, so that nothing can be missing.
fn system_has_one(report: &Value, test: &str) -> bool {
    let is_there = report["library"]["place"] == "system";
    if is_there {
        println!("{test}: the system has a library");
    }
    is_there
}

#[test]
fn what_works_is_shown_with_its_place_and_the_machine() {
    let Some(library) = find_ort() else {
        return skip("what_works_is_shown_with_its_place_and_the_machine", "no library");
    };
    let scene = Scene::new();
    let report = scene.doctor(&[("ORT_DYLIB_PATH", &library)], 0);
    assert_eq!((&report["works"], &report["error"]), (&true.into(), &Value::Null));
    assert_eq!(report["library"]["place"], "variable");
    let cpu = report["providers"].as_array().expect("a list").iter();
    let cpu = cpu.clone().find(|it| it["name"] == "CPUExecutionProvider").expect("offered");
    assert_eq!(cpu["is_usable"], true);
    let mut command = scene.command();
    let ran = command.arg("doctor").env("ORT_DYLIB_PATH", &library).output().expect("it starts");
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert_eq!(ran.status.code(), Some(0), "{}", told(&ran));
    let version = report["library"]["version"].as_str().expect("text");
    for part in
        [&format!("ONNX Runtime {version} works"), "tract ", "  threads ", "  memory ", " free"]
    {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

#[test]
fn where_nothing_is_found_the_command_to_type_is_told() {
    let scene = Scene::new();
    let mut command = scene.command();
    let ran = command.args(["doctor", "--json"]).output().expect("the program starts");
    let report: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    assert_valid(&report);
    if system_has_one(&report, "where_nothing_is_found_the_command_to_type_is_told") {
        return;
    }
    assert_eq!(ran.status.code(), Some(8), "{}", told(&ran));
    assert!(told(&ran).contains("error[X0001]"), "{}", told(&ran));
    assert_eq!((&report["works"], &report["library"]), (&false.into(), &Value::Null));
    let commands = report["cures"].as_array().expect("a list").iter();
    let commands: Vec<_> = commands.filter_map(|it| it["command"].as_str()).collect();
    assert!(commands.contains(&"pip install 'onnxruntime>=1.24'"), "{commands:?}");
    assert!(commands.iter().any(|it| it.starts_with("export ORT_DYLIB_PATH=")), "{commands:?}");
    assert!(!report["searched"].as_array().expect("a list").is_empty());
}

#[test]
fn a_python_on_the_path_brings_its_runtime_and_an_old_one_is_passed_over() {
    let test = "a_python_on_the_path_brings_its_runtime_and_an_old_one_is_passed_over";
    let Some(library) = find_ort() else { return skip(test, "no library") };
    let library = library.canonicalize().expect("there");
    let scene = Scene::new();
    let old = scene.environment("old", "1.20.1", None);
    let report = scene.doctor(&[("VIRTUAL_ENV", &scene.at("old"))], 8);
    if !system_has_one(&report, test) {
        assert_eq!(report["error"]["code"], "X0003");
        let commands = report["cures"][0]["command"].as_str().expect("text");
        assert_eq!(commands, "pip install --upgrade 'onnxruntime>=1.24'");
    }
    scene.environment("new", "1.99.0", Some(&library));
    let set = [("VIRTUAL_ENV", scene.at("old")), ("PATH", scene.at("new/bin"))];
    let set = [("VIRTUAL_ENV", set[0].1.as_path()), ("PATH", set[1].1.as_path())];
    let report = scene.doctor(&set, 0);
    assert_eq!(report["library"]["place"], "python");
    assert_eq!(report["library"]["path"], library.display().to_string());
    assert_eq!(report["pythons"][0], scene.at("new/bin/python3").display().to_string());
    let passed = &report["passed_over"];
    assert!(paths(passed).contains(&old.display().to_string().as_str()), "{passed}");
    assert!(passed.to_string().contains("older than 1.24"), "{passed}");
    // One that cannot be loaded is passed over for the next.
    scene.environment("broken", "1.99.9", None);
    let set = [("CONDA_PREFIX", scene.at("broken")), ("PATH", scene.at("new/bin"))];
    let set = [("CONDA_PREFIX", set[0].1.as_path()), ("PATH", set[1].1.as_path())];
    let report = scene.doctor(&set, 0);
    assert_eq!(report["library"]["place"], "python");
    let reason = report["passed_over"][0]["reason"].as_str().expect("text");
    assert!(reason.contains("not a usable"), "{reason}");
    let model = folder().join("trained/fmnist_vgg.bn.onnx");
    let mut bench = scene.command();
    bench.arg("bench").arg(&model).args(["--seconds", "0.1"]).env("PATH", scene.at("new/bin"));
    let ran = bench.output().expect("the program starts");
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(text.contains("in ONNX Runtime"), "{text}{}", told(&ran));
    assert!(!told(&ran).contains("tract"), "{}", told(&ran));
}

#[test]
fn a_named_library_that_does_not_work_is_an_error_with_a_cure() {
    let scene = Scene::new();
    let file = scene.environment("broken", "1.99.0", None);
    let report = scene.doctor(&[("ORT_DYLIB_PATH", &file)], 8);
    assert_eq!(report["error"]["code"], "X0002");
    assert_eq!(report["cures"][0]["command"], "unset ORT_DYLIB_PATH");
    let report = scene.doctor(&[("ORT_DYLIB_PATH", &scene.at("missing.so"))], 8);
    assert_eq!(report["error"]["code"], "X0002");
}

#[test]
fn a_library_that_ends_its_process_does_not_end_doctor() {
    let scene = Scene::new();
    let (source, library) = (scene.at("crash.rs"), scene.at("libonnxruntime.so"));
    let text = "#[unsafe(no_mangle)]\npub extern \"C\" fn OrtGetApiBase() -> *const u8 { std::process::abort() }\n";
    fs::write(&source, text).expect("written");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "--crate-type", "cdylib", "-o"]).arg(&library).arg(&source);
    let Ok(built) = rustc.output() else {
        return skip("a_library_that_ends_its_process_does_not_end_doctor", "no rustc");
    };
    assert!(built.status.success(), "{}", told(&built));
    let report = scene.doctor(&[("ORT_DYLIB_PATH", &library)], 8);
    assert_eq!(report["error"]["code"], "X0404");
    assert_eq!(report["works"], false);
}

#[test]
fn a_fallback_to_tract_is_told_once_in_every_command_that_runs_models() {
    let scene = Scene::new();
    let model = folder().join("trained/fmnist_vgg.bn.onnx").display().to_string();
    let output = scene.at("out.onnx").display().to_string();
    let images = folder().join("fmnist_test_1000.npz").display().to_string();
    let some = ["--preprocess", "fashion-mnist", "--images", "20"];
    let evaluate = [&["evaluate", &model, "--data", &images], &some[..]].concat();
    let commands: [&[&str]; 4] = [
        &["compile", &model, "-o", &output],
        &["verify", &model, &model],
        &["bench", &model, "--seconds", "0.1"],
        &evaluate,
    ];
    for words in commands {
        let ran = scene.command().args(words).output().expect("the program starts");
        let text = told(&ran);
        assert_eq!(ran.status.code(), Some(0), "{words:?}: {text}");
        if scene.command().arg("doctor").output().is_ok_and(|it| it.status.success()) {
            return println!("the system has a library");
        }
        let lines = text.lines().filter(|line| line.contains("the built-in tract runs models"));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{words:?}: {text}");
        assert!(lines[0].contains("X0001") && lines[0].contains("updp-compile doctor"), "{text}");
        let mut asked = scene.command();
        let ran = asked.args(words).args(["--runtime", "tract"]).output().expect("it starts");
        assert!(!told(&ran).contains("built-in"), "it was asked for: {}", told(&ran));
    }
}

#[test]
fn a_report_is_checked_before_the_work() {
    let scene = Scene::new();
    let model = folder().join("trained/fmnist_vgg.bn.onnx").display().to_string();
    let output = scene.at("out.onnx");
    let refused = |report: &Path, parts: [&str; 2]| {
        let mut command = scene.command();
        command.args(["compile", &model, "--runtime", "tract", "-o"]).arg(&output);
        let ran = command.arg("--report").arg(report).output().expect("the program starts");
        assert_eq!(ran.status.code(), Some(2), "{}", told(&ran));
        for part in parts {
            assert!(told(&ran).contains(part), "{}", told(&ran));
        }
        assert!(!output.exists(), "the work was done");
    };
    refused(&scene.at("x.xml"), ["error[C0001]", "FILE.json"]);
    refused(&scene.at("no/such/x.json"), ["error[C0003]", "no folder"]);
    refused(&scene.at("app"), ["error[C0003]", "folder"]);
    let copy = scene.at("model.onnx");
    fs::copy(&model, &copy).expect("copied");
    let mut command = scene.command();
    let ran = command.arg("compile").arg(&copy).arg("-o").arg(&copy).output().expect("it starts");
    assert_eq!(ran.status.code(), Some(2));
    assert!(told(&ran).contains("--in-place"), "{}", told(&ran));
    assert!(fs::read(&copy).expect("there") == fs::read(&model).expect("there"));
}
