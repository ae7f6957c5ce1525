//! Numbers that tell how hard it is to quantize a kernel.

use ndarray::{ArrayD, Axis};

/// Spread of a kernel's weights; compare the merged kernel with its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightStatistics {
    /// `max |w|`.
    pub max_abs: f64,
    /// `sqrt(mean w²)`.
    pub rms: f64,
    /// `E(w − m)⁴ / (E(w − m)²)²`; 3 for a normal distribution, 0 for constant weights.
    pub kurtosis: f64,
    /// Largest `max |w|` of an output channel divided by the smallest that is not zero; 1 if there are no
    /// such channels.
    pub per_channel_range_ratio: f64,
}

/// Computes the statistics of a kernel `[O, …]`; an empty kernel gives zeros and ratio 1.
#[must_use]
pub fn weight_statistics(weight: &ArrayD<f64>) -> WeightStatistics {
    let count = weight.len().max(1) as f64;
    let mean = weight.sum() / count;
    let (mut max_abs, mut squares) = (0.0_f64, 0.0);
    let (mut second, mut fourth) = (0.0, 0.0);
    for value in weight {
        max_abs = max_abs.max(value.abs());
        squares += value * value;
        let square = (value - mean) * (value - mean);
        second += square;
        fourth += square * square;
    }
    let (variance, fourth) = (second / count, fourth / count);
    // The variance of a constant kernel is rounding noise, and its ratio means nothing.
    let is_spread = variance > max_abs * max_abs * 1e-24;
    let (mut largest, mut smallest) = (0.0_f64, f64::INFINITY);
    if weight.ndim() > 0 {
        for channel in weight.axis_iter(Axis(0)) {
            let range = self::max_abs(channel.iter());
            if range > 0.0 {
                largest = largest.max(range);
                smallest = smallest.min(range);
            }
        }
    }
    WeightStatistics {
        max_abs,
        rms: (squares / count).sqrt(),
        kurtosis: if is_spread { fourth / (variance * variance) } else { 0.0 },
        per_channel_range_ratio: if largest > 0.0 { largest / smallest } else { 1.0 },
    }
}

fn max_abs<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    values.fold(0.0, |max, value| value.abs().max(max))
}

#[cfg(test)]
mod tests {
    use ndarray::{IxDyn, array};

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12
    }

    #[test]
    fn describes_a_small_kernel() {
        let found = weight_statistics(&array![[1.0, -1.0], [4.0, -4.0], [0.0, 0.0]].into_dyn());
        assert!(close(found.max_abs, 4.0));
        assert!(close(found.rms, (34.0_f64 / 6.0).sqrt()));
        assert!(close(found.kurtosis, (514.0 / 6.0) / (34.0_f64 / 6.0).powi(2)));
        assert!(close(found.per_channel_range_ratio, 4.0));
    }

    #[test]
    fn survives_empty_and_constant_kernels() {
        let empty = weight_statistics(&ArrayD::zeros(IxDyn(&[0, 3])));
        assert!(close(empty.max_abs, 0.0) && close(empty.per_channel_range_ratio, 1.0));
        let constant = weight_statistics(&ArrayD::from_elem(IxDyn(&[7, 3]), 0.1));
        assert!(close(constant.kurtosis, 0.0) && close(constant.rms, 0.1));
    }
}
