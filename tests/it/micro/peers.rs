//! Merges that other optimizers make, or that none makes: small models from reports about neighbouring tools.

use updp_ir::{DataType, Model, ModelBuilder, Node, Tensor};
use updp_passes::{ConstantEvaluator, Evaluator, Log, Options};
use updp_testkit::{ConvSpec, Inputs, Micro, Val, conv, gemm, ops, prove, run, tensor};

use crate::compile::compile_with;

/// The runtimes of the tests, for constant expressions.
struct Runtime;

impl ConstantEvaluator for Runtime {
    fn evaluate(&self, model: &Model) -> Result<Vec<Tensor>, String> {
        Ok(run(model, &Inputs::new()).into_values().collect())
    }
}

/// Compiles with the default options and a runtime, proves it and gives the operators that are left.
#[track_caller]
fn compiled(builder: &ModelBuilder) -> (String, Log) {
    let before = builder.build().expect("a model");
    let mut after = builder.build().expect("a model");
    let options = Options { evaluator: Some(Evaluator::new(Runtime)), ..Options::default() };
    let log = compile_with(&mut after, &options);
    prove(&before, &after);
    (ops(&after.graph).join(" "), log)
}

/// A model on `[N, dims…]`.
#[track_caller]
fn left(opset: i64, dims: &[usize], build: impl FnOnce(&mut Micro, &Val) -> Val) -> String {
    let mut m = Micro::new(29).opset(opset);
    let x = m.input("x", dims);
    let y = build(&mut m, &x);
    m.output(&y);
    compiled(&m.builder()).0
}

fn longs(m: &mut Micro, name: &str, values: &[i64]) -> String {
    m.constant(name, &Tensor::from_i64(vec![values.len()], values).expect("fits"))
}

fn reshape(m: &mut Micro, x: &Val, name: &str, shape: &[i64]) -> Val {
    let list = longs(m, name, shape);
    Val { name: m.node(Node::new("Reshape"), &[&x.name, &list]), rank: shape.len(), ..x.clone() }
}

fn padded(channels: usize) -> ConvSpec {
    conv(channels).kernel(3).pad(1)
}

#[test]
fn weights_made_of_constants_merge() {
    // 55_weight_norm, 55c_weight_einsum
    for opset in [11, 13, 17, 18] {
        let norm = left(opset, &[4, 8, 8], |m, x| {
            let values = m.numbers(6 * 4 * 9, -1.0, 1.0);
            let v = m.weight("v", &[6, 4, 3, 3], &values);
            let norm = if opset < 18 {
                m.node(Node::new("ReduceL2").with("axes", vec![1, 2, 3]), &[&v])
            } else {
                let axes = longs(m, "axes", &[1, 2, 3]);
                m.node(Node::new("ReduceL2"), &[&v, &axes])
            };
            let unit = m.node(Node::new("Div"), &[&v, &norm]);
            let g = m.weight("g", &[6, 1, 1, 1], &[1.0, 0.5, 2.0, 1.5, 0.75, 1.25]);
            let weight = m.node(Node::new("Mul"), &[&unit, &g]);
            let y = m.conv_with(x, &conv(6).kernel(3), &weight, None);
            m.bn(&y)
        });
        assert_eq!(norm, "Conv", "opset {opset}");
    }
    let einsum = left(17, &[4, 8, 8], |m, x| {
        let (v, q) = (m.numbers(6 * 4 * 9, -1.0, 1.0), m.numbers(36, -1.0, 1.0));
        let (v, q) = (m.weight("v", &[6, 4, 3, 3], &v), m.weight("q", &[6, 6], &q));
        let node = Node::new("Einsum").with("equation", "oihw,op->pihw");
        let weight = m.node(node, &[&v, &q]);
        let y = m.conv_with(x, &conv(6).kernel(3), &weight, None);
        m.bn(&y)
    });
    assert_eq!(einsum, "Conv");
}

