//! Models with several inputs and several outputs.

use std::path::Path;

use onnx_protobuf::tensor_shape_proto::dimension::Value as Size;
use onnx_protobuf::{ModelProto, NodeProto, ValueInfoProto, type_proto};
use protobuf::Message;
use serde_json::Value;

use super::command::{arguments, data};
use super::inputs::edited;
use crate::prune::command::{ends, json, succeeds};
use crate::schemas::assert_valid;

fn node(op: &str, inputs: [&str; 2], output: &str) -> NodeProto {
    let mut node = NodeProto::new();
    op.clone_into(&mut node.op_type);
    node.input.extend(inputs.map(str::to_owned));
    node.output.push(output.to_owned());
    node
}

/// The same type under another name, with other sizes.
fn like(value: &ValueInfoProto, name: &str, sizes: &[i64]) -> ValueInfoProto {
    let mut value = value.clone();
    name.clone_into(&mut value.name);
    if let Some(type_proto::Value::TensorType(tensor)) =
        &mut value.type_.as_mut().expect("a type").value
        && !sizes.is_empty()
    {
        let dims = &mut tensor.shape.as_mut().expect("a shape").dim;
        dims.truncate(sizes.len());
        for (dim, size) in dims.iter_mut().zip(sizes) {
            dim.value = Some(Size::DimValue(*size));
        }
    }
    value
}

/// The shipped residual network with two more inputs and one more output: the pixels are multiplied by `mask
/// [N, 1, 28, 28]`, and `scaled` is the row of scores times `gain [1, 1]`.
fn network() -> Vec<u8> {
    edited(|model| {
        let graph = model.graph.as_mut().expect("a graph");
        let (image, scores) = (graph.input[0].clone(), graph.output[0].clone());
        for operand in graph.node.iter_mut().flat_map(|node| &mut node.input) {
            if *operand == image.name {
                "masked".clone_into(operand);
            }
        }
        graph.node.insert(0, node("Mul", [&image.name, "mask"], "masked"));
        graph.node.push(node("Mul", [&scores.name, "gain"], "scaled"));
        graph.input.push(like(&image, "mask", &[]));
        graph.input.push(like(&image, "gain", &[1, 1]));
        graph.output.push(like(&scores, "scaled", &[]));
    })
}

/// The names of the first input and the first output.
fn names(model: &[u8]) -> [String; 2] {
    let model = ModelProto::parse_from_bytes(model).expect("a model");
    [model.graph.input[0].name.clone(), model.graph.output[0].name.clone()]
}

