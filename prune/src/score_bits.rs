//! Scores as files keep them: to the last bit, also where a value is infinite or no number.

use serde::{Deserialize, Serialize};
use updp_trainer::evaluator::Score;

/// A score; each value as the bits of an f64.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ScoreBits {
    images: usize,
    accuracy: Option<u64>,
    top5: Option<u64>,
    agreement: Option<u64>,
    overlap: u64,
    kl: u64,
}

impl From<Score> for ScoreBits {
    fn from(Score { images, accuracy, top5, agreement, overlap, kl }: Score) -> Self {
        Self {
            images,
            accuracy: accuracy.map(f64::to_bits),
            top5: top5.map(f64::to_bits),
            agreement: agreement.map(f64::to_bits),
            overlap: overlap.to_bits(),
            kl: kl.to_bits(),
        }
    }
}

impl From<ScoreBits> for Score {
    fn from(bits: ScoreBits) -> Self {
        Self {
            images: bits.images,
            accuracy: bits.accuracy.map(f64::from_bits),
            top5: bits.top5.map(f64::from_bits),
            agreement: bits.agreement.map(f64::from_bits),
            overlap: f64::from_bits(bits.overlap),
            kl: f64::from_bits(bits.kl),
        }
    }
}
