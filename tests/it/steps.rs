//! Training steps against what deployment targets document, and their forms for CUDA and MIGraphX against the portable one.

use updp_autodiff::step::Objective;
use updp_autodiff::{self as autodiff, StepSpec, Target, TrainingStep, lower};
use updp_compile::deploy::{DeployTarget, Severity, check};
use updp_ir::{DataType, Model, Tensor};
use updp_testkit::{Inputs, Outputs, Random, Session, find_ort, read_model, skip};

use crate::prune::{FIXTURES, fixture};

/// The step of a fixture at a batch of 4 where its batch is open.
fn step(name: &str, spec: &StepSpec) -> TrainingStep {
    let mut model = read_model(&fixture(name));
    let input = model.graph.required_inputs().next().expect("an image input");
    let declared = model.graph.value(input).declared().and_then(|ty| ty.shape.clone());
    let dims: Vec<usize> =
        declared.expect("typed").iter().map(|dim| dim.known().unwrap_or(4)).collect();
    model.graph.set_input_dims(input, &dims).expect("an input");
    TrainingStep::build(model, spec).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn spec() -> StepSpec {
    StepSpec::new(Objective::Labels { smoothing: 0.1 })
}

/// What a target says against a model, worse than a note.
fn findings(model: &Model, target: DeployTarget, least: Severity) -> Vec<String> {
    let findings = check(model, false, target).into_iter();
    let bad =
        findings.filter(|finding| finding.severity == Severity::Error || finding.severity == least);
    bad.map(|finding| format!("{}: {} {:?}", finding.rule, finding.what, finding.places)).collect()
}

/// A batch for a step with its first state: images and labels drawn, a rate that moves parameters.
fn inputs(step: &TrainingStep) -> Inputs {
    let graph = &step.model.graph;
    let mut random = Random::new(7);
    let mut inputs = Inputs::new();
    for input in graph.required_inputs() {
        let value = graph.value(input);
        let (name, ty) = (value.name().to_owned(), value.declared().expect("typed"));
        let dims = ty.known_dims().expect("fixed");
        let count = dims.iter().product::<usize>();
        let state = step.states.iter().find(|state| state.input == name);
        let tensor = if let Some(state) = state {
            state.initial.clone()
        } else if step.names.targets.as_ref() == Some(&name) {
            let classes = dims[1];
            let hot = |at: usize| f64::from(at % classes == (at / classes * 3) % classes);
            let values: Vec<f64> = (0..count).map(hot).collect();
            Tensor::from_f64(DataType::Float, dims, &values).expect("it fits")
        } else if dims.is_empty() {
            Tensor::from_f32(dims, &[0.05]).expect("it fits")
        } else {
            let values = random.many(count, -1.0, 1.0);
            Tensor::from_f64(ty.dtype, dims, &values).expect("it fits")
        };
        inputs.insert(name, tensor);
    }
    inputs
}

fn run(model: &Model, inputs: &Inputs) -> Outputs {
    let session = Session::ort(model);
    session.and_then(|mut session| session.run(inputs)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn migraphx_takes_the_lowered_step_of_every_family() {
    let mut newer = 0;
    for (name, ..) in FIXTURES {
        for spec in [spec().with_adamw(), StepSpec { clip_norm: Some(1.0), ..spec() }] {
            let mut lowered = step(name, &spec).model;
            newer += usize::from(lowered.opset("").is_some_and(|opset| opset > 19));
            lower(&mut lowered, Target::MiGraphX).unwrap_or_else(|e| panic!("{name}: {e}"));
            lowered.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(lowered.opset("").is_some_and(|opset| opset <= 19), "{name}");
            autodiff::check(&lowered, Target::MiGraphX).unwrap_or_else(|e| panic!("{name}: {e}"));
            let found = findings(&lowered, DeployTarget::Migraphx, Severity::Warning);
            assert_eq!(found, Vec::<String>::new(), "{name}");
            let again = lower(&mut lowered, Target::MiGraphX).expect("lowered already");
            assert_eq!(again, 0, "{name}");
        }
    }
    assert!(newer >= 8, "{newer}");
}

#[test]
fn the_step_for_migraphx_computes_what_the_portable_one_does() {
    if find_ort().is_none() {
        return skip("the_step_for_migraphx", "no ONNX Runtime library");
    }
    for (name, ..) in FIXTURES {
        let portable = step(name, &spec());
        let mut lowered = portable.model.clone();
        if lower(&mut lowered, Target::MiGraphX).expect("it lowers") == 0 {
            continue;
        }
        let inputs = inputs(&portable);
        let (expected, found) = (run(&portable.model, &inputs), run(&lowered, &inputs));
        assert_eq!(expected.len(), found.len(), "{name}");
        for (output, expected) in &expected {
            let (a, b) = (expected.to_f64(), found[output].to_f64());
            let (a, b) = (a.expect("numbers"), b.expect("numbers"));
            let size = a.iter().fold(1e-3_f64, |most, value| most.max(value.abs()));
            let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off <= 1e-4 * size, "{name}: {output} is off by {off} of {size}");
        }
    }
}

#[test]
fn the_step_for_cuda_has_standard_operators_and_even_paddings() {
    for (name, ..) in FIXTURES {
        let mut step = step(name, &spec().with_adamw()).model;
        autodiff::check(&step, Target::Portable).unwrap_or_else(|e| panic!("{name}: {e}"));
        lower(&mut step, Target::Cuda).unwrap_or_else(|error| panic!("{name}: {error}"));
        step.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
        autodiff::check(&step, Target::Cuda).unwrap_or_else(|e| panic!("{name}: {e}"));
        let found = findings(&step, DeployTarget::Ort, Severity::Error);
        assert_eq!(found, Vec::<String>::new(), "{name}");
        for node in step.graph.nodes() {
            let node = step.graph.node(node);
            let pads = node.ints("pads").unwrap_or_default();
            let (begin, end) = pads.split_at(pads.len() / 2);
            let is_conv = node.is("Conv") || node.is("ConvTranspose");
            assert!(!is_conv || begin == end, "{name}: {} {pads:?}", node.name());
        }
    }
}

#[test]
fn a_step_that_computes_activations_again_computes_the_same() {
    if find_ort().is_none() {
        return skip("a_step_that_computes_activations_again", "no ONNX Runtime library");
    }
    for (name, ..) in FIXTURES {
        let plain = step(name, &spec());
        let mut again = step(name, &spec());
        let done = again.recompute().unwrap_or_else(|error| panic!("{name}: {error}"));
        println!("{name}: {done:?}");
        assert!(done.segments > 0 && done.kept < done.kept_before, "{name}: {done:?}");
        assert_eq!(
            again.model.graph.required_inputs().count(),
            plain.model.graph.required_inputs().count()
        );
        let inputs = inputs(&plain);
        let (expected, found) = (run(&plain.model, &inputs), run(&again.model, &inputs));
        for (output, expected) in &expected {
            assert_eq!(expected.bytes(), found[output].bytes(), "{name}: {output}");
        }
    }
}
