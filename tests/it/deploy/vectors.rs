//! Files of a checked model: written where a target refuses it, and test vectors for other runners.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use onnx_protobuf::TensorProto;
use protobuf::Message;
use updp_ir::Tensor;
use updp_testkit::{Micro, conv, encode, find_ort, read_model, skip};

use super::{micro, run};
use crate::fixtures::folder;

#[test]
fn a_refused_model_is_written_and_the_exit_code_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.onnx"), folder.path().join("out.onnx"));
    let model = micro(|m, x| {
        let y = m.conv(x, &conv(4));
        let y = m.bn(&y);
        m.unary("Mish", &y)
    });
    std::fs::write(&input, encode(&model)).expect("written");
    let report = folder.path().join("r.json");
    let arguments = [
        input.to_str().expect("text"),
        "-o",
        output.to_str().expect("text"),
        "--no-verify",
        "--target",
        "migraphx",
        "--report",
        report.to_str().expect("text"),
    ];
    let ran = run(&arguments);
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(4), "{text}");
    assert!(text.contains("C0012"), "{text}");
    assert!(output.exists(), "it is written all the same");
    let report = crate::prune::command::json(&report);
    assert_eq!(report["deploy"]["target"], "migraphx");
    assert_eq!(report["deploy"]["findings"][0]["rule"], "operator");
    let shown = run(&["inspect", input.to_str().expect("text"), "--target", "tensorrt"]);
    assert_eq!(shown.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("TensorRT"));
}

/// A `TensorProto` file as the second reader reads it: name, dims, f32 elements.
fn second_reading(path: &Path) -> (String, Vec<i64>, Vec<f32>) {
    let bytes = std::fs::read(path).expect("written");
    let tensor = TensorProto::parse_from_bytes(&bytes).expect("a TensorProto");
    let raw = &tensor.raw_data;
    let values = raw.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    (tensor.name.clone(), tensor.dims.clone(), values)
}

#[test]
fn test_vectors_are_what_the_written_model_gives() {
    if find_ort().is_none() {
        return skip("test_vectors_are_what_the_written_model_gives", "no ONNX Runtime library");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (output, vectors) = (folder.path().join("out.onnx"), folder.path().join("vectors"));
    let input = self::folder().join("exported/tv_resnet18_mini.legacy17-preserve.onnx");
    let arguments = [
        input.to_str().expect("text"),
        "-o",
        output.to_str().expect("text"),
        "--test-vectors",
        vectors.to_str().expect("text"),
        "-q",
    ];
    let ran = run(&arguments);
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(
        std::fs::read(vectors.join("model.onnx")).expect("written"),
        std::fs::read(&output).expect("written")
    );
    let model = read_model(&output);
    for set in 0..3 {
        let set = vectors.join(format!("test_data_set_{set}"));
        let (name, dims, values) = second_reading(&set.join("input_0.pb"));
        let dims: Vec<usize> = dims.iter().map(|dim| *dim as usize).collect();
        let tensor = Tensor::from_f32(dims, &values).expect("as many as its dims");
        let inputs = updp_testkit::Inputs::from_iter([(name, tensor)]);
        let (name, _, expected) = second_reading(&set.join("output_0.pb"));
        let outputs = updp_testkit::run(&model, &inputs);
        let found = outputs[&name].to_f64().expect("floats");
        let largest = expected.iter().fold(0.0_f64, |m, v| m.max(f64::from(v.abs())));
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - f64::from(*b)).abs() <= 1e-4 * largest, "{a} and {b}");
        }
    }
    // Written again over its own, but never over something else.
    assert_eq!(run(&arguments).status.code(), Some(0));
    std::fs::write(vectors.join("notes.txt"), "mine").expect("written");
    let ran = run(&arguments);
    assert_eq!(ran.status.code(), Some(2), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("C0003"));
    assert!(vectors.join("notes.txt").exists());
}

/// A folder with `model.onnx`, a small network, in it.
fn scene() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("model.onnx");
    let model = micro(|m, x| {
        let y = m.conv(x, &conv(4).kernel(3).pad(1));
        m.bn(&y)
    });
    std::fs::write(&input, encode(&model)).expect("written");
    (folder, input)
}

/// Compiles for test vectors in tract, which is always there.
fn vectors_of(input: &Path, output: &Path, vectors: &Path, more: &[&str]) -> Output {
    let [input, output, vectors] =
        [input, output, vectors].map(|path| path.to_str().expect("text"));
    let arguments = [input, "-o", output, "--runtime", "tract", "--test-vectors", vectors, "-q"];
    run(&[&arguments, more].concat())
}

/// Everything under a folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).expect("readable"));
        }
    }
    all
}

#[track_caller]
fn is_refused(ran: &Output, message: &str) {
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(2), "{text}");
    assert!(text.contains("error[C0003]") && text.contains(message), "{text}");
}

