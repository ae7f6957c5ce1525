//! `Product` and `ProductBias` in a session.

use std::num::NonZeroUsize;

use indexmap::IndexMap;

use super::{Draw, assert_sums, f32s, model_of, ours};
use crate::tests::models::with_int;
use crate::tests::{code, ort_options};
use crate::{ExecError, Executor, ModelSource, OrtExecutor};
use updp_ir::proto::NodeProto;

type Given<'a> = (&'a [usize], &'a [f32]);

/// Dims and values of a result.
type Found = Result<(Vec<usize>, Vec<f32>), ExecError>;

/// The result, and its dims; `None`, with the test named, without a runtime.
fn run(node: NodeProto, given: &[Given<'_>], rank: usize, threads: usize) -> Option<Found> {
    let mut options = ort_options("product")?;
    options.threads = NonZeroUsize::new(threads);
    let dims: Vec<&[usize]> = given.iter().map(|(dims, _)| *dims).collect();
    let model = model_of(node, &dims, &[rank]);
    let run = || {
        let mut session = OrtExecutor::open(ModelSource::Bytes(&model), &options)?;
        let inputs = given.iter().enumerate();
        let inputs: IndexMap<_, _> =
            inputs.map(|(at, (dims, values))| (format!("x{at}"), f32s(dims, values))).collect();
        let y = &session.run(&inputs)?[0];
        let values = y.to_f64().expect("floats").into_iter().map(|value| value as f32).collect();
        Ok((y.dims().to_vec(), values))
    };
    Some(run())
}

fn product(op: &str, operands: usize, flags: [bool; 2]) -> NodeProto {
    let node = with_int(ours(op, operands, 1), "trans_a", i64::from(flags[0]));
    with_int(node, "trans_b", i64::from(flags[1]))
}

/// A′·B′ + c in f64, A′ [m, k] and B′ [k, n].
fn plain(
    [m, k, n]: [usize; 3],
    flags: [bool; 2],
    a: &[f32],
    b: &[f32],
    bias: Option<&[f32]>,
) -> Vec<f64> {
    let a_at = |i: usize, p: usize| f64::from(if flags[0] { a[p * m + i] } else { a[i * k + p] });
    let b_at = |p: usize, j: usize| f64::from(if flags[1] { b[j * k + p] } else { b[p * n + j] });
    let mut y = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|p| a_at(i, p) * b_at(p, j)).sum();
            y.push(sum + bias.map_or(0.0, |bias| f64::from(bias[j])));
        }
    }
    y
}

/// Sizes of one part, of several rows of parts, of several columns, of both, and with a rest everywhere.
const SIZES: [[usize; 3]; 7] = [
    [1, 1, 1],
    [5, 7, 3],
    [1100, 3, 17],
    [3, 40, 801],
    [385, 65, 771],
    [97, 300, 193],
    [1, 513, 9],
];

#[test]
fn products_are_those_of_f64_whatever_is_transposed() {
    let mut draw = Draw::new(21);
    for [m, k, n] in SIZES {
        let (a, b, bias) = (draw.many(m * k), draw.many(k * n), draw.many(n));
        for flags in [[false, false], [false, true], [true, false], [true, true]] {
            let what = format!("{m}×{k}·{k}×{n}, {flags:?}");
            let a_dims = if flags[0] { [k, m] } else { [m, k] };
            let b_dims = if flags[1] { [n, k] } else { [k, n] };
            let given: [Given<'_>; 3] = [(&a_dims, &a), (&b_dims, &b), (&[n], &bias)];
            let Some(found) = run(product("Product", 2, flags), &given[..2], 2, 1) else { return };
            let (dims, found) = found.expect("runs");
            assert_eq!(dims, [m, n], "{what}");
            assert_sums(&found, &plain([m, k, n], flags, &a, &b, None), k, &what);
            let node = product("ProductBias", 3, flags);
            let (_, found) = run(node.clone(), &given, 2, 1).expect("a runtime").expect("runs");
            assert_sums(&found, &plain([m, k, n], flags, &a, &b, Some(&bias)), k + 1, &what);
            let (_, threaded) = run(node, &given, 2, 3).expect("a runtime").expect("runs");
            assert_eq!(found, threaded, "{what}: one thread and three");
        }
    }
}

#[test]
fn leading_axes_are_rows() {
    let mut draw = Draw::new(22);
    let (a, b) = (draw.many(2 * 3 * 4 * 5), draw.many(5 * 6));
    let given: [Given<'_>; 2] = [(&[2, 3, 4, 5], &a), (&[5, 6], &b)];
    let Some(found) = run(product("Product", 2, [false; 2]), &given, 4, 2) else { return };
    let (dims, found) = found.expect("runs");
    assert_eq!(dims, [2, 3, 4, 6]);
    assert_sums(&found, &plain([24, 5, 6], [false; 2], &a, &b, None), 5, "four axes");
    // The gradient of a weight: both have the rows of all batches.
    let dy = draw.many(24 * 6);
    let given: [Given<'_>; 2] = [(&[2, 3, 4, 5], &a), (&[2, 12, 6], &dy)];
    let (dims, found) =
        run(product("Product", 2, [true, false]), &given, 2, 2).expect("a runtime").expect("runs");
    assert_eq!(dims, [5, 6]);
    assert_sums(&found, &plain([5, 24, 6], [true, false], &a, &dy, None), 24, "of a weight");
}

#[test]
fn what_does_not_fit_is_refused() {
    let values = [1.0; 12];
    let refused = |node: NodeProto, given: &[Given<'_>]| run(node, given, 2, 1).map(code);
    let plain = product("Product", 2, [false; 2]);
    let Some(found) = refused(plain.clone(), &[(&[3, 4], &values), (&[3, 4], &values)]) else {
        return;
    };
    assert_eq!(found, "X0403", "no factors");
    let vector = refused(plain, &[(&[12], &values), (&[12, 1], &values)]);
    assert_eq!(vector, Some("X0403"), "a vector");
    let biased = product("ProductBias", 3, [false; 2]);
    let short = refused(biased, &[(&[3, 4], &values), (&[4, 3], &values), (&[2], &values[..2])]);
    assert_eq!(short, Some("X0403"), "a short bias");
}
