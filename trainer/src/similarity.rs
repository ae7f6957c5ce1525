//! How close one row of outputs is to another.

/// `Σ min(p, q)` of the two class distributions.
pub(crate) fn overlap(old: &[f32], new: &[f32]) -> f64 {
    let (p, q) = (distribution(old), distribution(new));
    // The minimum of a number and NaN would return the number.
    if !p.iter().chain(&q).all(|share| share.is_finite()) {
        return 0.0;
    }
    p.iter().zip(&q).map(|(p, q)| p.min(*q)).sum()
}

/// The softmax of the row, or the row itself if it is a distribution already.
pub(crate) fn distribution(row: &[f32]) -> Vec<f64> {
    if is_distribution(row) {
        return row.iter().map(|v| f64::from(*v)).collect();
    }
    let most = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let powers: Vec<f64> = row.iter().map(|v| (f64::from(*v) - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Whether the row holds probabilities and not logits.
pub(crate) fn is_distribution(row: &[f32]) -> bool {
    let sum: f64 = row.iter().map(|v| f64::from(*v)).sum();
    (sum - 1.0).abs() < 1e-3 && row.iter().all(|v| *v >= 0.0)
}

/// `KL(p ‖ q) = Σ p·ln(p/q)` of the two class distributions, in nats; infinite if a score of `new` is not finite.
pub(crate) fn kl(old: &[f32], new: &[f32]) -> f64 {
    let (p, q) = (distribution(old), distribution(new));
    if !q.iter().all(|share| share.is_finite()) {
        return f64::INFINITY;
    }
    let pairs = p.iter().zip(&q).filter(|(p, _)| **p > 0.0);
    // The distributions of two rows of logits never hold an exact zero, but rows of probabilities may.
    pairs.map(|(p, q)| p * (p / q.max(1e-12)).ln()).sum::<f64>().max(0.0)
}

/// `a·b / √(a·a · b·b)`; 0 where it is not finite.
pub(crate) fn cosine(old: &[f32], new: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let norm = (dot(old, old) * dot(new, new)).sqrt();
    let cosine = if norm > 0.0 { dot(old, new) / norm } else { f64::from(old == new) };
    if cosine.is_finite() { cosine } else { 0.0 }
}
