//! `ConvWeightGradient`.

use std::num::NonZeroUsize;

use indexmap::IndexMap;

use super::super::dense::{Dense, Plan};
use super::super::depthwise::Depthwise;
use super::super::lanes::Level;
use super::super::window::{Phases, Window};
use super::{Draw, assert_sums, f32s, model_of, ours};
use crate::tests::models::{with_int, with_ints};
use crate::tests::{code, ort_options};
use crate::{ExecError, Executor, ModelSource, Options, OrtExecutor};

/// W̄ as it is defined.
fn plain(window: &Window, x: &[f32], dy: &[f32]) -> Vec<f64> {
    let inner = window.in_channels / window.group;
    let outer = window.out_channels / window.group;
    let mut gradient = Vec::new();
    for out in 0..window.out_channels {
        for channel in (0..inner).map(|channel| out / outer * inner + channel) {
            for ky in 0..window.kernel[0] {
                for kx in 0..window.kernel[1] {
                    gradient.push(element(window, x, dy, (out, channel), [ky, kx]));
                }
            }
        }
    }
    gradient
}

fn element(
    window: &Window,
    x: &[f32],
    dy: &[f32],
    (out, channel): (usize, usize),
    position: [usize; 2],
) -> f64 {
    let mut sum = 0.0;
    for image in 0..window.batch {
        for pixel in 0..window.pixels() {
            let o = [pixel / window.output[1], pixel % window.output[1]];
            let at = [0, 1].map(|axis| {
                let seen = o[axis] * window.strides[axis] + position[axis] * window.dilations[axis];
                seen.checked_sub(window.begin[axis]).filter(|at| *at < window.input[axis])
            });
            if let [Some(row), Some(column)] = at {
                let place = (image * window.in_channels + channel) * window.seen();
                let seen = x[place + row * window.input[1] + column];
                let place = (image * window.out_channels + out) * window.pixels();
                sum += f64::from(seen) * f64::from(dy[place + pixel]);
            }
        }
    }
    sum
}

/// W̄ at a level, one part after the other.
fn computed(level: Level, window: &Window, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let phases = Phases::of(window);
    let mut gradient =
        vec![f32::NAN; window.out_channels * (window.in_channels / window.group) * window.taps()];
    if window.group == window.in_channels && window.group > 1 {
        let mut scratch = vec![f32::NAN; Depthwise::room(window, &phases, level.lanes())];
        let (phases, scratch) = (&phases, &mut scratch[..]);
        let gradient = &mut gradient[..];
        Depthwise { window, phases, level, x, dy, first: 0, gradient, scratch }.run();
    } else {
        let plan = Plan::of(window, level);
        let (parts, size) = (plan.parts(window), plan.sums(window));
        let mut sums = vec![f32::NAN; parts.len() * size];
        let mut scratch = vec![f32::NAN; plan.room(window, &phases)];
        for (part, sums) in parts.into_iter().zip(sums.chunks_mut(size)) {
            let (phases, plan, scratch) = (&phases, &plan, &mut scratch[..]);
            Dense { window, phases, plan, part, x, dy, sums, scratch }.run();
        }
        plan.gather(window, &sums, &mut gradient);
    }
    gradient
}

