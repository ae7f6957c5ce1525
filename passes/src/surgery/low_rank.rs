//! Smaller operators that approximate a dense kernel: depthwise then pointwise, or pointwise alone.

use ndarray::{ArrayD, IxDyn};
use updp_ir::ConvGeometry;

use crate::kernel::{AffineMap, Obstacle};

/// Rounds of power iteration; a gap of a few per cent converges to f32 precision long before this limit.
const ROUNDS: usize = 60;

/// The map with the kernel's centre, and with the strides and paddings of `new`.
pub(super) fn reshaped(map: &AffineMap, new: &ConvGeometry) -> AffineMap {
    let mut out = map.clone();
    let weight = map.weight.clone();
    let mut view = weight.view();
    for (axis, kernel) in new.kernel.iter().enumerate() {
        let start = (map.weight.shape()[axis + 2] - kernel) / 2;
        view.slice_axis_inplace(ndarray::Axis(axis + 2), (start..start + kernel).into());
    }
    out.weight = view.to_owned();
    out.stride.clone_from(&new.stride);
    out.pad_begin.clone_from(&new.pad_begin);
    out.pad_end.clone_from(&new.pad_end);
    out
}

/// The nearest depthwise kernel followed by a pointwise kernel. For each input channel `c` it is the best rank-one
/// `W[o,c,t] ≈ P[o,c]·D[c,t]` in the Frobenius norm, from the leading singular vectors of `W[:,c,:]`.
///
/// # Errors
/// The obstacles of widening the groups.
pub(super) fn split(map: &AffineMap) -> Result<(AffineMap, AffineMap), Obstacle> {
    let dense = map.to_groups(1)?;
    let (outputs, inputs) = (dense.out_channels(), dense.in_channels());
    let kernel = dense.kernel_size().to_vec();
    let taps: usize = kernel.iter().product();
    let weights = dense
        .weight
        .as_standard_layout()
        .into_owned()
        .into_shape_with_order((outputs, inputs, taps))
        .expect("the same elements");
    let mut depthwise = ArrayD::<f64>::zeros(IxDyn(&[inputs, taps]));
    let mut pointwise = ArrayD::<f64>::zeros(IxDyn(&[outputs, inputs]));
    for channel in 0..inputs {
        let matrix = weights.index_axis(ndarray::Axis(1), channel); // [O, T]
        let gram = matrix.t().dot(&matrix); // [T, T]
        // The strongest tap is never orthogonal to the leading vector of a non-zero Gram matrix.
        let strongest = (0..taps).max_by(|a, b| gram[[*a, *a]].total_cmp(&gram[[*b, *b]]));
        let mut vector = ndarray::Array1::<f64>::zeros(taps);
        vector[strongest.unwrap_or(0)] = 1.0;
        for _ in 0..ROUNDS {
            let next = gram.dot(&vector);
            let norm = next.dot(&next).sqrt();
            if norm == 0.0 {
                break;
            }
            vector = next / norm;
        }
        let scores = matrix.dot(&vector); // [O]
        for tap in 0..taps {
            depthwise[[channel, tap]] = vector[tap];
        }
        for output in 0..outputs {
            pointwise[[output, channel]] = scores[output];
        }
    }
    let rank = kernel.len();
    let depthwise_dims = [&[inputs, 1], kernel.as_slice()].concat();
    let pointwise_dims = [&[outputs, inputs], vec![1; rank].as_slice()].concat();
    let shaped = |array: ArrayD<f64>, dims: &[usize]| {
        array.into_shape_with_order(IxDyn(dims)).expect("the same elements")
    };
    let first = AffineMap::with_geometry(
        shaped(depthwise, &depthwise_dims),
        vec![0.0; inputs],
        &dense.geometry(),
        inputs,
    )?;
    let second = AffineMap::with_geometry(
        shaped(pointwise, &pointwise_dims),
        dense.bias.clone(),
        &ConvGeometry::pointwise(rank),
        1,
    )?;
    Ok((first, second))
}

