//! Single operators in the forms for MIGraphX against what they were, and what is refused.

use updp_autodiff::{Target, check, lower};
use updp_ir::{DataType, Model, ModelBuilder, Node, Tensor};
use updp_testkit::{Inputs, Random, Session, known, ops, tensor};

use crate::networks::has_runtime;

/// One node of a model of this opset: operands with their dims are inputs, those with values initializers.
struct Case {
    opset: i64,
    node: Node,
    inputs: Vec<Vec<usize>>,
    constants: Vec<Tensor>,
}

impl Case {
    fn new(opset: i64, node: Node, inputs: &[&[usize]]) -> Self {
        let inputs = inputs.iter().map(|dims| dims.to_vec()).collect();
        Self { opset, node, inputs, constants: Vec::new() }
    }

    fn with(mut self, constant: Tensor) -> Self {
        self.constants.push(constant);
        self
    }

    fn build(&self) -> Model {
        let mut builder = ModelBuilder::new(self.opset);
        let mut names = Vec::new();
        for (at, dims) in self.inputs.iter().enumerate() {
            names.push(format!("x{at}"));
            builder.input(&names[at], DataType::Float, &known(dims));
        }
        for (at, constant) in self.constants.iter().enumerate() {
            names.push(format!("c{at}"));
            builder.initializer(&format!("c{at}"), constant);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        builder.node(self.node.bare_copy().named("it"), &names, &["y"]);
        builder.output("y", DataType::Float, None);
        builder.build().expect("well formed")
    }

    fn inputs(&self) -> Inputs {
        let mut random = Random::new(3);
        let drawn = self.inputs.iter().enumerate().map(|(at, dims)| {
            let values = random.many(dims.iter().product(), -2.0, 2.0);
            (format!("x{at}"), tensor(DataType::Float, dims, &values))
        });
        drawn.collect()
    }
}

/// The lowered model, proved to compute the same where there is a runtime.
#[track_caller]
fn lowered(case: &Case, has_runtime: bool) -> Model {
    let before = case.build();
    let mut after = before.clone();
    assert_eq!(check(&before, Target::MiGraphX).expect_err("not as it is").code(), "T0311");
    assert!(lower(&mut after, Target::MiGraphX).expect("it has a form") > 0);
    after.validate().expect("valid");
    check(&after, Target::MiGraphX).expect("it is documented");
    if has_runtime {
        let run = |model: &Model| {
            let mut session = Session::ort(model).unwrap_or_else(|error| panic!("{error}"));
            let outputs = session.run(&case.inputs()).unwrap_or_else(|error| panic!("{error}"));
            (outputs["y"].dims().to_vec(), outputs["y"].to_f64().expect("numbers"))
        };
        let ((dims, expected), (new_dims, found)) = (run(&before), run(&after));
        assert_eq!(dims, new_dims);
        for (expected, found) in expected.iter().zip(&found) {
            assert!((expected - found).abs() < 1e-5, "{found} is not {expected}");
        }
    }
    after
}

#[test]
fn operators_that_came_later_are_written_in_older_ones() {
    let has_runtime = has_runtime("operators_that_came_later");
    let image: &[usize] = &[2, 6, 5, 4];
    let groups = || Node::new("GroupNormalization").with("num_groups", 3_i64);
    let heads: &[usize] = &[2, 3, 5, 4];
    let mask: &[usize] = &[2, 1, 5, 5];
    let attention = || Node::new("Attention");
    for case in [
        Case::new(20, Node::new("Gelu"), &[image]),
        Case::new(20, Node::new("Gelu").with("approximate", "tanh"), &[image]),
        Case::new(18, Node::new("Mish"), &[image]),
        Case::new(21, groups().with("epsilon", 0.1_f32), &[image, &[6], &[6]]),
        Case::new(23, attention(), &[heads, heads, heads]),
        Case::new(23, attention().with("scale", 0.3_f32), &[heads, heads, heads, mask]),
    ] {
        let after = lowered(&case, has_runtime);
        assert!(!ops(&after.graph).contains(&case.node.op_type()), "{:?}", case.node);
        let newest = case.opset.min(19);
        assert_eq!(after.opset(""), Some(newest));
    }
}

#[test]
fn swish_is_a_product_with_a_sigmoid() {
    // Of opset 24, which the runtime may not have: shown by what is written; the Identity keeps the name of the output.
    let case = Case::new(24, Node::new("Swish").with("alpha", 0.5_f32), &[&[2, 3]]);
    assert_eq!(ops(&lowered(&case, false).graph), ["Mul", "Sigmoid", "Mul", "Identity"]);
}

#[test]
fn output_padding_becomes_padding_that_is_not_cut_off() {
    let has_runtime = has_runtime("output_padding_becomes_padding");
    let weight: &[usize] = &[3, 2, 3, 3];
    for (pads, more, bias) in [
        ([1, 1, 1, 1], [1, 1], true),
        ([0, 1, 2, 1], [1, 0], false),
        ([0, 0, 0, 0], [1, 1], true),
        ([1, 0, 1, 0], [1, 1], false),
    ] {
        let node = Node::new("ConvTranspose")
            .with("strides", vec![2, 2])
            .with("pads", pads.to_vec())
            .with("output_padding", more.to_vec());
        let all: [&[usize]; 3] = [&[2, 3, 5, 4], weight, &[2]];
        let case = Case::new(17, node, if bias { &all } else { &all[..2] });
        let after = lowered(&case, has_runtime);
        let is_padded = ops(&after.graph).contains(&"Pad");
        assert_eq!(is_padded, pads[2] < more[0] || pads[3] < more[1], "{pads:?} {more:?}");
    }
}

#[test]
fn operands_that_follow_from_constants_become_constants() {
    let mut builder = ModelBuilder::new(17);
    builder.input("x", DataType::Float, &known(&[2, 3, 4]));
    builder.initializer("two", &Tensor::from_i64(vec![1], &[2]).expect("it fits"));
    builder.initializer("rest", &Tensor::from_i64(vec![1], &[-1]).expect("it fits"));
    builder.node(Node::new("Concat").with("axis", 0_i64), &["two", "rest"], &["dims"]);
    builder.node(Node::new("Reshape").with("allowzero", 1_i64), &["x", "dims"], &["flat"]);
    builder.node(Node::new("Shape"), &["x"], &["shape"]);
    builder.node(Node::new("Expand"), &["x", "shape"], &["wide"]);
    builder.output("flat", DataType::Float, None);
    builder.output("wide", DataType::Float, None);
    let mut model = builder.build().expect("well formed");
    assert!(check(&model, Target::MiGraphX).is_err());
    assert!(lower(&mut model, Target::MiGraphX).expect("all of it is known") > 0);
    check(&model, Target::MiGraphX).expect("constants now");
}

#[test]
fn what_migraphx_does_not_have_is_refused_by_node_and_operator() {
    let image: &[usize] = &[2, 4, 6, 6];
    let ints = |values: &[i64]| Tensor::from_i64(vec![values.len()], values).expect("it fits");
    let pool = || Node::new("MaxPool").with("kernel_shape", vec![2, 2]);
    for case in [
        Case::new(18, Node::new("Det"), &[&[3, 3]]),
        Case::new(17, Node::new("Tanh").in_domain("custom"), &[image]),
        Case::new(17, pool().with("storage_order", 1_i64), &[image]),
        Case::new(17, pool().with("dilations", vec![2, 2]), &[image]),
        // Windows behind the image mean something else since opset 22.
        Case::new(22, pool().with("ceil_mode", 1_i64), &[image]),
        Case::new(23, Node::new("RMSNormalization"), &[image, &[6]]),
        Case::new(23, Node::new("Attention").with("is_causal", 1_i64), &[image, image, image]),
        Case::new(19, Node::new("Pad").with("mode", "edge"), &[image])
            .with(ints(&[0, 0, 1, 1, 0, 0, 1, 1])),
        Case::new(
            17,
            Node::new("ConvTranspose").with("auto_pad", "SAME_UPPER"),
            &[image, &[4, 2, 3, 3]],
        ),
    ] {
        let mut model = case.build();
        if case.node.domain() == "custom" {
            model.import_opset("custom", 1);
        }
        let error = lower(&mut model, Target::MiGraphX).expect_err("refused");
        assert_eq!(error.code(), "T0311", "{:?}", case.node);
        let text = error.to_string();
        assert!(text.contains("\"it\"") && text.contains(case.node.op_type()), "{text}");
        assert!(error.help().is_some());
    }
}

#[test]
fn sizes_that_are_open_and_second_results_are_refused() {
    let mut open = ModelBuilder::new(17);
    open.input("x", DataType::Float, &["n".into(), 3.into()]);
    open.node(Node::new("Tanh").named("it"), &["x"], &["y"]);
    open.output("y", DataType::Float, None);
    let mut pool = ModelBuilder::new(17);
    pool.input("x", DataType::Float, &known(&[1, 1, 4, 4]));
    let node = Node::new("MaxPool").named("it").with("kernel_shape", vec![2, 2]);
    pool.node(node, &["x"], &["y", "places"]);
    pool.output("y", DataType::Float, None);
    pool.output("places", DataType::Int64, None);
    for (builder, detail) in [(open, "not known before it runs"), (pool, "its first result")] {
        let error = lower(&mut builder.build().expect("well formed"), Target::MiGraphX);
        let error = error.expect_err("refused").to_string();
        assert!(error.contains(detail) && error.contains("\"it\""), "{error}");
    }
}