fn drawn(draw: &mut Draw) -> Window {
    let group = [1, 1, 2, 3, 5][draw.below(5)];
    let is_depthwise = group > 1 && draw.below(2) == 0;
    let inner = if is_depthwise { 1 } else { draw.between(1, 5) };
    let kernel = [draw.between(1, 5), draw.between(1, 4)];
    let strides = [draw.between(1, 3), draw.between(1, 3)];
    let dilations = [draw.between(1, 2), draw.between(1, 3)];
    let output = [draw.between(1, 9), draw.between(1, 9)];
    let begin = [draw.below(4), draw.below(3)];
    // From far too little to a rest that no window sees.
    let input = [0, 1].map(|axis| {
        let seen = (output[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1;
        (seen + draw.below(4)).saturating_sub(begin[axis] + draw.below(3)).max(1)
    });
    Window {
        batch: draw.between(1, 5),
        in_channels: group * inner,
        out_channels: group * draw.between(1, if group == 1 { 40 } else { 10 }),
        group,
        input,
        output,
        kernel,
        strides,
        dilations,
        begin,
    }
}

fn images(draw: &mut Draw, window: &Window) -> (Vec<f32>, Vec<f32>) {
    let x = draw.many(window.batch * window.in_channels * window.seen());
    let dy = draw.many(window.batch * window.out_channels * window.pixels());
    (x, dy)
}

#[test]
fn drawn_gradients_are_those_of_the_definition_at_every_width_of_vectors() {
    let mut draw = Draw::new(1);
    for at in 0..150 {
        let window = drawn(&mut draw);
        let (x, dy) = images(&mut draw, &window);
        let expected = plain(&window, &x, &dy);
        for level in Level::all() {
            let found = computed(level, &window, &x, &dy);
            let count = window.batch * window.pixels();
            assert_sums(&found, &expected, count, &format!("{at}, {level:?}: {window:?}"));
        }
    }
}

/// A usual layer: stride 1, padded by half the kernel.
fn usual(channels: [usize; 2], group: usize, size: usize, kernel: usize) -> Window {
    Window {
        batch: 3,
        in_channels: channels[0],
        out_channels: channels[1],
        group,
        input: [size, size],
        output: [size, size],
        kernel: [kernel, kernel],
        strides: [1, 1],
        dilations: [1, 1],
        begin: [kernel / 2, kernel / 2],
    }
}

#[test]
fn large_images_and_many_channels_go_through_every_way_of_cutting_up() {
    let mut draw = Draw::new(2);
    for window in [
        usual([16, 16], 1, 32, 3),
        usual([24, 70], 1, 16, 1),
        usual([130, 130], 1, 4, 3),
        usual([48, 48], 48, 16, 7),
        usual([40, 40], 40, 14, 3),
        usual([12, 36], 12, 8, 5),
    ] {
        let (x, dy) = images(&mut draw, &window);
        let expected = plain(&window, &x, &dy);
        for level in Level::all() {
            let found = computed(level, &window, &x, &dy);
            let count = window.batch * window.pixels();
            assert_sums(&found, &expected, count, &format!("{level:?}: {window:?}"));
        }
    }
}

/// The node of a window in a session.
fn session(
    window: &Window,
    options: &Options,
    dims: [&[usize]; 2],
) -> Result<OrtExecutor, ExecError> {
    let ints = |list: [usize; 2]| list.map(|size| size as i64);
    let node = ours("ConvWeightGradient", 2, 1);
    let node = with_int(node, "group", window.group as i64);
    let node = with_ints(node, "kernel_shape", &ints(window.kernel));
    let node = with_ints(node, "strides", &ints(window.strides));
    let node = with_ints(node, "dilations", &ints(window.dilations));
    let node = with_ints(node, "begin", &ints(window.begin));
    let model = model_of(node, &dims, &[4]);
    OrtExecutor::open(ModelSource::Bytes(&model), options)
}

fn run(
    mut session: OrtExecutor,
    x: (&[usize], &[f32]),
    dy: (&[usize], &[f32]),
) -> Result<Vec<f32>, ExecError> {
    let inputs =
        IndexMap::from([("x0".to_owned(), f32s(x.0, x.1)), ("x1".to_owned(), f32s(dy.0, dy.1))]);
    let outputs = session.run(&inputs)?;
    Ok(outputs["y0"].to_f64().expect("floats").into_iter().map(|v| v as f32).collect())
}

#[test]
fn any_number_of_threads_computes_the_same_bytes() {
    let Some(options) = ort_options("weight_gradient") else { return };
    let mut draw = Draw::new(3);
    for window in [usual([24, 40], 1, 16, 3), usual([48, 48], 48, 12, 3)] {
        let (x, dy) = images(&mut draw, &window);
        let x_dims = [window.batch, window.in_channels, window.input[0], window.input[1]];
        let dy_dims = [window.batch, window.out_channels, window.output[0], window.output[1]];
        let on = |threads| {
            let options = Options { threads: NonZeroUsize::new(threads), ..options.clone() };
            let session = session(&window, &options, [&x_dims, &dy_dims]).expect("opens");
            run(session, (&x_dims, &x), (&dy_dims, &dy)).expect("runs")
        };
        let alone = on(1);
        let count = window.batch * window.pixels();
        assert_sums(&alone, &plain(&window, &x, &dy), count, "one thread");
        assert_eq!(alone, on(2));
        assert_eq!(alone, on(5));
    }
}

#[test]
fn shapes_that_do_not_belong_together_are_an_error() {
    let Some(options) = ort_options("weight_gradient_shapes") else { return };
    let window = usual([2, 4], 2, 3, 3);
    let refused = |x: &[usize], dy: &[usize]| {
        let session = session(&window, &options, [x, dy]).expect("opens");
        let count = |dims: &[usize]| vec![0.5; dims.iter().product()];
        code(run(session, (x, &count(x)), (dy, &count(dy))))
    };
    assert_eq!(refused(&[2, 2, 3, 3], &[2, 4, 3, 3]), "no error");
    assert_eq!(refused(&[2, 2, 3, 3], &[3, 4, 3, 3]), "X0403", "two batches");
    assert_eq!(refused(&[2, 3, 3, 3], &[2, 4, 3, 3]), "X0403", "3 channels in 2 groups");
    assert_eq!(refused(&[2, 2, 9], &[2, 4, 3, 3]), "X0403", "no image");
    let broken = Window { strides: [1, 0], ..window.clone() };
    let opened = session(&broken, &options, [&[2, 2, 3, 3], &[2, 4, 3, 3]]);
    assert_eq!(code(opened.map(|_| ())), "X0101", "no stride");
}
