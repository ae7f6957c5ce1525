//! Composes two maps in a row into a single map (L1–L5, L15).

use ndarray::{Array2, ArrayD, s};

use updp_ir::ConvAxis;

use super::affine_map::{AffineMap, array, check_channels, check_rank, checked_elements, gcd};
use super::border::{Constant, constant_image_response, cubed, image_response};
use super::obstacle::Obstacle;

impl AffineMap {
    /// Returns the map that applies `self`, then `next`; exact.
    ///
    /// `W[o,c,t] = Σ_m Σ_{d₁u + s₁d₂v = t} W₂[o,m,v]·W₁[m,c,u]`, `s = s₁s₂`, `P = P₁ + s₁P₂`,
    /// groups `gcd(g₁, g₂)`. Taps that are zero for every weight are skipped by a dilation. A bias
    /// behind which `next` pads becomes a border map, which needs `input_size`, the spatial size
    /// `self` reads; `None` when it is not known. With a known size the result may be exact for
    /// this size only.
    ///
    /// # Errors
    /// - `spatial-rank-mismatch`, `channels-mismatch`, `kernel-exceeds-input`,
    ///   `border-size-mismatch`: the maps do not fit each other or the size.
    /// - `inner-padding`: padding of `next` lies where `self` would still see its input (L5).
    /// - `symbolic-spatial`: a border map is needed and the size is not known (L4).
    /// - `too-many-elements`, `out-of-range`: the result is too large to be of use.
    pub fn then(&self, next: &Self, input_size: Option<&[usize]>) -> Result<Self, Obstacle> {
        let rank = self.spatial_rank();
        check_rank(rank, next.spatial_rank())?;
        check_channels(next.in_channels(), self.out_channels())?;
        let middle_size = self.middle_size(next, input_size)?;
        for axis in 0..rank {
            let input = input_size.map(|size| size[axis]);
            check_ring(axis, self.axis(axis), next.axis(axis), input)?;
        }
        let constant = composed_constant(self, next, middle_size.as_deref())?;
        let grids: Vec<Grid> =
            (0..rank).map(|axis| Grid::of(self.axis(axis), next.axis(axis))).collect();
        let moved = |first: &[usize], second: &[usize]| -> Vec<usize> {
            (0..rank).map(|axis| first[axis] + self.stride[axis] * second[axis]).collect()
        };
        let map = Self::new(
            composed_weight(self, next, &grids)?,
            vec![0.0; next.out_channels()],
            (0..rank).map(|axis| self.stride[axis] * next.stride[axis]).collect(),
            grids.iter().map(|grid| grid.dilation).collect(),
            moved(&self.pad_begin, &next.pad_begin),
            moved(&self.pad_end, &next.pad_end),
            gcd(self.groups, next.groups),
        )?;
        Ok(map.with_constant(constant))
    }

    /// Returns the size between the maps where the input size or a border tells it.
    fn middle_size(
        &self,
        next: &Self,
        input: Option<&[usize]>,
    ) -> Result<Option<Vec<usize>>, Obstacle> {
        let middle = match (input, &self.border) {
            (Some(input), border) => {
                let middle = self.expect_output_size(input)?;
                if let Some(border) = border
                    && border.spatial_size() != middle
                {
                    let found = border.spatial_size().to_vec();
                    return Err(Obstacle::BorderSizeMismatch { expected: middle, found });
                }
                middle
            }
            (None, Some(border)) => border.spatial_size().to_vec(),
            (None, None) => return Ok(None),
        };
        let output = next.expect_output_size(&middle)?;
        if let Some(border) = &next.border
            && border.spatial_size() != output
        {
            let found = border.spatial_size().to_vec();
            return Err(Obstacle::BorderSizeMismatch { expected: output, found });
        }
        Ok(Some(middle))
    }
}

/// Checks that the first map would read only zeros if it continued into the second map's padding (L3,
/// L5).
fn check_ring(
    axis: usize,
    first: ConvAxis,
    next: ConvAxis,
    input: Option<usize>,
) -> Result<(), Obstacle> {
    let obstacle = |padding| Err(Obstacle::InnerPadding { axis, kernel: first.kernel, padding });
    if next.begin > 0 && first.extent() >= first.stride + first.begin {
        return obstacle(next.begin);
    }
    let is_clear = || input.is_some_and(|input| end_ring_is_clear(first, next, input));
    if next.end > 0 && first.extent() > first.end && !is_clear() {
        return obstacle(next.end);
    }
    Ok(())
}

/// Tells whether, at this input size, the end padding is never read or the first map would see only
/// zeros there.
fn end_ring_is_clear(first: ConvAxis, next: ConvAxis, input: usize) -> bool {
    let Some(middle) = first.output_size(input) else { return false };
    let Some(output) = next.output_size(middle) else { return false };
    let is_unread = (output - 1) * next.stride + next.extent() < middle + next.begin;
    is_unread || first.stride * middle >= input + first.begin
}

