//! Nothing hostile or careless makes the program hang, crash, take all memory, forge a line or believe what proves nothing.

mod files;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use updp_ir::{DataType, Dim, ModelBuilder, Node, Tensor};
use updp_testkit::encode;

use crate::fixtures::folder;
use files::{bitmap, floats, integers, npy, npz, tar_header};

/// Clears a screen, sets a title, turns the direction of reading, and forges an error.
const HOSTILE: &str = "\u{1b}]0;OWNED\u{7}\u{1b}[2J\u{9b}31m\u{202e}evil\n\rerror[C0000]: forged";

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_updp-compile"));
    command.env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

/// Runs the program; it must end by itself within two minutes.
#[track_caller]
fn run(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the program starts");
    let began = Instant::now();
    let (mut out, mut err) =
        (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        out.read_to_end(&mut text).map(|_| text).expect("readable")
    });
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        err.read_to_end(&mut text).map(|_| text).expect("readable")
    });
    let status = loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            break status;
        }
        if began.elapsed() > Duration::from_mins(2) {
            child.kill().expect("it can be killed");
            panic!("the program hangs: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (stdout, stderr) = (reading.join().expect("read"), errors.join().expect("read"));
    Output { status, stdout, stderr }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[track_caller]
fn ends(command: &mut Command, code: i32, part: &str) -> String {
    let output = run(command);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(part), "no {part:?} in {text}");
    assert!(!text.contains("panicked") && !text.contains("C0000"), "{text}");
    text
}

fn vgg() -> PathBuf {
    folder().join("trained/fmnist_vgg.bn.onnx")
}

/// A Conv and a Relu whose every name is hostile.
fn hostile_model() -> Vec<u8> {
    let name = |plain: &str| format!("{plain}{HOSTILE}");
    let mut m = ModelBuilder::new(17);
    let dims = [Dim::Symbol(name("batch").into()), Dim::Known(3), Dim::Known(8), Dim::Known(8)];
    m.input(&name("x"), DataType::Float, &dims).output(&name("y"), DataType::Float, None);
    let weight = Tensor::from_f32(vec![4, 3, 1, 1], &[0.5; 12]).expect("whole");
    m.initializer(&name("w"), &weight);
    for part in ["scale", "shift", "mean", "var"] {
        m.initializer(&name(part), &Tensor::from_f32(vec![4], &[0.5; 4]).expect("whole"));
    }
    m.node(Node::new("Conv").named(&name("conv")), &[&name("x"), &name("w")], &[&name("c")]);
    let operands = [name("c"), name("scale"), name("shift"), name("mean"), name("var")];
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    m.node(Node::new("BatchNormalization").named(&name("bn")), &operands, &[&name("b")]);
    m.node(Node::new("Relu").named(&name("relu")), &[&name("b")], &[&name("y")]);
    encode(&m.build().expect("a model")).to_vec()
}

#[track_caller]
fn shows_nothing_hostile(output: &Output) {
    let text = text(output);
    for hidden in ['\u{1b}', '\u{7}', '\u{9b}', '\r', '\u{202e}'] {
        assert!(!text.contains(hidden), "{hidden:?} in {text:?}");
    }
    let forged = text.lines().find(|line| line.trim_start().starts_with("error[C0000]"));
    assert_eq!(forged, None, "{text}");
}

#[test]
fn names_of_models_neither_act_on_a_terminal_nor_forge_lines() {
    let scene = TempDir::new().expect("a folder");
    let (model, result) = (scene.path().join("m.onnx"), scene.path().join("o.onnx"));
    fs::write(&model, hostile_model()).expect("written");
    let mut shown = 0;
    for options in
        [&[][..], &["--text"], &["--dot"], &["--json"], &["--why-not"], &["--target", "tensorrt"]]
    {
        let output = run(program().arg("inspect").arg(&model).args(options));
        shows_nothing_hostile(&output);
        shown += usize::from(text(&output).contains("evil"));
        if options == ["--json"] {
            let _: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        }
    }
    assert!(shown > 3, "names are not shown at all");
    let compiled = program().arg(&model).arg("-o").arg(&result).args(["-v", "--why-not"]).output();
    let compiled = compiled.expect("it runs");
    shows_nothing_hostile(&compiled);
    assert!(compiled.status.success() && text(&compiled).contains("evil"), "{}", text(&compiled));
    let verified = run(program().arg("verify").arg(&model).arg(&result));
    shows_nothing_hostile(&verified);
    assert!(verified.status.success() && text(&verified).contains("evil"), "{}", text(&verified));
    let wrong = run(program().args(["verify"]).arg(&model).arg(vgg()));
    shows_nothing_hostile(&wrong);
    assert!(text(&wrong).contains("C0007") && text(&wrong).contains("evil"), "{}", text(&wrong));
}

#[test]
fn names_of_folders_images_and_options_are_escaped() {
    let scene = TempDir::new().expect("a folder");
    let mut seed = 0;
    for class in ["a", "b"] {
        let class = scene.path().join("data").join(format!("{class}{HOSTILE}"));
        fs::create_dir_all(&class).expect("made");
        for image in 0..4 {
            seed += 1;
            fs::write(class.join(format!("{image}{HOSTILE}.bmp")), bitmap(seed)).expect("written");
        }
        fs::write(class.join("bad\u{1b}[2J\n.png"), b"bad").expect("written");
    }
    let data = scene.path().join("data");
    let command = ["--preprocess", "fashion-mnist", "--flipped", "9"];
    let other = folder().join("trained/fmnist_repvgg.bn.onnx");
    let output =
        run(program().arg("evaluate").arg(vgg()).arg(other).arg("--data").arg(&data).args(command));
    shows_nothing_hostile(&output);
    assert!(output.status.success() && text(&output).contains("\\u001b"), "{}", text(&output));
    for toml in [
        "\"\\u001b[2J\\nerror[C0000]: x\" = 1",
        "threads = \"\\u001b[2J\"",
        "device = \"\\u001b[2J\\nerror[C0000]: x\"",
    ] {
        let file = scene.path().join("o.toml");
        fs::write(&file, toml).expect("written");
        let output = run(program().arg(vgg()).args(["-o", "/dev/null", "--config"]).arg(&file));
        shows_nothing_hostile(&output);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    }
    let option = run(program().arg(vgg()).arg("--\u{1b}[2J\nerror[C0000]: x"));
    shows_nothing_hostile(&option);
}

#[test]
fn inputs_that_prove_nothing_do_not_verify() {
    let scene = TempDir::new().expect("a folder");
    let dims = [4, 1, 28, 28];
    let mut seen = 0;
    for value in [f32::NAN, f32::INFINITY, 1e38] {
        let file =
            npz(&scene.path().join("x.npz"), &[("input", floats(&dims, vec![value; 4 * 784]))]);
        let verify = || {
            let mut command = program();
            command.arg("verify").arg(vgg()).arg(vgg()).arg("--input-data").arg(&file);
            command
        };
        let output = run(&mut verify());
        assert_ne!(output.status.code(), Some(0), "{value}: {}", text(&output));
        if text(&output).contains("C0031") {
            seen += 1;
            assert!(!text(&output).contains("equal"), "{}", text(&output));
            assert_eq!(output.status.code(), Some(8));
        }
        let mut compile = program();
        compile
            .arg(vgg())
            .arg("-o")
            .arg(scene.path().join("o.onnx"))
            .arg("--input-data")
            .arg(&file);
        let output = run(&mut compile);
        assert_ne!(output.status.code(), Some(0), "{value}: {}", text(&output));
        assert!(!scene.path().join("o.onnx").exists(), "it is written all the same");
    }
    assert_eq!(seen, 3);
}

#[test]
fn an_output_that_proves_nothing_is_named_beside_one_that_does() {
    let scene = TempDir::new().expect("a folder");
    let model = scene.path().join("m.onnx");
    let mut m = ModelBuilder::new(17);
    let dims = [Dim::Known(2), Dim::Known(3)];
    m.input("x", DataType::Float, &dims).output("sine", DataType::Float, None);
    m.output("root", DataType::Float, None);
    m.initializer("far", &Tensor::from_f32(vec![1], &[-1e9]).expect("one"));
    m.node(Node::new("Sin"), &["x"], &["sine"]);
    m.node(Node::new("Add"), &["x", "far"], &["below"]);
    m.node(Node::new("Sqrt"), &["below"], &["root"]);
    fs::write(&model, encode(&m.build().expect("a model"))).expect("written");
    let text = ends(program().arg("verify").arg(&model).arg(&model), 0, "equal");
    assert!(text.contains("warning: the reference is not finite anywhere"), "{text}");
}

#[test]
fn scores_that_are_never_finite_do_not_agree() {
    let scene = TempDir::new().expect("a folder");
    let model = scene.path().join("m.onnx");
    let mut m = ModelBuilder::new(17);
    let dims = [Dim::Known(1), Dim::Known(1), Dim::Known(28), Dim::Known(28)];
    let classes = [Dim::Known(1), Dim::Known(784)];
    m.input("x", DataType::Float, &dims).output("y", DataType::Float, Some(&classes));
    m.initializer("far", &Tensor::from_f32(vec![1], &[-1e9]).expect("one"));
    m.node(Node::new("Flatten"), &["x"], &["flat"]);
    m.node(Node::new("Add"), &["flat", "far"], &["below"]);
    m.node(Node::new("Sqrt"), &["below"], &["y"]);
    fs::write(&model, encode(&m.build().expect("a model"))).expect("written");
    let mut command = program();
    command.arg("evaluate").arg(&model).arg(&model).arg("--data");
    command.arg(folder().join("fmnist_test_1000.npz"));
    ends(command.args(["--preprocess", "fashion-mnist", "--images", "8"]), 8, "C0031");
}

#[test]
fn labels_of_input_data_are_held_to_the_rules_of_data_sets() {
    let scene = TempDir::new().expect("a folder");
    let images = || floats(&[4, 1, 28, 28], (0..4 * 784).map(|at| (at % 97) as f32 / 97.0));
    let verify = |labels: Vec<u8>| {
        let file = npz(&scene.path().join("x.npz"), &[("input", images()), ("labels", labels)]);
        let mut command = program();
        command.arg("verify").arg(vgg()).arg(vgg()).arg("--input-data").arg(file);
        command
    };
    ends(&mut verify(integers(&[1, 2])), 2, "2 labels for 4 images");
    ends(&mut verify(integers(&[1, 2, 3, 4, 5])), 2, "5 labels for 4 images");
    ends(&mut verify(integers(&[1, 2, 3, -1])), 2, "-1 is no class number");
    ends(&mut verify(integers(&[1, 2, 3, 1 << 40])), 2, "is no class number");
    ends(&mut verify(npy("<f4", &[4], &[0; 16])), 2, "labels");
    ends(&mut verify(npy("<i8", &[2, 2], &[0; 32])), 2, "[2, 2]");
    ends(&mut verify(integers(&[1, 2, 3, 10])), 0, "accuracy is left out");
    ends(&mut verify(integers(&[1, 2, 3, 9])), 0, "top-1 on the labels");
}

#[test]
fn pipes_and_devices_among_images_are_no_images() {
    let scene = TempDir::new().expect("a folder");
    for image in 0..40 {
        fs::write(scene.path().join(format!("{image}.bmp")), bitmap(image)).expect("written");
    }
    let pipe = scene.path().join("pipe.png");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    std::os::unix::fs::symlink("/dev/zero", scene.path().join("zero.png")).expect("a link");
    let _socket = std::os::unix::net::UnixListener::bind(scene.path().join("socket.png"));
    let mut command = program();
    command.arg("evaluate").arg(vgg()).arg(vgg()).arg("--data").arg(scene.path());
    let text =
        ends(command.args(["--preprocess", "fashion-mnist"]), 0, "3 images could not be read");
    assert!(text.contains("no regular file"), "{text}");
    for option in ["--data", "--preprocess", "--input-data"] {
        let mut command = program();
        let images = if option == "--data" { &pipe } else { scene.path() };
        match option {
            "--input-data" => command.arg("verify").arg(vgg()).arg(vgg()),
            _ => command.arg("evaluate").arg(vgg()).arg(vgg()).arg("--data").arg(images),
        };
        let output = run(command.arg(option).arg(&pipe));
        assert_eq!(output.status.code(), Some(2), "{option}: {}", self::text(&output));
    }
    ends(program().arg("inspect").arg("/dev/zero"), 3, "2 GiB");
    ends(program().arg(vgg()).args(["-o", "/dev/null", "--config", "/dev/zero"]), 2, "1 MiB");
}

#[test]
fn archives_that_name_more_than_they_hold_take_no_memory() {
    let scene = TempDir::new().expect("a folder");
    let bomb =
        npz(&scene.path().join("b.npz"), &[("input", npy("|u1", &[3_000_000_000], &[0; 64]))]);
    let limited = |arguments: &[&Path]| {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "ulimit -v 8000000; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_updp-compile"),
        ]);
        command.args(arguments).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
        command
    };
    let verify = [Path::new("verify"), &vgg(), &vgg(), Path::new("--input-data"), &bomb];
    ends(&mut limited(&verify), 2, "3000000000 bytes");
    let members = [
        ("images", npy("|u1", &[4, 28, 28], &[7; 4 * 784])),
        ("labels", npy("<i8", &[1 << 27], &[])),
    ];
    let bomb = npz(&scene.path().join("l.npz"), &members);
    let evaluate = [Path::new("evaluate"), &vgg(), &vgg(), Path::new("--data"), &bomb];
    ends(&mut limited(&evaluate), 2, "134217728 labels for 4 images");
    // A long name of 3 GiB in a file of 1 KiB on the disk.
    let tar = scene.path().join("s.tar");
    let mut file = fs::File::create(&tar).expect("made");
    file.write_all(&tar_header("././@LongLink", 3 << 30, b'L')).expect("written");
    file.set_len((3 << 30) + 2048).expect("sparse");
    let evaluate = [Path::new("evaluate"), &vgg(), &vgg(), Path::new("--data"), &tar];
    ends(&mut limited(&evaluate), 2, "longer than 1 MiB");
    let sparse = scene.path().join("x.npy");
    let header = npy("<f4", &[16, 1 << 32], &[]);
    fs::write(&sparse, &header).expect("written");
    fs::File::options()
        .write(true)
        .open(&sparse)
        .and_then(|it| it.set_len(1 << 38))
        .expect("sparse");
    let named = format!("input:{}", sparse.display());
    let verify =
        [Path::new("verify"), &vgg(), &vgg(), Path::new("--input-data"), Path::new(&named)];
    ends(&mut limited(&verify), 2, "more than 1073741824");
}

