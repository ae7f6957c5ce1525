//! Training steps against what deployment targets document, and their form for CUDA against the portable one.

use updp_autodiff::step::Objective;
use updp_autodiff::{StepSpec, Target, TrainingStep, lower};
use updp_compile::cli::TargetChoice;
use updp_compile::deploy::{Severity, check};
use updp_ir::Model;
use updp_testkit::read_model;

use crate::prune::{FIXTURES, fixture};

/// The step of a fixture at a batch of 4 where its batch is open.
fn step(name: &str) -> Model {
    let mut model = read_model(&fixture(name));
    let input = model.graph.required_inputs().next().expect("an image input");
    let declared = model.graph.value(input).declared().and_then(|ty| ty.shape.clone());
    let dims: Vec<usize> =
        declared.expect("typed").iter().map(|dim| dim.known().unwrap_or(4)).collect();
    model.graph.set_input_dims(input, &dims).expect("an input");
    let spec = StepSpec::new(Objective::Labels { smoothing: 0.1 }).with_adamw();
    TrainingStep::build(model, &spec).unwrap_or_else(|error| panic!("{name}: {error}")).model
}

fn errors(model: &Model, target: TargetChoice) -> Vec<String> {
    let findings = check(model, false, target).into_iter();
    let errors = findings.filter(|finding| finding.severity == Severity::Error);
    errors
        .map(|finding| format!("{}: {} {:?}", finding.rule, finding.what, finding.places))
        .collect()
}

#[test]
fn migraphx_takes_the_step_of_every_family() {
    let mut seen = 0;
    for (name, ..) in FIXTURES {
        let step = step(name);
        // Its parser ends there; the step has the opset of its model.
        if step.opset("").is_some_and(|opset| opset > 19) {
            continue;
        }
        seen += 1;
        assert_eq!(errors(&step, TargetChoice::Migraphx), Vec::<String>::new(), "{name}");
    }
    assert!(seen >= 20, "{seen}");
}

#[test]
fn the_step_for_cuda_has_standard_operators_and_even_paddings() {
    for (name, ..) in FIXTURES {
        let mut step = step(name);
        lower(&mut step, Target::Cuda).unwrap_or_else(|error| panic!("{name}: {error}"));
        step.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(errors(&step, TargetChoice::Ort), Vec::<String>::new(), "{name}");
        for node in step.graph.nodes() {
            let node = step.graph.node(node);
            assert!(["", "ai.onnx"].contains(&node.domain()), "{name}: {}", node.name());
            let pads = node.ints("pads").unwrap_or_default();
            let (begin, end) = pads.split_at(pads.len() / 2);
            let is_conv = node.is("Conv") || node.is("ConvTranspose");
            assert!(!is_conv || begin == end, "{name}: {} {pads:?}", node.name());
        }
    }
}