fn npy(dims: &str, values: &[f32]) -> Vec<u8> {
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {dims}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(text.len()).expect("short").to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// The network on the disk, with places for what is made of it.
struct Scene {
    folder: tempfile::TempDir,
    image: String,
    scores: String,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let model = network();
        let [image, scores] = names(&model);
        std::fs::write(folder.path().join("model.onnx"), model).expect("written");
        Self { folder, image, scores }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn array(&self, name: &str, dims: &str, values: &[f32]) -> String {
        std::fs::write(self.path(name), npy(dims, values)).expect("written");
        self.path(name)
    }

    /// Prunes block 2 with more options; the text and the report.
    fn pruned(&self, more: &[&str]) -> (String, Value) {
        let (model, output, data) = (self.path("model.onnx"), self.path("out.onnx"), data());
        let report = self.path("r.json");
        let mut all = vec!["--blocks", "2", "--force", "--report", &report];
        all.extend(["--image-input", &self.image]);
        all.extend(more);
        let told = succeeds(&arguments(&model, &output, &data, &all));
        let report = json(Path::new(&report));
        assert_valid(&report);
        (told, report["pruning"]["fit"].clone())
    }

    /// Asserts that a run is refused.
    fn refused(&self, more: &[&str], message: &str) -> String {
        let (model, output, data) = (self.path("model.onnx"), self.path("out.onnx"), data());
        let mut all = vec!["--blocks", "2", "--force"];
        all.extend(more);
        let told = ends(&arguments(&model, &output, &data, &all), 2, message);
        assert!(!Path::new(&output).exists(), "nothing is written");
        told
    }
}

fn degradation_of(fit: &Value, name: &str) -> f64 {
    let outputs = fit["outputs"].as_array().expect("a list");
    let output = outputs.iter().find(|output| output["name"] == name);
    output.expect("it counts")["degradation"].as_f64().expect("a number")
}

#[test]
fn a_model_with_several_inputs_is_pruned_and_keeps_them() {
    let scene = Scene::new();
    let (told, fit) = scene.pruned(&[]);
    assert!(told.contains("\"mask\" [1, 1, 28, 28] gets ones"), "{told}");
    assert!(told.contains("\"gain\" [1, 1] gets ones"), "{told}");
    assert_eq!(fit["data"]["image_input"]["name"], scene.image.as_str());
    assert_eq!(fit["data"]["image_input"]["dims"], serde_json::json!([1, 28, 28]));
    let others = fit["data"]["other_inputs"].as_array().expect("a list");
    let others: Vec<_> =
        others.iter().map(|it| (it["name"].as_str(), &it["is_repeated"])).collect();
    assert_eq!(others, [(Some("mask"), &Value::Bool(true)), (Some("gain"), &Value::Bool(false))]);
    let (one, two) = (degradation_of(&fit, &scene.scores), degradation_of(&fit, "scaled"));
    assert!(one > 0.0 && (one - two).abs() < 1e-9, "{one} {two}");
    let written = std::fs::read(scene.path("out.onnx")).expect("written");
    let written = ModelProto::parse_from_bytes(&written).expect("a model");
    let inputs: Vec<&str> = written.graph.input.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(inputs, [scene.image.as_str(), "mask", "gain"]);

    // The gain is read behind every block, and it must reach the parts there.
    let gain = scene.array("gain.npy", "(1, 1)", &[0.25]);
    let (told, quarter) = scene.pruned(&["--input", &format!("gain={gain}")]);
    assert!(told.contains("\"gain\" [1, 1] gets the given array"), "{told}");
    let scaled = degradation_of(&quarter, "scaled");
    assert!(scaled > 0.0 && scaled < 0.5 * two, "{scaled} {two}");

    // The mask is read in front of all blocks, so it changes the weights.
    let first = std::fs::read(scene.path("out.onnx")).expect("written");
    let half: Vec<f32> = (0..28 * 28).map(|at| if at % 28 < 14 { 1.0 } else { 0.0 }).collect();
    let mask = scene.array("mask.npy", "(1, 1, 28, 28)", &half);
    let more = ["--input", &format!("mask={mask}"), "--input", &format!("gain={gain}")];
    let (_, masked) = scene.pruned(&more);
    assert!(std::fs::read(scene.path("out.onnx")).expect("written") != first);
    assert!(masked["before"]["accuracy"].as_f64() < quarter["before"]["accuracy"].as_f64());
}

#[test]
fn inputs_that_are_not_there_or_do_not_fit_are_refused_with_the_cure() {
    let scene = Scene::new();
    let told = scene.refused(&[], "error[T0001]");
    assert!(told.contains("--image-input NAME") && told.contains("\"mask\""), "{told}");
    let told = scene.refused(&["--image-input", "maks"], "error[C0001]");
    assert!(told.contains("near: mask"), "{told}");
    let image = ["--image-input", scene.image.as_str()];
    let short = scene.array("short.npy", "(1, 2)", &[1.0, 2.0]);
    let wrong = scene.array("nan.npy", "(1, 1)", &[f32::NAN]);
    std::fs::write(scene.path("text.npy"), "no array").expect("written");
    for (argument, message) in [
        (format!("gain={short}"), "error[T0010]"),
        (format!("gain={wrong}"), "not finite"),
        (format!("gain={}", scene.path("text.npy")), "error[T0010]"),
        (format!("gain={}", scene.path("none.npy")), "error[T0010]"),
        (format!("gian={short}"), "near: gain"),
        (format!("{}={short}", scene.image), "takes the images"),
    ] {
        scene.refused(&[&image[..], &["--input", &argument]].concat(), message);
    }
    // A given array leaves one input that takes images.
    let mask = scene.array("mask.npy", "(1, 1, 28, 28)", &[1.0; 28 * 28]);
    let gain = scene.array("gain.npy", "(1, 3)", &[1.0; 3]);
    let both = ["--input", &format!("mask={mask}"), "--input", &format!("gain={gain}")];
    scene.refused(&both, "the input \"gain\"");
    let told = scene.refused(&[&image[..], &["--epochs", "1"]].concat(), "error[T0001]");
    assert!(told.contains("training takes models of one input"), "{told}");
}

#[test]
fn only_the_outputs_asked_for_count_by_their_weights() {
    let scene = Scene::new();
    let gain = scene.array("gain.npy", "(1, 1)", &[0.25]);
    let gain = ["--input", &format!("gain={gain}")];
    let (_, alone) = scene.pruned(&[&gain[..], &["--outputs", "scaled"]].concat());
    let outputs = alone["outputs"].as_array().expect("a list");
    assert_eq!((outputs.len(), &outputs[0]["name"]), (1, &Value::from("scaled")));
    let kl = |fit: &Value| fit["after"]["kl"].as_f64().expect("a number");
    assert!((kl(&alone) - degradation_of(&alone, "scaled")).abs() < 1e-9);
    let weights = format!("scaled=3,{}", scene.scores);
    let (told, both) = scene.pruned(&[&gain[..], &["--outputs", &weights]].concat());
    assert!(told.contains("degradation of each output"), "{told}");
    let mean = 0.25 * degradation_of(&both, &scene.scores) + 0.75 * degradation_of(&both, "scaled");
    assert!((kl(&both) - mean).abs() < 1e-9, "{} is not {mean}", kl(&both));
    assert!(kl(&both) > 1.1 * kl(&alone), "{} and {}", kl(&both), kl(&alone));
    std::fs::remove_file(scene.path("out.onnx")).expect("removed");
    let image = ["--image-input", scene.image.as_str()];
    for (outputs, message) in [
        ("scales", "near: scaled"),
        ("scaled=0", "--outputs"),
        ("scaled=much", "--outputs"),
        ("=1", "NAME=WEIGHT"),
    ] {
        scene.refused(&[&image[..], &["--outputs", outputs]].concat(), message);
    }
}

#[test]
fn a_model_with_several_inputs_is_evaluated() {
    let scene = Scene::new();
    let (model, data) = (scene.path("model.onnx"), data());
    let gain = scene.array("gain.npy", "(1, 1)", &[-1.0]);
    let all = ["evaluate", &model, "--data", &data, "--preprocess", "fashion-mnist", "--images"];
    let all = [&all[..], &["100", "--image-input", &scene.image, "--json"]].concat();
    let top1 = |more: &[&str]| {
        let told = succeeds(&[&all[..], more].concat());
        let report: Value = serde_json::from_str(&told).expect("JSON");
        report["models"][0]["top1"].as_f64().expect("labels")
    };
    assert!(top1(&[]) > 0.7);
    let zeros = scene.array("mask.npy", "(1, 1, 28, 28)", &[0.0; 28 * 28]);
    let more = ["--input", &format!("mask={zeros}"), "--input", &format!("gain={gain}")];
    assert!(top1(&more) < 0.4, "nothing is seen behind the mask");
}