#[test]
fn batch_norm_written_with_a_power_merges() {
    // 54_bn_primitives_pow
    let ops = left(17, &[4, 8, 8], |m, x| {
        let y = m.conv(x, &conv(4).kernel(3));
        let shape = longs(m, "shape", &[1, 4, 1, 1]);
        let mut part = |m: &mut Micro, name: &str, low: f64| {
            let values = m.numbers(4, low, 1.5);
            let stored = m.weight(name, &[4], &values);
            m.node(Node::new("Reshape"), &[&stored, &shape])
        };
        let (mean, var) = (part(m, "mean", -1.0), part(m, "var", 0.5));
        let (gamma, beta) = (part(m, "gamma", 0.5), part(m, "beta", -1.0));
        let (epsilon, half) = (m.weight("epsilon", &[], &[1e-5]), m.weight("half", &[], &[-0.5]));
        let centred = m.node(Node::new("Sub"), &[&y.name, &mean]);
        let var = m.node(Node::new("Add"), &[&var, &epsilon]);
        let root = m.node(Node::new("Pow"), &[&var, &half]);
        let unit = m.node(Node::new("Mul"), &[&centred, &root]);
        let scaled = m.node(Node::new("Mul"), &[&unit, &gamma]);
        Val { name: m.node(Node::new("Add"), &[&scaled, &beta]), ..y }
    });
    assert_eq!(ops, "Conv");
}

#[test]
fn norms_behind_reshapes_pools_and_concats_merge() {
    // 23_conv_reshape_same_bn
    let ops = left(17, &[4, 1, 1], |m, x| {
        let y = m.conv(x, &conv(6));
        let y = reshape(m, &y, "shape", &[-1, 6, 1, 1]);
        m.bn(&y)
    });
    assert_eq!(ops, "Conv");
    // 23b_conv_squeeze_bn
    let ops = left(17, &[4, 9], |m, x| {
        let axes = longs(m, "axes", &[2]);
        let name = m.node(Node::new("Unsqueeze"), &[&x.name, &axes]);
        let y = Val { name, rank: 4, ..x.clone() };
        let y = m.conv(&y, &conv(6).kernels(&[1, 3]).pads(&[0, 1, 0, 1]));
        let name = m.node(Node::new("Squeeze"), &[&y.name, &axes]);
        m.bn(&Val { name, rank: 3, ..y })
    });
    assert_eq!(ops, "Unsqueeze Conv Squeeze");
    // 52b_conv_gap_bn
    let ops = left(17, &[4, 8, 8], |m, x| {
        let y = m.conv(x, &conv(6).kernel(3));
        let y = m.unary("GlobalAveragePool", &y);
        m.bn(&y)
    });
    assert_eq!(ops, "Conv GlobalAveragePool");
    // 52c_bn_gap_flatten_gemm
    let ops = left(17, &[6, 8, 8], |m, x| {
        let y = m.bn(x);
        let y = m.unary("GlobalAveragePool", &y);
        let y = m.unary("Flatten", &y);
        m.gemm(&Val { rank: 2, ..y }, &gemm(3))
    });
    assert_eq!(ops, "GlobalAveragePool Flatten Gemm");
    // 51_concat_convs_bn
    let ops = left(17, &[4, 8, 8], |m, x| {
        let (a, b) = (m.conv(x, &padded(4)), m.conv(x, &padded(4)));
        let y = m.apply(Node::new("Concat").with("axis", 1), &[&a, &b]);
        m.bn(&Val { channels: 8, ..y })
    });
    assert_eq!(ops, "Conv Conv Concat");
}

#[test]
fn linear_layers_around_a_flattened_norm_merge() {
    // 59_levit_linear_bn
    let mut m = Micro::new(3);
    let x = m.tokens("x", &[16, 8]);
    let y = m.matmul(&x, 6);
    let y = reshape(&mut m, &y, "flat", &[-1, 6]);
    let y = m.bn(&Val { axis: 1, rank: 2, ..y });
    let y = reshape(&mut m, &y, "back", &[-1, 16, 6]);
    let y = m.matmul(&Val { axis: 2, ..y }, 5);
    m.output(&y);
    assert_eq!(compiled(&m.builder()).0, "MatMul Add");
}