fn is_overwriting(ran: &Output) {
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(2), "{text}");
    assert!(text.contains("error[C0023]: --test-vectors"), "{text}");
}

/// The model zoo lays its models out as test vectors: they are not ours to replace.
#[test]
fn vectors_do_not_replace_a_folder_that_only_looks_like_ours() {
    let (scene, input) = scene();
    let zoo = scene.path().join("zoo");
    std::fs::create_dir_all(zoo.join("test_data_set_0")).expect("made");
    std::fs::copy(&input, zoo.join("model.onnx")).expect("copied");
    std::fs::write(zoo.join("test_data_set_0/input_0.pb"), "theirs").expect("written");
    let before = contents(&zoo);
    let output = scene.path().join("out.onnx");
    is_refused(&vectors_of(&input, &output, &zoo, &[]), "\"model.onnx\"");
    assert_eq!(contents(&zoo), before);
    assert!(!output.exists(), "nothing is written");
    // Nor does the folder the model itself lies in count as free.
    is_overwriting(&vectors_of(&input, &output, scene.path(), &[]));
    assert_eq!(contents(&zoo), before);
}

#[test]
fn vectors_replace_their_own_kind_unless_something_was_added() {
    let (scene, input) = scene();
    let (output, vectors) = (scene.path().join("out.onnx"), scene.path().join("vectors"));
    std::fs::create_dir(&vectors).expect("an empty folder is free");
    let ran = vectors_of(&input, &output, &vectors, &["--check", "2"]);
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(vectors.join("test_data_set_1/output_0.pb").is_file());
    let ran = vectors_of(&input, &output, &vectors, &["--check", "1"]);
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(!vectors.join("test_data_set_1").exists(), "the old sets are gone");
    std::fs::write(vectors.join("test_data_set_0/notes.txt"), "mine").expect("written");
    let before = contents(&vectors);
    is_refused(&vectors_of(&input, &output, &vectors, &[]), "test_data_set_0/notes.txt");
    assert_eq!(contents(&vectors), before);
    std::fs::remove_file(vectors.join("test_data_set_0/notes.txt")).expect("there");
    // A model that was taken from the folder would go with it.
    let again = scene.path().join("again.onnx");
    is_overwriting(&vectors_of(&vectors.join("model.onnx"), &again, &vectors, &[]));
    // No staging folder stays behind.
    let names = std::fs::read_dir(scene.path()).expect("readable");
    let hidden = names.filter(|entry| {
        entry.as_ref().expect("readable").file_name().to_string_lossy().starts_with('.')
    });
    assert_eq!(hidden.count(), 0);
}

#[test]
fn vectors_are_numbered_as_the_graph_lists_its_inputs() {
    let scene = tempfile::tempdir().expect("a folder");
    let mut m = Micro::new(613).batch(2);
    let (left, right) = (m.input("z", &[4, 8, 8]), m.input("a", &[4, 8, 8]));
    let sum = m.conv(&left, &conv(4));
    let sum = m.bn(&sum);
    let sum = m.add(&sum, &right);
    m.output(&sum);
    let (input, output) = (scene.path().join("in.onnx"), scene.path().join("out.onnx"));
    std::fs::write(&input, encode(&m.build())).expect("written");
    // Data come in another order than the graph has.
    let values: Vec<u8> = (0..512).flat_map(|at| (at as f32).to_le_bytes()).collect();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4, 8, 8), }";
    let header = format!("{header:<117}\n");
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.bytes());
    npy.extend(values);
    let data = scene.path().join("data.npy");
    std::fs::write(&data, npy).expect("written");
    let vectors = scene.path().join("vectors");
    let [a, z] = ["a", "z"].map(|name| format!("{name}:{}", data.display()));
    let more = ["--input-data", &a, "--input-data", &z];
    let ran = vectors_of(&input, &output, &vectors, &more);
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let set = vectors.join("test_data_set_0");
    assert_eq!(second_reading(&set.join("input_0.pb")).0, "z");
    assert_eq!(second_reading(&set.join("input_1.pb")).0, "a");
    assert_eq!(second_reading(&set.join("output_0.pb")).1, [2, 4, 8, 8]);
}

#[test]
fn vectors_of_a_model_with_a_data_file_have_that_file() {
    let (scene, input) = scene();
    let mut m = Micro::new(614).batch(2);
    let x = m.input("x", &[16, 7, 6]);
    let y = m.conv(&x, &conv(16).kernel(3).pad(1));
    let y = m.bn(&y);
    m.output(&y);
    std::fs::write(&input, encode(&m.build())).expect("written");
    let (output, vectors) = (scene.path().join("out.onnx"), scene.path().join("vectors"));
    for _ in 0..2 {
        let ran = vectors_of(&input, &output, &vectors, &["--external-data"]);
        assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
        assert!(vectors.join("out.onnx.data").is_file());
        updp_testkit::prove(&read_model(&input), &read_model(&vectors.join("model.onnx")));
    }
}
