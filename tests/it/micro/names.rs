//! Names of nodes: whatever is made gets a name of its own, and the number of nodes never grows.

use updp_ir::{DataType, Dim, Model, ModelBuilder, Node};
use updp_passes::Options;
use updp_testkit::{Micro, Val, conv, decode, encode, op_counts, prove};

use crate::compile::{becomes, compile_with, merge_all};

/// The names of all nodes, each of which stands once.
#[track_caller]
fn names(model: &Model) -> Vec<String> {
    let graph = &model.graph;
    let mut names: Vec<String> =
        graph.nodes().into_iter().map(|node| graph.node(node).name().to_owned()).collect();
    names.retain(|name| !name.is_empty());
    let mut sorted = names.clone();
    sorted.sort_unstable();
    let all = sorted.len();
    sorted.dedup();
    assert_eq!(sorted.len(), all, "a name stands twice: {names:?}");
    names
}

/// Compiles, proves, and checks that names differ and nodes do not get more.
#[track_caller]
fn compiled(builder: &ModelBuilder) -> Model {
    let before = builder.build().expect("a model");
    let mut after = builder.build().expect("a model");
    compile_with(&mut after, &Options { merge_all: true, ..Options::default() });
    prove(&before, &after);
    names(&after);
    assert!(after.graph.node_count() <= before.graph.node_count());
    after
}

#[test]
fn a_sum_of_many_stays_one_sum() {
    for opset in [8, 9, 13, 17] {
        for rest in 0..6 {
            for is_named in [true, false] {
                let mut m = Micro::new(81).opset(opset);
                m.raw().ir_version(8);
                let x = m.input("x", &[4, 6, 5]);
                let y = m.conv(&x, &conv(4).kernel(3).pad(1));
                let others: Vec<Val> =
                    (0..rest).map(|at| m.input(&format!("r{at}"), &[4, 6, 5])).collect();
                let mut terms = vec![&x, &y];
                terms.extend(&others);
                let operands: Vec<&str> = terms.iter().map(|term| term.name.as_str()).collect();
                let name = if is_named { "the_sum" } else { "" };
                m.raw().node(Node::new("Sum").named(name), &operands, &["y"]);
                m.output(&Val { name: "y".into(), ..x.clone() });
                let after = compiled(&m.builder());
                let counts = op_counts(&after.graph);
                let of = |op: &str| counts.get(op).copied().unwrap_or(0);
                let expected = match rest {
                    0 => (1, 0, 0),
                    1 => (1, 1, 0),
                    _ => (1, 0, 1),
                };
                assert_eq!((of("Conv"), of("Add"), of("Sum")), expected, "{rest} at {opset}");
            }
        }
    }
}

#[test]
fn sums_and_differences_in_any_tree_never_grow() {
    for shape in 0..6 {
        let mut m = Micro::new(82);
        let x = m.input("x", &[4, 6, 5]);
        let a = m.conv(&x, &conv(4).kernel(3).pad(1));
        let b = m.conv(&x, &conv(4).kernel(3).pad(1));
        let [p, q, r, s] = ["p", "q", "r", "s"].map(|name| m.input(name, &[4, 6, 5]));
        let y = match shape {
            0 => {
                let sum = m.sum(&[&a, &b, &q, &r]);
                m.sub(&p, &sum)
            }
            1 => {
                let sum = m.sum(&[&a, &p, &q, &r, &b]);
                m.sub(&sum, &s)
            }
            2 => {
                let sum = m.sum(&[&q, &r, &s, &b]);
                m.sub(&a, &sum)
            }
            3 => {
                let first = m.sum(&[&a, &p, &q]);
                let second = m.sum(&[&b, &r, &s]);
                m.sub(&first, &second)
            }
            4 => {
                let first = m.sum(&[&p, &q, &r]);
                let second = m.sum(&[&a, &b, &s, &x]);
                m.sub(&first, &second)
            }
            _ => {
                let first = m.sum(&[&a, &p, &q]);
                let second = m.sum(&[&first, &b, &r]);
                m.sum(&[&second, &s, &x])
            }
        };
        m.output(&y);
        let after = compiled(&m.builder());
        assert_eq!(op_counts(&after.graph)["Conv"], 1, "tree {shape}");
    }
}

