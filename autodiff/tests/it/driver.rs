//! What the driver does besides the rules, and its errors.

use updp_autodiff::{AutodiffError, backward};
use updp_ir::{DataType, Dim, Model, ModelBuilder, Node, Tensor, TensorType};
use updp_testkit::{known, node_total, op_counts, tensor};

fn seeded(
    builder: &ModelBuilder,
    dims: &[usize],
    wrt: &[&str],
) -> (Model, Result<usize, AutodiffError>) {
    let mut model = builder.build().expect("well formed");
    let dy = model.graph.add_input("dy", &TensorType::fixed(DataType::Float, dims));
    let y = model.graph.find("y").expect("y");
    let wrt: Vec<_> = wrt.iter().map(|name| model.graph.find(name).expect("a value")).collect();
    let found = backward(&mut model, &[(y, dy)], &wrt);
    (model, found.map(|list| list.into_iter().flatten().count()))
}

fn two_layers() -> ModelBuilder {
    let mut builder = ModelBuilder::new(17);
    builder.input("x", DataType::Float, &known(&[2, 3]));
    for name in ["w1", "w2"] {
        builder.initializer(name, &tensor(DataType::Float, &[3, 3], &[0.5; 9]));
    }
    builder.node(Node::new("MatMul").named("first"), &["x", "w1"], &["h"]);
    builder.node(Node::new("Tanh").named("act"), &["h"], &["a"]);
    builder.node(Node::new("MatMul").named("second"), &["a", "w2"], &["y"]);
    builder.output("y", DataType::Float, None);
    builder
}

#[test]
fn visits_only_nodes_between_parameters_and_the_seed() {
    let (model, found) = seeded(&two_layers(), &[2, 3], &["w2"]);
    assert_eq!(found.expect("a gradient"), 1);
    // One product for the weight, none for what lies before it.
    assert_eq!(op_counts(&model.graph).get("Gemm"), Some(&1));
    assert_eq!(node_total(&model.graph), 4);
}

#[test]
fn gives_none_where_the_seed_does_not_depend_on_a_value() {
    let mut builder = two_layers();
    builder.input("free", DataType::Float, &known(&[2]));
    builder.node(Node::new("Relu"), &["free"], &["unread"]);
    builder.output("unread", DataType::Float, None);
    let (model, found) = seeded(&builder, &[2, 3], &["free"]);
    assert_eq!(found.expect("no path is no error"), 0);
    assert_eq!(node_total(&model.graph), 4);
}

#[test]
fn ends_at_operators_whose_results_are_piecewise_constant() {
    let mut builder = ModelBuilder::new(17);
    builder.input("x", DataType::Float, &known(&[2, 3]));
    builder.node(Node::new("Floor"), &["x"], &["f"]);
    builder.node(Node::new("Mul"), &["x", "f"], &["y"]);
    builder.output("y", DataType::Float, None);
    let (model, found) = seeded(&builder, &[2, 3], &["x"]);
    assert_eq!(found.expect("a gradient"), 1);
    assert_eq!(op_counts(&model.graph).get("Mul"), Some(&2));
}

/// The error of a model of one node over `x`, and that the graph is as it was.
fn refused(node: Node, opset: i64, dims: &[Dim]) -> AutodiffError {
    let mut builder = ModelBuilder::new(opset);
    builder.input("x", DataType::Float, dims);
    builder.node(Node::new("Exp"), &["x"], &["e"]);
    builder.node(node.named("odd"), &["e"], &["h"]);
    builder.node(Node::new("Exp"), &["h"], &["y"]);
    builder.output("y", DataType::Float, None);
    let (model, found) = seeded(&builder, &[2, 4], &["x"]);
    assert_eq!(node_total(&model.graph), 3, "the graph was changed");
    assert_eq!(model.graph.initializers().count(), 0);
    found.expect_err("it has no gradient")
}

#[test]
fn refuses_operators_without_rule() {
    let error = refused(Node::new("Cos"), 17, &known(&[2, 4]));
    assert_eq!(error.code(), "T0301");
    assert!(error.to_string().contains("\"odd\" (Cos)"), "{error}");
    let error = refused(Node::new("Relu").in_domain("com.example"), 17, &known(&[2, 4]));
    assert!(error.to_string().contains("com.example.Relu"), "{error}");
}

