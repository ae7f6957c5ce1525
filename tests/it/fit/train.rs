//! Training from the command line: models as they are, and pruned networks.

use std::path::Path;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use serde_json::Value;
use updp_ir::{Model, Tensor};
use updp_testkit::{
    Micro, Session, Val, conv, encode, find_ort, gemm, op_counts, read_model, signature, skip,
};

use super::command::{arguments, data, with_threads};
use crate::prune::command::{ends, json, run, scene, started, succeeds};

/// Arguments of `train` on the Fashion-MNIST fixture, and more.
fn training<'a>(input: &'a str, output: &'a str, data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["train", input, "-o", output, "--data", data];
    all.extend(["--preprocess", "fashion-mnist", "--val-split", "0.3"]);
    all.extend(more);
    with_threads(all)
}

fn accuracy(score: &Value) -> f64 {
    score["accuracy"].as_f64().expect("labelled data")
}

#[test]
fn trains_a_model_as_it_is() {
    for (name, rate) in [("fmnist_resnet.bn", "0.005"), ("fmnist_deit.bn", "0.0001")] {
        let (folder, input, output) = scene(name);
        let report = folder.path().join("r.json");
        let (report_text, data) = (report.display().to_string(), data());
        let more = ["--epochs", "3", "--lr", rate, "--report", &report_text];
        let text = succeeds(&training(&input, &output, &data, &more));
        assert!(text.contains("tensors of"), "{text}");
        let report = json(&report);
        assert!(accuracy(&report["after"]) > accuracy(&report["before"]) - 0.06, "{report:#}");
        assert_eq!(report["epochs"].as_array().map(Vec::len), Some(3));
        let course = report["course"].as_array().expect("steps");
        assert_eq!(course.last().map(|it| &it["step"]), Some(&report["steps"]));
        let (before, after) = (read_model(Path::new(&input)), read_model(Path::new(&output)));
        assert_eq!(signature(&before), signature(&after));
        // A tensor that several operators share by an Identity has become one of each.
        let operators = |model: &Model| {
            let mut counts = op_counts(&model.graph);
            counts.remove("Identity");
            counts.remove("Constant");
            counts
        };
        assert_eq!(operators(&before), operators(&after));
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("readable").collect();
        assert_eq!(left.len(), 2, "the work folder is gone: {left:?}");
    }
}

#[test]
fn a_fixed_batch_of_one_is_trained_in_batches_and_written_as_it_was() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let name = {
        let model = read_model(Path::new(&input));
        let input = model.graph.required_inputs().next().expect("an input");
        model.graph.value(input).name().to_owned()
    };
    let (report, data) = (folder.path().join("r.json"), data());
    let (report_text, shape) = (report.display().to_string(), format!("{name}:1,1,28,28"));
    let more = ["--epochs", "1", "--input-shape", &shape, "--report", &report_text];
    succeeds(&training(&input, &output, &data, &more));
    let report = json(&report);
    assert!(report["steps"].as_u64().expect("a number") < 20, "{report:#}");
    let dims = |path: &str| {
        let model = read_model(Path::new(path));
        let input = model.graph.required_inputs().next().expect("an input");
        model.graph.value(input).declared().and_then(updp_ir::TensorType::known_dims)
    };
    assert_eq!(dims(&output), Some(vec![1, 1, 28, 28]));

    // The same of networks that take λ, too.
    let pruned = folder.path().join("pruned.onnx").display().to_string();
    let work = folder.path().join("work").display().to_string();
    let methods = ["blend", "progressive"].map(|method| vec!["--epochs", "1", "--method", method]);
    for more in methods.into_iter().chain([vec!["--supernet-epochs", "1"]]) {
        let kept = ["--blocks", "4,7", "--force", "--batch-size", "16", "--work", &work];
        let more = [&kept, &more[..]].concat();
        succeeds(&arguments(&output, &pruned, &data, &more));
        assert_eq!(dims(&pruned), Some(vec![1, 1, 28, 28]), "{more:?}");
    }
}

