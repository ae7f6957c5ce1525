//! The definition of an affine map as a plain loop, separate from the composing code.

use ndarray::{ArrayD, IxDyn};

use super::affine_map::{AffineMap, check_channels};
use super::obstacle::Obstacle;

impl AffineMap {
    /// Evaluates the map on `input [I, in…]` by its definition and returns `[O, out…]`; slow, for checks
    /// only.
    ///
    /// # Errors
    /// `spatial-rank-mismatch`, `channels-mismatch` or `kernel-exceeds-input` when the input does
    /// not fit the map; `border-size-mismatch` when the border map belongs to another output size.
    pub fn apply(&self, input: &ArrayD<f64>) -> Result<ArrayD<f64>, Obstacle> {
        let Some((&channels, spatial)) = input.shape().split_first() else {
            return Err(Obstacle::ChannelsMismatch { expected: self.in_channels(), found: 0 });
        };
        let output = self.expect_output_size(spatial)?;
        check_channels(self.in_channels(), channels)?;
        if let Some(border) = &self.border
            && border.map.shape()[1..] != output
        {
            let found = border.map.shape()[1..].to_vec();
            return Err(Obstacle::BorderSizeMismatch { expected: output, found });
        }
        let dims = [&[self.out_channels()], &output[..]].concat();
        Ok(ArrayD::from_shape_fn(IxDyn(&dims), |place| {
            let place: Vec<usize> = (0..dims.len()).map(|axis| place[axis]).collect();
            self.value_at(input, &place)
        }))
    }

    fn value_at(&self, input: &ArrayD<f64>, place: &[usize]) -> f64 {
        let channel = place[0];
        let group = channel / (self.out_channels() / self.groups);
        let mut sum = self.bias[channel];
        if let Some(border) = &self.border {
            sum += border.map[place];
        }
        for (at, &weight) in self.weight.index_axis(ndarray::Axis(0), channel).indexed_iter() {
            let mut read = vec![group * self.weight.shape()[1] + at[0]];
            for axis in 0..self.spatial_rank() {
                let padded =
                    self.stride[axis] * place[axis + 1] + self.dilation[axis] * at[axis + 1];
                match padded.checked_sub(self.pad_begin[axis]) {
                    Some(position) if position < input.shape()[axis + 1] => read.push(position),
                    _ => break,
                }
            }
            if read.len() == input.ndim() {
                sum += weight * input[&read[..]];
            }
        }
        sum
    }
}
