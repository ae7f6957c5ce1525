//! Pools and reductions.

use updp_autodiff::backward;
use updp_ir::{DataType, ModelBuilder, Node, Tensor, TensorType};
use updp_testkit::{Inputs, known, run, tensor};

use crate::gradcheck::{Case, Kind};

#[derive(Clone, Copy)]
struct Window {
    kernel: usize,
    stride: usize,
    pads: [i64; 4],
    ceil: i64,
    counts: i64,
}

fn window(op: &str, window: Window) -> Node {
    let node = Node::new(op)
        .with("kernel_shape", &[window.kernel; 2][..])
        .with("strides", &[window.stride; 2][..])
        .with("ceil_mode", window.ceil)
        .with("pads", window.pads.to_vec());
    if op == "AveragePool" { node.with("count_include_pad", window.counts) } else { node }
}

const WINDOWS: [(usize, usize, [i64; 4]); 6] = [
    (2, 2, [0; 4]),
    (3, 2, [1; 4]),
    (3, 1, [1; 4]),
    (3, 2, [1, 0, 0, 1]),
    (2, 3, [0; 4]),
    (3, 3, [0, 1, 1, 1]),
];

#[test]
fn gradients_of_average_pools() {
    for (kernel, stride, pads) in WINDOWS {
        for ceil in [0, 1] {
            for counts in [0, 1] {
                let node =
                    move || window("AveragePool", Window { kernel, stride, pads, ceil, counts });
                Case::of_node(Kind::Multilinear, node, &["x"])
                    .opset(19)
                    .input("x", &[2, 2, 7, 7])
                    .check();
            }
        }
    }
    for mode in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        let node = move || {
            Node::new("AveragePool")
                .with("kernel_shape", &[3_usize, 2][..])
                .with("strides", &[2_usize, 2][..])
                .with("auto_pad", mode)
        };
        Case::of_node(Kind::Multilinear, node, &["x"]).input("x", &[2, 2, 7, 7]).check();
    }
}

#[test]
fn gradients_of_max_pools() {
    for (kernel, stride, pads) in WINDOWS {
        for ceil in [0, 1] {
            let node = move || window("MaxPool", Window { kernel, stride, pads, ceil, counts: 0 });
            // Values far enough apart that no difference moves the maximum.
            Case::new(Kind::Multilinear, move |builder, dtype| {
                let spread: Vec<f64> = (0..98).map(|at| f64::from(at * 37 % 98 * 4)).collect();
                let spread = tensor(dtype, &[1, 2, 7, 7], &spread);
                builder.initializer("spread", &spread);
                builder.node(Node::new("Add"), &["x", "spread"], &["apart"]);
                builder.node(node(), &["apart"], &["y"]);
            })
            .drawn("x", &[2, 2, 7, 7], (0.0, 0.4))
            .check();
        }
    }
    let dilated = || {
        Node::new("MaxPool")
            .with("kernel_shape", &[2_usize][..])
            .with("dilations", &[3_usize][..])
            .with("pads", vec![1_i64, 1])
    };
    Case::of_node(Kind::Smooth, dilated, &["x"])
        .seed(3)
        .drawn("x", &[1, 1, 6], (-9.0, 9.0))
        .check();
}

#[test]
fn gradients_of_global_pools() {
    Case::of_node(Kind::Multilinear, || Node::new("GlobalAveragePool"), &["x"])
        .input("x", &[2, 3, 4, 2])
        .check();
    Case::of_node(Kind::Smooth, || Node::new("GlobalMaxPool"), &["x"])
        .drawn("x", &[2, 2, 3, 2], (-50.0, 50.0))
        .check();
}

#[test]
fn gradients_of_reductions() {
    for opset in [11, 17, 18] {
        for op in [
            "ReduceSum",
            "ReduceMean",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceLogSumExp",
        ] {
            for (axes, keep) in [(Some(vec![1]), 1), (Some(vec![-1, 0]), 0), (None, 0), (None, 1)] {
                let as_operand = opset >= if op == "ReduceSum" { 13 } else { 18 };
                Case::new(Kind::Smooth, move |builder, _| {
                    let node = Node::new(op).with("keepdims", i64::from(keep));
                    match &axes {
                        Some(axes) if as_operand => {
                            let axes = Tensor::from_i64(vec![axes.len()], axes).expect("a list");
                            builder.initializer("axes", &axes);
                            builder.node(node, &["x", "axes"], &["y"]);
                        }
                        Some(axes) => {
                            builder.node(node.with("axes", axes.clone()), &["x"], &["y"]);
                        }
                        None => {
                            builder.node(node, &["x"], &["y"]);
                        }
                    }
                })
                .opset(opset)
                .drawn("x", &[2, 3, 4], (0.2, 1.0))
                .check();
            }
        }
    }
    for op in ["ReduceMax", "ReduceMin"] {
        let node = move || Node::new(op).with("axes", vec![1_i64]).with("keepdims", 0_i64);
        Case::of_node(Kind::Smooth, node, &["x"]).drawn("x", &[2, 5, 3], (-50.0, 50.0)).check();
    }
}

/// The gradient of the sum of one node's result over equal numbers.
fn of_ties(node: Node, result: &[usize]) -> Vec<f64> {
    let mut builder = ModelBuilder::new(17);
    builder.input("x", DataType::Float, &known(&[1, 1, 2, 4]));
    builder.node(node, &["x"], &["y"]);
    builder.output("y", DataType::Float, None);
    let mut model = builder.build().expect("well formed");
    let dy = model.graph.add_input("dy", &TensorType::fixed(DataType::Float, result));
    let value = |name: &str| model.graph.find(name).expect("a value");
    let (x, y) = (value("x"), value("y"));
    let gradients = backward(&mut model, &[(y, dy)], &[x]).expect("a gradient");
    let ty = TensorType::fixed(DataType::Float, &[1, 1, 2, 4]);
    model.graph.add_output(gradients[0].expect("a path"), &ty).expect("a value");
    let ones = vec![1.0; result.iter().product()];
    let inputs = Inputs::from_iter([
        ("x".to_owned(), tensor(DataType::Float, &[1, 1, 2, 4], &[0.5; 8])),
        ("dy".to_owned(), tensor(DataType::Float, result, &ones)),
    ]);
    run(&model, &inputs).into_values().nth(1).and_then(|t| t.to_f64()).expect("floats")
}

#[test]
fn the_first_of_equal_numbers_gets_the_gradient_of_a_window_all_of_a_whole_axis() {
    let window = Node::new("MaxPool")
        .with("kernel_shape", &[2_usize, 2][..])
        .with("strides", &[2_usize, 2][..]);
    let first = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(of_ties(window, &[1, 1, 1, 2]), first);
    assert_eq!(of_ties(Node::new("GlobalMaxPool"), &[1, 1, 1, 1]), [0.125; 8]);
}