#[test]
fn refuses_forms_without_gradient_and_takes_back_what_it_wrote() {
    let node = Node::new("LpNormalization").with("p", 1_i64);
    let error = refused(node, 17, &known(&[2, 4]));
    assert_eq!(error.code(), "T0302");
    assert!(error.to_string().contains("p = 2"), "{error}");
}

#[test]
fn refuses_each_form_that_no_rule_covers() {
    // Node, operands besides x, what the message says.
    type Refusal = (fn() -> Node, &'static [&'static str], &'static str);
    let refusals: &[Refusal] = &[
        (|| Node::new("Pad").with("mode", "reflect"), &["ints"], "constant mode"),
        (|| Node::new("Pad"), &["ints", "w"], "filling would be trained"),
        (|| Node::new("Clip"), &["w", ""], "bounds would be trained"),
        (|| Node::new("Dropout"), &["", "yes"], "training form"),
        (|| Node::new("Gather").with("axis", 0_i64), &["computed"], "not constant"),
        (|| Node::new("Resize").with("mode", "cubic"), &["", "scales"], "nearest and linear"),
        (|| Node::new("Gelu").with("approximate", "guess"), &[], "approximation"),
        (|| Node::new("GroupNormalization"), &["w1", "w1"], "num_groups"),
    ];
    for (node, operands, says) in refusals {
        let mut builder = ModelBuilder::new(20);
        builder.input("x", DataType::Float, &known(&[2, 4]));
        builder.input("w", DataType::Float, &[]);
        builder.input("computed", DataType::Int64, &known(&[2]));
        let ints = |name: &str, values: &[i64]| {
            (name.to_owned(), Tensor::from_i64(vec![values.len()], values).expect("a list"))
        };
        let yes = Tensor::new(DataType::Bool, vec![], vec![1].into()).expect("a flag");
        for (name, tensor) in [
            ints("ints", &[0, 0, 0, 0]),
            ("yes".to_owned(), yes),
            ("w1".to_owned(), tensor(DataType::Float, &[4], &[1.0; 4])),
            ("scales".to_owned(), tensor(DataType::Float, &[2], &[1.0; 2])),
        ] {
            builder.initializer(&name, &tensor);
        }
        let mut all = vec!["x"];
        all.extend(*operands);
        builder.node(node().named("odd"), &all, &["y"]);
        builder.output("y", DataType::Float, Some(&known(&[2, 4])));
        let (model, found) = seeded(&builder, &[2, 4], &["x", "w"]);
        let error = found.expect_err(says);
        assert_eq!(error.code(), "T0302", "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(node_total(&model.graph), 1, "the graph was changed");
        assert!(error.help().is_some());
    }
}

#[test]
fn refuses_same_padding_that_crops() {
    for op in ["AveragePool", "MaxPool"] {
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &known(&[1, 2, 20]));
        let node = Node::new(op).with("kernel_shape", vec![5]).with("strides", vec![10]);
        builder.node(node.with("auto_pad", "SAME_UPPER"), &["x"], &["y"]);
        builder.output("y", DataType::Float, None);
        let (_, found) = seeded(&builder, &[1, 2, 2], &["x"]);
        let error = found.expect_err("runtimes crop there");
        assert!(error.code() == "T0302" && error.to_string().contains("crops"), "{error}");
    }
}

#[test]
fn refuses_open_shapes() {
    let error = refused(Node::new("Relu"), 17, &[Dim::from("N"), Dim::from(4)]);
    assert_eq!(error.code(), "T0303");
    assert!(error.to_string().contains("\"x\" is f32[N,4]"), "{error}");
}

#[test]
fn refuses_old_opsets() {
    let error = refused(Node::new("Relu"), 9, &known(&[2, 4]));
    assert_eq!(error.code(), "T0304");
}

#[test]
fn refuses_seeds_of_another_shape() {
    let (_, found) = seeded(&two_layers(), &[2, 4], &["w1"]);
    let error = found.expect_err("the seed has another shape");
    assert_eq!(error.code(), "T0305");
    assert!(error.to_string().contains("f32[2, 3]"), "{error}");
}
