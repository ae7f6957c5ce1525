//! Tests of the operators that [`EliminateIdentity`] finds to change nothing where they stand.

use updp_ir::{DataType, Node, Tensor};
use updp_testkit::{Micro, Val, tensor};

use super::{Outcome, alone};
use crate::rewrite::EliminateIdentity;

/// `Relu → build → Sigmoid` on [N, 4, 6, 5], compiled by the rule alone. No node of it sees the sign of a zero.
fn between(opset: i64, build: impl FnOnce(&mut Micro, &str) -> String) -> Outcome {
    typed(Micro::new(7).opset(opset), build)
}

fn typed(mut m: Micro, build: impl FnOnce(&mut Micro, &str) -> String) -> Outcome {
    let x = m.input("x", &[4, 6, 5]);
    let y = m.unary("Relu", &x);
    let name = build(&mut m, &y.name);
    let y = m.unary("Sigmoid", &Val { name, ..y });
    m.output(&y);
    alone(&m, || EliminateIdentity)
}

fn longs(m: &mut Micro, name: &str, values: &[i64]) -> String {
    m.constant(name, &Tensor::from_i64(vec![values.len()], values).expect("fits"))
}

fn floats(m: &mut Micro, name: &str, values: &[f64]) -> String {
    m.constant(name, &tensor(DataType::Float, &[values.len()], values))
}

fn with_ints(op: &str, at: usize, values: &'static [i64]) -> impl Fn(&mut Micro, &str) -> String {
    let node = Node::new(op);
    move |m, x| {
        let list = longs(m, "list", values);
        let mut operands = vec![x];
        operands.resize(at, "");
        operands.push(&list);
        m.node(node.bare_copy(), &operands)
    }
}

#[track_caller]
fn goes(opset: i64, build: impl FnOnce(&mut Micro, &str) -> String) {
    assert_eq!(between(opset, build).ops, "Relu Sigmoid", "opset {opset}");
}

#[track_caller]
fn stays(opset: i64, build: impl FnOnce(&mut Micro, &str) -> String) {
    let ops = between(opset, build).ops;
    assert_ne!(ops, "Relu Sigmoid", "opset {opset}");
}

#[test]
fn a_reshape_to_the_same_dims_goes() {
    for shape in [&[-1, 4, 6, 5][..], &[0, 0, 6, -1], &[0, -1, 0, 0], &[0, 0, 0, 0]] {
        for opset in [5, 9, 13, 17] {
            goes(opset, |m, x| {
                let shape = longs(m, "shape", shape);
                m.node(Node::new("Reshape"), &[x, &shape])
            });
        }
    }
    stays(17, with_ints("Reshape", 1, &[-1, 4, 5, 6]));
    stays(17, with_ints("Reshape", 1, &[0, 4, 30]));
    // A fixed batch is a demand that the model makes.
    let mut m = Micro::new(7);
    let x = m.input("x", &[4, 6, 5]);
    let shape = longs(&mut m, "shape", &[1, 4, 6, 5]);
    let name = m.node(Node::new("Reshape"), &[&x.name, &shape]);
    let y = m.unary("Sigmoid", &Val { name, ..x });
    m.output(&y);
    assert_eq!(super::planned(&m, || EliminateIdentity).ops, "Reshape Sigmoid");
}

#[test]
fn reshaping_nodes_that_undo_each_other_go() {
    let back = |m: &mut Micro, y: &str| {
        let shape = longs(m, "back", &[-1, 4, 6, 5]);
        m.node(Node::new("Reshape"), &[y, &shape])
    };
    goes(17, |m, x| {
        let shape = longs(m, "shape", &[-1, 4, 30]);
        let y = m.node(Node::new("Reshape"), &[x, &shape]);
        back(m, &y)
    });
    goes(17, |m, x| {
        let y = m.node(Node::new("Flatten"), &[x]);
        back(m, &y)
    });
    for opset in [11, 13, 17] {
        goes(opset, |m, x| {
            let (unsqueeze, squeeze) = (Node::new("Unsqueeze"), Node::new("Squeeze"));
            if opset < 13 {
                let y = m.node(unsqueeze.with("axes", vec![2]), &[x]);
                return m.node(squeeze.with("axes", vec![2]), &[&y]);
            }
            let axes = longs(m, "axes", &[2]);
            let y = m.node(unsqueeze, &[x, &axes]);
            m.node(squeeze, &[&y, &axes])
        });
    }
}

