//! Activations, arithmetic and selections.

use updp_ir::{Node, Tensor};
use updp_testkit::tensor;

use crate::gradcheck::{Case, Kind};

fn unary(op: &'static str) -> Case {
    Case::of_node(Kind::Smooth, move || Node::new(op), &["x"])
}

#[test]
fn gradients_of_smooth_functions() {
    for op in ["Neg", "Exp", "Tanh", "Sigmoid", "Erf", "Softplus", "Identity"] {
        unary(op).drawn("x", &[2, 3, 4], (-2.0, 2.0)).check();
    }
    for op in ["Sqrt", "Reciprocal", "Log"] {
        unary(op).drawn("x", &[3, 4], (0.5, 2.0)).check();
    }
    unary("Mish").opset(18).drawn("x", &[3, 4], (-2.0, 2.0)).check();
    unary("Gelu").opset(20).drawn("x", &[3, 4], (-2.0, 2.0)).check();
    let tanh = || Node::new("Gelu").with("approximate", "tanh");
    Case::of_node(Kind::Smooth, tanh, &["x"]).opset(20).drawn("x", &[12], (-2.0, 2.0)).check();
}

#[test]
fn gradients_of_functions_with_kinks_away_from_them() {
    for (low, high) in [(0.2, 1.0), (-1.0, -0.2)] {
        for op in ["Abs", "Relu", "LeakyRelu", "Elu", "Selu", "Softsign"] {
            unary(op).drawn("x", &[3, 5], (low, high)).check();
        }
        let elu = || Node::new("Elu").with("alpha", 0.7_f32);
        Case::of_node(Kind::Smooth, elu, &["x"]).drawn("x", &[9], (low, high)).check();
        let leaky = || Node::new("LeakyRelu").with("alpha", 0.3_f32);
        Case::of_node(Kind::Smooth, leaky, &["x"]).drawn("x", &[9], (low, high)).check();
    }
    for range in [(-5.0, -3.2), (-2.8, 2.8), (3.2, 5.0)] {
        unary("HardSwish").drawn("x", &[8], range).check();
    }
    for range in [(-5.0, -2.7), (-2.3, 2.3), (2.7, 5.0)] {
        unary("HardSigmoid").drawn("x", &[8], range).check();
    }
}

#[test]
fn gradient_of_prelu_with_a_slope_for_each_channel() {
    for range in [(0.2, 1.0), (-1.0, -0.2)] {
        Case::of_node(Kind::Smooth, || Node::new("PRelu"), &["x", "a"])
            .drawn("x", &[2, 3, 4], range)
            .input("a", &[3, 1])
            .check();
    }
}

#[test]
fn gradients_of_arithmetic_with_broadcasting() {
    for op in ["Add", "Sub", "Mul"] {
        for (a, b) in [
            (&[2, 3, 4][..], &[3, 1][..]),
            (&[4], &[2, 3, 4]),
            (&[2, 1, 4], &[3, 1]),
            (&[2, 3], &[2, 3]),
            (&[], &[2, 3]),
            (&[1, 1, 1], &[3]),
        ] {
            Case::of_node(Kind::Multilinear, move || Node::new(op), &["a", "b"])
                .input("a", a)
                .input("b", b)
                .check();
        }
    }
    Case::of_node(Kind::Smooth, || Node::new("Div"), &["a", "b"])
        .input("a", &[2, 1, 4])
        .drawn("b", &[3, 1], (0.5, 1.5))
        .check();
    for op in ["Sum", "Mean"] {
        Case::of_node(Kind::Multilinear, move || Node::new(op), &["a", "b", "c"])
            .input("a", &[2, 3])
            .input("b", &[3])
            .input("c", &[1, 1])
            .check();
    }
}

#[test]
fn gradients_of_powers() {
    for exponent in [2.0, 3.0, 0.5, -1.0, 1.0] {
        Case::new(Kind::Smooth, move |builder, dtype| {
            builder.initializer("p", &tensor(dtype, &[], &[exponent]));
            builder.node(Node::new("Pow"), &["x", "p"], &["y"]);
        })
        .drawn("x", &[2, 5], (0.5, 1.5))
        .check();
    }
    Case::of_node(Kind::Smooth, || Node::new("Pow"), &["x", "p"])
        .drawn("x", &[2, 5], (0.5, 1.5))
        .drawn("p", &[5], (-2.0, 2.0))
        .check();
}