#[test]
fn focus_is_one_strided_conv() {
    // 50_focus_conv
    let ops = left(17, &[3, 16, 16], |m, x| {
        let (two, big) = (longs(m, "two", &[2]), longs(m, "big", &[i64::MAX]));
        let starts = [longs(m, "0", &[0]), longs(m, "1", &[1])];
        let axes = [longs(m, "rows", &[2]), longs(m, "columns", &[3])];
        let parts: Vec<String> = [(0, 0), (1, 0), (0, 1), (1, 1)]
            .into_iter()
            .map(|(row, column)| {
                let y = m.node(Node::new("Slice"), &[&x.name, &starts[row], &big, &axes[0], &two]);
                m.node(Node::new("Slice"), &[&y, &starts[column], &big, &axes[1], &two])
            })
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let name = m.node(Node::new("Concat").with("axis", 1), &parts);
        m.conv(&Val { name, channels: 12, ..x.clone() }, &padded(8))
    });
    assert_eq!(ops, "Conv");
}

#[test]
fn sums_means_and_signs_merge() {
    // 53_double, 53_conv_of_sum, 53_triple, 53_conv_neg, 53_neg_conv, 53_sum_const, 53_mean_const, 53_mean_branches
    let dims = [4, 8, 8];
    for (op, count) in [("Add", 2), ("Sum", 3), ("Neg", 1)] {
        let behind = left(17, &dims, |m, x| {
            let y = m.conv(x, &conv(4).kernel(3));
            m.apply(Node::new(op), &vec![&y; count])
        });
        let before = left(17, &dims, |m, x| {
            let y = m.apply(Node::new(op), &vec![x; count]);
            m.conv(&y, &conv(4).kernel(3))
        });
        assert_eq!((behind.as_str(), before.as_str()), ("Conv", "Conv"), "{op}");
    }
    for op in ["Sum", "Mean"] {
        for opset in [8, 13, 17] {
            let ops = left(opset, &dims, |m, x| {
                let y = m.conv(x, &conv(4).kernel(3));
                let k = m.weight("k", &[4, 1, 1], &[1.0, 0.5, -0.5, 2.0]);
                Val { name: m.node(Node::new(op), &[&y.name, &k]), ..y }
            });
            assert_eq!(ops, "Conv", "{op} opset {opset}");
            let ops = left(opset, &dims, |m, x| {
                let (a, b) = (m.conv(x, &padded(4)), m.conv(x, &conv(4)));
                m.apply(Node::new(op), &[&a, &b])
            });
            assert_eq!(ops, "Conv", "{op} of branches, opset {opset}");
        }
    }
    // A mean of which only a part merges stays: 53_mean_branches with a third operand.
    let ops = left(17, &dims, |m, x| {
        let (a, b) = (m.conv(x, &padded(4)), m.conv(x, &conv(4)));
        let z = m.unary("Relu", x);
        m.apply(Node::new("Mean"), &[&a, &b, &z])
    });
    assert_eq!(ops, "Conv Conv Relu Mean");
}

#[test]
fn two_full_maps_in_a_row_add_up_and_a_chosen_branch_merges() {
    // 72c_map_map
    let ops = left(17, &[4, 8, 8], |m, x| {
        let values = m.numbers(256, -1.0, 1.0);
        let map = m.weight("map", &[1, 4, 8, 8], &values);
        let y = m.conv(x, &padded(4));
        let name = m.node(Node::new("Add"), &[&y.name, &map]);
        Val { name: m.node(Node::new("Add"), &[&name, &map]), ..y }
    });
    assert_eq!(ops, "Conv Add");
    // 57e_if_constant
    let ops = left(17, &[4, 8, 8], |m, x| {
        let y = m.conv(x, &padded(4));
        let body = |name: &str| {
            let mut body = ModelBuilder::new(17);
            body.node(Node::new("Relu"), &[&y.name], &[name]);
            body.output(name, DataType::Float, None);
            body
        };
        let truth = Tensor::new(DataType::Bool, vec![], vec![1].into()).expect("fits");
        let condition = m.constant("condition", &truth);
        let bodies = vec![("else_branch", body("no")), ("then_branch", body("yes"))];
        m.raw().node_with_bodies(Node::new("If"), bodies, &[&condition], &["chosen"]);
        m.conv(&Val { name: "chosen".into(), ..y.clone() }, &conv(4))
    });
    assert_eq!(ops, "Conv Relu Conv");
}

