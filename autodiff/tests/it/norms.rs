//! Normalizations and attention.

use updp_autodiff::train_form;
use updp_ir::{DataType, ModelBuilder, Node, TensorType};
use updp_testkit::{Inputs, known, node_total, run, tensor};

use crate::gradcheck::{Case, Kind};

#[test]
fn gradient_of_batch_normalization_in_inference_form() {
    let node = || Node::new("BatchNormalization").with("epsilon", 1e-3_f32);
    Case::of_node(Kind::Smooth, node, &["x", "s", "b", "m", "v"])
        .input("x", &[2, 3, 2, 2])
        .input("s", &[3])
        .input("b", &[3])
        .input("m", &[3])
        .drawn("v", &[3], (0.5, 1.5))
        .check();
}

#[test]
fn gradient_through_the_statistics_of_the_batch() {
    for dims in [&[4, 3, 2, 3][..], &[5, 2], &[2, 3, 4]] {
        let channels = dims[1];
        Case::new(Kind::Smooth, move |builder, dtype| {
            builder.initializer("m", &tensor(dtype, &[channels], &[0.3; 3][..channels]));
            builder.initializer("v", &tensor(dtype, &[channels], &[0.5; 3][..channels]));
            let node = Node::new("BatchNormalization").with("epsilon", 1e-2_f32);
            builder.node(node, &["x", "s", "b", "m", "v"], &["n"]);
            builder.node(Node::new("Mul"), &["n", "x"], &["y"]);
        })
        .batch_statistics()
        .input("x", dims)
        .input("s", &[channels])
        .input("b", &[channels])
        .check();
    }
}

#[test]
fn running_statistics_move_as_in_torch() {
    let mut builder = ModelBuilder::new(17);
    builder.input("x", DataType::Float, &known(&[2, 1, 2]));
    for (name, value) in [("s", 2.0), ("b", 1.0), ("m", 0.5), ("v", 3.0)] {
        builder.initializer(name, &tensor(DataType::Float, &[1], &[value]));
    }
    builder.node(Node::new("BatchNormalization"), &["x", "s", "b", "m", "v"], &["y"]);
    builder.output("y", DataType::Float, None);
    let mut model = builder.build().expect("well formed");
    let node = model.graph.nodes()[0];
    let form = train_form(&mut model, &[node], 0.1).expect("inference form");
    let (_, statistics) = form.norms().next().expect("one norm");
    let ty = TensorType::fixed(DataType::Float, &[1]);
    for value in [statistics.next_mean, statistics.next_var] {
        model.graph.add_output(value, &ty).expect("a value");
    }
    let x = tensor(DataType::Float, &[2, 1, 2], &[1.0, 2.0, 3.0, 6.0]);
    let outputs = run(&model, &Inputs::from_iter([("x".to_owned(), x)]));
    let found: Vec<f64> = outputs.values().flat_map(|t| t.to_f64().expect("floats")).collect();
    // Mean 3, biased variance 3.5, unbiased 14/3.
    let deviation = (3.5_f64 + 1e-5).sqrt();
    let normal = [-2.0, -1.0, 0.0, 3.0].map(|d| 2.0 * d / deviation + 1.0);
    let mut expected = normal.to_vec();
    expected.extend([0.9 * 0.5 + 0.1 * 3.0, 0.9 * 3.0 + 0.1 * 14.0 / 3.0]);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn statistics_of_a_mean_far_from_zero_are_exact() {
    // Σx² − (Σx)² of these loses every digit of the variance in f32.
    let mut builder = ModelBuilder::new(17);
    builder.input("x", DataType::Float, &known(&[4, 1]));
    for (name, value) in [("s", 1.0), ("b", 0.0), ("m", 0.0), ("v", 1.0)] {
        builder.initializer(name, &tensor(DataType::Float, &[1], &[value]));
    }
    builder.node(Node::new("BatchNormalization"), &["x", "s", "b", "m", "v"], &["y"]);
    builder.output("y", DataType::Float, None);
    let mut model = builder.build().expect("well formed");
    let nodes = model.graph.nodes();
    train_form(&mut model, &nodes, 0.1).expect("inference form");
    let x = tensor(DataType::Float, &[4, 1], &[8191.0, 8192.0, 8192.0, 8193.0]);
    let outputs = run(&model, &Inputs::from_iter([("x".to_owned(), x)]));
    let found = outputs["y"].to_f64().expect("floats");
    let far = 1.0 / (0.5_f64 + 1e-5).sqrt();
    for (found, expected) in found.iter().zip([-far, 0.0, 0.0, far]) {
        assert!((found - expected).abs() < 1e-3, "{found} is not {expected}");
    }
}

#[test]
fn refuses_norms_that_have_no_batch_statistics() {
    let norm = |dims: &[usize], is_training: i64| {
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &known(dims));
        for name in ["s", "b", "m", "v"] {
            builder.initializer(name, &tensor(DataType::Float, &[1], &[1.0]));
        }
        let node = Node::new("BatchNormalization").with("training_mode", is_training);
        builder.node(node, &["x", "s", "b", "m", "v"], &["h"]);
        let node = Node::new("BatchNormalization");
        builder.node(node, &["h", "s", "b", "m", "v"], &["y"]);
        builder.output("y", DataType::Float, None);
        let mut model = builder.build().expect("well formed");
        let nodes = model.graph.nodes();
        let error = train_form(&mut model, &nodes, 0.1).expect_err("it has none");
        assert_eq!(node_total(&model.graph), 2, "the graph was changed");
        assert_eq!(error.code(), "T0306");
        error.to_string()
    };
    assert!(norm(&[1, 1], 0).contains("one value a channel"));
    assert!(norm(&[4, 1], 1).contains("none in inference form"));
    assert!(norm(&[4, 1], 0).contains("shares its running statistics"));
}

