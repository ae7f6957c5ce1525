//! Operators that move, repeat or drop elements: linear, so differences are exact.

use updp_ir::{DataType, Node, Tensor};
use updp_testkit::tensor;

use crate::gradcheck::{Case, Kind};

fn with_ints(node: impl Fn() -> Node + 'static, lists: &[(&'static str, &[i64])]) -> Case {
    let lists: Vec<(&str, Vec<i64>)> = lists.iter().map(|(n, l)| (*n, l.to_vec())).collect();
    Case::new(Kind::Multilinear, move |builder, _| {
        let mut operands = vec!["x"];
        for (name, list) in &lists {
            let tensor = Tensor::from_i64(vec![list.len()], list).expect("a list");
            builder.initializer(name, &tensor);
            operands.push(name);
        }
        builder.node(node(), &operands, &["y"]);
    })
}

#[test]
fn gradients_of_reshaping() {
    with_ints(|| Node::new("Reshape"), &[("s", &[0, -1])]).input("x", &[2, 3, 4]).check();
    let flatten = || Node::new("Flatten").with("axis", 2_i64);
    Case::of_node(Kind::Multilinear, flatten, &["x"]).input("x", &[2, 3, 4]).check();
    with_ints(|| Node::new("Squeeze"), &[("a", &[1])]).input("x", &[2, 1, 4]).check();
    with_ints(|| Node::new("Unsqueeze"), &[("a", &[0, -1])]).input("x", &[2, 4]).check();
    let perm = || Node::new("Transpose").with("perm", vec![2_i64, 0, 1]);
    Case::of_node(Kind::Multilinear, perm, &["x"]).input("x", &[2, 3, 4]).check();
    Case::of_node(Kind::Multilinear, || Node::new("Transpose"), &["x"])
        .input("x", &[2, 3, 4])
        .check();
    with_ints(|| Node::new("Expand"), &[("s", &[2, 3, 4])]).input("x", &[3, 1]).check();
    with_ints(|| Node::new("Tile"), &[("r", &[2, 1, 3])]).input("x", &[1, 2, 2]).check();
    Case::of_node(Kind::Multilinear, || Node::new("Dropout"), &["x"]).input("x", &[5]).check();
}

#[test]
fn gradients_of_slices() {
    let slices: &[[&[i64]; 4]] = &[
        [&[1], &[3], &[1], &[1]],
        [&[0], &[i64::MAX], &[2], &[2]],
        [&[1, -3], &[9, -1], &[-1, 1], &[3, 1]],
        [&[-1], &[i64::MIN], &[1], &[-1]],
        [&[4], &[0], &[2], &[-2]],
        [&[9], &[-9], &[1], &[-3]],
    ];
    for [start, end, axes, steps] in slices {
        with_ints(|| Node::new("Slice"), &[("s", start), ("e", end), ("a", axes), ("t", steps)])
            .input("x", &[2, 5, 6])
            .check();
    }
}

#[test]
fn gradients_of_joining_and_cutting() {
    Case::of_node(Kind::Multilinear, || Node::new("Concat").with("axis", -1_i64), &["a", "b", "a"])
        .input("a", &[2, 3])
        .input("b", &[2, 2])
        .check();
    // The middle part is not read: its cotangent is zero.
    Case::new(Kind::Multilinear, |builder, _| {
        let sizes = Tensor::from_i64(vec![3], &[1, 2, 1]).expect("three sizes");
        builder.initializer("sizes", &sizes);
        builder.node(Node::new("Split").with("axis", 1_i64), &["x", "sizes"], &["p", "q", "r"]);
        builder.node(Node::new("Sub"), &["p", "r"], &["y"]);
    })
    .input("x", &[2, 4, 2])
    .check();
    for pads in [[0, 1, 2, 3], [-1, 1, 0, -1], [-1, 0, -1, 0]] {
        with_ints(|| Node::new("Pad"), &[("p", &pads)]).input("x", &[4, 3]).check();
    }
    let pad = || Node::new("Pad").with("mode", "constant");
    Case::new(Kind::Multilinear, move |builder, dtype| {
        for (name, list) in [("p", &[1, 2][..]), ("a", &[-1])] {
            let tensor = Tensor::from_i64(vec![list.len()], list).expect("a list");
            builder.initializer(name, &tensor);
        }
        builder.initializer("v", &tensor(dtype, &[], &[3.0]));
        builder.node(pad(), &["x", "p", "v", "a"], &["y"]);
    })
    .opset(18)
    .input("x", &[2, 3])
    .check();
}

#[test]
fn gradients_of_gathering() {
    for (axis, dims, indices) in [
        (0_i64, vec![], vec![2]),
        (1, vec![3], vec![0, -1, 0]),
        (1, vec![2, 2], vec![3, 1, 1, 1]),
        (-1, vec![1], vec![1]),
        (1, vec![2], vec![1, 2]),
        (1, vec![2], vec![-1, 0]),
    ] {
        Case::new(Kind::Multilinear, move |builder, _| {
            let tensor = Tensor::from_i64(dims.clone(), &indices).expect("indices");
            builder.initializer("i", &tensor);
            builder.node(Node::new("Gather").with("axis", axis), &["x", "i"], &["y"]);
        })
        .input("x", &[3, 4, 2])
        .check();
    }
}

#[test]
fn gradients_of_blocks_and_depth() {
    for mode in ["DCR", "CRD"] {
        let node = move || Node::new("DepthToSpace").with("blocksize", 2_i64).with("mode", mode);
        Case::of_node(Kind::Multilinear, node, &["x"]).input("x", &[2, 8, 2, 3]).check();
    }
    let node = || Node::new("SpaceToDepth").with("blocksize", 2_i64);
    Case::of_node(Kind::Multilinear, node, &["x"]).input("x", &[2, 2, 4, 6]).check();
}

#[test]
fn gradients_of_resizing() {
    for (mode, coordinates, nearest) in [
        ("nearest", "asymmetric", "floor"),
        ("nearest", "half_pixel", "round_prefer_floor"),
        ("nearest", "half_pixel", "round_prefer_ceil"),
        ("nearest", "align_corners", "ceil"),
        ("linear", "half_pixel", "floor"),
        ("linear", "pytorch_half_pixel", "floor"),
        ("linear", "asymmetric", "floor"),
        ("linear", "align_corners", "floor"),
    ] {
        for scales in [[1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.5, 1.0], [1.0, 1.0, 0.5, 2.5]] {
            Case::new(Kind::Multilinear, move |builder, _| {
                let tensor = Tensor::from_f32(vec![4], &scales).expect("four scales");
                builder.initializer("scales", &tensor);
                let node = Node::new("Resize")
                    .with("mode", mode)
                    .with("coordinate_transformation_mode", coordinates)
                    .with("nearest_mode", nearest);
                builder.node(node, &["x", "", "scales"], &["y"]);
            })
            .input("x", &[2, 2, 4, 4])
            .check();
        }
    }
}

#[test]
fn gradient_through_casts_between_floats() {
    Case::new(Kind::Multilinear, |builder, dtype| {
        let to = |dtype: DataType| Node::new("Cast").with("to", i64::from(dtype.code()));
        builder.node(to(DataType::Float), &["x"], &["narrow"]);
        builder.node(Node::new("Add"), &["narrow", "narrow"], &["twice"]);
        builder.node(to(dtype), &["twice"], &["y"]);
    })
    .input("x", &[4])
    .check();
}
