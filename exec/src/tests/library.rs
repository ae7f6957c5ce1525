//! The search for the library, in scenes set up in a temporary folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::{code, ort_library};
use crate::library::{Scene, load};
use crate::{ExecError, Runtime, open};

fn touch(path: &Path) -> PathBuf {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, b"").expect("written");
    path.to_path_buf()
}

#[test]
fn searches_in_the_documented_order() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |path: &str| touch(&root.path().join(path));
    let system = at("usr/lib/libonnxruntime.so.1.24.0");
    at("usr/lib/libonnxruntime.so.1.9.9");
    at("usr/lib/libonnxruntime_providers_shared.so");
    let executable = at("repo/build/debug/deps/tests");
    let mut scene = Scene {
        executable: Some(executable),
        system: vec![root.path().join("usr/lib")],
        ..Scene::default()
    };
    assert_eq!(scene.find(None), Ok(system));
    let capi = "venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.1";
    let packaged = at(capi);
    scene.virtual_env = Some(root.path().join("venv"));
    assert_eq!(scene.find(None), Ok(packaged));
    let built = at("repo/target/ort/libonnxruntime.so");
    let packaged = scene.find(None);
    assert_ne!(packaged, Ok(built.clone()), "anyone may have made a folder above the program");
    scene.repository = Some(root.path().join("repo/other"));
    assert_eq!(scene.find(None), packaged, "the program lies outside of its repository");
    scene.repository = Some(root.path().join("repo"));
    assert_eq!(scene.find(None), Ok(built));
    let named = at("elsewhere/libonnxruntime.so");
    scene.variable = Some(named.clone());
    assert_eq!(scene.find(None), Ok(named));
    let explicit = at("mine/onnxruntime-of-amd.so");
    assert_eq!(scene.find(Some(&explicit)), Ok(explicit));
    let folder = root.path().join("elsewhere");
    assert_eq!(scene.find(Some(&folder)), Ok(folder.join("libonnxruntime.so")));
}

#[test]
fn finds_the_package_of_the_prefix_it_is_installed_in() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |path: &str| touch(&root.path().join(path));
    let executable = at("venv/bin/updp-compile");
    let library = at("venv/lib/python3.13/site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0");
    let scene = Scene { executable: Some(executable), ..Scene::default() };
    assert_eq!(scene.find(None), Ok(library));
}

#[test]
fn names_what_it_searched_and_how_to_install() {
    let scene = Scene { system: vec![PathBuf::from("/nowhere/lib")], ..Scene::default() };
    let error = scene.find(None).expect_err("nothing there");
    assert_eq!(error.code(), "X0001");
    assert_eq!(error.to_string(), "no ONNX Runtime library found; looked at /nowhere/lib");
    let help = error.help().expect("there is a cure");
    assert!(help.starts_with("install it: pip install 'onnxruntime>=1.24'; "), "{help}");
    assert!(help.contains("updp-compile doctor"), "{help}");
}

#[test]
fn a_named_library_must_be_there() {
    let missing = Path::new("/nowhere/libonnxruntime.so");
    let scene = Scene { variable: Some(missing.to_path_buf()), ..Scene::default() };
    for error in [scene.find(None), crate::find_library(Some(missing))] {
        let error = error.expect_err("nothing there");
        assert_eq!(error.code(), "X0002");
        let text = "/nowhere/libonnxruntime.so is not a usable ONNX Runtime library: no such file";
        assert_eq!(error.to_string(), text);
    }
    let empty = tempfile::tempdir().expect("a folder");
    assert_eq!(code(scene.find(Some(empty.path()))), "X0002");
}

#[test]
fn says_when_the_file_is_no_library() {
    // Only where no other library is loaded yet is this file tried at all.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("libonnxruntime.so");
    fs::write(&file, b"not a library").expect("written");
    let error = load(Some(&file)).expect_err("no library");
    assert!(matches!(error.code(), "X0002" | "X0004"), "{error}");
    let model = super::models::bytes(&super::models::gemm());
    let options = crate::Options { library: Some(file), ..crate::Options::default() };
    let opened = open(crate::ModelSource::Bytes(&model), Runtime::Auto, &options);
    assert!(matches!(code(opened), "X0002" | "X0004"), "Auto hides a bad --ort-lib");
}

#[test]
fn loads_one_library_only() {
    let Some(library) = ort_library("loads_one_library_only") else { return };
    let before = std::env::var_os("ORT_DISABLE_TELEMETRY");
    let loaded = load(Some(&library)).expect("loads");
    assert!(loaded.version.starts_with("1."), "{}", loaded.version);
    assert!(load(None).is_ok() && load(Some(&library)).is_ok());
    let folder = tempfile::tempdir().expect("a folder");
    let copy = touch(&folder.path().join("libonnxruntime.so"));
    let error = load(Some(&copy)).expect_err("another one");
    assert!(matches!(error, ExecError::LibraryAlreadyLoaded { .. }), "{error}");
    // Other threads may read the environment by now, so loading leaves it alone.
    assert_eq!(std::env::var_os("ORT_DISABLE_TELEMETRY"), before);
}
