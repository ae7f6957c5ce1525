//! Warns when a merge makes weights harder to quantize.

use crate::kernel::{AffineMap, weight_statistics};
use crate::lift::Linear;
use crate::patch::Patch;

/// The merged figure must be this many times the worst part's figure before the rule warns.
const GROWTH: f64 = 4.0;
/// A range ratio between channels below this costs the smallest channel at most four of eight bits.
const MIN_RANGE_RATIO: f64 = 16.0;
/// Kurtosis below this is typical of ordinary trained weights (a normal distribution has 3).
const MIN_KURTOSIS: f64 = 20.0;

/// Compares the merged kernel with its parts. Warns of a range between channels (bad for per-tensor
/// scales) or of outliers (bad for any scale) that none of the parts had.
pub fn compare<'a>(patch: &mut Patch, parts: impl Iterator<Item = &'a Linear>, merged: &AffineMap) {
    let merged = weight_statistics(&merged.weight);
    if merged.per_channel_range_ratio <= MIN_RANGE_RATIO && merged.kurtosis <= MIN_KURTOSIS {
        return;
    }
    let (mut range_ratio, mut kurtosis) = (1.0_f64, 3.0_f64);
    for part in parts.filter_map(Linear::map) {
        let part = weight_statistics(&part.weight);
        range_ratio = range_ratio.max(part.per_channel_range_ratio);
        kurtosis = kurtosis.max(part.kurtosis);
    }
    let found = merged.per_channel_range_ratio;
    if found > MIN_RANGE_RATIO.max(GROWTH * range_ratio) {
        patch.warn(format!(
            "the channels' ranges now differ {found:.0}-fold ({range_ratio:.0}-fold before): \
             quantize this weight per channel"
        ));
    }
    let found = merged.kurtosis;
    if found > MIN_KURTOSIS.max(GROWTH * kurtosis) {
        patch.warn(format!(
            "the weights now have outliers (kurtosis {found:.0}, {kurtosis:.0} before): \
             check the accuracy after quantization to 8 bits"
        ));
    }
}
