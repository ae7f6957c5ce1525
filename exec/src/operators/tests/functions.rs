//! The operators of functions and norms.

use indexmap::IndexMap;

use super::super::elementwise::{Mapped, Pointwise};
use super::super::gelu::{Gelu, GeluGradient, erf, exp};
use super::super::lanes::{Level, dispatch};
use super::super::layer_norm;
use super::super::sums::{Along, Squares, Summed};
use super::{Draw, f32s, model_of, ours};
use crate::tests::models::with_float;
use crate::tests::{code, ort_options};
use crate::{ExecError, Executor, ModelSource, OrtExecutor};
use updp_ir::proto::NodeProto;

type Given<'a> = (&'a [usize], &'a [f32]);

/// The results of a node of ours, by slot; `None`, with the test named, without a runtime.
fn run(
    node: NodeProto,
    given: &[Given<'_>],
    ranks: &[usize],
) -> Option<Result<Vec<Vec<f64>>, ExecError>> {
    let options = ort_options("functions")?;
    let dims: Vec<&[usize]> = given.iter().map(|(dims, _)| *dims).collect();
    let model = model_of(node, &dims, ranks);
    let run = || {
        let mut session = OrtExecutor::open(ModelSource::Bytes(&model), &options)?;
        let inputs = given.iter().enumerate();
        let inputs: IndexMap<_, _> =
            inputs.map(|(at, (dims, values))| (format!("x{at}"), f32s(dims, values))).collect();
        let outputs = session.run(&inputs)?;
        Ok(outputs.values().map(|output| output.to_f64().expect("floats")).collect())
    };
    Some(run())
}

fn assert_near(found: &[f64], expected: &[f64], limit: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (found - expected).abs();
        assert!(apart <= limit * expected.abs().max(1.0), "{what} {at}: {found}, not {expected}");
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// erf by its series near 0, by the continued fraction of 1 − erf elsewhere.
fn series(x: f64) -> f64 {
    if x.abs() > 2.0 {
        let far = x.abs();
        let fraction = (1..=80).rev().fold(far, |rest, n| far + 0.5 * f64::from(n) / rest);
        return x.signum() * (1.0 - (-x * x).exp() / (std::f64::consts::PI.sqrt() * fraction));
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[test]
fn exp_and_erf_are_those_of_f64_to_the_precision_of_f32() {
    for at in -9000..9000 {
        let x = at as f32 / 100.0;
        let expected = f64::from(x).exp();
        if (-87.0..88.0).contains(&x) {
            let found = f64::from(exp::<true>(x));
            assert!((found / expected - 1.0).abs() < 4e-7, "exp {x}: {found}, not {expected}");
        }
        let x = at as f32 / 2000.0;
        let (found, expected) = (f64::from(erf::<true>(x)), series(f64::from(x)));
        assert!((found - expected).abs() < 2e-7, "erf {x}: {found}, not {expected}");
    }
    assert_eq!(exp::<true>(-1e4), 0.0);
    assert!(exp::<true>(f32::NAN).is_nan() && erf::<true>(f32::NAN).is_nan());
    assert_eq!([erf::<true>(1e9), erf::<true>(-1e9)], [1.0, -1.0]);
}

/// A function at a level.
fn mapped<F: Pointwise<N>, const N: usize>(
    level: Level,
    function: F,
    given: [&[f32]; N],
) -> Vec<f64> {
    let mut result = vec![f32::NAN; given[0].len()];
    dispatch(level, Mapped { function, operands: given, result: &mut result });
    wide(&result)
}

#[test]
fn gelu_and_its_gradient_are_those_of_the_definition() {
    let x: Vec<f32> = (-2003..2003).map(|at| at as f32 / 250.0).collect();
    let dy: Vec<f32> = x.iter().map(|x| 0.5 - x / 20.0).collect();
    let distribution = |x: f64| 0.5 * (1.0 + series(x / 2.0_f64.sqrt()));
    let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let value = |x: f64| x * distribution(x);
    let slope = |x: f64| distribution(x) + x * density(x);
    let expected: Vec<f64> = wide(&x).into_iter().map(value).collect();
    let gradient = wide(&x).into_iter().zip(wide(&dy));
    let gradient: Vec<f64> = gradient.map(|(x, dy)| dy * slope(x)).collect();
    for level in Level::all() {
        assert_near(&mapped(level, Gelu, [&x]), &expected, 1e-6, &format!("{level:?}"));
        let found = mapped(level, GeluGradient, [&dy, &x]);
        assert_near(&found, &gradient, 1e-6, &format!("{level:?}"));
    }
    let Some(found) = run(ours("GeluGradient", 2, 1), &[(&[2, 2003], &dy), (&[2, 2003], &x)], &[2])
    else {
        return;
    };
    assert_near(&found.expect("runs")[0], &gradient, 1e-6, "in a session");
}

#[test]
fn masks_close_at_their_bounds() {
    let x = [-1.0, 0.0, 0.5, 6.0, 7.0, f32::NAN];
    let dy = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let given: [Given<'_>; 2] = [(&[6], &dy), (&[6], &x)];
    let Some(relu) = run(ours("ReluGradient", 2, 1), &given, &[1]) else { return };
    assert_eq!(relu.expect("runs")[0], [0.0, 0.0, 3.0, 4.0, 5.0, 0.0]);
    let clip = with_float(with_float(ours("ClipGradient", 2, 1), "low", 0.0), "high", 6.0);
    let clip = run(clip, &given, &[1]).expect("a runtime");
    assert_eq!(clip.expect("runs")[0], [0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
    let apart = run(ours("ReluGradient", 2, 1), &[(&[2], &dy[..2]), (&[1, 2], &x[..2])], &[1]);
    assert_eq!(code(apart.expect("a runtime")), "X0403");
}

/// Sums of x and its products with g over stretches of every length.
#[test]
fn sums_are_exact_at_every_length() {
    let mut draw = Draw::new(8);
    for length in [1, 3, 15, 16, 17, 63, 64, 65, 127, 1000] {
        let (x, g) = (draw.many(length), draw.many(length));
        let pairs: Vec<(f64, f64)> = wide(&x).into_iter().zip(wide(&g)).collect();
        let squares = [
            pairs.iter().map(|(x, _)| x).sum::<f64>(),
            pairs.iter().map(|(x, _)| (x - 0.25) * (x - 0.25)).sum(),
        ];
        let along = [
            pairs.iter().map(|(_, g)| g).sum::<f64>(),
            pairs.iter().map(|(x, g)| g * (x - 0.25)).sum(),
        ];
        for level in Level::all() {
            let found = dispatch(level, Summed { x: &x, g: &g, terms: Squares(0.25) });
            assert_near(&found, &squares, 1e-5, &format!("{length}, {level:?}"));
            let found = dispatch(level, Summed { x: &x, g: &g, terms: Along(0.25) });
            assert_near(&found, &along, 1e-5, &format!("{length}, {level:?}"));
        }
    }
}

/// μ, q and m of each channel of x [3, 5, 7, 6].
fn statistics(x: &[f64]) -> (Vec<f64>, Vec<f64>, f64) {
    let of = |channel: usize| -> Vec<f64> {
        (0..x.len()).filter(|at| at / 42 % 5 == channel).map(|at| x[at]).collect()
    };
    let count = x.len() as f64 / 5.0;
    let means: Vec<f64> = (0..5).map(|c| of(c).iter().sum::<f64>() / count).collect();
    let squares =
        (0..5).map(|c| of(c).iter().map(|x| (x - means[c]) * (x - means[c])).sum()).collect();
    (means, squares, count)
}

#[test]
fn statistics_of_the_batch_hold_where_the_mean_is_far_from_zero() {
    let dims = [3, 5, 7, 6];
    let x: Vec<f32> = Draw::new(9).many(630).into_iter().map(|x| x + 100.0).collect();
    let Some(found) = run(ours("BatchStatistics", 1, 2), &[(&dims, &x)], &[1, 1]) else { return };
    let found = found.expect("runs");
    let (means, squares, _) = statistics(&wide(&x));
    assert_near(&found[0], &means, 1e-6, "mean");
    assert_near(&found[1], &squares, 1e-5, "squares");
    let flat = run(ours("BatchStatistics", 1, 2), &[(&[630], &x)], &[1, 1]);
    assert_eq!(code(flat.expect("a runtime")), "X0403", "no channels");
}

#[test]
fn the_gradient_of_a_norm_with_batch_statistics_is_that_of_the_definition() {
    let (mut draw, dims) = (Draw::new(10), [3, 5, 7, 6]);
    let (x, dy, scale) = (draw.many(630), draw.many(630), draw.many(5));
    let (means, squares, count) = statistics(&wide(&x));
    let variances: Vec<f64> = squares.iter().map(|sum| sum / count).collect();
    let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
    let (mean, variance) = (narrow(&means), narrow(&variances));
    let given: [Given<'_>; 5] =
        [(&dims, &x), (&[5], &mean), (&[5], &variance), (&[5], &scale), (&dims, &dy)];
    let node = || with_float(ours("BatchNormGradient", 5, 3), "epsilon", 1e-3);
    let Some(found) = run(node(), &given, &[4, 1, 1]) else { return };
    let found = found.expect("runs");
    let (x, dy, scale) = (wide(&x), wide(&dy), wide(&scale));
    let sum = |channel: usize, of: &dyn Fn(usize) -> f64| -> f64 {
        (0..630).filter(|at| at / 42 % 5 == channel).map(of).sum()
    };
    let inverse: Vec<f64> = variances.iter().map(|v| 1.0 / (v + 1e-3).sqrt()).collect();
    let dbias: Vec<f64> = (0..5).map(|c| sum(c, &|at| dy[at])).collect();
    let dscale: Vec<f64> =
        (0..5).map(|c| inverse[c] * sum(c, &|at| dy[at] * (x[at] - means[c]))).collect();
    let dx: Vec<f64> = (0..630)
        .map(|at| {
            let c = at / 42 % 5;
            let along = (x[at] - means[c]) * inverse[c] * dscale[c] / count;
            scale[c] * inverse[c] * (dy[at] - dbias[c] / count - along)
        })
        .collect();
    assert_near(&found[0], &dx, 1e-5, "dx");
    assert_near(&found[1], &dscale, 1e-5, "dscale");
    assert_near(&found[2], &dbias, 1e-5, "dbias");
    let mut apart = given;
    apart[3] = (&[4], &mean[..4]);
    assert_eq!(code(run(node(), &apart, &[4, 1, 1]).expect("a runtime")), "X0403");
}

/// x̄, γ̄ and β̄ of rows of 37 numbers.
fn layer_norm_gradient(x: &[f64], scale: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
    let width = scale.len();
    let (mut dx, mut dscale, mut dbias) = (Vec::new(), vec![0.0; width], vec![0.0; width]);
    for (x, dy) in x.chunks(width).zip(dy.chunks(width)) {
        let mean = x.iter().sum::<f64>() / width as f64;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
        let inverse = 1.0 / (variance + 1e-5).sqrt();
        let normal: Vec<f64> = x.iter().map(|x| (x - mean) * inverse).collect();
        let g: Vec<f64> = dy.iter().zip(scale).map(|(dy, scale)| dy * scale).collect();
        let level = g.iter().sum::<f64>() / width as f64;
        let along = g.iter().zip(&normal).map(|(g, n)| g * n).sum::<f64>() / width as f64;
        dx.extend(g.iter().zip(&normal).map(|(g, n)| inverse * (g - level - n * along)));
        for at in 0..width {
            dscale[at] += dy[at] * normal[at];
            dbias[at] += dy[at];
        }
    }
    [dx, dscale, dbias]
}

#[test]
fn the_gradient_of_a_layer_norm_is_that_of_the_definition() {
    let mut draw = Draw::new(11);
    let (rows, width) = (45, 37);
    let (x, dy, scale) = (draw.many(rows * width), draw.many(rows * width), draw.many(width));
    let expected = layer_norm_gradient(&wide(&x), &wide(&scale), &wide(&dy));
    for level in Level::all() {
        let mut dx = vec![f32::NAN; rows * width];
        let (mut dscale, mut dbias) = (vec![0.0; width], vec![0.0; width]);
        let pairs = x.chunks(width).zip(dy.chunks(width));
        for ((x, dy), dx) in pairs.zip(dx.chunks_mut(width)) {
            let (scale, dscale, dbias) = (&scale[..], &mut dscale[..], &mut dbias[..]);
            let epsilon = 1e-5;
            dispatch(level, layer_norm::Row { x, dy, scale, epsilon, dx, dscale, dbias });
        }
        for (found, expected) in [dx, dscale, dbias].iter().zip(&expected) {
            assert_near(&wide(found), expected, 1e-5, &format!("{level:?}"));
        }
    }
    let dims = [9, 5, width];
    let node = || with_float(ours("LayerNormGradient", 3, 3), "epsilon", 1e-5);
    let given: [Given<'_>; 3] = [(&dims, &x), (&[width], &scale), (&dims, &dy)];
    let Some(found) = run(node(), &given, &[3, 1, 1]) else { return };
    for (found, expected) in found.expect("runs").iter().zip(&expected) {
        assert_near(found, expected, 1e-5, "in a session");
    }
    let apart: [Given<'_>; 3] = [(&dims, &x), (&[5], &scale[..5]), (&dims, &dy)];
    assert_eq!(code(run(node(), &apart, &[3, 1, 1]).expect("a runtime")), "X0403");
}

#[test]
fn the_gradient_of_a_softmax_is_that_of_the_definition() {
    let mut draw = Draw::new(12);
    let (y, dy) = (draw.many(4 * 23), draw.many(4 * 23));
    let dims = [2, 2, 23];
    let node = || ours("SoftmaxGradient", 2, 1);
    let Some(found) = run(node(), &[(&dims, &dy), (&dims, &y)], &[3]) else { return };
    let mut expected = Vec::new();
    for (dy, y) in wide(&dy).chunks(23).zip(wide(&y).chunks(23)) {
        let along: f64 = dy.iter().zip(y).map(|(dy, y)| dy * y).sum();
        expected.extend(dy.iter().zip(y).map(|(dy, y)| y * (dy - along)));
    }
    assert_near(&found.expect("runs")[0], &expected, 1e-6, "dx");
    let apart = run(node(), &[(&[4, 23], &dy), (&dims, &y)], &[3]);
    assert_eq!(code(apart.expect("a runtime")), "X0403");
}
