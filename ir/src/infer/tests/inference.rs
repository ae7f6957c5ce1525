//! Tests of inference rules on small graphs.

use super::{bools, f32s, i64s};
use crate::attribute::AttributeValue;
use crate::builder::ModelBuilder;
use crate::codec::Model;
use crate::dtype::DataType;
use crate::edit::NewResult;
use crate::infer::{Entry, Shapes};
use crate::node::Node;
use crate::types::Dim;

fn ints(values: &[i64]) -> AttributeValue {
    values.to_vec().into()
}

fn image(batch: &str) -> Vec<Dim> {
    vec![batch.into(), 3.into(), 8.into(), 8.into()]
}

fn builder(opset: i64) -> ModelBuilder {
    let mut builder = ModelBuilder::new(opset);
    builder.input("x", DataType::Float, &image("batch"));
    builder
}

fn build(builder: &mut ModelBuilder, output: &str) -> Model {
    builder.output(output, DataType::Float, None).build().expect("a valid model")
}

fn infer(model: &Model) -> Shapes {
    Shapes::infer(&model.graph, model.opset("").expect("an opset"))
}

/// The type of a value as text.
fn text(model: &Model, shapes: &Shapes, value: &str) -> String {
    shapes.of(model.graph.find(value).expect("a value")).map_or("?".into(), ToString::to_string)
}

/// Type of `y`, made from `x` by one node with more initializers.
fn result_of(opset: i64, node: Node, tensors: &[crate::Tensor]) -> String {
    let mut builder = builder(opset);
    let mut operands = vec!["x".to_owned()];
    for (at, tensor) in tensors.iter().enumerate() {
        builder.initializer(&format!("w{at}"), tensor);
        operands.push(format!("w{at}"));
    }
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    builder.node(node, &operands, &["y"]);
    let model = build(&mut builder, "y");
    text(&model, &infer(&model), "y")
}

#[test]
fn slides_windows() {
    let weight = f32s(&[4, 3, 3, 3], &[0.0; 108]);
    let conv = |node: Node| result_of(13, node, std::slice::from_ref(&weight));
    assert_eq!(conv(Node::new("Conv")), "f32[batch,4,6,6]");
    let strided =
        Node::new("Conv").with("strides", ints(&[2, 2])).with("pads", ints(&[0, 0, 1, 1]));
    assert_eq!(conv(strided), "f32[batch,4,4,4]");
    let dilated = Node::new("Conv").with("dilations", ints(&[2, 3]));
    assert_eq!(conv(dilated), "f32[batch,4,4,2]");
    let same = Node::new("Conv").with("auto_pad", "SAME_UPPER").with("strides", ints(&[3, 3]));
    assert_eq!(conv(same), "f32[batch,4,3,3]");
    let malformed = Node::new("Conv").with("strides", ints(&[2]));
    assert_eq!(conv(malformed), "f32[batch,4,?,?]");
    let transposed = Node::new("ConvTranspose").with("strides", ints(&[2, 2])).with("group", 1_i64);
    let weight = f32s(&[3, 5, 2, 2], &[0.0; 60]);
    assert_eq!(result_of(13, transposed, &[weight]), "f32[batch,5,16,16]");
    let pool = |ceil: i64| {
        let node = Node::new("MaxPool").with("kernel_shape", ints(&[3, 3]));
        result_of(13, node.with("strides", ints(&[2, 2])).with("ceil_mode", ceil), &[])
    };
    assert_eq!([pool(0), pool(1)], ["f32[batch,3,3,3]", "f32[batch,3,4,4]"]);
    assert_eq!(result_of(13, Node::new("GlobalMaxPool"), &[]), "f32[batch,3,1,1]");
}

#[test]
fn moves_and_reduces_axes() {
    let one = |node: Node| result_of(13, node, &[]);
    assert_eq!(one(Node::new("Flatten")), "f32[batch,192]");
    assert_eq!(one(Node::new("Transpose").with("perm", ints(&[0, 2, 3, 1]))), "f32[batch,8,8,3]");
    let mean = Node::new("ReduceMean").with("axes", ints(&[-1, -2]));
    assert_eq!(one(mean.with("keepdims", 0_i64)), "f32[batch,3]");
    assert_eq!(one(Node::new("ArgMax").with("axis", 1_i64)), "i64[batch,1,8,8]");
    assert_eq!(one(Node::new("DepthToSpace").with("blocksize", 2_i64)), "f32[batch,?,16,16]");
    assert_eq!(one(Node::new("Flatten").with("axis", 9_i64)), "f32[..]");
    let two = |node: Node, tensor: crate::Tensor| result_of(18, node, &[tensor]);
    assert_eq!(two(Node::new("Reshape"), i64s(&[2], &[-1, 192])), "f32[batch,192]");
    assert_eq!(two(Node::new("Reshape"), i64s(&[3], &[0, 0, -1])), "f32[batch,3,64]");
    assert_eq!(two(Node::new("Reshape"), i64s(&[2], &[1, -1])), "f32[1,?]");
    assert_eq!(two(Node::new("Unsqueeze"), i64s(&[1], &[-1])), "f32[batch,3,8,8,1]");
    assert_eq!(two(Node::new("Gather").with("axis", 1_i64), i64s(&[], &[0])), "f32[batch,8,8]");
    assert_eq!(two(Node::new("Pad"), i64s(&[8], &[0, 0, 1, 1, 0, 0, 0, 2])), "f32[batch,3,9,11]");
    assert_eq!(two(Node::new("Tile"), i64s(&[4], &[1, 2, 1, 1])), "f32[batch,6,8,8]");
    let cut = [i64s(&[1], &[-1]), i64s(&[1], &[i64::MIN]), i64s(&[1], &[3]), i64s(&[1], &[-3])];
    assert_eq!(result_of(13, Node::new("Slice"), &cut), "f32[batch,3,8,3]");
    assert_eq!(two(Node::new("MatMul"), f32s(&[8, 5], &[0.0; 40])), "f32[batch,3,8,5]");
    assert_eq!(two(Node::new("Add"), f32s(&[1, 3, 1, 1], &[0.0; 3])), "f32[batch,3,8,8]");
    assert_eq!(two(Node::new("Less"), f32s(&[], &[0.0])), "bool[batch,3,8,8]");
}

