//! The per-channel affine map of a normalization in inference form.

use super::affine_map::check_channels;
use super::obstacle::Obstacle;

/// A batch normalization as `y[c] = scale[c] · x[c] + shift[c]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNormAffine {
    /// `a = gamma / sqrt(var + eps)`, `[C]`.
    pub scale: Vec<f64>,
    /// `c = beta − a·mean`, `[C]`.
    pub shift: Vec<f64>,
}

/// Computes the affine numbers of a batch normalization from its five parameters, each `[C]` except
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
