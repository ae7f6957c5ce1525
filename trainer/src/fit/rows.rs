//! Draws rows for the normal equations from tensors. A row holds the inputs of an operator at one position.

use std::borrow::Cow;

use updp_ir::{ConvGeometry, DataType, Tensor};

use super::table::Table;
use crate::seed::Generator;

/// Rows of one block: the inputs of its operator, the outputs of the original and the values of the shortcut.
#[derive(Debug)]
pub(super) struct Rows {
    /// Inputs `[R, C·T]`.
    pub(super) x: Table,
    /// The original's sum before the end activation `[R, O]`.
    pub(super) z: Table,
    /// The shortcut in the network pruned so far `[R, O]`; zeros without one.
    pub(super) s: Table,
}

/// Tensors of one batch.
pub(super) struct Batch<'a> {
    /// Inputs of the operator.
    pub(super) features: &'a Tensor,
    /// Values at the end of the original's branch.
    pub(super) end: &'a Tensor,
    /// The original's shortcut.
    pub(super) original: Option<&'a Tensor>,
    /// The shortcut of the network pruned so far.
    pub(super) current: Option<&'a Tensor>,
}

/// The positions of the channels, and the window.
pub(super) struct Layout<'a> {
    pub(super) feature_axis: usize,
    pub(super) end_axis: usize,
    pub(super) window: &'a ConvGeometry,
}

/// Elements of a tensor as f32, without a copy if they are f32 already; `None` if they are not numbers.
pub(crate) fn floats(tensor: &Tensor) -> Option<Cow<'_, [f32]>> {
    if tensor.dtype() == DataType::Float {
        return Some(match bytemuck::try_cast_slice(tensor.bytes()) {
            Ok(values) => Cow::Borrowed(values),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(tensor.bytes())),
        });
    }
    Some(Cow::Owned(tensor.to_f64()?.into_iter().map(|v| v as f32).collect()))
}

/// Access to the elements of a tensor by image, position and channel.
pub(super) struct Grid<'a> {
    values: Cow<'a, [f32]>,
    /// All dimensions except batch and channels.
    spatial: Vec<usize>,
    channels: usize,
    /// Step between images, channels, positions along each of `spatial`.
    image_step: usize,
    channel_step: usize,
    steps: Vec<usize>,
}

impl<'a> Grid<'a> {
    pub(super) fn of(tensor: &'a Tensor, axis: usize) -> Option<Self> {
        let dims = tensor.dims();
        let mut strides = vec![1; dims.len()];
        for at in (0..dims.len().saturating_sub(1)).rev() {
            strides[at] = strides[at + 1] * dims[at + 1];
        }
        let others: Vec<usize> = (1..dims.len()).filter(|at| *at != axis).collect();
        Some(Self {
            values: floats(tensor)?,
            spatial: others.iter().map(|at| dims[*at]).collect(),
            channels: *dims.get(axis)?,
            image_step: *strides.first()?,
            channel_step: strides[axis],
            steps: others.iter().map(|at| strides[*at]).collect(),
        })
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Adds `count` drawn positions of an image, one row per position.
    pub(super) fn draw(
        &self,
        image: usize,
        count: usize,
        random: &mut Generator,
        rows: &mut Vec<f32>,
    ) {
        for index in random.choose(count, self.positions()) {
            self.push(self.offset(image, &unravel(index, &self.spatial)), rows);
        }
    }

    fn positions(&self) -> usize {
        self.spatial.iter().product()
    }

    /// Offset of a position of an image.
    fn offset(&self, image: usize, position: &[usize]) -> usize {
        let place: usize = position.iter().zip(&self.steps).map(|(p, s)| p * s).sum();
        image * self.image_step + place
    }

    fn push(&self, offset: usize, table: &mut Vec<f32>) {
        table.extend((0..self.channels).map(|c| self.values[offset + c * self.channel_step]));
    }
}

fn unravel(mut index: usize, dims: &[usize]) -> Vec<usize> {
    let mut place = vec![0; dims.len()];
    for (at, dim) in dims.iter().enumerate().rev() {
        place[at] = index % dim;
        index /= dim;
    }
    place
}

impl Rows {
    pub(super) fn new(unknowns: usize, outputs: usize) -> Self {
        Self { x: Table::new(unknowns), z: Table::new(outputs), s: Table::new(outputs) }
    }

    pub(super) fn count(&self) -> usize {
        self.z.rows()
    }