#[test]
fn gradients_of_squares_of_negative_numbers() {
    Case::new(Kind::Smooth, |builder, dtype| {
        builder.initializer("p", &tensor(dtype, &[], &[2.0]));
        builder.node(Node::new("Pow"), &["x", "p"], &["y"]);
    })
    .drawn("x", &[6], (-1.5, -0.5))
    .check();
}

#[test]
fn gradient_of_clip_inside_and_outside_its_bounds() {
    for (range, bounds) in [
        ((0.2, 0.8), (Some(0.0), Some(1.0))),
        ((-0.8, -0.2), (Some(0.0), Some(1.0))),
        ((1.2, 1.8), (Some(0.0), Some(1.0))),
        ((1.2, 1.8), (Some(0.0), None)),
        ((-0.8, -0.2), (None, Some(1.0))),
    ] {
        Case::new(Kind::Smooth, move |builder, dtype| {
            let mut operands = vec!["x", "", ""];
            for (slot, name, bound) in [(1, "low", bounds.0), (2, "high", bounds.1)] {
                if let Some(bound) = bound {
                    builder.initializer(name, &tensor(dtype, &[], &[bound]));
                    operands[slot] = name;
                }
            }
            builder.node(Node::new("Clip"), &operands, &["y"]);
        })
        .drawn("x", &[7], range)
        .check();
    }
}

#[test]
fn gradients_of_extrema_and_selections() {
    for op in ["Max", "Min"] {
        Case::of_node(Kind::Smooth, move || Node::new(op), &["a", "b", "c"])
            .drawn("a", &[2, 3], (0.0, 0.4))
            .drawn("b", &[3], (0.45, 0.7))
            .drawn("c", &[2, 1], (0.75, 1.0))
            .check();
    }
    Case::new(Kind::Multilinear, |builder, _| {
        let condition = [1, 0, 0, 1, 1, 0].map(|v| v != 0);
        let bytes: Vec<u8> = condition.iter().map(|v| u8::from(*v)).collect();
        let tensor = Tensor::new(updp_ir::DataType::Bool, vec![2, 3], bytes.into());
        builder.initializer("c", &tensor.expect("six flags"));
        builder.node(Node::new("Where"), &["c", "a", "b"], &["y"]);
    })
    .input("a", &[2, 3])
    .input("b", &[3])
    .check();
}

#[test]
fn gradients_of_probabilities() {
    for op in ["Softmax", "LogSoftmax"] {
        for axis in [-1, 1, 0] {
            let node = move || Node::new(op).with("axis", i64::from(axis));
            Case::of_node(Kind::Smooth, node, &["x"]).input("x", &[2, 3, 4]).check();
        }
        // Before opset 13 everything from the axis on sums to one.
        let node = move || Node::new(op).with("axis", 1_i64);
        Case::of_node(Kind::Smooth, node, &["x"]).opset(12).input("x", &[2, 3, 4]).check();
    }
}

#[test]
fn gradient_of_a_value_read_twice() {
    Case::of_node(Kind::Smooth, || Node::new("Mul"), &["x", "x"]).input("x", &[2, 3]).check();
    Case::new(Kind::Smooth, |builder, _| {
        builder.node(Node::new("Tanh"), &["x"], &["t"]);
        builder.node(Node::new("Mul"), &["t", "x"], &["p"]);
        builder.node(Node::new("Add"), &["p", "t"], &["s"]);
        builder.node(Node::new("Sub"), &["s", "x"], &["y"]);
    })
    .input("x", &[2, 3])
    .check();
}

#[test]
fn gradient_of_erf_gelu_as_exporters_write_it() {
    Case::new(Kind::Smooth, |builder, dtype| {
        for (name, value) in [("root", std::f64::consts::SQRT_2), ("one", 1.0), ("half", 0.5)] {
            builder.initializer(name, &tensor(dtype, &[], &[value]));
        }
        builder.node(Node::new("Div"), &["x", "root"], &["d"]);
        builder.node(Node::new("Erf"), &["d"], &["e"]);
        builder.node(Node::new("Add"), &["e", "one"], &["a"]);
        builder.node(Node::new("Mul"), &["x", "a"], &["m"]);
        builder.node(Node::new("Mul"), &["m", "half"], &["y"]);
    })
    .drawn("x", &[10], (-2.0, 2.0))
    .check();
}
