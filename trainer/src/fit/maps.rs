//! Converts solutions to the operators that are inserted into a network.

use faer::Mat;
use ndarray::{ArrayD, IxDyn};
use updp_ir::ConvGeometry;
use updp_passes::kernel::AffineMap;
use updp_passes::surgery::{Form, Site};

use super::normal::Solved;

/// Why building an operator does not fail.
const WINDOW: &str = "the window is that of a convolution";

/// The operator with the weights `W [U, O]` and one group: `[O, I, k…]`.
pub(super) fn map_of(weight: &Mat<f64>, bias: Vec<f64>, window: &ConvGeometry) -> AffineMap {
    let outputs = weight.ncols();
    let inputs = weight.nrows() / window.taps();
    let values = (0..outputs).flat_map(|o| weight.col_as_slice(o).iter().copied()).collect();
    let dims = IxDyn(&[&[outputs, inputs], window.kernel.as_slice()].concat());
    let weight = ArrayD::from_shape_vec(dims, values).expect("as many elements");
    AffineMap::with_geometry(weight, bias, window, 1).expect(WINDOW)
}

/// The operators of a solution. `W [U, O]` becomes `[O, I, k…]`.
pub(super) fn maps(solution: &Solved, site: &Site, window: &ConvGeometry) -> Vec<AffineMap> {
    let own = &site.window;
    let map = |weight: ArrayD<f64>, bias: Vec<f64>, window: &ConvGeometry, groups: usize| {
        AffineMap::with_geometry(weight, bias, window, groups).expect(WINDOW)
    };
    let dense =
        |weight: &Mat<f64>, bias: Vec<f64>, window: &ConvGeometry| map_of(weight, bias, window);
    let rank = own.kernel.len();
    let bias = solution.bias.clone();
    let pointwise = ConvGeometry::pointwise(rank);
    match (&solution.parts, site.form) {
        (Some((depthwise, second)), Form::DepthwisePointwise) => {
            let channels = depthwise.nrows();
            let values = (0..channels)
                .flat_map(|c| (0..depthwise.ncols()).map(move |t| depthwise[(c, t)]))
                .collect();
            let dims = IxDyn(&[&[channels, 1], own.kernel.as_slice()].concat());
            let weight = ArrayD::from_shape_vec(dims, values);
            let first = weight.expect("as many elements");
            vec![map(first, vec![0.0; channels], own, channels), dense(second, bias, &pointwise)]
        }
        (Some((first, back)), _) => {
            let zeros = vec![0.0; first.ncols()];
            vec![dense(first, zeros, own), dense(back, bias, &pointwise)]
        }
        (None, _) if own == window => {
            vec![dense(&solution.weight, bias, own)]
        }
        (None, _) => {
            let taps = window.taps();
            let tap = window.centre_tap().expect("its site has the centre of this window");
            let weight =
                Mat::from_fn(solution.weight.nrows() / taps, solution.weight.ncols(), |c, o| {
                    solution.weight[(c * taps + tap, o)]
                });
            vec![dense(&weight, bias, own)]
        }
    }
}