#[test]
fn a_run_of_reshapes_that_is_read_inside_keeps_what_is_read() {
    let mut m = Micro::new(3);
    let x = m.input("x", &[4, 6, 5]);
    let y = m.unary("Relu", &x);
    let shape = longs(&mut m, "shape", &[-1, 4, 30]);
    let flat = m.node(Node::new("Reshape"), &[&y.name, &shape]);
    let shape = longs(&mut m, "back", &[-1, 4, 6, 5]);
    let back = m.node(Node::new("Reshape"), &[&flat, &shape]);
    m.output(&Val { name: flat, rank: 3, ..x.clone() });
    m.output(&Val { name: back, ..x });
    let done = alone(&m, || EliminateIdentity);
    assert_eq!(done.ops, "Relu Reshape");
}

#[test]
fn expand_tile_slice_gather_and_split_that_keep_all_go() {
    goes(17, with_ints("Expand", 1, &[1, 4, 1, 1]));
    goes(13, with_ints("Expand", 1, &[6, 5]));
    stays(17, with_ints("Expand", 1, &[2, 1, 4, 6, 5]));
    goes(17, with_ints("Tile", 1, &[1, 1, 1, 1]));
    stays(17, with_ints("Tile", 1, &[1, 2, 1, 1]));
    goes(9, |m, x| {
        m.node(
            Node::new("Slice").with("axes", vec![2]).with("starts", vec![0]).with("ends", vec![9]),
            &[x],
        )
    });
    for (start, end, step, is_gone) in [
        (0, 6, 1, true),
        (0, i64::MAX, 1, true),
        (0, 5, 1, false),
        (0, 6, 2, false),
        (1, 6, 1, false),
    ] {
        let build = |m: &mut Micro, x: &str| {
            let parts = [("start", start), ("end", end), ("axis", 2), ("step", step)];
            let parts = parts.map(|(name, value)| longs(m, name, &[value]));
            m.node(Node::new("Slice"), &[x, &parts[0], &parts[1], &parts[2], &parts[3]])
        };
        let ops = between(17, build).ops;
        assert_eq!(ops == "Relu Sigmoid", is_gone, "{start} {end} {step}: {ops}");
    }
    for (list, is_gone) in [(&[0, 1, 2, 3][..], true), (&[0, 1, 3, 2], false), (&[0, 1, 2], false)]
    {
        let ops = between(17, |m, x| {
            let indices = longs(m, "indices", list);
            m.node(Node::new("Gather").with("axis", 1), &[x, &indices])
        });
        assert_eq!(ops.ops == "Relu Sigmoid", is_gone, "{list:?}");
    }
    goes(11, |m, x| m.node(Node::new("Split").with("axis", 1), &[x]));
    goes(17, |m, x| m.node(Node::new("Split").with("axis", 1), &[x]));
}

