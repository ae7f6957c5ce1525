//! Constants that vary with the output position: the form of a bias behind a zero-padded map (L4c,
//! L7, L9).

use std::ops::Range;

use ndarray::{Array2, Array3, ArrayD, Axis, IxDyn, Slice, s};

use super::affine_map::{AffineMap, array, check_channels, checked_elements};
use super::obstacle::Obstacle;

/// A constant added to every output of a map, one value per channel and position.
#[derive(Debug, Clone, PartialEq)]
pub struct Border {
    /// The constant, `[O, out…]`.
    pub map: ArrayD<f64>,
}

impl Border {
    /// Returns the output size that the constant belongs to.
    #[must_use]
    pub fn spatial_size(&self) -> &[usize] {
        &self.map.shape()[1..]
    }

    /// Returns the bytes that the constant takes with elements of this size.
    #[must_use]
    pub fn bytes(&self, element_bytes: usize) -> usize {
        self.map.len() * element_bytes
    }

    /// Returns the one value of each channel, `[O]`; `None` if a channel varies with the
    /// position.
    #[must_use]
    #[expect(
        clippy::float_cmp,
        reason = "a bias may replace the map only where it says exactly the same"
    )]
    pub fn uniform(&self) -> Option<Vec<f64>> {
        let value = |channel: ndarray::ArrayViewD<'_, f64>| {
            let first = *channel.first()?;
            channel.iter().all(|&value| value == first).then_some(first)
        };
        self.map.outer_iter().map(value).collect()
    }

    /// Tells whether every channel has one value, so that a bias can replace the constant.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        self.uniform().is_some()
    }
}

/// The constant part of a map.
#[derive(Debug, Clone)]
pub(super) enum Constant {
    /// One value per channel, `[O]`.
    Channel(Vec<f64>),
    /// One value per channel and position, `[O, out…]`.
    Image(ArrayD<f64>),
}

impl Constant {
    /// Adds two constants of equal channel count.
    pub(super) fn plus(self, other: Self) -> Result<Self, Obstacle> {
        match (self, other) {
            (Self::Channel(mut sum), Self::Channel(other)) => {
                sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
                Ok(Self::Channel(sum))
            }
            (Self::Image(mut sum), Self::Image(other)) => {
                if sum.shape() != other.shape() {
                    let expected = sum.shape()[1..].to_vec();
                    return Err(Obstacle::BorderSizeMismatch {
                        expected,
                        found: other.shape()[1..].to_vec(),
                    });
                }
                sum += &other;
                Ok(Self::Image(sum))
            }
            (Self::Image(mut sum), Self::Channel(other))
            | (Self::Channel(other), Self::Image(mut sum)) => {
                for (mut channel, other) in sum.outer_iter_mut().zip(other) {
                    channel += other;
                }
                Ok(Self::Image(sum))
            }
        }
    }

    /// Multiplies channel `o` by `scale[o]`.
    pub(super) fn scaled(mut self, scale: &[f64]) -> Self {
        match &mut self {
            Self::Channel(values) => {
                values.iter_mut().zip(scale).for_each(|(value, scale)| *value *= scale);
            }
            Self::Image(map) => {
                map.outer_iter_mut().zip(scale).for_each(|(mut channel, &scale)| channel *= scale);
            }
        }
        self
    }

    /// Returns bias and border; an image that is uniform becomes a bias.
    pub(super) fn into_parts(self) -> (Vec<f64>, Option<Border>) {
        match self {
            Self::Channel(bias) => (bias, None),
            Self::Image(map) => {
                let border = Border { map };
                match border.uniform() {
                    Some(bias) => (bias, None),
                    None => (vec![0.0; border.map.shape()[0]], Some(border)),
                }
            }
        }
    }
}

impl AffineMap {
    /// Returns `R[o,u] = Σ_c W[o,c,u]·x[c]`, `[O, k…]`, for a constant `x [I]`.
    fn tap_response(&self, constant: &[f64]) -> ArrayD<f64> {
        let (outputs, per_group) = (self.out_channels(), self.weight.shape()[1]);
        let group_outputs = outputs / self.groups;
        let dims = [&[outputs], self.kernel_size()].concat();
        let mut response = ArrayD::zeros(IxDyn(&dims));
        for (output, mut taps) in response.outer_iter_mut().enumerate() {
            let first = output / group_outputs * per_group;
            for (input, kernel) in self.weight.index_axis(Axis(0), output).outer_iter().enumerate()
            {
                taps.scaled_add(constant[first + input], &kernel);
            }
        }
        response
    }

    /// Returns `Σ_{c,u} W[o,c,u]·x[c]`, `[O]`: the response to a constant image away from any
    /// padding.
    pub(super) fn interior_response(&self, constant: &[f64]) -> Vec<f64> {
        self.tap_response(constant).outer_iter().map(|taps| taps.sum()).collect()
    }
}

