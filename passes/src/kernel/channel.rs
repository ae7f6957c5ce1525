//! Per-channel factors and shifts before and after a map (L7, L8, L13).

use ndarray::Axis;

use super::affine_map::{AffineMap, check_channels};
use super::border::{Constant, constant_image_response};
use super::obstacle::Obstacle;

impl AffineMap {
    /// Returns the map `scale[o] · y[o]`: scales kernel, bias and border.
    ///
    /// # Errors
    /// `channels-mismatch` when `scale` is not `[O]`.
    pub fn scale_rows(&self, scale: &[f64]) -> Result<Self, Obstacle> {
        check_channels(self.out_channels(), scale.len())?;
        let mut map = self.clone();
        for (mut kernel, &factor) in map.weight.outer_iter_mut().zip(scale) {
            kernel *= factor;
        }
        let constant = self.constant().scaled(scale);
        Ok(map.with_constant(constant))
    }

    /// Returns the map that reads `scale[i] · x[i]`: scales the kernel only.
    ///
    /// For `y(a·x + c)` call [`Self::shift_input`] with `c` first, or compose a diagonal with this
    /// map.
    ///
    /// # Errors
    /// `channels-mismatch` when `scale` is not `[I]`.
    pub fn scale_cols(&self, scale: &[f64]) -> Result<Self, Obstacle> {
        check_channels(self.in_channels(), scale.len())?;
        let mut map = self.clone();
        let (outputs, inputs) = (self.out_channels() / self.groups, self.weight.shape()[1]);
        for (output, mut kernels) in map.weight.outer_iter_mut().enumerate() {
            let first = output / outputs * inputs;
            for (mut kernel, &factor) in kernels.axis_iter_mut(Axis(0)).zip(&scale[first..]) {
                kernel *= factor;
            }
        }
        Ok(map)
    }

    /// Returns the map that reads `x[i] + shift[i]`, while the padding stays zero.
    ///
    /// Exact. The shift becomes a bias if nothing is padded or every shift is 0, otherwise a border map. The
    /// border map needs `input_size`, the spatial size of `x`; `None` if it is not known.
    ///
    /// # Errors
    /// `channels-mismatch` when `shift` is not `[I]`; `symbolic-spatial` when a border map is
    /// needed and the size is not known; `kernel-exceeds-input`, `spatial-rank-mismatch`,
    /// `border-size-mismatch` or `too-many-elements` when the size does not fit.
    pub fn shift_input(
        &self,
        shift: &[f64],
        input_size: Option<&[usize]>,
    ) -> Result<Self, Obstacle> {
        check_channels(self.in_channels(), shift.len())?;
        if shift.iter().all(|&shift| shift == 0.0) {
            return Ok(self.clone());
        }
        let response = match input_size {
            _ if self.is_unpadded() => Constant::Channel(self.interior_response(shift)),
            Some(size) => Constant::Image(constant_image_response(self, shift, size)?),
            None => return Err(Obstacle::SymbolicSpatial),
        };
        let constant = self.constant().plus(response)?;
        Ok(self.clone().with_constant(constant))
    }

    /// Returns the map `−y`.
    #[must_use]
    pub fn negated(&self) -> Self {
        let weight = self.weight.mapv(|value| -value);
        let constant = self.constant().scaled(&vec![-1.0; self.out_channels()]);
        Self { weight, ..self.clone() }.with_constant(constant)
    }
}