#[test]
fn concat_loses_empty_parts_and_where_its_choice() {
    let done = typed(Micro::new(6).batch(1), |m, x| {
        let empty = m.constant("empty", &tensor(DataType::Float, &[1, 0, 6, 5], &[]));
        m.node(Node::new("Concat").with("axis", 1), &[x, &empty])
    });
    assert_eq!(done.ops, "Relu Sigmoid");
    goes(17, |m, x| {
        let from = longs(m, "from", &[0]);
        let to = longs(m, "to", &[0]);
        let axis = longs(m, "axis", &[2]);
        let empty = m.node(Node::new("Slice"), &[x, &from, &to, &axis]);
        m.node(Node::new("Concat").with("axis", 2), &[&empty, x])
    });
    stays(17, |m, x| m.node(Node::new("Concat").with("axis", 1), &[x, x]));
    let bools = |m: &mut Micro, dims: &[usize], value: u8| {
        let bytes = vec![value; dims.iter().product()];
        let tensor = Tensor::new(DataType::Bool, dims.to_vec(), bytes.into()).expect("fits");
        m.constant("condition", &tensor)
    };
    for value in [0, 1] {
        goes(17, |m, x| {
            let condition = bools(m, &[], value);
            m.node(Node::new("Where"), &[&condition, x, x])
        });
        let choose = |dims: &'static [usize]| {
            between(17, move |m, x| {
                let condition = bools(m, dims, value);
                let other = m.weight("other", &[1, 4, 1, 1], &[1.0, 2.0, 3.0, 4.0]);
                let (yes, no) = if value == 1 { (x, &other[..]) } else { (&other[..], x) };
                m.node(Node::new("Where"), &[&condition, yes, no])
            })
        };
        assert_eq!(choose(&[1]).ops, "Relu Sigmoid");
        assert_ne!(choose(&[2, 1, 1, 1, 1]).ops, "Relu Sigmoid", "the result gets a dim more");
    }
}

#[test]
fn pads_of_nothing_go_in_every_mode() {
    for mode in ["constant", "reflect", "edge"] {
        for opset in [9, 11, 13, 17] {
            goes(opset, |m, x| {
                let node = Node::new("Pad").with("mode", mode);
                if opset < 11 {
                    return m.node(node.with("pads", vec![0; 8]), &[x]);
                }
                let pads = longs(m, "pads", &[0; 8]);
                m.node(node, &[x, &pads])
            });
        }
        stays(17, |m, x| {
            let pads = longs(m, "pads", &[0, 0, 1, 0, 0, 0, 0, 0]);
            m.node(Node::new("Pad").with("mode", mode), &[x, &pads])
        });
    }
}

#[test]
fn pools_and_reductions_of_one_element_go() {
    for op in ["MaxPool", "AveragePool"] {
        let node = |kernel: i64, stride: i64| {
            Node::new(op).with("kernel_shape", vec![kernel; 2]).with("strides", vec![stride; 2])
        };
        goes(17, |m, x| m.node(node(1, 1), &[x]));
        stays(17, |m, x| m.node(node(1, 2), &[x]));
        stays(17, |m, x| m.node(node(2, 1), &[x]));
    }
    let unit = |op: &'static str, opset: i64| {
        let mut m = Micro::new(5).opset(opset);
        let x = m.input("x", &[4, 1, 1]);
        let y = m.unary("Relu", &x);
        let name = if op.starts_with("Global") {
            m.node(Node::new(op), &[&y.name])
        } else {
            m.node(Node::new(op).with("axes", vec![2, 3]), &[&y.name])
        };
        let y = m.unary("Sigmoid", &Val { name, ..y });
        m.output(&y);
        alone(&m, || EliminateIdentity).ops
    };
    for op in ["GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceProd"] {
        assert_eq!(unit(op, 12), "Relu Sigmoid", "{op}");
        stays(12, |m, x| {
            let node = Node::new(op);
            let is_global = op.starts_with("Global");
            m.node(if is_global { node } else { node.with("axes", vec![2, 3]) }, &[x])
        });
    }
    goes(17, |m, x| {
        let axes = m.constant("axes", &Tensor::from_i64(vec![0], &[]).expect("fits"));
        m.node(Node::new("ReduceSum").with("noop_with_empty_axes", 1), &[x, &axes])
    });
}

#[test]
fn a_sum_of_one_element_stays_where_the_sign_of_zero_is_seen() {
    let mut m = Micro::new(5);
    let x = m.input("x", &[4, 1, 1]);
    let y = m.unary("GlobalAveragePool", &x);
    let y = m.unary("Reciprocal", &y);
    m.output(&y);
    assert_eq!(alone(&m, || EliminateIdentity).reasons, ["zero-sign"]);
}

