//! Gradients against those of PyTorch: `fixtures/gradients`, written by `scripts/torch_reference.py`.

use std::path::Path;

use updp_autodiff::step::{Objective, Optimizer, StateKind};
use updp_autodiff::{StepSpec, TrainingStep};
use updp_ir::{DataType, Model, NewResult, Node};
use updp_testkit::{Inputs, read_model, tensor};

use crate::exporters::fixtures;
use crate::networks::{Training, has_runtime};

const BATCH: usize = 8;
const CLASSES: usize = 10;

/// Parameters whose gradient is below this share of the largest are zeros that rounding has moved.
const NOTHING: f64 = 1e-5;

/// The network at [`BATCH`] images, with smooth activations.
fn smooth(path: &Path) -> Model {
    let mut model = read_model(path);
    let graph = &mut model.graph;
    let input = graph.required_inputs().next().expect("an image input");
    let declared = graph.value(input).declared().expect("a type").shape.clone().expect("a shape");
    if declared[0].known().is_some() {
        graph.open_axis(input, "batch").expect("an open batch");
    }
    let mut dims = vec![BATCH];
    dims.extend(declared[1..].iter().map(|dim| dim.known().expect("a number")));
    graph.set_input_dims(input, &dims).expect("an input");
    for id in graph.nodes() {
        let node = graph.node(id);
        if !node.is("Relu") && !node.is("Clip") {
            continue;
        }
        let (x, y) = (graph.operand(id, 0), graph.sole_result(id).expect("a result"));
        let result = [NewResult::Fresh("smooth".to_owned())];
        let made = graph.add_node(Node::new("Softplus"), id, &[x], &result).expect("a node");
        let smooth = made.1[0].expect("a result");
        graph.redirect_uses(y, smooth).expect("redirected");
        graph.remove_node(id).expect("nothing reads it");
    }
    model
}

/// Images, and labels as the script makes them.
fn batch(input: String) -> Inputs {
    let bytes = std::fs::read(fixtures("exported").join("input_64.f32")).expect("the images");
    let numbers = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let images: Vec<f64> = numbers.map(f64::from).collect();
    let mut targets = vec![0.0; BATCH * CLASSES];
    for (at, row) in targets.chunks_mut(CLASSES).enumerate() {
        row[(at * 7 + 3) % CLASSES] = 1.0;
    }
    Inputs::from_iter([
        (input, tensor(DataType::Float, &[BATCH, 3, 32, 32], &images)),
        ("targets".to_owned(), tensor(DataType::Float, &[BATCH, CLASSES], &targets)),
    ])
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The largest ‖ours − theirs‖/‖theirs‖ of a parameter, and that of the loss.
fn worst(name: &str) -> f64 {
    let reference = read_model(&fixtures("gradients").join(name));
    let expected = |parameter: &str| -> Vec<f64> {
        let value = reference.graph.find(parameter);
        let tensor = value.and_then(|value| reference.graph.constant_initializer(value));
        let tensor = tensor.unwrap_or_else(|| panic!("{name}: no reference of {parameter}"));
        tensor.to_f64().expect("floats")
    };
    let model = smooth(&fixtures("exported").join(name));
    let spec = StepSpec {
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false },
        ..StepSpec::new(Objective::Labels { smoothing: 0.1 })
    };
    let step = TrainingStep::build(model, &spec).unwrap_or_else(|e| panic!("{name}: {e}"));
    let parameters: Vec<_> =
        step.states.iter().filter(|s| s.kind == StateKind::Parameter).cloned().collect();
    assert_eq!(parameters.len() + 1, reference.graph.initializers().count(), "{name}");
    let largest = parameters.iter().map(|state| norm(&expected(&state.source)));
    let largest = largest.fold(0.0, f64::max);

    let images = batch(step.network_inputs[0].clone());
    let mut training = Training::new(step);
    // A rate that loses no digits of the gradient in the difference of two weights.
    let rate = 1e4;
    let outputs = training.run(&images, rate);
    let loss = expected("loss")[0];
    let mut worst = (training.loss(&outputs) - loss).abs() / loss;
    for state in &parameters {
        let before = state.initial.to_f64().expect("floats");
        let after = training.state(&state.input);
        let expected = expected(&state.source);
        if norm(&expected) < NOTHING * largest {
            continue;
        }
        let apart: Vec<f64> = before
            .iter()
            .zip(&after)
            .zip(&expected)
            .map(|((before, after), expected)| (before - after) / rate - expected)
            .collect();
        worst = worst.max(norm(&apart) / norm(&expected));
    }
    println!("{name}: {} parameters, worst {worst:.1e}", parameters.len());
    worst
}

#[test]
fn every_gradient_of_every_family_is_that_of_pytorch() {
    if !has_runtime("every_gradient_of_every_family") {
        return;
    }
    for name in [
        "tv_vgg_mini.legacy13-preserve.onnx",
        "tv_resnet18_mini.legacy17-preserve.onnx",
        "timm_repvgg_mini.legacy17-preserve.onnx",
        "timm_mobilenetv2_mini.legacy17-preserve.onnx",
        "timm_convnext_mini.legacy17-eval.onnx",
        "timm_convnext_atto_mini.legacy17-eval.onnx",
        "timm_deit_mini.legacy17-eval-dyn.onnx",
    ] {
        let worst = worst(name);
        assert!(worst < 1e-4, "{name}: {worst:.1e}");
    }
}
