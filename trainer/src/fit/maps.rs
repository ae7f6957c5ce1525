//! Converts solutions to the operators that are inserted into a network.

use ndarray::{ArrayD, IxDyn};
use updp_ir::ConvGeometry;
use updp_passes::kernel::AffineMap;
use updp_passes::surgery::{Form, Site};

use super::normal::Solved;

/// The operators of a solution. `W [U, O]` becomes `[O, I, k…]`.
pub(super) fn maps(solution: &Solved, site: &Site, window: &ConvGeometry) -> Vec<AffineMap> {
    let own = &site.window;
    let rank = own.kernel.len();
    let map = |weight: ArrayD<f64>, bias: Vec<f64>, window: &ConvGeometry, groups: usize| {
        AffineMap::with_geometry(weight, bias, window, groups)
            .expect("the window is that of a convolution")
    };
    let dims = |outputs: usize, inputs: usize, kernel: &[usize]| {
        IxDyn(&[&[outputs, inputs], kernel].concat())
    };
    let shaped = |weight: &faer::Mat<f64>, kernel: &[usize]| {
        let taps: usize = kernel.iter().product::<usize>().max(1);
        let (inputs, outputs) = (weight.nrows() / taps, weight.ncols());
        let mut values = Vec::with_capacity(weight.nrows() * outputs);
        for o in 0..outputs {
            values.extend((0..weight.nrows()).map(|u| weight[(u, o)]));
        }
        ArrayD::from_shape_vec(dims(outputs, inputs, kernel), values).expect("as many elements")
    };
    let bias = solution.bias.clone();
    let pointwise = ConvGeometry::pointwise(rank);
    match (&solution.parts, site.form) {
        (Some((depthwise, second)), Form::DepthwisePointwise) => {
            let channels = depthwise.nrows();
            let values = (0..channels)
                .flat_map(|c| (0..depthwise.ncols()).map(move |t| depthwise[(c, t)]))
                .collect();
            let weight = ArrayD::from_shape_vec(dims(channels, 1, &own.kernel), values);
            let first = weight.expect("as many elements");
            vec![
                map(first, vec![0.0; channels], own, channels),
                map(shaped(second, &pointwise.kernel), bias, &pointwise, 1),
            ]
        }
        (Some((first, basis)), _) => {
            let back = basis.transpose().to_owned();
            let zeros = vec![0.0; first.ncols()];
            vec![
                map(shaped(first, &own.kernel), zeros, own, 1),
                map(shaped(&back, &pointwise.kernel), bias, &pointwise, 1),
            ]
        }
        (None, _) if own == window => {
            vec![map(shaped(&solution.weight, &own.kernel), bias, own, 1)]
        }
        (None, _) => {
            let taps = window.taps();
            let tap = window.centre_tap().expect("its site has the centre of this window");
            let weight = faer::Mat::from_fn(
                solution.weight.nrows() / taps,
                solution.weight.ncols(),
                |c, o| solution.weight[(c * taps + tap, o)],
            );
            vec![map(shaped(&weight, &own.kernel), bias, own, 1)]
        }
    }
}