fn composed_constant(
    first: &AffineMap,
    next: &AffineMap,
    middle_size: Option<&[usize]>,
) -> Result<Constant, Obstacle> {
    let carried = match (&first.border, middle_size) {
        (Some(border), _) => Constant::Image(image_response(next, &border.map)?),
        (None, _) if first.bias.iter().all(|&bias| bias == 0.0) => return Ok(next.constant()),
        (None, _) if next.is_unpadded() => Constant::Channel(next.interior_response(&first.bias)),
        (None, Some(size)) => Constant::Image(constant_image_response(next, &first.bias, size)?),
        (None, None) => return Err(Obstacle::SymbolicSpatial),
    };
    carried.plus(next.constant())
}

/// The taps of a composed kernel along one axis.
struct Grid {
    kernel: usize,
    dilation: usize,
    /// Position in the composed kernel of each tap of the first map.
    first: Vec<usize>,
    /// Position in the composed kernel of each tap of the second map.
    next: Vec<usize>,
}

impl Grid {
    fn of(first: ConvAxis, next: ConvAxis) -> Self {
        let outer = first.stride * next.dilation;
        let of_first = if first.kernel > 1 { first.dilation } else { 0 };
        let of_next = if next.kernel > 1 { outer } else { 0 };
        let dilation = gcd(of_first, of_next).max(1);
        Self {
            kernel: (first.extent() + first.stride * next.extent()) / dilation + 1,
            dilation,
            first: (0..first.kernel).map(|tap| tap * first.dilation / dilation).collect(),
            next: (0..next.kernel).map(|tap| tap * outer / dilation).collect(),
        }
    }
}

/// Returns the row-major flat index of every combination of positions, with one list of positions per
/// axis.
pub(super) fn flat_positions<'a>(
    positions: impl Iterator<Item = &'a [usize]>,
    dims: impl Iterator<Item = usize>,
) -> Vec<usize> {
    let mut flat = vec![0];
    for (positions, dim) in positions.zip(dims) {
        flat = flat
            .iter()
            .flat_map(|outer| positions.iter().map(move |inner| outer * dim + inner))
            .collect();
    }
    flat
}

/// Multiplies the kernels. If one map is diagonal this is a scaling. Otherwise it is one matrix product
/// per tap of the second map and run of channels that lie in one group of either map. So depthwise
/// kernels cost their weights and dense kernels a plain matrix product.
fn composed_weight(
    first: &AffineMap,
    next: &AffineMap,
    grids: &[Grid],
) -> Result<ArrayD<f64>, Obstacle> {
    if let Some(scale) = first.diagonal_scale() {
        return Ok(next.scale_cols(&scale)?.weight);
    }
    if let Some(scale) = next.diagonal_scale() {
        return Ok(first.scale_rows(&scale)?.weight);
    }
    let groups = gcd(first.groups, next.groups);
    let (outputs, middle) = (next.out_channels(), first.out_channels());
    let inputs = first.in_channels() / groups;
    let kernel: Vec<usize> = grids.iter().map(|grid| grid.kernel).collect();
    let dims = [&[outputs, inputs], &kernel[..]].concat();
    let mut weight = vec![0.0; checked_elements(&dims)?];
    let taps: usize = kernel.iter().product();
    let of_first = flat_positions(grids.iter().map(|grid| &grid.first[..]), kernel.iter().copied());
    let of_next = flat_positions(grids.iter().map(|grid| &grid.next[..]), kernel.iter().copied());

    let first_inputs = first.weight.shape()[1];
    let right = cubed(&first.weight, [middle, 1, first_inputs * of_first.len()]);
    let right = right.index_axis(ndarray::Axis(1), 0); // [M, I/g₁·U]
    let left = cubed(&next.weight, [outputs, next.weight.shape()[1], of_next.len()]); // [O, M/g₂, V]
    let (first_run, next_run) = (middle / first.groups, middle / next.groups);
    let mut start = 0;
    while start < middle {
        let (first_group, next_group) = (start / first_run, start / next_run);
        let end = ((first_group + 1) * first_run).min((next_group + 1) * next_run);
        let rows = outputs / next.groups;
        let first_row = next_group * rows;
        let first_column = first_group % (first.groups / groups) * first_inputs;
        let columns = start - next_group * next_run..end - next_group * next_run;
        for (tap, &tap_position) in of_next.iter().enumerate() {
            let factor = left.slice(s![first_row..first_row + rows, columns.clone(), tap]);
            let product = factor.dot(&right.slice(s![start..end, ..])); // [O/g₂, I/g₁·U]
            let place = Place { first_row, first_column, inputs, taps, tap: tap_position };
            place.add(&product, &of_first, &mut weight);
        }
        start = end;
    }
    Ok(array(&dims, weight))
}

/// The place of a block product in the composed kernel.
struct Place {
    first_row: usize,
    first_column: usize,
    inputs: usize,
    taps: usize,
    tap: usize,
}

impl Place {
    fn add(&self, product: &Array2<f64>, of_first: &[usize], weight: &mut [f64]) {
        for (row, values) in product.outer_iter().enumerate() {
            let start =
                ((self.first_row + row) * self.inputs + self.first_column) * self.taps + self.tap;
            for (index, value) in values.iter().enumerate() {
                let (input, tap) = (index / of_first.len(), index % of_first.len());
                weight[start + input * self.taps + of_first[tap]] += value;
            }
        }
    }
}
