//! Drawn convolutions in company: folds and merges hold for every shape.

use updp_testkit::{Micro, check, conv, conv_cases, prove};

use crate::compile::{compile_with, merge_all};

/// Compiles everything that can be and proves it.
fn proves(micro: &Micro) -> usize {
    let before = micro.build();
    let mut after = micro.build();
    compile_with(&mut after, &merge_all());
    prove(&before, &after);
    after.graph.node_count()
}

#[test]
fn batch_norm_folds_into_every_conv() {
    check(48, 1, &conv_cases(), |case| {
        let (mut m, x) = case.start();
        let y = m.conv(&x, &case.spec);
        let y = m.bn(&y);
        m.output(&y);
        assert_eq!(proves(&m), 1);
    });
}

#[test]
fn batch_norm_before_any_conv_keeps_the_function() {
    check(32, 2, &conv_cases(), |case| {
        let (mut m, x) = case.start();
        let y = m.bn(&x);
        let y = m.conv(&y, &case.spec);
        m.output(&y);
        assert!(proves(&m) <= 2);
    });
}

#[test]
fn a_pointwise_conv_after_any_conv_merges() {
    check(32, 3, &conv_cases(), |case| {
        let (mut m, x) = case.start();
        let y = m.conv(&x, &case.spec);
        let y = m.conv(&y, &conv(1 + case.seed as usize % 4));
        m.output(&y);
        assert_eq!(proves(&m), 1);
    });
}

#[test]
fn any_conv_after_a_pointwise_conv_keeps_the_function() {
    check(32, 4, &conv_cases(), |case| {
        let (mut m, x) = case.start();
        let mut spec = conv(case.in_channels);
        spec.bias = case.seed % 2 == 0;
        let y = m.conv(&x, &spec);
        let y = m.conv(&y, &case.spec);
        m.output(&y);
        assert!(proves(&m) <= 2);
    });
}

#[test]
fn two_alike_convs_and_a_batch_norm_each_become_one() {
    check(24, 5, &conv_cases(), |case| {
        let (mut m, x) = case.start();
        let a = m.conv(&x, &case.spec);
        let a = m.bn(&a);
        let b = m.conv(&x, &case.spec);
        let b = m.bn(&b);
        let y = m.sub(&a, &b);
        m.output(&y);
        assert_eq!(proves(&m), 1);
    });
}