#[test]
fn what_changes_nothing_stands_in_no_ones_way() {
    // 59n_noop_*, 36_pad_nop_reflect, 14_concat_empty
    type Build = fn(&mut Micro, &str) -> String;
    let cases: [(&str, Build); 8] = [
        ("reshape", |m, x| {
            let shape = longs(m, "shape", &[-1, 8, 6, 6]);
            m.node(Node::new("Reshape"), &[x, &shape])
        }),
        ("expand", |m, x| {
            let shape = longs(m, "shape", &[1, 8, 1, 1]);
            m.node(Node::new("Expand"), &[x, &shape])
        }),
        ("resize", |m, x| {
            let scales = m.constant("scales", &tensor(DataType::Float, &[4], &[1.0; 4]));
            m.node(Node::new("Resize"), &[x, "", &scales])
        }),
        ("pad", |m, x| {
            let pads = longs(m, "pads", &[0; 8]);
            m.node(Node::new("Pad").with("mode", "reflect"), &[x, &pads])
        }),
        ("max", |m, x| m.node(Node::new("Max"), &[x])),
        ("mean", |m, x| m.node(Node::new("Mean"), &[x])),
        ("pool", |m, x| m.node(Node::new("MaxPool").with("kernel_shape", vec![1, 1]), &[x])),
        ("roll", |m, x| {
            let (zero, axis) = (longs(m, "zero", &[0]), longs(m, "axis", &[2]));
            let end = longs(m, "end", &[6]);
            let all = m.node(Node::new("Slice"), &[x, &zero, &end, &axis]);
            let none = m.node(Node::new("Slice"), &[x, &zero, &zero, &axis]);
            m.node(Node::new("Concat").with("axis", 2), &[&all, &none])
        }),
    ];
    for (name, build) in cases {
        let ops = left(17, &[4, 6, 6], |m, x| {
            let y = m.conv(x, &conv(8));
            let name = build(m, &y.name);
            m.conv(&Val { name, ..y }, &conv(4))
        });
        assert_eq!(ops, "Conv", "{name}");
    }
}

#[test]
fn every_norm_that_is_left_has_a_reason() {
    // 22_dq_weights_bn: quantized weights stay as they are
    let mut m = Micro::new(29);
    let x = m.input("x", &[4, 9, 9]);
    let codes = Tensor::new(DataType::Int8, vec![4, 4, 1, 1], vec![3_u8; 16].into()).expect("fits");
    let codes = m.constant("codes", &codes);
    let scale = m.weight("scale", &[4], &[0.5, 0.25, 0.75, 1.0]);
    let weight = m.node(Node::new("DequantizeLinear").with("axis", 0), &[&codes, &scale]);
    let y = m.conv_with(&x, &conv(4), &weight, None);
    let y = m.bn(&y);
    let y = m.unary("Relu", &y);
    let y = m.bn(&y);
    m.output(&y);
    let (left, log) = compiled(&m.builder());
    let norms = "DequantizeLinear Conv BatchNormalization Relu BatchNormalization";
    assert_eq!(left, norms);
    let reasons: Vec<&str> = log.refusals.iter().map(|it| it.declined.reason).collect();
    assert_eq!(reasons, ["not-constant", "no-neighbour"]);
    assert!(log.refusals[0].declined.detail.contains("DequantizeLinear"), "{:?}", log.refusals);
}

#[test]
fn two_convs_with_weights_from_outside_have_a_reason() {
    let mut m = Micro::new(29);
    let x = m.input("x", &[4, 9, 9]);
    let y = m.conv(&x, &conv(4));
    m.raw().input("w", DataType::Float, &[4.into(), 4.into(), 1.into(), 1.into()]);
    let y = m.conv_with(&y, &conv(4), "w", None);
    m.output(&y);
    let (left, log) = compiled(&m.builder());
    assert_eq!(left, "Conv Conv");
    assert_eq!(log.refusals.len(), 1);
    assert_eq!(log.refusals[0].declined.reason, "not-constant");
    assert_eq!(log.refusals[0].rule, "merge-chain");
}

#[test]
fn no_merge_multiplies_more_for_a_small_gain() {
    // The shortcut of GhostNet: a depthwise Conv with stride 2 and a 1x1 Conv, no activation between them.
    let ops = left(17, &[48, 112, 112], |m, x| {
        let y = m.conv(x, &conv(48).kernel(3).pad(1).stride(2).groups(48));
        m.conv(&y, &conv(12))
    });
    assert_eq!(ops, "Conv Conv");
}