#[test]
fn output_that_is_lost_is_an_error_and_a_closed_pipe_is_none() {
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").expect("a device"));
    for arguments in
        [&["errors"][..], &["--help"], &["completions", "bash"], &["inspect", "--json"]]
    {
        let mut command = program();
        command.args(arguments);
        if arguments[0] == "inspect" {
            command.arg(vgg());
        }
        let output = command.stdout(full()).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains("C0003"), "{arguments:?}: {}", text(&output));
        let mut command = program();
        command.args(arguments);
        if arguments[0] == "inspect" {
            command.arg(vgg());
        }
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output));
        assert!(output.stderr.is_empty(), "{arguments:?}: {}", text(&output));
    }
    // Standard error may be lost as well; then only the exit code tells.
    let status = program().arg("inspect").arg("missing.onnx").stderr(full()).status();
    assert_eq!(status.expect("it runs").code(), Some(3));
}

#[test]
fn paths_that_are_no_text_are_written_to_reports() {
    let scene = TempDir::new().expect("a folder");
    let model = scene.path().join(std::ffi::OsStr::from_bytes(b"m\xff.onnx"));
    fs::copy(vgg(), &model).expect("copied");
    let report = scene.path().join(std::ffi::OsStr::from_bytes(b"r\xff.json"));
    let mut command = program();
    command.arg(&model).arg("-o").arg(scene.path().join("o.onnx")).arg("--report").arg(&report);
    ends(&mut command, 0, "");
    let mut command = program();
    command
        .arg("train")
        .arg(&model)
        .arg("-o")
        .arg(scene.path().join(std::ffi::OsStr::from_bytes(b"z\xff.onnx")));
    command.arg("--data").arg(folder().join("fmnist_test_1000.npz")).arg("--report").arg(&report);
    command.args([
        "--preprocess",
        "fashion-mnist",
        "--images",
        "64",
        "--batch-size",
        "16",
        "--epochs",
        "1",
    ]);
    ends(&mut command, 0, "");
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(&report).expect("written")).expect("JSON");
    assert!(written["model"].as_str().is_some_and(|path| path.contains('\u{fffd}')), "{written}");
}