#[test]
fn follows_the_batch_through_shape_arithmetic() {
    let mut builder = builder(13);
    builder.initializer("zero", &i64s(&[1], &[0])).initializer("rest", &i64s(&[2], &[3, -1]));
    builder.initializer("one", &i64s(&[1], &[1])).initializer("two", &i64s(&[1], &[2]));
    builder
        .node(Node::new("Shape"), &["x"], &["shape"])
        .node(Node::new("Gather"), &["shape", "zero"], &["n"])
        .node(Node::new("Mul"), &["n", "one"], &["same"])
        .node(Node::new("Mul"), &["n", "two"], &["twice"])
        .node(Node::new("Concat").with("axis", 0_i64), &["same", "rest"], &["dims"])
        .node(Node::new("Reshape"), &["x", "dims"], &["y"]);
    let model = build(&mut builder, "y");
    let shapes = infer(&model);
    assert_eq!(text(&model, &shapes, "y"), "f32[batch,3,64]");
    let entries = |name: &str| shapes.value(model.graph.find(name).expect("a value"));
    let batch = Entry::Symbol("batch".into());
    assert_eq!(entries("dims"), Some(&[batch, Entry::Known(3), Entry::Known(-1)][..]));
    assert_eq!(entries("twice"), Some(&[Entry::Unknown][..]));
}

#[test]
fn evaluates_what_shapes_make_constant() {
    let mut builder = builder(13);
    builder
        .constant("at", i64s(&[], &[2]))
        .node(Node::new("Shape"), &["x"], &["shape"])
        .node(Node::new("Gather"), &["shape", "at"], &["height"])
        .node(Node::new("Cast").with("to", 1_i64), &["height"], &["float"])
        .node(Node::new("Sqrt"), &["float"], &["y"]);
    let model = build(&mut builder, "y");
    let shapes = infer(&model);
    let constant = |name: &str| shapes.constant(&model.graph, model.graph.find(name)?);
    assert_eq!(constant("y"), Some(f32s(&[], &[8.0_f32.sqrt()])));
    assert_eq!(constant("at"), Some(i64s(&[], &[2])));
    assert_eq!(constant("shape"), None);
}

#[test]
fn trusts_inference_above_value_info() {
    let mut builder = builder(13);
    builder.value_info("a", DataType::Float, &[2.into(), 3.into(), 8.into(), 8.into()]);
    builder.value_info("b", DataType::Float, &[7.into(), 5.into()]);
    builder.value_info("c", DataType::Float, &[Dim::Unknown, 4.into()]);
    let unknown = || {
        let mut node = Node::new("Mystery");
        node.proto.domain = Some("com.example".into());
        node
    };
    builder
        .node(Node::new("Relu"), &["x"], &["a"])
        .node(unknown(), &["a"], &["b"])
        .node(unknown(), &["a"], &["rows"])
        .node(Node::new("Gemm"), &["rows", "b"], &["c"]);
    let model = build(&mut builder, "c");
    let shapes = infer(&model);
    assert_eq!(text(&model, &shapes, "a"), "f32[batch,3,8,8]");
    assert_eq!(text(&model, &shapes, "b"), "f32[7,5]");
    assert_eq!(text(&model, &shapes, "c"), "f32[?,5]");
    assert_eq!(text(&model, &shapes, "rows"), "?");
}

#[test]
fn joins_branches_that_see_outer_types() {
    let branch = |op: &str| {
        let mut body = ModelBuilder::new(13);
        body.node(Node::new(op), &["x"], &[&format!("{op}_y")]);
        body.output(&format!("{op}_y"), DataType::Float, None);
        body
    };
    let mut builder = builder(13);
    builder.initializer("test", &bools(&[], &[1]));
    let bodies = vec![("then_branch", branch("Relu")), ("else_branch", branch("GlobalMaxPool"))];
    builder.node_with_bodies(Node::new("If"), bodies, &["test"], &["y"]);
    let model = build(&mut builder, "y");
    let shapes = infer(&model);
    assert_eq!(text(&model, &shapes, "y"), "f32[batch,3,?,?]");
    let node = model.graph.nodes()[0];
    let body = model.graph.node(node).bodies().next().expect("a branch");
    let inner = Shapes::infer_body(body, 13, &shapes, &model.graph);
    assert_eq!(inner.rank(body.outputs().next().expect("an output")), Some(4));
}

#[test]
fn infers_a_node_added_by_an_edit() {
    let mut builder = builder(13);
    builder.node(Node::new("Relu"), &["x"], &["y"]);
    let mut model = build(&mut builder, "y");
    let mut shapes = infer(&model);
    let anchor = model.graph.nodes()[0];
    let weight = model.graph.add_initializer("w", f32s(&[8, 2], &[0.0; 16]));
    let y = model.graph.find("y");
    let fresh = [NewResult::Fresh("z".into())];
    let (node, made) = model
        .graph
        .add_node(Node::new("MatMul"), anchor, &[y, Some(weight)], &fresh)
        .expect("a new node");
    shapes.update(&model.graph, 13, node);
    let ty = shapes.of(made[0].expect("a result")).expect("a type");
    assert_eq!(ty.to_string(), "f32[batch,3,8,2]");
}
