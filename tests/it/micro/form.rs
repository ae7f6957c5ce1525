//! The same blocks in every form a file can give them.

use updp_ir::DataType;
use updp_testkit::{Broadcast, Micro, Val, WeightForm, conv, pool};

use crate::compile::becomes_when_all_is_merged;

/// A block over an image of 8 channels; one node is left of each.
type Block = fn(&mut Micro, &Val) -> Val;

const BLOCKS: [(&str, Block); 9] = [
    ("conv, bn", |m, x| {
        let y = m.conv(x, &conv(8).kernel(3).pad(1));
        m.bn(&y)
    }),
    ("transposed conv, bn", |m, x| {
        let y = m.conv_transpose(x, &conv(8).kernel(2).stride(2).no_bias());
        m.bn(&y)
    }),
    ("bn, conv", |m, x| {
        let y = m.bn(x);
        m.conv(&y, &conv(8).kernel(3).no_bias())
    }),
    ("conv, sub, div", |m, x| {
        let y = m.conv(x, &conv(8).kernel(3).pad(1));
        let y = m.with_constant("Sub", &y, Broadcast::Channel, false);
        m.with_constant("Div", &y, Broadcast::Full, false)
    }),
    ("1x1, 3x3", |m, x| {
        let y = m.conv(x, &conv(8));
        m.conv(&y, &conv(8).kernel(3))
    }),
    ("depthwise, 1x1", |m, x| {
        let y = m.conv(x, &conv(8).kernel(3).pad(1).groups(8));
        m.conv(&y, &conv(8))
    }),
    ("repvgg", |m, x| {
        let a = m.conv(x, &conv(8).kernel(3).pad(1).no_bias());
        let a = m.bn(&a);
        let b = m.conv(x, &conv(8).no_bias());
        let b = m.bn(&b);
        let c = m.bn(x);
        let y = m.add(&b, &a);
        m.add(&y, &c)
    }),
    ("conv, skip", |m, x| {
        let y = m.conv(x, &conv(8).kernel(3).pad(1));
        m.add(x, &y)
    }),
    ("3x3 beside 1x1 and average pool", |m, x| {
        let a = m.conv(x, &conv(8).kernel(3).pad(1));
        let b = m.conv(x, &conv(8).no_bias());
        let b = m.average_pool(&b, pool(3).pad_counted(1));
        m.sum(&[&a, &b])
    }),
];

/// Every block becomes one node; those of `shared` keep the Constant node of a bias nothing changed.
fn each_but(shared: &[&str], start: impl Fn() -> Micro) {
    let mut failed = Vec::new();
    for (name, block) in BLOCKS {
        let mut m = start();
        let x = m.input("x", &[8, 7, 6]);
        let y = block(&mut m, &x);
        m.output(&y);
        let nodes = 1 + usize::from(shared.contains(&name));
        let test = std::panic::AssertUnwindSafe(|| becomes_when_all_is_merged(&m, nodes));
        if std::panic::catch_unwind(test).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?} failed");
}

fn each(start: impl Fn() -> Micro) {
    each_but(&[], start);
}

#[test]
fn with_initializers_and_a_symbolic_batch() {
    each(|| Micro::new(101));
}

#[test]
fn with_a_fixed_batch() {
    each(|| Micro::new(102).batch(2));
}

#[test]
fn with_constant_nodes() {
    let shared = ["conv, skip", "3x3 beside 1x1 and average pool"];
    each_but(&shared, || Micro::new(103).weights(WeightForm::ConstantNode));
}

#[test]
fn with_aliased_initializers() {
    each(|| Micro::new(104).weights(WeightForm::Aliased));
}

#[test]
fn in_ir_3_the_real_inputs_stay_the_only_required_ones() {
    each(|| Micro::new(105).ir3());
    let mut m = Micro::new(106).ir3();
    let x = m.input("x", &[8, 7, 6]);
    let y = m.conv(&x, &conv(8).kernel(3).pad(1));
    let y = m.bn(&y);
    m.output(&y);
    let after = becomes_when_all_is_merged(&m, 1);
    let graph = &after.graph;
    assert_eq!(graph.required_inputs().count(), 1);
    let listed: Vec<&str> = graph.inputs().map(|id| graph.value(id).name()).collect();
    for id in graph.initializers() {
        assert!(listed.contains(&graph.value(id).name()), "{listed:?}");
    }
    assert_eq!(listed, ["x", "conv_1.weight", "conv_1.bias"]);
}

#[test]
fn in_half_precision() {
    each(|| Micro::new(107).dtype(DataType::Float16));
}

#[test]
fn in_brain_floats() {
    each(|| Micro::new(108).opset(22).dtype(DataType::Bfloat16));
}

#[test]
fn in_double_precision() {
    each(|| Micro::new(109).dtype(DataType::Double));
}

#[test]
fn in_old_and_new_opsets() {
    for opset in [7, 9, 11, 13, 15, 18, 20, 21, 22] {
        each(|| Micro::new(110).opset(opset));
    }
}
