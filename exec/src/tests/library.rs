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

/// A root with a virtual environment that holds this version, as pip lays it out.
fn environment(root: &Path, name: &str, version: &str) -> PathBuf {
    let packages = root.join(name).join("lib/python3.12/site-packages");
    touch(&packages.join(format!("onnxruntime/capi/libonnxruntime.so.{version}")))
}

fn program(path: &Path, text: &str) {
    touch(path);
    fs::write(path, text).expect("written");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
    }
}

#[test]
fn the_newest_library_of_all_environments_is_taken() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |name: &str| root.path().join(name);
    let active = environment(root.path(), "active", "1.25.1");
    let conda = environment(root.path(), "conda", "1.26.0");
    let on_path = environment(root.path(), "on_path", "1.27.0");
    let user = environment(root.path(), "user", "1.26.2");
    program(&at("on_path/bin/python3"), "");
    let mut scene = Scene {
        virtual_env: Some(at("active")),
        conda: Some(at("conda")),
        programs: vec![PathBuf::from("relative"), at("empty"), at("on_path/bin")],
        user: Some(at("user")),
        ..Scene::default()
    };
    assert_eq!(scene.find(None), Ok(on_path.clone()));
    let found = scene.search();
    let order: Vec<_> = found.usable.iter().map(|it| it.path.clone()).collect();
    assert_eq!(order, [on_path, user.clone(), conda, active.clone()]);
    assert_eq!(found.pythons, [at("on_path/bin/python3")]);
    assert_eq!(found.usable[0].version.as_deref(), Some("1.27.0"));
    // What this program was installed into comes before what is newer elsewhere.
    let own = environment(root.path(), "own", "1.24.1");
    scene.executable = Some(at("own/bin/updp-compile"));
    assert_eq!(scene.find(None), Ok(own));
    let embedding = touch(&at("embedding/onnxruntime/capi/libonnxruntime.so.1.24.0"));
    scene.embedding = embedding.parent().map(Path::to_path_buf);
    assert_eq!(scene.find(None), Ok(embedding));
    // A folder that is not there takes nothing away.
    scene.embedding = Some(at("gone"));
    scene.executable = None;
    scene.programs = Vec::new();
    assert_eq!(scene.find(None), Ok(user));
    scene.user = None;
    scene.conda = None;
    assert_eq!(scene.find(None), Ok(active));
}

#[test]
fn a_library_that_is_too_old_is_passed_over_and_named() {
    let root = tempfile::tempdir().expect("a folder");
    let old = environment(root.path(), "active", "1.18.0");
    let new = environment(root.path(), "conda", "1.24.0");
    let scene = Scene {
        virtual_env: Some(root.path().join("active")),
        conda: Some(root.path().join("conda")),
        ..Scene::default()
    };
    assert_eq!(scene.find(None), Ok(new));
    assert_eq!(scene.search().too_old[0].path, old);
    let scene = Scene { conda: None, ..scene };
    let error = scene.find(None).expect_err("too old");
    assert_eq!(error.code(), "X0003");
    let text = error.to_string();
    assert!(text.contains("1.18.0") && text.contains("active"), "{text}");
    // A path that is named is taken as it is: the library itself tells its version.
    assert_eq!(scene.find(Some(&old)), Ok(old));
}

#[test]
fn the_version_of_a_plain_name_is_that_of_its_package() {
    let root = tempfile::tempdir().expect("a folder");
    let plain = |name: &str, version: &str| {
        let packages = root.path().join(name).join("lib/python3.12/site-packages");
        touch(&packages.join(format!("onnxruntime_gpu-{version}.dist-info/METADATA")));
        touch(&packages.join("onnxruntime/capi/libonnxruntime.so"))
    };
    let (first, second) = (plain("a", "1.26.0"), plain("b", "1.27.0"));
    let unknown = touch(&root.path().join("c/lib/libonnxruntime.so"));
    let scene = Scene {
        virtual_env: Some(root.path().join("a")),
        user: Some(root.path().join("b")),
        conda: Some(root.path().join("c")),
        ..Scene::default()
    };
    let order: Vec<_> = scene.search().usable.into_iter().map(|it| it.path).collect();
    assert_eq!(order, [second, first, unknown], "an unknown version comes last");
}

#[cfg(unix)]
#[test]
fn an_interpreter_leads_to_its_prefix_also_through_links() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path().canonicalize().expect("there");
    let base = environment(&root, "base", "1.26.0");
    program(&root.join("base/bin/python3.12"), "");
    fs::create_dir_all(root.join("venv/bin")).expect("made");
    symlink(root.join("base/bin/python3.12"), root.join("venv/bin/python3")).expect("linked");
    let scene = Scene { programs: vec![root.join("venv/bin")], ..Scene::default() };
    assert_eq!(scene.find(None), Ok(base));
    // Debian keeps what apt installs in dist-packages.
    let debian = root.join("base/lib/python3/dist-packages/onnxruntime/capi");
    let debian = touch(&debian.join("libonnxruntime.so.1.27.0"));
    assert_eq!(scene.find(None), Ok(debian));
    // A file that cannot be started is no interpreter.
    touch(&root.join("plain/python3"));
    let scene = Scene { programs: vec![root.join("plain")], ..Scene::default() };
    assert!(scene.search().pythons.is_empty());
}

#[cfg(unix)]
#[test]
fn a_shim_is_asked_once_and_only_if_nothing_else_is_found() {
    let root = tempfile::tempdir().expect("a folder");
    let library = environment(root.path(), "versions/3.12", "1.26.0");
    let packages = root.path().join("versions/3.12/lib/python3.12/site-packages");
    let log = root.path().join("asked");
    let shim = root.path().join("shims/python3");
    let text = format!(
        "#!/bin/sh\necho asked >> '{}'\necho\necho relative\necho '{}'\n",
        log.display(),
        packages.display()
    );
    program(&shim, &text);
    let mut scene =
        Scene { programs: vec![root.path().join("shims")], may_ask: true, ..Scene::default() };
    let other = environment(root.path(), "other", "1.25.0");
    scene.virtual_env = Some(root.path().join("other"));
    assert_eq!(scene.find(None), Ok(other));
    assert!(!log.exists(), "nothing had to be asked");
    scene.virtual_env = None;
    assert_eq!(
        Scene { may_ask: false, ..scene.clone() }.find(None).map_err(|it| it.code()),
        Err("X0001")
    );
    assert_eq!(scene.find(None), Ok(library.clone()));
    assert_eq!(scene.find(None), Ok(library));
    assert_eq!(fs::read_to_string(&log).expect("asked").lines().count(), 1);
    // One that fails, and one that says nothing, leave the search without a result.
    program(&root.path().join("broken/python3"), "#!/bin/sh\necho /usr\nexit 3\n");
    scene.programs = vec![root.path().join("broken")];
    assert_eq!(code(scene.find(None)), "X0001");
}
