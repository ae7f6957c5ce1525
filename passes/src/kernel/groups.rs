//! Group counts: writes a grouped kernel with fewer groups.

use super::affine_map::{AffineMap, array, checked_elements};
use super::obstacle::Obstacle;

impl AffineMap {
    /// Writes the same map with fewer groups, with zeros outside the old blocks (L15).
    ///
    /// Before: `W [O, I/g, k…]`. After: `W [O, I/h, k…]` with `h = groups`.
    ///
    /// # Errors
    /// `groups-not-a-divisor` when `groups` does not divide the present group count;
    /// `too-many-elements`.
    pub fn to_groups(&self, groups: usize) -> Result<Self, Obstacle> {
        if groups == 0 || !self.groups.is_multiple_of(groups) {
            return Err(Obstacle::GroupsNotADivisor { groups, channels: self.groups });
        }
        if groups == self.groups {
            return Ok(self.clone());
        }
        let mut dims = self.weight.shape().to_vec();
        let taps: usize = dims[2..].iter().product();
        let block = dims[1] * taps;
        let merged = self.groups / groups;
        dims[1] *= merged;
        let row = block * merged;
        let mut weight = vec![0.0; checked_elements(&dims)?];
        let per_group = self.out_channels() / self.groups;
        let old = self.weight.as_standard_layout();
        let rows = old.as_slice().unwrap_or_default().chunks_exact(block.max(1));
        for (output, values) in rows.enumerate() {
            let slot = output / per_group % merged;
            let start = output * row + slot * block;
            weight[start..start + block].copy_from_slice(values);
        }
        Ok(Self { weight: array(&dims, weight), groups, ..self.clone() })
    }
}