#[test]
fn gradient_of_layer_normalization() {
    for axis in [-1, 1] {
        let node = move || {
            Node::new("LayerNormalization").with("axis", i64::from(axis)).with("epsilon", 1e-2_f32)
        };
        let dims: &[usize] = if axis == 1 { &[3, 4] } else { &[4] };
        Case::of_node(Kind::Smooth, node, &["x", "s", "b"])
            .input("x", &[2, 3, 4])
            .input("s", dims)
            .input("b", dims)
            .check();
        let node = move || Node::new("LayerNormalization").with("axis", i64::from(axis));
        Case::of_node(Kind::Smooth, node, &["x", "s"])
            .input("x", &[2, 3, 4])
            .input("s", dims)
            .check();
    }
}

#[test]
fn gradient_of_instance_and_group_normalization() {
    Case::of_node(Kind::Smooth, || Node::new("InstanceNormalization"), &["x", "s", "b"])
        .input("x", &[2, 3, 3, 2])
        .input("s", &[3])
        .input("b", &[3])
        .check();
    for (opset, count) in [(18, 2), (21, 4)] {
        let node = || Node::new("GroupNormalization").with("num_groups", 2_i64);
        Case::of_node(Kind::Smooth, node, &["x", "s", "b"])
            .opset(opset)
            .in_f32()
            .input("x", &[2, 4, 3, 2])
            .input("s", &[count])
            .input("b", &[count])
            .check();
    }
}

#[test]
fn gradient_of_normalization_to_length_one() {
    for axis in [-1, 1] {
        let node = move || Node::new("LpNormalization").with("axis", i64::from(axis));
        Case::of_node(Kind::Smooth, node, &["x"]).drawn("x", &[2, 3, 4], (0.2, 1.0)).check();
    }
}

#[test]
fn gradient_of_attention_with_and_without_mask() {
    let case = |operands: &[&str]| {
        let node = || Node::new("Attention").with("scale", 0.7_f32);
        Case::of_node(Kind::Smooth, node, operands)
            .opset(23)
            .input("q", &[2, 2, 3, 4])
            .input("k", &[2, 2, 5, 4])
            .input("v", &[2, 2, 5, 3])
    };
    case(&["q", "k", "v"]).check();
    // The mask comes as a constant sum, so that it is no input to differentiate by.
    Case::new(Kind::Smooth, |builder, dtype| {
        builder.initializer("m", &tensor(dtype, &[1, 1, 2, 3], &[0.0, -9.0, 1.0, 0.5, 0.0, -1.0]));
        builder.node(Node::new("Attention"), &["q", "k", "v", "m"], &["y"]);
    })
    .opset(23)
    .input("q", &[1, 2, 2, 4])
    .input("k", &[1, 2, 3, 4])
    .input("v", &[1, 2, 3, 4])
    .check();
}