#[test]
fn resizes_by_one_go() {
    for mode in ["nearest", "linear", "cubic"] {
        for places in ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"] {
            let node = || {
                Node::new("Resize")
                    .with("mode", mode)
                    .with("coordinate_transformation_mode", places)
            };
            goes(17, |m, x| {
                let scales = floats(m, "scales", &[1.0; 4]);
                m.node(node(), &[x, "", &scales])
            });
            stays(17, |m, x| {
                let scales = floats(m, "scales", &[1.0, 1.0, 2.0, 2.0]);
                m.node(node(), &[x, "", &scales])
            });
        }
    }
    // The sizes of the batch are not known here, so equal sizes are not.
    stays(17, |m, x| {
        let sizes = longs(m, "sizes", &[1, 4, 6, 5]);
        m.node(Node::new("Resize"), &[x, "", "", &sizes])
    });
    let done = typed(Micro::new(2).batch(2), |m, x| {
        let sizes = longs(m, "sizes", &[2, 4, 6, 5]);
        m.node(Node::new("Resize"), &[x, "", "", &sizes])
    });
    assert_eq!(done.ops, "Relu Sigmoid");
    goes(9, |m, x| {
        let scales = floats(m, "scales", &[1.0; 4]);
        m.node(Node::new("Upsample"), &[x, &scales])
    });
}

#[test]
fn elementwise_operators_that_keep_every_number_go() {
    for op in ["Sum", "Mean", "Max", "Min"] {
        goes(17, |m, x| m.node(Node::new(op), &[x]));
    }
    goes(17, |m, x| m.node(Node::new("LeakyRelu").with("alpha", 1.0), &[x]));
    stays(17, |m, x| m.node(Node::new("LeakyRelu").with("alpha", 0.5), &[x]));
    goes(17, |m, x| {
        let slope = m.weight("slope", &[4, 1, 1], &[1.0; 4]);
        m.node(Node::new("PRelu"), &[x, &slope])
    });
    goes(17, |m, x| {
        let power = m.weight("power", &[], &[1.0]);
        m.node(Node::new("Pow"), &[x, &power])
    });
    stays(17, |m, x| {
        let power = m.weight("power", &[1, 1, 1, 1, 1], &[1.0]);
        m.node(Node::new("Pow"), &[x, &power])
    });
    goes(17, |m, x| {
        let y = m.node(Node::new("Neg"), &[x]);
        m.node(Node::new("Neg"), &[&y])
    });
    goes(17, |m, x| m.node(Node::new("CastLike"), &[x, x]));
    for op in ["DepthToSpace", "SpaceToDepth"] {
        goes(17, |m, x| m.node(Node::new(op).with("blocksize", 1), &[x]));
    }
}

#[test]
fn a_clip_goes_only_between_infinities() {
    goes(17, |m, x| {
        let low = m.weight("low", &[], &[f64::NEG_INFINITY]);
        let high = m.weight("high", &[], &[f64::INFINITY]);
        m.node(Node::new("Clip"), &[x, &low, &high])
    });
    // Without a bound the largest finite number is one: +inf becomes 3.4e38.
    for opset in [6, 11, 17] {
        let done = between(opset, |m, x| m.node(Node::new("Clip"), &[x]));
        assert_eq!(
            (done.ops.as_str(), &done.reasons[..]),
            ("Relu Clip Sigmoid", &["infinities"][..])
        );
    }
    stays(17, |m, x| {
        let low = m.weight("low", &[], &[0.0]);
        m.node(Node::new("Clip"), &[x, &low])
    });
}

#[test]
fn other_dtypes_lose_them_too() {
    for dtype in [DataType::Float16, DataType::Double] {
        let done = typed(Micro::new(4).dtype(dtype), |m, x| {
            let shape = longs(m, "shape", &[-1, 4, 6, 5]);
            let y = m.node(Node::new("Reshape"), &[x, &shape]);
            let repeats = longs(m, "repeats", &[1; 4]);
            m.node(Node::new("Tile"), &[&y, &repeats])
        });
        assert_eq!(done.ops, "Relu Sigmoid", "{dtype}");
    }
}