#[test]
fn below_opset_8_a_sum_takes_equal_shapes_only() {
    let sum = |rest: &[usize]| {
        let mut m = Micro::new(83).opset(7).batch(2);
        m.raw().ir_version(4);
        let x = m.input("x", &[4, 6, 5]);
        let y = m.conv(&x, &conv(4).kernel(3).pad(1));
        let p = m.input("p", rest);
        let q = m.input("q", &[4, 6, 5]);
        let r = m.input("r", &[4, 6, 5]);
        let sum = m.sum(&[&x, &y, &q, &r]);
        let y = m.add(&sum, &p);
        m.output(&y);
        let after = compiled(&m.builder());
        op_counts(&after.graph).get("Sum").copied().unwrap_or(0)
    };
    assert_eq!((sum(&[4, 6, 5]), sum(&[4, 1, 5])), (1, 1));
}

#[test]
fn two_border_maps_in_a_row_are_added_up() {
    for (channels, dims) in [(4, vec![9]), (6, vec![8, 7]), (3, vec![5, 4, 6])] {
        let mut m = Micro::new(84);
        let dims = [vec![channels], dims].concat();
        let x = m.input("x", &dims);
        let y = m.conv(&x, &conv(channels));
        let y = m.add(&y, &x);
        let y = m.bn(&y);
        let y = m.conv(&y, &conv(2).kernel(3).pad(1));
        m.output(&y);
        let after = compiled(&m.builder());
        let counts = op_counts(&after.graph);
        assert!(counts.get("Add").copied().unwrap_or(0) <= 1, "{counts:?}");
    }
}

#[test]
fn full_constants_in_a_row_are_added_up() {
    type Row = (&'static str, &'static [usize], &'static str, &'static [usize], bool);
    let rows: [Row; 6] = [
        ("Add", &[1, 3, 4, 5], "Add", &[1, 3, 4, 5], true),
        ("Sub", &[1, 3, 4, 5], "Add", &[4, 5], true),
        ("Add", &[3, 1, 5], "Sub", &[1, 3, 4, 5], true),
        ("Sub", &[3, 4, 5], "Sub", &[3, 1, 1], true),
        ("Add", &[3, 1, 5], "Add", &[3, 4, 1], false),
        ("Add", &[4, 5], "Mul", &[4, 5], false),
    ];
    for (first, a, second, b, merges) in rows {
        let mut m = Micro::new(85);
        let x = m.input("x", &[3, 4, 5]);
        let y = m.unary("Relu", &x);
        let a_values = m.numbers(a.iter().product(), 0.5, 1.5);
        let b_values = m.numbers(b.iter().product(), 0.5, 1.5);
        m.weight("a", a, &a_values);
        m.weight("b", b, &b_values);
        let y = m.node(Node::new(first), &[&y.name, "a"]);
        let y = m.node(Node::new(second), &[&y, "b"]);
        m.output(&Val { name: y, ..x });
        becomes(&m, if merges { 2 } else { 3 });
    }
}

/// A BatchNormalization before a padded Conv, which needs a border map.
fn bordered(m: &mut Micro) -> Val {
    let x = m.input("x", &[4, 8, 8]);
    let y = m.bn(&x);
    let bias = m.numbers(4, -1.0, 1.0);
    m.weight("conv_2.border", &[4], &bias);
    let weight = m.numbers(144, -1.0, 1.0);
    m.weight("w", &[4, 4, 3, 3], &weight);
    m.conv_with(&y, &conv(4).kernel(3).pad(1), "w", Some("conv_2.border"))
}

