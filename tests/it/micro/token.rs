//! Operators on tokens and channel-last images.

use updp_testkit::{Broadcast, Micro, conv, op_counts};

use crate::compile::becomes;

#[test]
fn batch_norm_on_tokens_between_transposes_folds_into_the_linear_before() {
    for (tokens, features) in [(5, 6), (6, 6)] {
        let mut m = Micro::new(51);
        let x = m.tokens("x", &[tokens, 8]);
        let y = m.matmul_add(&x, features);
        let y = m.transpose(&y, &[0, 2, 1]);
        let y = m.bn(&y);
        let y = m.transpose(&y, &[0, 2, 1]);
        m.output(&y);
        becomes(&m, 2);
    }
}

#[test]
fn batch_norm_on_tokens_folds_into_the_linear_after() {
    let mut m = Micro::new(52);
    let x = m.tokens("x", &[5, 8]);
    let y = m.transpose(&x, &[0, 2, 1]);
    let y = m.bn(&y);
    let y = m.transpose(&y, &[0, 2, 1]);
    let y = m.matmul_add(&y, 6);
    m.output(&y);
    becomes(&m, 2);
}

#[test]
fn channel_last_linear_between_transposes_becomes_a_pointwise_conv() {
    let mut m = Micro::new(53);
    let x = m.input("x", &[8, 5, 6]);
    let y = m.transpose(&x, &[0, 2, 3, 1]);
    let y = m.matmul_add(&y, 4);
    let y = m.transpose(&y, &[0, 3, 1, 2]);
    m.output(&y);
    let after = becomes(&m, 1);
    assert_eq!(op_counts(&after.graph)["Conv"], 1);
}

#[test]
fn convnext_tail_ends_as_depthwise_and_pointwise_conv() {
    let mut m = Micro::new(54);
    let x = m.input("x", &[8, 7, 6]);
    let y = m.conv(&x, &conv(8).kernel(7).pad(3).groups(8));
    let y = m.unary("Relu", &y);
    let y = m.transpose(&y, &[0, 2, 3, 1]);
    let y = m.matmul_add(&y, 8);
    let y = m.transpose(&y, &[0, 3, 1, 2]);
    let y = m.with_constant("Mul", &y, Broadcast::Channel, true);
    let y = m.add(&y, &x);
    m.output(&y);
    let after = becomes(&m, 4);
    assert_eq!(op_counts(&after.graph)["Conv"], 2);
}

#[test]
fn transposes_that_undo_each_other_vanish() {
    let mut m = Micro::new(55);
    let x = m.input("x", &[8, 7, 6]);
    let y = m.transpose(&x, &[0, 2, 3, 1]);
    let y = m.transpose(&y, &[0, 3, 1, 2]);
    let y = m.unary("Relu", &y);
    m.output(&y);
    becomes(&m, 1);
}
