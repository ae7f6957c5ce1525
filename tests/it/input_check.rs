//! What a command does before its work: it scores the input model, and refuses what cannot succeed.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use updp_trainer::data::npz;

use crate::fixtures::folder;
use crate::prune::command::{ends, json, run, scene, succeeds};

/// Number of images.
const COUNT: usize = 200;

/// The first images of the fixture as pixels of 0 to 255 in IDX files; the folder is the data set.
fn pixels(has_labels: bool) -> TempDir {
    let scene = tempfile::tempdir().expect("a folder");
    let arrays = npz::read_npz(&folder().join("fmnist_test_1000.npz")).expect("it is read");
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (name, array) in &arrays {
        let bytes = array.bytes();
        if name == "labels" {
            let size = bytes.len() / array.dims()[0];
            labels = bytes.chunks(size).map(|label| label[0]).take(COUNT).collect();
        } else {
            let values = bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value));
            let pixel = |value: f32| ((value * 0.25 + 0.45) * 255.0).round() as u8;
            images = values.map(pixel).take(COUNT * 28 * 28).collect();
        }
    }
    let write = |name: &str, dims: &[u32], elements: &[u8]| {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
        bytes.extend(elements);
        std::fs::write(scene.path().join(name), bytes).expect("written");
    };
    write("t10k-images-idx3-ubyte", &[COUNT as u32, 28, 28], &images);
    if has_labels {
        write("t10k-labels-idx1-ubyte", &[COUNT as u32], &labels);
    }
    scene
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_model_near_chance_is_refused_with_the_cure() {
    let (_folder, input, output) = scene("fmnist_vgg.bn");
    let data = pixels(true);
    let data = text(data.path());
    let fixed = ["prune", &input, "-o", &output, "--data", &data, "--prune", "1", "--threads", "1"];
    let told = ends(&[&fixed[..], &["--preprocess", "none"]].concat(), 2, "error[T0007]");
    assert!(told.contains("with --preprocess none, near the chance of 10 classes"), "{told}");
    assert!(told.contains("help: --preprocess fashion-mnist; --allow-low-accuracy"), "{told}");
    assert!(!Path::new(&output).exists() && !Path::new(&format!("{output}.work")).exists());
    let more = ["--preprocess", "none", "--allow-low-accuracy", "--dry-run"];
    let ran = run(&[&fixed[..], &more].concat());
    let told = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{told}");
    assert!(told.contains("warning: the input model has"), "{told}");
}

#[test]
fn auto_finds_the_preprocessing_and_an_accuracy_can_be_expected() {
    let (_folder, input, _) = scene("fmnist_vgg.bn");
    let data = pixels(true);
    let data = text(data.path());
    let fixed = ["evaluate", &input, "--data", &data, "--threads", "1", "--preprocess"];
    let ran = run(&[&fixed[..], &["auto", "--expect-accuracy", "88"]].concat());
    let told = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{told}");
    assert!(told.contains("--preprocess fashion-mnist is taken: accuracy 9"), "{told}");
    assert!(told.contains("preprocessings tried: fashion-mnist 9"), "{told}");
    let ran = run(&[&fixed[..], &["none"]].concat());
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && told.contains("the first model is near chance"), "{told}");
    ends(
        &[&fixed[..], &["fashion-mnist", "--expect-accuracy", "99.5"]].concat(),
        2,
        "error[T0008]",
    );
    ends(&[&fixed[..], &["fashion-mnist", "--expect-accuracy", "0.88"]].concat(), 2, "percentage");
    // The same option in a file.
    let file = tempfile::tempdir().expect("a folder");
    let config = text(&file.path().join("updp.toml"));
    std::fs::write(&config, "expect-accuracy = 99.5\n").expect("written");
    ends(&[&fixed[..], &["fashion-mnist", "--config", &config]].concat(), 2, "error[T0008]");
    let (_folder, input, output) = scene("fmnist_vgg.bn");
    let data = pixels(false);
    let data = text(data.path());
    let fixed = ["prune", &input, "-o", &output, "--data", &data, "--prune", "1", "--preprocess"];
    ends(&[&fixed[..], &["auto"]].concat(), 2, "error[T0009]");
}

