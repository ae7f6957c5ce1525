//! Tests of [`WriteMatMulAsGemm`].

use updp_testkit::{Micro, check};

use super::alone;
use crate::rewrite::WriteMatMulAsGemm;

const RULE: fn() -> WriteMatMulAsGemm = || WriteMatMulAsGemm;

#[test]
fn a_matrix_gets_a_gemm_and_tokens_do_not() {
    check(16, 5, &(1_usize..6, 1_usize..6, 0_u64..99), |(inputs, outputs, seed)| {
        let mut m = Micro::new(seed);
        let x = m.input("x", &[inputs]);
        let y = m.matmul_add(&x, outputs);
        m.output(&y);
        let done = alone(&m, RULE);
        assert_eq!((done.ops.as_str(), done.reasons.len()), ("Gemm", 0));
    });
    let mut m = Micro::new(1);
    let x = m.input("x", &[3, 4]);
    let x = m.transpose(&x, &[0, 2, 1]);
    let y = m.matmul_add(&x, 5);
    m.output(&y);
    assert_eq!(alone(&m, RULE).ops, "Transpose MatMul Add");
    let mut m = Micro::new(1);
    let x = m.input("x", &[3]);
    let y = m.matmul(&x, 5);
    m.output(&y);
    assert_eq!(alone(&m, RULE).ops, "MatMul");
}