#[test]
fn a_pruned_network_is_trained_by_every_method() {
    let all = ["fit", "blend", "progressive", "direct"];
    for (name, blocks, methods) in
        [("fmnist_resnet.bn", "4,7", &all[..]), ("fmnist_convnext.bn", "1,4", &all[1..3])]
    {
        let (folder, input, output) = scene(name);
        let report = folder.path().join("r.json");
        let (report_text, data) = (report.display().to_string(), data());
        let work = folder.path().join("work").display().to_string();
        let page = folder.path().join("r.html");
        let page_text = page.display().to_string();
        for method in methods {
            let more = ["--blocks", blocks, "--force", "--epochs", "2", "--method", method];
            let kept = ["--work", &work, "--report", &report_text, "--report", &page_text];
            let more = [more.as_slice(), &kept].concat();
            let text = succeeds(&arguments(&input, &output, &data, &more));
            assert!(text.contains(&format!("trained ({method}) 2 epochs")), "{text}");
            let report = json(&report);
            let fit = &report["pruning"]["fit"];
            let trained = &fit["training"];
            let (before, after) = (accuracy(&trained["before"]), accuracy(&trained["after"]));
            assert!(after > 0.3, "{name} {method}: {before} -> {after}");
            let is_fitted = ["fit", "blend"].contains(method);
            // A fit is only refined with few images. What was not fitted has further to go, and takes larger steps of
            // SGD.
            let course = trained["course"].as_array().expect("a list");
            let rates = course.iter().filter_map(|it| it["learning_rate"].as_f64());
            let expected = match (name, is_fitted) {
                (_, true) if *method == "fit" => 5e-5,
                ("fmnist_resnet.bn", true) => 0.02,
                ("fmnist_resnet.bn", false) => 0.05,
                _ => 5e-4,
            };
            let largest = rates.fold(0.0, f64::max);
            assert!((largest / expected - 1.0).abs() < 1e-6, "{name} {method}: {largest}");
            assert!(is_fitted || after > before, "{name} {method}: {before} -> {after}");
            let curves = std::fs::read_to_string(&page).expect("written");
            let count = if *method == "fit" { 3 } else { 4 };
            assert_eq!(curves.matches("<polyline").count(), count, "{name} {method}");
            let network = read_model(Path::new(&output));
            assert!(network.graph.find("updp_lambda").is_none(), "{name} {method}");
            assert_eq!(network.graph.required_inputs().count(), 1, "{name} {method}");
        }
    }
}

#[test]
fn the_fitted_network_is_written_where_training_spoils_it() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let report = folder.path().join("r.json");
    let (report_text, data) = (report.display().to_string(), data());
    let work = folder.path().join("work").display().to_string();
    let blocks = ["--blocks", "4", "--force", "--work", &work];
    succeeds(&arguments(&input, &output, &data, &blocks));
    let fitted = std::fs::read(&output).expect("written");
    let much = ["--epochs", "1", "--lr", "0.5", "--optimizer", "sgd", "--report", &report_text];
    let text = succeeds(&arguments(&input, &output, &data, &[&blocks[..], &much].concat()));
    assert!(text.contains("so the fitted network is written without training"), "{text}");
    assert!(fitted == std::fs::read(&output).expect("written"), "it is another network");
    let fit = &json(&report)["pruning"]["fit"];
    assert_eq!(fit["training"]["is_written"], false);
    assert!(accuracy(&fit["training"]["after"]) < accuracy(&fit["after"]), "{fit}");
}

#[test]
fn lambda_rises_along_half_a_cosine_when_asked_to() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let (data, work) = (data(), folder.path().join("work"));
    let work_text = work.display().to_string();
    let more = ["--blocks", "4", "--force", "--epochs", "2", "--method", "progressive"];
    let ramp = ["--ramp", "1", "--ramp-form", "cosine", "--work", &work_text, "-q"];
    let weights = ["--class-weights", "1,1,1,1,1,1,1,1,1,3"];
    succeeds(&arguments(&input, &output, &data, &[&more[..], &ramp, &weights].concat()));
    let folders = std::fs::read_dir(&work).expect("kept").flatten();
    let mut files =
        folders.filter_map(|it| std::fs::read_to_string(it.path().join("steps.csv")).ok());
    let steps = files.next().expect("a journal");
    let lambdas: Vec<f64> = steps
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(2).and_then(|it| it.parse().ok()).expect("a number"))
        .collect();
    assert!(lambdas.len() > 8, "{steps}");
    for (at, lambda) in lambdas.iter().enumerate() {
        let share = at as f64 / lambdas.len() as f64;
        let expected = (1.0 - (std::f64::consts::PI * share).cos()) / 2.0;
        assert!((lambda - expected).abs() < 1e-9, "{at}: {lambda} for {expected}");
    }
}

#[test]
fn a_step_of_f16_is_written_with_its_scale_as_a_state() {
    let (folder, input, _) = scene("fmnist_resnet.bn");
    let (step, data) = (folder.path().join("step.onnx"), data());
    let step_text = step.display().to_string();
    let all = ["train", &input, "--data", &data, "--preprocess", "fashion-mnist"];
    succeeds(&[all.as_slice(), &["--precision", "f16", "--emit-step", &step_text]].concat());
    let described = json(&step.with_extension("json"));
    let states = described["states"].as_array().expect("states");
    assert!(states.iter().any(|state| state["input"] == "current.loss_scale"), "{states:?}");
    assert!(read_model(&step).graph.find("next.loss_scale").is_some());
}

