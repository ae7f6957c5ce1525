//! Branches that are added up.

use updp_testkit::{Broadcast, ConvSpec, Micro, Val, WeightForm, conv, op_counts, pool};

use crate::compile::{becomes, becomes_when_all_is_merged};

fn conv_bn(m: &mut Micro, x: &Val, spec: &ConvSpec) -> Val {
    let y = m.conv(x, &spec.clone().no_bias());
    m.bn(&y)
}

/// 3x3 + BN, 1x1 + BN, BN.
fn repvgg(m: &mut Micro, x: &Val, groups: usize) -> [Val; 3] {
    let c = x.channels;
    [
        conv_bn(m, x, &conv(c).kernel(3).pad(1).groups(groups)),
        conv_bn(m, x, &conv(c).groups(groups)),
        m.bn(x),
    ]
}

#[test]
fn repvgg_block_in_every_rank_group_and_form() {
    for dims in [&[8, 9][..], &[8, 7, 6], &[8, 4, 5, 6]] {
        for groups in [1, 2, 8] {
            let mut m = Micro::new(31);
            let x = m.input("x", dims);
            let [a, b, c] = repvgg(&mut m, &x, groups);
            let y = m.add(&b, &a);
            let y = m.add(&y, &c);
            m.output(&y);
            becomes(&m, 1);
        }
    }
    for form in [WeightForm::ConstantNode, WeightForm::Aliased] {
        let mut m = Micro::new(32).weights(form);
        let x = m.input("x", &[8, 7, 6]);
        let branches = repvgg(&mut m, &x, 1);
        let y = m.sum(&[&branches[0], &branches[1], &branches[2]]);
        m.output(&y);
        becomes(&m, 1);
    }
}

#[test]
fn repvgg_block_with_stride_has_no_identity() {
    let mut m = Micro::new(33);
    let x = m.input("x", &[8, 8, 8]);
    let a = conv_bn(&mut m, &x, &conv(12).kernel(3).pad(1).stride(2));
    let b = conv_bn(&mut m, &x, &conv(12).stride(2));
    let y = m.add(&a, &b);
    m.output(&y);
    becomes(&m, 1);
}

#[test]
fn mobileone_block_with_a_zero_added() {
    for has_zero in [false, true] {
        let mut m = Micro::new(34);
        let x = m.input("x", &[8, 7, 6]);
        let spatial = conv(8).kernel(3).pad(1).groups(8);
        let scale = conv_bn(&mut m, &x, &conv(8).groups(8));
        let first = conv_bn(&mut m, &x, &spatial);
        let second = conv_bn(&mut m, &x, &spatial);
        let identity = m.bn(&x);
        let mut y = scale;
        if has_zero {
            m.weight("zero", &[], &[0.0]);
            y.name = m.node(updp_ir::Node::new("Add"), &[&y.name, "zero"]);
        }
        for branch in [first, second, identity] {
            y = m.add(&y, &branch);
        }
        m.output(&y);
        let after = becomes(&m, 1);
        assert_eq!(op_counts(&after.graph)["Conv"], 1);
    }
}

#[test]
fn acnet_block() {
    let mut m = Micro::new(35);
    let x = m.input("x", &[8, 7, 6]);
    let a = m.conv(&x, &conv(8).kernel(3).pad(1));
    let b = m.conv(&x, &conv(8).kernels(&[1, 3]).pads(&[0, 1, 0, 1]));
    let c = m.conv(&x, &conv(8).kernels(&[3, 1]).pads(&[1, 0, 1, 0]));
    let y = m.add(&a, &b);
    let y = m.add(&y, &c);
    m.output(&y);
    becomes(&m, 1);
}

#[test]
fn dbb_pointwise_then_average_pool() {
    let mut m = Micro::new(36);
    let x = m.input("x", &[8, 7, 6]);
    let a = m.conv(&x, &conv(8).kernel(3).pad(1));
    let b = m.conv(&x, &conv(8).no_bias());
    let b = m.average_pool(&b, pool(3).pad_counted(1));
    let y = m.add(&a, &b);
    m.output(&y);
    becomes_when_all_is_merged(&m, 1);
}

#[test]
fn dbb_pointwise_then_spatial() {
    let mut m = Micro::new(37);
    let x = m.input("x", &[8, 7, 6]);
    let a = m.conv(&x, &conv(8).kernel(3).pad(1));
    let b = m.conv(&x, &conv(8).no_bias());
    let b = conv_bn(&mut m, &b, &conv(8).kernel(3).pad(1));
    let y = m.add(&a, &b);
    m.output(&y);
    becomes_when_all_is_merged(&m, 1);
}

#[test]
fn conv_and_identity_skip() {
    for dims in [&[16, 9][..], &[16, 7, 6], &[16, 4, 5, 6]] {
        for is_first in [false, true] {
            let mut m = Micro::new(38);
            let x = m.input("x", dims);
            let y = m.conv(&x, &conv(16).kernel(3).pad(1));
            let y = if is_first { m.add(&x, &y) } else { m.add(&y, &x) };
            m.output(&y);
            becomes(&m, 1);
        }
    }
}

#[test]
fn four_branches_in_every_tree() {
    for tree in 0..4 {
        let mut m = Micro::new(39);
        let x = m.input("x", &[8, 7, 6]);
        let b: Vec<Val> = [1, 3, 1, 3]
            .into_iter()
            .map(|k| conv_bn(&mut m, &x, &conv(8).kernel(k as usize).pad(k / 2)))
            .collect();
        let y = match tree {
            0 => {
                let y = m.add(&b[0], &b[1]);
                let y = m.add(&y, &b[2]);
                m.add(&y, &b[3])
            }
            1 => {
                let (left, right) = (m.add(&b[0], &b[1]), m.add(&b[2], &b[3]));
                m.add(&left, &right)
            }
            2 => m.sum(&[&b[0], &b[1], &b[2], &b[3]]),
            _ => {
                let inner = m.sum(&[&b[1], &b[2], &b[3]]);
                m.add(&b[0], &inner)
            }
        };
        m.output(&y);
        becomes(&m, 1);
    }
}

#[test]
fn repmixer_branches_that_are_subtracted() {
    let mut m = Micro::new(40);
    let x = m.input("x", &[8, 7, 6]);
    let mixer = conv_bn(&mut m, &x, &conv(8).kernel(3).pad(1).groups(8));
    let norm = m.bn(&x);
    let y = m.sub(&mixer, &norm);
    let y = m.with_constant("Mul", &y, Broadcast::Full, true);
    let y = m.add(&x, &y);
    m.output(&y);
    becomes(&m, 1);
}

#[test]
fn the_same_value_added_to_itself_keeps_the_function() {
    let mut m = Micro::new(41);
    let x = m.input("x", &[8, 7, 6]);
    let y = m.conv(&x, &conv(8).kernel(3).pad(1));
    let y = m.add(&y, &y);
    m.output(&y);
    becomes_when_all_is_merged(&m, 1);
}

#[test]
fn a_foreign_summand_stays_added() {
    let mut m = Micro::new(42);
    let x = m.input("x", &[8, 7, 6]);
    let other = m.input("other", &[8, 7, 6]);
    let a = conv_bn(&mut m, &x, &conv(8).kernel(3).pad(1));
    let b = conv_bn(&mut m, &x, &conv(8));
    let y = m.add(&a, &other);
    let y = m.add(&y, &b);
    m.output(&y);
    becomes(&m, 2);
}
