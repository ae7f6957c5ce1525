//! The per-channel affine map of a normalization in inference form.

use super::affine_map::{AffineMap, check_channels};
use super::obstacle::Obstacle;

/// A batch normalization as `y[c] = scale[c] · x[c] + shift[c]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNormAffine {
    /// `a = gamma / sqrt(var + eps)`, `[C]`.
    pub scale: Vec<f64>,
    /// `c = beta − a·mean`, `[C]`.
    pub shift: Vec<f64>,
}

impl BatchNormAffine {
    /// Returns `max |a|`; a huge value means that rounding of the input is amplified.
    #[must_use]
    pub fn max_abs_scale(&self) -> f64 {
        self.scale.iter().fold(0.0, |max, scale| scale.abs().max(max))
    }

    /// Returns per channel the input `−c/a` that maps to 0 (L7), `None` where a channel has `a = 0`
    /// and `c ≠ 0`.
    #[must_use]
    pub fn neutral_input(&self) -> Option<Vec<f64>> {
        let neutral = |(&scale, &shift): (&f64, &f64)| {
            if shift == 0.0 {
                Some(0.0)
            } else if scale == 0.0 {
                None
            } else {
                Some(-shift / scale)
            }
        };
        self.scale.iter().zip(&self.shift).map(neutral).collect()
    }

    /// Returns the map as a depthwise 1×1 convolution.
    ///
    /// # Errors
    /// `channels-mismatch` when the two lists differ in length.
    pub fn to_map(&self, spatial_rank: usize) -> Result<AffineMap, Obstacle> {
        AffineMap::diagonal(&self.scale, &self.shift, spatial_rank)
    }
}

/// Computes the affine numbers of a batch normalization from its five parameters, each `[C]` but
/// `epsilon`.
///
/// `a = gamma / sqrt(var + eps)`, `c = beta − a·mean`.
///
/// # Errors
/// `channels-mismatch` when the lists differ in length; `variance-not-positive`; `not-finite`.
pub fn batch_norm_affine(
    gamma: &[f64],
    beta: &[f64],
    mean: &[f64],
    variance: &[f64],
    epsilon: f64,
) -> Result<BatchNormAffine, Obstacle> {
    for list in [beta, mean, variance] {
        check_channels(gamma.len(), list.len())?;
    }
    let mut affine = BatchNormAffine { scale: Vec::new(), shift: Vec::new() };
    for channel in 0..gamma.len() {
        let power = variance[channel] + epsilon;
        if power <= 0.0 {
            return Err(Obstacle::VarianceNotPositive { channel });
        }
        let scale = gamma[channel] / power.sqrt();
        let shift = beta[channel] - scale * mean[channel];
        if !scale.is_finite() || !shift.is_finite() {
            return Err(Obstacle::NotFinite { channel });
        }
        affine.scale.push(scale);
        affine.shift.push(shift);
    }
    Ok(affine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_definition() {
        let affine = batch_norm_affine(&[2.0], &[0.5], &[3.0], &[3.75], 0.25).unwrap();
        assert_eq!((affine.scale[0], affine.shift[0]), (1.0, -2.5));
        assert!((affine.max_abs_scale() - 1.0).abs() < 1e-15);
        assert_eq!(affine.neutral_input(), Some(vec![2.5]));
        assert_eq!(affine.to_map(2), AffineMap::diagonal(&[1.0], &[-2.5], 2));
    }

    #[test]
    fn has_no_neutral_input_when_gamma_is_zero() {
        let affine = batch_norm_affine(&[0.0], &[0.5], &[3.0], &[1.0], 0.0).unwrap();
        assert_eq!(affine.neutral_input(), None);
    }

    #[test]
    fn refuses_unusable_parameters() {
        let reason = |gamma: &[f64], mean: &[f64], variance: f64| {
            batch_norm_affine(gamma, &[0.0], mean, &[variance], 1e-5).unwrap_err().reason()
        };
        assert_eq!(reason(&[1.0], &[0.0], -1.0), "variance-not-positive");
        assert_eq!(reason(&[f64::NAN], &[0.0], 1.0), "not-finite");
        assert_eq!(reason(&[1.0], &[0.0], f64::NAN), "not-finite");
        assert_eq!(reason(&[1.0], &[0.0, 0.0], 1.0), "channels-mismatch");
    }
}
