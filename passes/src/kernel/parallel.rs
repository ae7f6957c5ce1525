//! Merges branches that read the same input and are added (L10, L11).

use ndarray::ArrayD;

use updp_ir::ConvAxis;

use super::affine_map::{AffineMap, array, check_channels, check_rank, checked_elements, gcd};
use super::compose::flat_positions;
use super::obstacle::Obstacle;

impl AffineMap {
    /// Returns the map that adds the outputs of `self` and `other`; exact.
    ///
    /// The kernel and the pads grow where one branch reaches further; taps share the largest common
    /// grid. The group count becomes `gcd(g, gₒ)`. Branches whose sizes agree for every input size need no
    /// `input_size`. Other branches, such as an unpadded 2×2 with stride 2 beside a padded 3×3, are added
    /// for the given size only.
    ///
    /// # Errors
    /// - `spatial-rank-mismatch`, `channels-mismatch`, `stride-mismatch`, `output-size-mismatch`:
    ///   not parallel.
    /// - `border-size-mismatch`: the border maps belong to different output sizes.
    /// - `kernel-exceeds-input`: the input size is too small for a branch.
    /// - `too-many-elements`, `out-of-range`: the result is too large to be of use.
    pub fn plus(&self, other: &Self, input_size: Option<&[usize]>) -> Result<Self, Obstacle> {
        self.check_parallel(other, input_size)?;
        let grids = self.grids(other);
        let groups = gcd(self.groups, other.groups);
        let kernel: Vec<usize> = grids.iter().map(|grid| grid.kernel).collect();
        let dims = [&[self.out_channels(), self.in_channels() / groups], &kernel[..]].concat();
        let mut weight = array(&dims, vec![0.0; checked_elements(&dims)?]);
        let places = grids.iter().map(|grid| &grid.own[..]);
        add_kernel(&mut weight, self.to_groups(groups)?, places);
        let places = grids.iter().map(|grid| &grid.other[..]);
        add_kernel(&mut weight, other.to_groups(groups)?, places);
        let map = Self::new(
            weight,
            vec![0.0; self.out_channels()],
            self.stride.clone(),
            grids.iter().map(|grid| grid.dilation).collect(),
            grids.iter().map(|grid| grid.begin).collect(),
            grids.iter().map(|grid| grid.end).collect(),
            groups,
        )?;
        Ok(map.with_constant(self.constant().plus(other.constant())?))
    }

    fn check_parallel(&self, other: &Self, input_size: Option<&[usize]>) -> Result<(), Obstacle> {
        let rank = self.spatial_rank();
        check_rank(rank, other.spatial_rank())?;
        check_channels(self.in_channels(), other.in_channels())?;
        check_channels(self.out_channels(), other.out_channels())?;
        for axis in 0..rank {
            let (expected, found) = (self.stride[axis], other.stride[axis]);
            if expected != found {
                return Err(Obstacle::StrideMismatch { axis, expected, found });
            }
        }
        let sizes = match input_size {
            Some(size) => Some((self.expect_output_size(size)?, other.expect_output_size(size)?)),
            None => None,
        };
        for axis in 0..rank {
            let is_always_equal = self.axis(axis).slack() == other.axis(axis).slack();
            let is_equal = sizes.as_ref().is_some_and(|(own, other)| own[axis] == other[axis]);
            if !is_always_equal && !is_equal {
                return Err(Obstacle::OutputSizeMismatch { axis });
            }
        }
        if let (Some(border), Some((size, _))) =
            (self.border.as_ref().or(other.border.as_ref()), sizes)
            && border.spatial_size() != size
        {
            let found = border.spatial_size().to_vec();
            return Err(Obstacle::BorderSizeMismatch { expected: size, found });
        }
        Ok(())
    }

    fn grids(&self, other: &Self) -> Vec<Grid> {
        (0..self.spatial_rank()).map(|axis| Grid::of(self.axis(axis), other.axis(axis))).collect()
    }
}

/// The taps of a summed kernel along one axis.
struct Grid {
    kernel: usize,
    dilation: usize,
    begin: usize,
    end: usize,
    /// Position of each own tap in the summed kernel.
    own: Vec<usize>,
    /// Position of each tap of the other branch in the summed kernel.
    other: Vec<usize>,
}

impl Grid {
    fn of(own: ConvAxis, other: ConvAxis) -> Self {
        let begin = own.begin.max(other.begin);
        let (own_start, other_start) = (begin - own.begin, begin - other.begin);
        let step = |axis: ConvAxis| if axis.kernel > 1 { axis.dilation } else { 0 };
        let dilation = gcd(gcd(step(own), step(other)), own_start.max(other_start)).max(1);
        let extent = (own_start + own.extent()).max(other_start + other.extent());
        let slack = own.slack().max(other.slack());
        let place = |axis: ConvAxis, start: usize| {
            (0..axis.kernel).map(|tap| (start + tap * axis.dilation) / dilation).collect()
        };
        Self {
            kernel: extent / dilation + 1,
            dilation,
            begin,
            end: (slack + extent as i64 - begin as i64) as usize,
            own: place(own, own_start),
            other: place(other, other_start),
        }
    }
}

/// Adds a kernel `[O, I/g, k…]` with the same channels at the given places along each axis.
fn add_kernel<'a>(
    sum: &mut ArrayD<f64>,
    map: AffineMap,
    places: impl Iterator<Item = &'a [usize]>,
) {
    let dims = sum.shape().to_vec();
    let places = flat_positions(places, dims[2..].iter().copied());
    let row = dims[2..].iter().product();
    let Some(sum) = sum.as_slice_mut() else { return };
    let mut values = map.weight.into_iter();
    for target in sum.chunks_exact_mut(row) {
        for (&place, value) in places.iter().zip(values.by_ref()) {
            target[place] += value;
        }
    }
}
