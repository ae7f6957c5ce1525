//! The subcommands: each does its job, has only its own options, and the bare form does what it did.

use std::process::{Command, Output};

use crate::fixtures::folder;

fn program(arguments: &[&str]) -> Output {
    let program = Command::new(env!("CARGO_BIN_EXE_updp-compile")).args(arguments).output();
    program.expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn done(arguments: &[&str]) {
    let ran = program(arguments);
    assert!(ran.status.success(), "{arguments:?}: {}", text(&ran.stderr));
}

#[track_caller]
fn refused(arguments: &[&str], part: &str) {
    let ran = program(arguments);
    let told = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(told.starts_with("error[C0001]: ") && told.contains(part), "{arguments:?}: {told}");
}

#[test]
fn compile_writes_what_the_bare_form_writes() {
    let scene = tempfile::tempdir().expect("a folder");
    let place = |name: &str| scene.path().join(name).to_string_lossy().into_owned();
    let model = folder().join("trained/fmnist_repvgg.bn.onnx").to_string_lossy().into_owned();
    let (bare, named, second) = (place("bare.onnx"), place("named.onnx"), place("second.onnx"));
    done(&[&model, "-o", &bare]);
    done(&["compile", &model, "-o", &named]);
    done(&["compile", &model, &second]);
    let read = |path: &str| std::fs::read(path).expect("written");
    assert!(read(&bare) == read(&named) && read(&bare) == read(&second));
    let piped = program(&["compile", &model, "-o", "-"]);
    assert!(piped.status.success() && piped.stdout == read(&bare));
}

#[test]
fn prune_prunes_what_the_bare_form_prunes() {
    let scene = tempfile::tempdir().expect("a folder");
    let place = |name: &str| scene.path().join(name).to_string_lossy().into_owned();
    let model = folder().join("trained/fmnist_vgg.bn.onnx").to_string_lossy().into_owned();
    let (bare, named) = (place("bare.onnx"), place("named.onnx"));
    let more = ["--blocks", "0", "--form", "conv", "--recover", "none", "--force"];
    let bare_form = program(&[&[model.as_str(), "-o", &bare], &more[..]].concat());
    let named_form = program(&[&["prune", model.as_str(), "-o", &named], &more[..]].concat());
    assert_eq!(bare_form.status.code(), named_form.status.code(), "{}", text(&named_form.stderr));
    assert!(bare_form.status.success(), "{}", text(&bare_form.stderr));
    let read = |path: &str| std::fs::read(path).expect("written");
    assert!(read(&bare) == read(&named));
    refused(&["prune", &model, "-o", &named], "say what to prune");
}

#[test]
fn a_subcommand_takes_its_own_options_only() {
    refused(&["compile", "m.onnx", "-o", "o.onnx", "--prune", "2"], "--prune");
    refused(&["compile", "m.onnx", "-o", "o.onnx", "--data", "d"], "--data");
    refused(&["prune", "m.onnx", "-o", "o.onnx", "--list-passes"], "--list-passes");
    refused(&["compile", "-o", "o.onnx"], "required arguments");
    refused(&["prune", "-o", "o.onnx", "--blocks", "1"], "required arguments");
    done(&["compile", "--list-passes"]);
    done(&["--list-passes"]);
}

#[test]
fn finetune_is_also_called_train() {
    for name in ["finetune", "train"] {
        let ran = program(&[name, "--help"]);
        assert!(ran.status.success() && text(&ran.stdout).contains("--batch-size"), "{name}");
    }
}

#[test]
fn completions_and_the_man_page_know_the_subcommands() {
    for arguments in [&["completions", "bash"][..], &["man"]] {
        let ran = program(arguments);
        let told = text(&ran.stdout);
        assert!(ran.status.success() && told.contains("evaluate"), "{arguments:?}");
    }
}

#[test]
fn an_option_at_the_wrong_place_is_told_its_place() {
    refused(
        &["compile", "m.onnx", "-o", "o.onnx", "--prune", "3"],
        "--prune is an option of prune",
    );
    refused(&["verify", "a.onnx", "b.onnx", "--blocks", "1"], "--blocks is an option of prune");
    refused(&["-q", "compile", "m.onnx", "-o", "o.onnx"], "options follow the subcommand");
}