/// The tap that reads an output's own position, as a pointwise map with the same stride; the groups stay.
///
/// # Errors
/// `identity-needs-centre-tap` when there is no such tap.
pub(super) fn centre(map: &AffineMap) -> Result<AffineMap, Obstacle> {
    let rank = map.spatial_rank();
    let geometry = map.geometry();
    let mut view = map.weight.view();
    for axis in 0..rank {
        let (kernel, padding) = (map.kernel_size()[axis], map.pad_begin[axis]);
        let tap = geometry.axis(axis).centre_tap().ok_or(Obstacle::IdentityNeedsCentreTap {
            axis,
            kernel,
            padding,
        })?;
        view.slice_axis_inplace(ndarray::Axis(axis + 2), (tap..=tap).into());
    }
    AffineMap::new(
        view.to_owned(),
        map.bias.clone(),
        map.stride.clone(),
        vec![1; rank],
        vec![0; rank],
        vec![0; rank],
        map.groups,
    )
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;

    fn dense(weight: ArrayD<f64>) -> AffineMap {
        let outputs = weight.shape()[0];
        let (one, pad) = (vec![1; 2], vec![1; 2]);
        AffineMap::new(weight, vec![0.5; outputs], one.clone(), one, pad.clone(), pad, 1)
            .expect("a map")
    }

    fn composed(map: &AffineMap) -> AffineMap {
        let (depthwise, pointwise) = split(map).expect("it splits");
        depthwise.then(&pointwise, None).expect("they compose")
    }

    fn distance(a: &AffineMap, b: &AffineMap) -> f64 {
        (&a.weight - &b.weight).iter().map(|d| d * d).sum::<f64>().sqrt()
    }

    #[test]
    fn a_kernel_of_rank_one_a_channel_is_split_exactly() {
        // W[o,c,t] = P[o,c]·D[c,t]
        let weight = ArrayD::from_shape_fn(IxDyn(&[4, 3, 3, 3]), |at| {
            let (o, c, t) = (at[0] as f64, at[1] as f64, (at[2] * 3 + at[3]) as f64);
            (o - 1.5 + c) * (t - 4.0 * c + 0.3)
        });
        let map = dense(weight);
        let again = composed(&map);
        assert!(distance(&map, &again) < 1e-9, "{}", distance(&map, &again));
        assert_eq!(
            (again.bias, again.stride, again.pad_begin),
            (map.bias, map.stride, map.pad_begin)
        );
    }

    #[test]
    fn no_other_depthwise_kernel_comes_nearer() {
        let weight = ArrayD::from_shape_fn(IxDyn(&[5, 2, 3, 3]), |at| {
            let x = (at[0] * 31 + at[1] * 17 + at[2] * 7 + at[3] * 3) as f64;
            (x * 0.7).sin() + (x * 1.3).cos()
        });
        let map = dense(weight);
        let best = distance(&map, &composed(&map));
        // The same with the depthwise kernel turned a little: the refitted pointwise part is worse.
        let (depthwise, _) = split(&map).expect("it splits");
        for tap in 0..9 {
            let mut error = 0.0;
            for channel in 0..2 {
                let mut d: Vec<f64> =
                    (0..9).map(|t| depthwise.weight[[channel, 0, t / 3, t % 3]]).collect();
                d[tap] += 0.05;
                let norm: f64 = d.iter().map(|v| v * v).sum();
                for output in 0..5 {
                    let row: Vec<f64> =
                        (0..9).map(|t| map.weight[[output, channel, t / 3, t % 3]]).collect();
                    let score: f64 = row.iter().zip(&d).map(|(a, b)| a * b).sum::<f64>() / norm;
                    error += row.iter().zip(&d).map(|(a, b)| (a - score * b).powi(2)).sum::<f64>();
                }
            }
            assert!(error.sqrt() >= best - 1e-12, "tap {tap}: {} < {best}", error.sqrt());
        }
    }

    #[test]
    fn a_kernel_of_zeros_stays_zero_and_the_centre_is_the_own_tap() {
        let zeros = dense(ArrayD::zeros(IxDyn(&[2, 2, 3, 3])));
        assert_eq!(distance(&zeros, &composed(&zeros)), 0.0);
        let counted =
            dense(ArrayD::from_shape_fn(IxDyn(&[2, 2, 3, 3]), |at| (at[2] * 3 + at[3]) as f64));
        let own = centre(&counted).expect("padding 1 reads the own position");
        assert!(own.weight.iter().all(|v| *v == 4.0));
        let mut unpadded = counted;
        unpadded.pad_begin = vec![3, 3];
        assert_eq!(
            centre(&unpadded).expect_err("beyond the kernel").reason(),
            "identity-needs-centre-tap"
        );
    }
}
