//! The program itself: files, exit codes (design.md §10), messages.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use onnx_protobuf::ModelProto;
use protobuf::Message;
use tempfile::TempDir;
use updp_exec::RuntimeOptions;
use updp_ir::{DataType, Dim, Node};
use updp_testkit::{Micro, Val, conv, encode, model_of, prove, read_model, seeded};
use updp_verify::regions;

use crate::fixtures::folder;

fn run(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_updp-compile"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("the program ends by itself")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn path(text: &str) -> &Path {
    Path::new(text)
}

/// Conv and BN with a weight large enough to be kept outside.
fn micro() -> Micro {
    let mut m = Micro::new(401);
    let x = m.input("x", &[16, 7, 6]);
    m.weight("w", &[16, 16, 3, 3], &seeded(1, 16 * 16 * 9));
    let y = m.conv_with(&x, &conv(16).kernel(3).pad(1), "w", None);
    let y = m.bn(&y);
    m.output(&y);
    m
}

/// A folder with `model.onnx` in it.
fn scene() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("model.onnx"), folder.path().join("out.onnx"));
    std::fs::write(&input, encode(&micro().build())).expect("written");
    (folder, input, output)
}

/// The files of a folder, sorted: nothing half-written may be left behind.
fn files(folder: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).expect("readable");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn refuses(output: &Output, expected: i32, message: &str) {
    let text = stderr(output);
    assert_eq!(code(output), expected, "{text}");
    assert!(text.contains(message), "no {message:?} in {text:?}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn compiles_with_and_without_the_output_flag() {
    let (scene, input, output) = scene();
    let ran = run(&[&input, path("-o"), &output]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    let first = std::fs::read(&output).expect("written");
    let second = scene.path().join("second.onnx");
    let ran = run(&[&input, &second]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    assert!(first == std::fs::read(&second).expect("written"), "two runs differ");
    let after = read_model(&output);
    assert_eq!(after.graph.node_count(), 1);
    prove(&read_model(&input), &after);
    assert_eq!(files(&scene), ["model.onnx", "out.onnx", "second.onnx"]);
}

#[test]
fn its_own_output_compiled_again_is_the_same_file() {
    let (scene, input, output) = scene();
    assert_eq!(code(&run(&[&input, path("-o"), &output])), 0);
    let again = scene.path().join("again.onnx");
    let ran = run(&[&output, path("-o"), &again]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    let (a, b) =
        (std::fs::read(&output).expect("written"), std::fs::read(&again).expect("written"));
    assert!(a == b);
}

#[test]
fn the_trained_repvgg_compiles() {
    let folder = folder();
    let scene = tempfile::tempdir().expect("a folder");
    let output = scene.path().join("repvgg.onnx");
    let ran = run(&[&folder.join("trained/fmnist_repvgg.bn.onnx"), path("-o"), &output]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    assert!(output.is_file());
}

#[test]
fn external_data_goes_beside_the_output_and_is_readable() {
    let (scene, input, output) = scene();
    let ran = run(&[&input, path("-o"), &output, path("--external-data")]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    assert_eq!(files(&scene), ["model.onnx", "out.onnx", "out.onnx.data"]);
    let after = read_model(&output);
    prove(&read_model(&input), &after);
    // Readable by whoever could read the input.
    let ran = run(&[&output, path("-o"), &scene.path().join("inline.onnx")]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    prove(&after, &read_model(&scene.path().join("inline.onnx")));
}

#[cfg(unix)]
#[test]
fn output_files_have_the_usual_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let (scene, input, output) = scene();
    assert_eq!(code(&run(&[&input, path("-o"), &output, path("--external-data")])), 0);
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let usual = mode(&input);
    assert_eq!(mode(&output), usual);
    assert_eq!(mode(&scene.path().join("out.onnx.data")), usual);
}

#[test]
fn an_empty_file_is_a_bad_model() {
    let (scene, input, output) = scene();
    std::fs::write(&input, []).expect("written");
    refuses(&run(&[&input, path("-o"), &output]), 3, "error[I0004]: ");
    assert_eq!(files(&scene), ["model.onnx"]);
}

#[test]
fn a_file_that_is_no_model_is_a_bad_model() {
    let (scene, input, output) = scene();
    for text in [&b"hello, this is no model at all"[..], &[0xff; 64], b"\x0a"] {
        std::fs::write(&input, text).expect("written");
        refuses(&run(&[&input, path("-o"), &output]), 3, "error[I00");
        assert_eq!(files(&scene), ["model.onnx"]);
    }
}

#[test]
fn a_cut_file_is_a_bad_model() {
    let (scene, input, output) = scene();
    let whole = std::fs::read(&input).expect("there");
    std::fs::write(&input, &whole[..whole.len() / 2]).expect("written");
    refuses(&run(&[&input, path("-o"), &output]), 3, "error[I");
    assert_eq!(files(&scene), ["model.onnx"]);
}

#[test]
fn a_dangling_input_is_a_bad_model() {
    let (scene, input, output) = scene();
    let bytes = std::fs::read(&input).expect("there");
    let mut model = ModelProto::parse_from_bytes(&bytes).expect("the second reader reads it");
    model.graph.mut_or_insert_default().node[0].input[1] = "nowhere".into();
    std::fs::write(&input, model.write_to_bytes().expect("encodes")).expect("written");
    refuses(&run(&[&input, path("-o"), &output]), 3, "error[I0102]: ");
    assert_eq!(files(&scene), ["model.onnx"]);
}

#[test]
fn missing_external_data_is_an_error() {
    let (scene, input, output) = scene();
    assert_eq!(code(&run(&[&input, path("-o"), &output, path("--external-data")])), 0);
    std::fs::remove_file(scene.path().join("out.onnx.data")).expect("there");
    let ran = run(&[&output, path("-o"), &scene.path().join("again.onnx")]);
    assert!([2, 3].contains(&code(&ran)), "{}", stderr(&ran));
    assert!(stderr(&ran).contains("error["), "{}", stderr(&ran));
    assert_eq!(files(&scene), ["model.onnx", "out.onnx"]);
}

#[test]
fn a_missing_file_or_folder_is_an_error_without_output() {
    let (scene, input, output) = scene();
    for (from, to) in [
        (scene.path().join("absent.onnx"), output),
        (input, scene.path().join("absent/out.onnx")),
        (scene.path().to_path_buf(), scene.path().join("out.onnx")),
    ] {
        let ran = run(&[&from, path("-o"), &to]);
        assert!([2, 3].contains(&code(&ran)), "exit {}: {}", code(&ran), stderr(&ran));
        assert!(stderr(&ran).contains("error[C"), "{}", stderr(&ran));
        assert_eq!(files(&scene), ["model.onnx"]);
    }
}

#[test]
fn a_wrong_argument_is_a_usage_error() {
    let (scene, input, output) = scene();
    assert_eq!(code(&run(&[&input, path("-o"), &output, path("--no-such-flag")])), 2);
    assert_eq!(code(&run(&[])), 2);
    refuses(&run(&[&input, path("-o"), &output, path("--skip"), path("no-such-rule")]), 2, "P0003");
    assert_eq!(files(&scene), ["model.onnx"]);
}

#[cfg(unix)]
#[test]
fn a_device_is_written_to_and_a_link_stays_a_link() {
    use std::os::unix::fs::FileTypeExt;
    let (scene, input, output) = scene();
    let ran = run(&[&input, path("-o"), path("/dev/null")]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    let kind = std::fs::metadata("/dev/null").expect("there").file_type();
    assert!(kind.is_char_device(), "/dev/null was replaced");
    let link = scene.path().join("link.onnx");
    std::fs::write(&output, "old").expect("written");
    std::os::unix::fs::symlink(&output, &link).expect("linked");
    assert_eq!(code(&run(&[&input, path("-o"), &link])), 0);
    assert!(link.is_symlink());
    prove(&read_model(&input), &read_model(&output));
    assert_eq!(files(&scene), ["link.onnx", "model.onnx", "out.onnx"]);
}

#[test]
fn the_tensors_of_the_input_are_not_written_over() {
    let (scene, input, output) = scene();
    assert_eq!(code(&run(&[&input, path("-o"), &output, path("--external-data")])), 0);
    let data = scene.path().join("out.onnx.data");
    let before = std::fs::read(&data).expect("written");
    refuses(&run(&[&output, path("-o"), &data]), 2, "error[C0023]: ");
    assert!(before == std::fs::read(&data).expect("still there"));
    // In place is what it says: the new model has new data.
    let ran = run(&[&output, path("--in-place"), path("--external-data")]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    prove(&read_model(&input), &read_model(&output));
}

#[cfg(unix)]
#[test]
fn external_data_in_a_pipe_is_refused_without_waiting() {
    let (scene, input, output) = scene();
    assert_eq!(code(&run(&[&input, path("-o"), &output, path("--external-data")])), 0);
    let data = scene.path().join("out.onnx.data");
    std::fs::remove_file(&data).expect("there");
    let made = Command::new("mkfifo").arg(&data).status().expect("mkfifo starts");
    assert!(made.success());
    let again = scene.path().join("again.onnx");
    refuses(&run(&[&output, path("-o"), &again]), 3, "no regular file");
}

/// Conv, BN, then `node`.
fn ending_in(node: Node) -> Micro {
    let mut m = Micro::new(402);
    let x = m.input("x", &[3, 8, 8]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let y = m.bn(&y);
    let last = m.node(node, &[&y.name]);
    m.raw().output(&last, DataType::Float, None);
    m
}

#[test]
fn random_outputs_are_named_and_the_others_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("model.onnx"), folder.path().join("out.onnx"));
    let mut m = ending_in(Node::new("Relu"));
    let noise = m.node(Node::new("RandomUniformLike"), &["x"]);
    m.raw().output(&noise, DataType::Float, None);
    std::fs::write(&input, encode(&m.build())).expect("written");
    let ran = run(&[&input, path("-o"), &output]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(told.contains("not compared") && told.contains("cosine"), "{told}");
    let only = ending_in(Node::new("RandomUniformLike"));
    std::fs::write(&input, encode(&only.build())).expect("written");
    let ran = run(&[&input, path("-o"), &output]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(told.contains("part by part") && told.contains("1 parts"), "{told}");
}

/// Conv-BN, an operator no runtime knows, Conv-BN.
fn around_a_plugin() -> Micro {
    let mut m = Micro::new(405);
    m.raw().opset("vendor.plugins", 1);
    let x = m.input("x", &[3, 8, 8]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let y = m.bn(&y);
    let result = m.node(Node::new("Plugin").in_domain("vendor.plugins"), &[&y.name]);
    m.raw().value_info(&result, DataType::Float, &[1, 4, 8, 8].map(Dim::Known));
    let y = m.conv(&Val { name: result, ..y }, &conv(5).kernel(3).pad(1));
    let y = m.bn(&y);
    m.output(&y);
    m
}

#[test]
fn a_model_with_a_plugin_is_compared_part_by_part() {
    let scene = tempfile::tempdir().expect("a folder");
    let (input, output) = (scene.path().join("model.onnx"), scene.path().join("out.onnx"));
    std::fs::write(&input, encode(&around_a_plugin().build())).expect("written");
    let report = scene.path().join("report.json");
    let ran = run(&[&input, path("-o"), &output, path("--report"), &report]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    assert_eq!(read_model(&output).graph.node_count(), 3);
    let report = std::fs::read_to_string(&report).expect("written");
    assert!(
        report.contains(r#""status": "local""#) && report.contains(r#""parts": 2"#),
        "{report}"
    );
}

/// Holds a model against itself with one weight changed, part by part.
#[test]
fn a_part_that_differs_is_found_and_named() {
    let before = around_a_plugin().build();
    let mut after = before.to_proto().expect("acyclic");
    let graph = after.graph.as_mut().expect("there");
    let weight = graph.initializer.last_mut().expect("constants");
    let mut raw = weight.raw_data().to_vec();
    raw[3] ^= 0x40;
    weight.raw_data = Some(raw.into());
    let after = model_of(after).expect("still a model");
    let options = RuntimeOptions::default();
    let error = regions::compare(&before, &after, 3, &options).expect_err("they differ");
    assert_eq!(error.code(), "C0008", "{error}");
    assert!(error.to_string().contains("batchnormalization"), "{error}");
    let same = regions::compare(&before, &before, 3, &options).expect("the same");
    assert_eq!(same.parts, Some(0));
}

#[test]
fn a_graph_without_outputs_is_left_alone() {
    let (scene, input, output) = scene();
    let bytes = std::fs::read(&input).expect("there");
    let mut model = ModelProto::parse_from_bytes(&bytes).expect("the second reader reads it");
    model.graph.mut_or_insert_default().output.clear();
    let bytes = model.write_to_bytes().expect("encodes");
    std::fs::write(&input, &bytes).expect("written");
    let ran = run(&[&input, path("-o"), &output]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    assert!(bytes == std::fs::read(&output).expect("written"));
    assert_eq!(files(&scene), ["model.onnx", "out.onnx"]);
}

#[test]
fn indices_that_need_small_tables_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("model.onnx"), folder.path().join("out.onnx"));
    let mut m = Micro::new(403);
    let x = m.input("x", &[3, 8, 8]);
    let y = m.conv(&x, &conv(4).kernel(3).pad(1));
    let y = m.bn(&y);
    m.output(&y);
    m.raw().input("index", DataType::Int64, &[Dim::Known(2)]);
    let table = m.weight("table", &[1, 5], &seeded(9, 5));
    let row = m.node(Node::new("Gather"), &[&table, "index"]);
    m.raw().output(&row, DataType::Float, None);
    std::fs::write(&input, encode(&m.build())).expect("written");
    let ran = run(&[&input, path("-o"), &output]);
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
}

#[test]
fn a_fixed_batch_is_fixed_wherever_its_symbol_stands() {
    let input = folder().join("trained/fmnist_repvgg.bn.onnx");
    let scene = tempfile::tempdir().expect("a folder");
    let output = scene.path().join("out.onnx");
    for shape in ["input:4,1,28,28", "input:4x1x28x28", "input:[4,1,28,28]", "4,1,28,28"] {
        let ran = run(&[&input, path("-o"), &output, path("--input-shape"), path(shape)]);
        assert_eq!(code(&ran), 0, "{}", stderr(&ran));
        let model = read_model(&output);
        let declared: Vec<String> = (model.graph.required_inputs().chain(model.graph.outputs()))
            .map(|id| model.graph.value(id).declared().expect("a tensor").to_string())
            .collect();
        assert_eq!(declared, ["f32[4,1,28,28]", "f32[4,10]"], "{shape}");
        std::fs::remove_file(&output).expect("written");
    }
    for wrong in ["input:4,1,28", "nothing:4,1,28,28", "input:4,1,28,-1", "input:"] {
        let ran = run(&[&input, path("-o"), &output, path("--input-shape"), path(wrong)]);
        refuses(&ran, 2, "error[C0005]: ");
    }
    assert_eq!(files(&scene), [""; 0]);
}
