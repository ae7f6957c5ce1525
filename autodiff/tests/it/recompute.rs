//! Steps that compute activations again against steps that keep them.

use std::collections::BTreeSet;

use updp_autodiff::step::Objective;
use updp_autodiff::{StepSpec, TrainingStep};
use updp_ir::NodeId;
use updp_testkit::{Micro, encode, op_counts};

use crate::networks::{BATCH, CLASSES, Training, batch, conv_net, has_runtime, transformer};

fn build(network: &Micro, spec: &StepSpec) -> TrainingStep {
    TrainingStep::build(network.build(), spec).unwrap_or_else(|error| panic!("{error}"))
}

fn spec() -> StepSpec {
    StepSpec { clip_norm: Some(1.0), ..StepSpec::new(Objective::Labels { smoothing: 0.1 }) }
}

/// A plain network of so many convolutions with norms.
fn deep(layers: usize) -> Micro {
    let mut m = Micro::new(31).batch(BATCH);
    let mut x = m.input("images", &[2, 8, 8]);
    for _ in 0..layers {
        x = m.conv(&x, &updp_testkit::conv(4).kernel(3).pad(1).no_bias());
        x = m.bn(&x);
        x = m.unary("Relu", &x);
    }
    let x = m.unary("GlobalAveragePool", &x);
    let x = m.apply(updp_ir::Node::new("Flatten"), &[&x]);
    let x = m.gemm(&updp_testkit::Val { rank: 2, ..x }, &updp_testkit::gemm(CLASSES));
    m.output(&x);
    m
}

#[test]
fn what_is_computed_again_trains_to_the_same_bits() {
    if !has_runtime("what_is_computed_again") {
        return;
    }
    let cases: [(Micro, &[usize], StepSpec); 4] = [
        (conv_net("Relu"), &[2, 8, 8], spec()),
        (transformer(), &[2, 4, 4], spec().with_adamw()),
        (deep(9), &[2, 8, 8], spec()),
        (deep(9), &[2, 8, 8], StepSpec { average: Some(0.9), ..spec().with_adamw() }),
    ];
    for (at, (network, dims, spec)) in cases.into_iter().enumerate() {
        let mut step = build(&network, &spec);
        let done = step.recompute().unwrap_or_else(|error| panic!("case {at}: {error}"));
        assert!(done.segments > 0 && done.kept < done.kept_before, "case {at}: {done:?}");
        let mut runs = [Training::new(build(&network, &spec)), Training::new(step)];
        let data = batch(dims);
        for _ in 0..3 {
            let losses = runs.each_mut().map(|run| {
                let outputs = run.run(&data, 0.05);
                run.loss(&outputs)
            });
            assert_eq!(losses[0].to_bits(), losses[1].to_bits(), "case {at}: {losses:?}");
        }
        assert_eq!(runs[0].states, runs[1].states, "case {at}");
    }
}

#[test]
fn the_runtime_leaves_what_is_computed_again_in_place() {
    if !has_runtime("the_runtime_leaves") {
        return;
    }
    // With its optimizer on, which merges equal nodes of equal operands: the losses would be the same anyway, so it is the
    // graph that has to keep them apart, by operands that differ.
    let mut step = build(&deep(9), &spec());
    let before = op_counts(&step.model.graph)["Conv"];
    let done = step.recompute().expect("it has segments");
    assert!(op_counts(&step.model.graph)["Conv"] > before, "{done:?}");
    let mut seen = BTreeSet::new();
    let graph = &step.model.graph;
    for node in graph.nodes().into_iter().filter(|node| graph.node(*node).is("Conv")) {
        let operands: Vec<String> = graph
            .operands(node)
            .into_iter()
            .flatten()
            .map(|value| graph.value(value).name().to_owned())
            .collect();
        assert!(seen.insert(operands.clone()), "two convolutions of {operands:?}");
    }
    let (mut plain, mut again) =
        (Training::optimized(build(&deep(9), &spec())), Training::optimized(step));
    let data = batch(&[2, 8, 8]);
    for _ in 0..3 {
        let (a, b) = (plain.run(&data, 0.05), again.run(&data, 0.05));
        let (a, b) = (plain.loss(&a), again.loss(&b));
        assert!((a - b).abs() <= 1e-5 * a.abs(), "{a} and {b}");
    }
}

#[test]
fn a_segment_waits_for_the_gradients_of_all_parameters_behind_it() {
    let mut step = build(&deep(9), &spec());
    step.recompute().expect("it has segments");
    let graph = &step.model.graph;
    let ancestors = |from: NodeId| {
        let (mut seen, mut pending) = (BTreeSet::from([from]), vec![from]);
        while let Some(node) = pending.pop() {
            for value in graph.operands(node).into_iter().flatten() {
                if let Some((producer, _)) = graph.producer(value)
                    && seen.insert(producer)
                {
                    pending.push(producer);
                }
            }
        }
        seen.into_iter().filter(|node| graph.node(*node).is("ReduceSumSquare")).count()
    };
    let holds = graph.nodes().into_iter().filter(|node| graph.node(*node).is("Where"));
    let mut waits: Vec<usize> = holds.map(ancestors).collect();
    waits.sort_unstable();
    waits.dedup();
    // 9 convolutions with scale and shift each, and a head of two: the later a segment, the less it waits for.
    assert!(waits.len() >= 2 && waits[0] >= 2 && waits[waits.len() - 1] < 29, "{waits:?}");
}

#[test]
fn computing_again_is_the_same_edit_every_time_and_none_of_a_single_layer() {
    let edited = || {
        let mut step = build(&deep(5), &spec());
        step.recompute().expect("it has segments");
        encode(&step.model)
    };
    assert_eq!(edited(), edited());
    let mut flat = Micro::new(32).batch(BATCH);
    let x = flat.input("images", &[2, 1, 1]);
    let x = flat.apply(updp_ir::Node::new("Flatten"), &[&x]);
    let x = flat.gemm(&updp_testkit::Val { rank: 2, ..x }, &updp_testkit::gemm(CLASSES));
    flat.output(&x);
    let mut step = build(&flat, &spec());
    let before = encode(&step.model);
    assert_eq!(step.recompute().expect("nothing to do").segments, 0);
    assert_eq!(encode(&step.model), before);
}