    /// Draws `count` positions of every image of a batch. `None` if the tensors do not match each other.
    pub(super) fn draw(
        &mut self,
        batch: &Batch<'_>,
        layout: &Layout<'_>,
        count: usize,
        random: &mut Generator,
    ) -> Option<()> {
        let features = Grid::of(batch.features, layout.feature_axis)?;
        let end = Grid::of(batch.end, layout.end_axis)?;
        let original = match batch.original {
            Some(tensor) => Some(Grid::of(tensor, layout.end_axis)?),
            None => None,
        };
        let current = match batch.current {
            Some(tensor) => Some(Grid::of(tensor, layout.end_axis)?),
            None => None,
        };
        let images = *batch.end.dims().first()?;
        let fits =
            |other: &Grid<'_>| other.spatial == end.spatial && other.channels == end.channels;
        if !original.iter().chain(&current).all(fits) || *batch.features.dims().first()? != images {
            return None;
        }
        let window = layout.window;
        let is_plain = window.taps() == 1 && window.stride.iter().all(|s| *s == 1);
        if is_plain && features.positions() != end.positions() {
            return None;
        }
        for image in 0..images {
            for index in random.choose(count, end.positions()) {
                let place = unravel(index, &end.spatial);
                if is_plain {
                    features.push(features.offset(image, &place), &mut self.x.values);
                } else {
                    patch(&features, image, &place, window, &mut self.x.values);
                }
                let from = self.z.values.len();
                end.push(end.offset(image, &place), &mut self.z.values);
                if let Some(original) = &original {
                    let offset = original.offset(image, &place);
                    for channel in 0..original.channels {
                        self.z.values[from + channel] +=
                            original.values[offset + channel * original.channel_step];
                    }
                }
                match &current {
                    Some(current) => {
                        current.push(current.offset(image, &place), &mut self.s.values);
                    }
                    None => self.s.values.extend(std::iter::repeat_n(0.0, end.channels)),
                }
            }
        }
        Some(())
    }
}

/// The inputs of a kernel at one position, channel by channel and tap by tap; zeros outside the image.
fn patch(
    grid: &Grid<'_>,
    image: usize,
    place: &[usize],
    window: &ConvGeometry,
    out: &mut Vec<f32>,
) {
    let taps: Vec<Option<usize>> = (0..window.taps())
        .map(|tap| {
            let tap = unravel(tap, &window.kernel);
            let mut at = Vec::with_capacity(place.len());
            for axis in 0..place.len() {
                let index = place[axis] * window.stride[axis] + tap[axis] * window.dilation[axis];
                let index = index.checked_sub(window.pad_begin[axis])?;
                if index >= grid.spatial[axis] {
                    return None;
                }
                at.push(index);
            }
            Some(grid.offset(image, &at))
        })
        .collect();
    for channel in 0..grid.channels {
        let step = channel * grid.channel_step;
        out.extend(taps.iter().map(|tap| tap.map_or(0.0, |offset| grid.values[offset + step])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(dims: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..dims.iter().product::<usize>()).map(|v| v as f32).collect();
        Tensor::from_f32(dims.to_vec(), &values).expect("fits")
    }

    #[test]
    fn a_row_is_what_the_kernel_sees_with_zeros_outside() {
        let features = counted(&[1, 2, 3, 3]);
        let end = counted(&[1, 1, 2, 2]);
        let window = ConvGeometry {
            kernel: vec![3, 3],
            stride: vec![2, 2],
            dilation: vec![1, 1],
            pad_begin: vec![1, 1],
            pad_end: vec![1, 1],
        };
        let mut rows = Rows::new(18, 1);
        let layout = Layout { feature_axis: 1, end_axis: 1, window: &window };
        let batch = Batch { features: &features, end: &end, original: Some(&end), current: None };
        rows.draw(&batch, &layout, 10, &mut Generator::new(1)).expect("they fit");
        assert_eq!(rows.count(), 4);
        assert_eq!(
            rows.x.values[..18],
            [
                0., 0., 0., 0., 0., 1., 0., 3., 4., //
                0., 0., 0., 0., 9., 10., 0., 12., 13.
            ]
        );
        assert_eq!(rows.z.values, [0., 2., 4., 6.]);
        assert_eq!(rows.s.values, [0.; 4]);
    }

    #[test]
    fn channels_may_lie_last_on_one_side_only() {
        let features = counted(&[1, 2, 1, 3]); // NHWC: 2x1 positions, 3 channels
        let end = counted(&[1, 3, 2, 1]); // NCHW
        let window = ConvGeometry::default();
        let mut rows = Rows::new(3, 3);
        let layout = Layout { feature_axis: 3, end_axis: 1, window: &window };
        let batch = Batch { features: &features, end: &end, original: None, current: None };
        rows.draw(&batch, &layout, 10, &mut Generator::new(1)).expect("they fit");
        assert_eq!(rows.x.values, [0., 1., 2., 3., 4., 5.]);
        assert_eq!(rows.z.values, [0., 2., 4., 1., 3., 5.]);
    }

    #[test]
    fn tensors_that_do_not_fit_are_refused() {
        let window = ConvGeometry::default();
        let layout = Layout { feature_axis: 2, end_axis: 2, window: &window };
        let (features, end) = (counted(&[1, 4, 2]), counted(&[1, 5, 2]));
        let batch = Batch { features: &features, end: &end, original: None, current: None };
        assert!(Rows::new(2, 2).draw(&batch, &layout, 3, &mut Generator::new(1)).is_none());
    }
}