#[test]
fn a_pipe_gets_a_line_at_the_start_and_at_the_end_of_each_stage() {
    let (folder, input, output) = scene("fmnist_vgg.bn");
    let data = pixels(true);
    let (data, report) = (text(data.path()), folder.path().join("r.json"));
    let report_path = text(&report);
    let all = [
        "prune",
        &input,
        "-o",
        &output,
        "--data",
        &data,
        "--preprocess",
        "fashion-mnist",
        "--prune",
        "1",
        "--force",
        "--probe-seconds",
        "0.02",
        "--threads",
        "1",
        "--report",
        &report_path,
    ];
    let ran = run(&all);
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(0), "{told}");
    let stages: Vec<&str> = told.lines().filter(|line| line.starts_with('[')).collect();
    for (at, name) in [
        "scoring the input model",
        "reading data",
        "profiling blocks",
        "fitting block forms",
        "choosing blocks and fitting the network",
        "measuring the result",
        "merging and verifying",
    ]
    .into_iter()
    .enumerate()
    {
        let start = format!("[{}/7] {name}", at + 1);
        let end = format!("{start}: took ");
        let from = stages.iter().position(|line| *line == start);
        let to = stages.iter().position(|line| line.starts_with(&end));
        assert!(from.is_some() && from < to, "{start}: {told}");
    }
    assert!(!told.contains('\u{1b}') && !told.contains('\r'), "{told}");
    let fit = &json(&report)["pruning"]["fit"];
    assert_eq!(fit["input"]["preprocess"], "fashion-mnist");
    assert_eq!(fit["input"]["score"]["images"], COUNT);
    assert!(fit["input"]["score"]["accuracy"].as_f64().is_some_and(|share| share > 0.85));
    let ran = run(&[&all[..], &["-q"]].concat());
    assert_eq!((ran.status.code(), ran.stderr.len(), ran.stdout.len()), (Some(0), 0, 0));
}

#[test]
fn a_place_that_cannot_be_written_is_refused_before_the_work() {
    let (folder, input, output) = scene("fmnist_vgg.bn");
    let data = pixels(true);
    let (data, here) = (text(data.path()), text(folder.path()));
    let nowhere = text(&folder.path().join("missing/out.onnx"));
    for place in [&here, &nowhere] {
        let data = ["--data", &data, "--preprocess", "fashion-mnist"];
        let prune = [&["prune", &input, "-o", place, "--prune", "1"], &data[..]].concat();
        let train = [&["finetune", &input, "-o", place], &data[..]].concat();
        let compile = ["compile", &input, "-o", place];
        let report = ["compile", &input, "-o", &output, "--report", place];
        let evaluate = [&["evaluate", &input, "--report", place], &data[..]].concat();
        for arguments in [&prune[..], &train, &compile, &report, &evaluate] {
            let told = ends(arguments, 2, "error[C0003]");
            assert!(!told.contains("input model") && !told.contains("[1/"), "{told}");
        }
    }
    assert!(!Path::new(&output).exists());
}

#[test]
fn names_that_mean_nothing_are_refused() {
    let (_folder, input, output) = scene("fmnist_vgg.bn");
    let data = pixels(true);
    let data = text(data.path());
    let fixed = ["--data", &data, "--preprocess", "fashion-mnist", "--freeze", "no-such-weight"];
    let train = [&["finetune", &input, "-o", &output], &fixed[..]].concat();
    ends(&train, 2, "no initializer \"no-such-weight\"");
    let prune = [&["prune", &input, "-o", &output, "--prune", "1", "--epochs", "1"], &fixed[..]];
    ends(&prune.concat(), 2, "no initializer \"no-such-weight\"");
}

#[test]
fn a_library_that_is_named_and_missing_is_an_error() {
    let (_folder, input, output) = scene("fmnist_vgg.bn");
    let mut program = Command::new(env!("CARGO_BIN_EXE_updp-compile"));
    program.args([&input, "-o", &output]).env("ORT_DYLIB_PATH", "/no/such/libonnxruntime.so");
    let ran = program.output().expect("the program starts");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(8), "{told}");
    assert!(told.contains("error[X0002]") && told.contains("/no/such"), "{told}");
    // Another runtime can be asked for by name.
    let tract = ["compile", &input, "-o", &output, "--runtime", "tract"];
    succeeds(&tract);
}