#[test]
fn a_signal_of_a_cut_file_or_of_an_abort_is_told() {
    for (signal, code, part) in [("-BUS", 3, "C0002"), ("-ABRT", 1, "C0000")] {
        // It waits for a model on standard input.
        let mut command = program();
        command.args(["inspect", "-"]).stdin(Stdio::piped());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.expect("it starts");
        std::thread::sleep(Duration::from_millis(500));
        let id = child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("it runs").success());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert!(text(&output).contains(part), "{}", text(&output));
    }
}

#[test]
fn a_program_elsewhere_does_not_run_a_library_above_it() {
    let scene = TempDir::new().expect("a folder");
    let (bin, planted) = (scene.path().join("a/b"), scene.path().join("target/ort"));
    for folder in [&bin, &planted] {
        fs::create_dir_all(folder).expect("made");
    }
    fs::write(planted.join("libonnxruntime.so"), b"not a library").expect("written");
    let copied = bin.join("updp-compile");
    if fs::hard_link(env!("CARGO_BIN_EXE_updp-compile"), &copied).is_err() {
        fs::copy(env!("CARGO_BIN_EXE_updp-compile"), &copied).expect("copied");
    }
    let mut command = Command::new(&copied);
    command.env_remove("ORT_DYLIB_PATH").env_remove("VIRTUAL_ENV").arg("bench").arg(vgg());
    let output = run(command.args(["--seconds", "0.1"]));
    let planted = planted.display().to_string();
    assert!(!text(&output).contains(&planted), "it was tried: {}", text(&output));
    // A place that was named must hold a library, and no other is tried.
    let mut command = program();
    command.env("ORT_DYLIB_PATH", &planted).arg(vgg()).args(["-o", "/dev/null"]);
    ends(&mut command, 8, "X0002");
}