/// Computes the response, without bias, of a zero-padded map to an image that is `constant [I]`
/// everywhere.
///
/// Returns `[O, out…]`. On each axis, the taps that fall on the padding form an interval, so only the
/// distinct intervals are summed (9 values per channel at kernel 3, padding 1 on two axes).
///
/// # Errors
/// `channels-mismatch`, `spatial-rank-mismatch`, `kernel-exceeds-input` or `too-many-elements`.
pub fn constant_image_response(
    map: &AffineMap,
    constant: &[f64],
    input_size: &[usize],
) -> Result<ArrayD<f64>, Obstacle> {
    check_channels(map.in_channels(), constant.len())?;
    let output = map.expect_output_size(input_size)?;
    checked_elements(&[&[map.out_channels()], &output[..]].concat())?;
    let mut response = map.tap_response(constant); // [O, k…]
    let mut classes = Vec::new();
    for axis in 0..output.len() {
        let window = map.axis(axis);
        let ranges =
            (0..output[axis]).map(|position| window.taps_inside(position, input_size[axis]));
        let (distinct, class_of) = classified(ranges);
        response = summed_ranges(&response, Axis(axis + 1), &distinct); // [O, classes…, k…]
        classes.push(class_of);
    }
    for (axis, class_of) in classes.iter().enumerate() {
        response = response.select(Axis(axis + 1), class_of); // [O, out…, classes…]
    }
    Ok(response)
}

/// Returns the distinct ranges in order of appearance and the index of each range among them.
fn classified(ranges: impl Iterator<Item = Range<usize>>) -> (Vec<Range<usize>>, Vec<usize>) {
    let mut distinct: Vec<Range<usize>> = Vec::new();
    let mut class_of = Vec::new();
    for range in ranges {
        let known = distinct.iter().rposition(|seen| *seen == range);
        class_of.push(known.unwrap_or(distinct.len()));
        if known.is_none() {
            distinct.push(range);
        }
    }
    (distinct, class_of)
}

fn summed_ranges(taps: &ArrayD<f64>, axis: Axis, ranges: &[Range<usize>]) -> ArrayD<f64> {
    let mut dims = taps.shape().to_vec();
    dims[axis.0] = ranges.len();
    let mut summed = ArrayD::zeros(IxDyn(&dims));
    for (mut target, range) in summed.axis_iter_mut(axis).zip(ranges) {
        target.assign(&taps.slice_axis(axis, Slice::from(range.clone())).sum_axis(axis));
    }
    summed
}

/// Computes the response, without bias, of a zero-padded map to one image `[I, in…]`; returns
/// `[O, out…]`.
///
/// # Errors
/// `channels-mismatch`, `spatial-rank-mismatch`, `kernel-exceeds-input` or `too-many-elements`.
pub fn image_response(map: &AffineMap, image: &ArrayD<f64>) -> Result<ArrayD<f64>, Obstacle> {
    let (&channels, input) = image.shape().split_first().unwrap_or((&0, &[]));
    check_channels(map.in_channels(), channels)?;
    let output = map.expect_output_size(input)?;
    let dims = [&[map.out_channels()], &output[..]].concat();
    checked_elements(&dims)?;
    let positions: usize = output.iter().product();
    let (inputs, taps) = (map.weight.shape()[1], map.kernel_size().iter().product::<usize>());
    let kernel = cubed(&map.weight, [map.out_channels(), inputs, taps]);
    let flat = cubed(image, [channels, 1, input.iter().product()]);
    let outputs = map.out_channels() / map.groups;
    let mut response = Array2::zeros((map.out_channels(), positions));
    for tap in 0..taps {
        let reads = reads_of_tap(map, tap, input, &output);
        for group in 0..map.groups {
            let first = group * inputs;
            let columns = Array2::from_shape_fn((inputs, positions), |(channel, position)| {
                reads[position].map_or(0.0, |read| flat[[first + channel, 0, read]])
            });
            let rows = group * outputs..(group + 1) * outputs;
            let product = kernel.slice(s![rows.clone(), .., tap]).dot(&columns); // [O/g, positions]
            let mut target = response.slice_mut(s![rows, ..]);
            target += &product;
        }
    }
    Ok(array(&dims, response.into_iter().collect()))
}

/// Returns a copy with three axes and the same elements in row-major order.
pub(super) fn cubed(values: &ArrayD<f64>, dims: [usize; 3]) -> Array3<f64> {
    let mut values = values.iter();
    Array3::from_shape_simple_fn(dims, || values.next().copied().unwrap_or(0.0))
}

/// Returns, for each output position in row-major order, the flat input position that the tap reads;
/// `None` in the padding.
fn reads_of_tap(
    map: &AffineMap,
    tap: usize,
    input: &[usize],
    output: &[usize],
) -> Vec<Option<usize>> {
    let mut taps = vec![0; input.len()];
    let mut rest = tap;
    for axis in (0..input.len()).rev() {
        let kernel = map.kernel_size()[axis];
        taps[axis] = rest % kernel;
        rest /= kernel;
    }
    let mut reads = vec![Some(0)];
    for axis in 0..input.len() {
        let window = map.axis(axis);
        let along: Vec<Option<usize>> = (0..output[axis])
            .map(|position| {
                let padded = position * window.stride + taps[axis] * window.dilation;
                padded.checked_sub(window.begin).filter(|&read| read < input[axis])
            })
            .collect();
        let join = |outer: Option<usize>| {
            along.iter().map(move |inner| Some(outer? * input[axis] + (*inner)?))
        };
        reads = reads.into_iter().flat_map(join).collect();
    }
    reads
}