#[test]
fn computing_activations_again_changes_no_loss() {
    let (folder, input, output) = scene("fmnist_convnext.bn");
    let data = data();
    let losses = |more: &[&str], work: &str| -> Vec<f64> {
        let work = folder.path().join(work);
        let work_text = work.display().to_string();
        let kept = ["--epochs", "1", "--work", &work_text, "-q"];
        succeeds(&training(&input, &output, &data, &[more, &kept[..]].concat()));
        let folders = std::fs::read_dir(&work).expect("kept").flatten();
        let mut files =
            folders.filter_map(|it| std::fs::read_to_string(it.path().join("steps.csv")).ok());
        let steps = files.next().expect("a journal");
        let loss = |line: &str| line.split(',').nth(5).and_then(|it| it.parse().ok());
        steps.lines().skip(1).map(|line| loss(line).expect("a number")).collect()
    };
    let (plain, again) = (losses(&[], "plain"), losses(&["--recompute"], "again"));
    assert!(plain.len() > 3 && plain.len() == again.len(), "{plain:?} {again:?}");
    // The runtime fuses other nodes of the two, so digits at the end may differ, more from step to step.
    for (a, b) in plain.iter().zip(&again) {
        assert!((a - b).abs() < 1e-2 * a, "{plain:?} {again:?}");
    }
}

#[test]
fn kernels_shrink_when_asked_to() {
    let data = data();
    for (name, method, at, expected) in [
        ("fmnist_resnet.bn", "progressive", "1", [0.0, 1.0]),
        ("fmnist_vgg.bn", "direct", "1", [0.0, 1.0]),
        ("fmnist_convnext.bn", "progressive", "lambda", [f64::NAN, 1.0]),
    ] {
        let (folder, input, output) = scene(name);
        let work = folder.path().join("work");
        let work_text = work.display().to_string();
        let more = ["--blocks", "1", "--force", "--epochs", "2", "--method", method];
        let shrink = ["--shrink-at", at, "--ramp", "2", "--work", &work_text, "-q"];
        succeeds(&arguments(&input, &output, &data, &[&more[..], &shrink].concat()));
        let folders = std::fs::read_dir(&work).expect("kept").flatten();
        let mut files =
            folders.filter_map(|it| std::fs::read_to_string(it.path().join("steps.csv")).ok());
        let steps = files.next().expect("a journal");
        let columns = |line: &str| -> Vec<f64> {
            line.split(',').take(4).map(|it| it.parse().unwrap_or(f64::NAN)).collect()
        };
        for line in steps.lines().skip(1) {
            let [_, epoch, lambda, s] = columns(line)[..] else { panic!("{line}") };
            let end = expected[usize::from(epoch >= 1.0)];
            assert_eq!(s, if end.is_nan() { lambda } else { end }, "{name}: {line}");
        }
        let network = read_model(Path::new(&output));
        assert_eq!(network.graph.required_inputs().count(), 1, "{name}");
    }
    let (_folder, input, output) = scene("fmnist_resnet.bn");
    for more in [
        &["--blocks", "1", "--epochs", "1", "--shrink-at", "1"][..],
        &["--blocks", "1", "--method", "progressive", "--shrink-at", "1"],
    ] {
        ends(&arguments(&input, &output, &data, more), 2, "--shrink-at is for training");
    }
    let late = ["--blocks", "1", "--epochs", "1", "--method", "direct", "--shrink-at", "2"];
    ends(&arguments(&input, &output, &data, &late), 2, "error[T0401]");
}

#[test]
fn a_training_that_was_killed_ends_with_the_same_bytes() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let (data, work) = (data(), folder.path().join("work"));
    let work_text = work.display().to_string();
    let more =
        ["--epochs", "11", "--batch-size", "32", "--threads", "2", "--work", &work_text, "-q"];
    let all = training(&input, &output, &data, &more);
    let checkpoints = || {
        let folders = std::fs::read_dir(&work).into_iter().flatten().flatten();
        let files =
            folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten());
        files.flatten().filter(|f| f.path().extension().is_some_and(|e| e == "safetensors")).count()
    };
    let mut child = started(&all);
    let start = Instant::now();
    while checkpoints() < 1 && start.elapsed() < Duration::from_mins(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it has ended");
    assert!(checkpoints() >= 1, "a checkpoint was kept");
    assert!(!Path::new(&output).exists());
    succeeds(&all);
    let resumed = std::fs::read(&output).expect("written");
    std::fs::remove_dir_all(&work).expect("it is there");
    succeeds(&all);
    assert_eq!(resumed, std::fs::read(&output).expect("written"), "going on differs");
}