#[test]
fn names_that_the_model_uses_are_not_given_again() {
    for taken in ["conv_2.border_add", "conv_2.border_add_1", "conv_2.border"] {
        for is_value in [false, true] {
            let mut m = Micro::new(86);
            let y = bordered(&mut m);
            let (name, result) = if is_value { ("last", taken) } else { (taken, "y") };
            if taken == "conv_2.border" && is_value {
                continue;
            }
            m.raw().node(Node::new("Relu").named(name), &[&y.name], &[result]);
            m.output(&Val { name: result.into(), ..y });
            let after = compiled(&m.builder());
            assert_eq!(op_counts(&after.graph)["Add"], 1);
            assert!(names(&after).iter().any(|known| known == name));
        }
    }
    // Some runtimes keep nodes and constants in one namespace.
    let mut m = Micro::new(86);
    let y = bordered(&mut m);
    let shift = m.numbers(60, 0.0, 1.0);
    m.weight("conv_2.border_add", &[1, 1, 8, 8], &[shift, vec![0.5; 4]].concat());
    let y = Val { name: m.node(Node::new("Mul"), &[&y.name, "conv_2.border_add"]), ..y };
    m.output(&y);
    let after = compiled(&m.builder());
    assert!(!names(&after).iter().any(|name| name == "conv_2.border_add"));
}

#[test]
fn a_moved_batch_norm_gets_fresh_names() {
    for taken in ["batchnormalization_2.scale_mul", "batchnormalization_2"] {
        let mut m = Micro::new(87);
        let x = m.tokens("x", &[3, 5]);
        let y = m.transpose(&x, &[0, 2, 1]);
        let y = m.bn(&y);
        let y = m.transpose(&y, &[0, 2, 1]);
        m.raw().node(Node::new("Relu").named(taken), &[&y.name], &["y"]);
        m.output(&Val { name: "y".into(), ..y });
        if taken == "batchnormalization_2" {
            // The file itself gives this name twice; the names of what is written differ.
            let mut after = m.build();
            compile_with(&mut after, &merge_all());
            names(&decode(encode(&after)).expect("reads its own output"));
            continue;
        }
        let after = compiled(&m.builder());
        assert!(names(&after).iter().any(|name| name == taken));
    }
}

#[test]
fn names_that_the_file_repeats_are_read_and_told_apart_once_something_changes() {
    let two = [Dim::from("N"), Dim::from(2)];
    let model = |has_identity: bool| {
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &two).output("y", DataType::Float, Some(&two));
        let first = if has_identity { "Identity" } else { "Neg" };
        builder.node(Node::new(first).named("n"), &["x"], &["a"]);
        builder.node(Node::new("Relu").named("n"), &["a"], &["b"]);
        builder.node(Node::new("Relu").named("n_1"), &["b"], &["c"]);
        builder.node(Node::new("Relu").named("n"), &["c"], &["y"]);
        builder.build().expect("it is read")
    };
    let untouched = model(false);
    let mut same = model(false);
    compile_with(&mut same, &Options::default());
    assert!(untouched.to_proto().expect("encodes") == same.to_proto().expect("encodes"));
    let mut changed = model(true);
    compile_with(&mut changed, &Options::default());
    let written = decode(encode(&changed)).expect("reads its own output");
    assert_eq!(names(&written), ["n", "n_1", "n_2"]);
}

#[test]
fn bodies_may_use_the_names_of_the_main_graph() {
    let one = [Dim::from(1), Dim::from(2)];
    let branch = |result: &str| {
        let mut body = ModelBuilder::new(17);
        body.node(Node::new("Identity").named("gone"), &["x"], &["same"]);
        body.node(Node::new("Tanh").named("n"), &["same"], &[result]);
        body.output(result, DataType::Float, Some(&one));
        body
    };
    let mut builder = ModelBuilder::new(17);
    builder.input("x", DataType::Float, &one).output("y", DataType::Float, Some(&one));
    builder.input("yes", DataType::Bool, &[]);
    let bodies = vec![("then_branch", branch("p")), ("else_branch", branch("q"))];
    builder.node_with_bodies(Node::new("If").named("n"), bodies, &["yes"], &["chosen"]);
    builder.node(Node::new("Neg").named("m"), &["chosen"], &["y"]);
    let after = compiled(&builder);
    for node in after.graph.nodes() {
        for body in after.graph.node(node).bodies() {
            assert!(body.nodes().into_iter().all(|inner| body.node(inner).name() == "n"));
        }
    }
}
