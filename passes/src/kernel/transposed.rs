//! Scaling the channels of a transposed convolution's kernel `W [I, O/g, k…]`, whose first axis is
//! the input.

use ndarray::{ArrayD, Axis};

use super::affine_map::check_channels;
use super::obstacle::Obstacle;

/// Scales output channel `o` by `scale[o]`: `W[i,j,…] · scale[(i / (I/g)) · O/g + j]`.
///
/// With `b' = scale·b + shift` this folds a following normalization exactly (L7).
///
/// # Errors
/// `spatial-rank-mismatch` when the kernel has fewer than two axes; `groups-not-a-divisor` when
/// `groups` does not divide `I`; `channels-mismatch` when `scale` is not `[O]`.
pub fn scale_outputs(
    weight: &ArrayD<f64>,
    groups: usize,
    scale: &[f64],
) -> Result<ArrayD<f64>, Obstacle> {
    let (inputs, per_group) = channels(weight)?;
    if groups == 0 || !inputs.is_multiple_of(groups) {
        return Err(Obstacle::GroupsNotADivisor { groups, channels: inputs });
    }
    check_channels(per_group * groups, scale.len())?;
    let mut scaled = weight.clone();
    for (input, mut kernels) in scaled.axis_iter_mut(Axis(0)).enumerate() {
        let group = input / (inputs / groups);
        for (output, mut kernel) in kernels.axis_iter_mut(Axis(0)).enumerate() {
            kernel *= scale[group * per_group + output];
        }
    }
    Ok(scaled)
}

/// Scales input channel `i` by `scale[i]`, which folds a preceding per-channel factor exactly.
///
/// A preceding shift does not fold: its image is cut at the border of the output.
///
/// # Errors
/// `spatial-rank-mismatch` when the kernel has fewer than two axes; `channels-mismatch` when
/// `scale` is not `[I]`.
pub fn scale_inputs(weight: &ArrayD<f64>, scale: &[f64]) -> Result<ArrayD<f64>, Obstacle> {
    let (inputs, _) = channels(weight)?;
    check_channels(inputs, scale.len())?;
    let mut scaled = weight.clone();
    for (mut kernels, &factor) in scaled.axis_iter_mut(Axis(0)).zip(scale) {
        kernels *= factor;
    }
    Ok(scaled)
}

fn channels(weight: &ArrayD<f64>) -> Result<(usize, usize), Obstacle> {
    match *weight.shape() {
        [inputs, per_group, ..] => Ok((inputs, per_group)),
        _ => Err(Obstacle::SpatialRankMismatch { expected: 1, found: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::*;

    #[test]
    fn scales_each_output_of_its_own_group() {
        let weight = ArrayD::from_elem(IxDyn(&[4, 2, 1]), 1.0);
        let scaled = scale_outputs(&weight, 2, &[1.0, 2.0, 3.0, 4.0]).unwrap();
        let values: Vec<f64> = scaled.iter().copied().collect();
        assert_eq!(values, [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
    }

    #[test]
    fn scales_each_input() {
        let weight = ArrayD::from_elem(IxDyn(&[2, 1, 2]), 1.0);
        let values: Vec<f64> =
            scale_inputs(&weight, &[2.0, 3.0]).unwrap().iter().copied().collect();
        assert_eq!(values, [2.0, 2.0, 3.0, 3.0]);
    }

    #[test]
    fn refuses_wrong_lengths() {
        let weight = ArrayD::from_elem(IxDyn(&[4, 2, 1]), 1.0);
        let reason = |result: Result<ArrayD<f64>, Obstacle>| result.unwrap_err().reason();
        assert_eq!(reason(scale_outputs(&weight, 3, &[1.0; 6])), "groups-not-a-divisor");
        assert_eq!(reason(scale_outputs(&weight, 2, &[1.0; 3])), "channels-mismatch");
        assert_eq!(reason(scale_inputs(&weight, &[1.0; 3])), "channels-mismatch");
        let flat = ArrayD::from_elem(IxDyn(&[4]), 1.0);
        assert_eq!(reason(scale_inputs(&flat, &[1.0; 4])), "spatial-rank-mismatch");
    }
}