#[test]
fn the_step_is_a_model_that_any_runtime_runs() {
    let (folder, input, _) = scene("fmnist_resnet.bn");
    let step = folder.path().join("step.onnx");
    let (step_text, data) = (step.display().to_string(), data());
    let all = ["train", &input, "--data", &data, "--preprocess", "fashion-mnist", "--distill", "0"];
    succeeds(&[all.as_slice(), &["--batch-size", "8", "--emit-step", &step_text]].concat());
    let described = json(&step.with_extension("json"));
    let mut inputs = IndexMap::new();
    let list = described["states"].as_array().expect("states").clone();
    let text = |value: &Value| value.as_str().expect("a name").to_owned();
    let pixels: Vec<f32> = (0..8 * 28 * 28).map(|at| (at % 17) as f32 / 8.0 - 1.0).collect();
    let mut labels = vec![0.0; 80];
    labels.iter_mut().step_by(10).for_each(|label| *label = 1.0);
    let images = Tensor::from_f32(vec![8, 1, 28, 28], &pixels).expect("it fits");
    inputs.insert(text(&described["network_inputs"][0]), images);
    inputs.insert(
        text(&described["targets"]),
        Tensor::from_f32(vec![8, 10], &labels).expect("it fits"),
    );
    let rate = Tensor::from_f32(Vec::new(), &[0.01]).expect("a scalar");
    inputs.insert(text(&described["learning_rate"]), rate);
    if find_ort().is_none() {
        return skip("the_step_is_a_model_that_any_runtime_runs", "no ONNX Runtime library");
    }
    let mut session = Session::ort(&read_model(&step)).expect("it is plain ONNX");
    let mut losses = Vec::new();
    for _ in 0..5 {
        let outputs = session.run(&inputs).expect("it runs");
        losses.push(outputs[&text(&described["loss"])].to_f64().expect("a number")[0]);
        for state in &list {
            let next = outputs[&text(&state["output"])].clone();
            inputs.insert(text(&state["input"]), next);
        }
    }
    assert!(losses[4] < losses[0], "{losses:?}");
}

#[test]
fn the_step_of_an_expanded_network_takes_lambda() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let (step, data) = (folder.path().join("step.onnx").display().to_string(), data());
    succeeds(&[&input, "-o", &output, "--blocks", "4,7", "--until", "expand", "--force"]);
    let train = ["train", &output, "--data", &data, "--preprocess", "fashion-mnist"];
    succeeds(&[train.as_slice(), &["--emit-step", &step]].concat());
    let model = read_model(Path::new(&step));
    let lambda = model.graph.find("updp_lambda").expect("it stays an input");
    assert!(model.graph.required_inputs().any(|value| value == lambda));
    ends(&[train.as_slice(), &["-o", &step]].concat(), 2, "--method progressive");
}

#[test]
fn a_training_may_be_described_in_a_file() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let (config, report) = (folder.path().join("updp.toml"), folder.path().join("r.json"));
    let text = format!(
        "data = {:?}\npreprocess = \"fashion-mnist\"\nval-split = 0.3\nepochs = 5\nthreads = 2\nreport = {report:?}\n",
        data()
    );
    std::fs::write(&config, text).expect("written");
    let config_text = config.display().to_string();
    let all = ["train", &input, "-o", &output, "--config", &config_text, "--epochs", "1"];
    succeeds(&all);
    assert_eq!(json(&report)["epochs"].as_array().map(Vec::len), Some(1));
    std::fs::write(&config, "epochs = 1\nrate = 2\n").expect("written");
    ends(&all, 2, "updp.toml:2: there is no option --rate");
    std::fs::write(&config, "data = \"d\"\nlr = -1\n").expect("written");
    ends(&all, 2, "error[C0018]");
}

#[test]
fn a_run_that_cannot_start_leaves_no_work_folder() {
    let (folder, input, output) = scene("fmnist_resnet.bn");
    let data = data();
    let missing = ["--runtime", "tract", "--ort-lib", "/no/such/library.so"];
    let left = || std::fs::read_dir(folder.path()).expect("readable").count();
    ends(&training(&input, &output, &data, &missing), 8, "error[X0002]");
    assert_eq!(left(), 0);
    let few = ["--class-weights", "1,2", "--epochs", "1"];
    ends(&training(&input, &output, &data, &few), 2, "error[T0401]");
    assert_eq!(left(), 0);
    let pruned = ["--prune", "1", "--epochs", "1"];
    let without = [&pruned[..], &missing].concat();
    ends(&arguments(&input, &output, &data, &without), 8, "error[X0002]");
    assert_eq!(left(), 0);
    let wrong = [&pruned[..], &["--augment", "light"]].concat();
    ends(&arguments(&input, &output, &data, &wrong), 2, "error[T0408]");
    assert_eq!(left(), 0);
    // What was found before stays.
    let work = Path::new(&output).with_file_name("out.onnx.work");
    std::fs::create_dir(&work).expect("made");
    let mark = "{\"schema\":\"updp-work/1\"}\n";
    std::fs::write(work.join("updp-compile.work"), mark).expect("written");
    std::fs::write(work.join("latency.json"), "{}").expect("written");
    ends(&training(&input, &output, &data, &few), 2, "error[T0401]");
    assert!(work.join("latency.json").exists());
}

#[test]
fn says_what_training_lacks() {
    let (_folder, input, output) = scene("fmnist_resnet.bn");
    let data = data();
    ends(&["train", &input, "-o", &output], 2, "training needs images");
    ends(&["train", &input, "--data", &data], 2, "error[C0001]");
    ends(&training(&input, &output, &data, &["--augment", "light"]), 2, "error[T0408]");
    ends(&training(&input, &output, &data, &["--batch-size", "5000"]), 2, "error[T0406]");
    let far = training(&input, &output, &data, &["--lr", "1e15", "--clip", "1e15"]);
    let text = ends(&far, 2, "error[T0403]");
    // Where the numbers grew, by name.
    for part in ["largest activation", "the first not finite in \"/layer"] {
        assert!(text.contains(part), "{text}");
    }
    let few = ["--class-weights", "1,2", "--epochs", "1"];
    ends(&training(&input, &output, &data, &few), 2, "error[T0401]");
    let twice = ["--class-weights", "1,2", "--balance-classes"];
    ends(&training(&input, &output, &data, &twice), 2, "error[C0001]");
    let both = ["--prune", "1", "--epochs", "2", "--recover", "fit"];
    ends(&arguments(&input, &output, &data, &both), 2, "--epochs is for --recover train");
    ends(&[&input, "-o", &output, "--blocks", "1", "--recover", "train"], 2, "--data DIR");
    let early = ["--prune", "1", "--epochs", "2", "--augment", "light"];
    ends(&arguments(&input, &output, &data, &early), 2, "error[T0408]");
}

/// A classifier of images `[1, 28, 28]` with this number of classes.
fn classifier(path: &Path, classes: usize) {
    let mut m = Micro::new(51);
    let x = m.input("x", &[1, 28, 28]);
    let y = m.conv(&x, &conv(4).kernel(3).stride(2));
    let y = m.unary("Relu", &y);
    let y = m.unary("GlobalAveragePool", &y);
    let y = Val { rank: 2, ..m.unary("Flatten", &y) };
    let y = m.gemm(&y, &gemm(classes));
    m.output(&y);
    std::fs::write(path, encode(&m.build())).expect("written");
}

#[test]
fn with_labels_of_other_classes_the_input_model_is_the_teacher() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (data, output) = (data(), path("out.onnx"));
    for classes in [2, 4, 9] {
        let model = path("model.onnx");
        classifier(Path::new(&model), classes);
        for more in [&[][..], &["--distill", "1"], &["--distill", "0.3"], &["--distill", "0"]] {
            let few = ["--epochs", "1", "--images", "64", "--batch-size", "16"];
            succeeds(&training(&model, &output, &data, &[&few[..], more].concat()));
        }
    }
}

#[test]
fn an_image_with_a_value_that_is_not_finite_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, images) = (path("model.onnx"), path("images.npy"));
    classifier(Path::new(&model), 3);
    for (bad, text) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (120, 1, 28, 28), }";
        let header = format!("{header:<117}\n");
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((header.len() as u16).to_le_bytes());
        npy.extend(header.bytes());
        let values = (0..120 * 784).map(|at| if at == 784 * 7 + 5 { bad } else { at as f32 % 0.9 });
        npy.extend(values.flat_map(f32::to_le_bytes));
        std::fs::write(&images, npy).expect("written");
        let out = path("out.onnx");
        let more = ["--epochs", "1", "--augment", "none", "--batch-size", "16"];
        let output = run(&training(&model, &out, &images, &more));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("[7]") && said.contains(text), "{said}");
    }
}
