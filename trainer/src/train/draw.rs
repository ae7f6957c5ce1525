//! Random numbers of one image in one epoch.

use crate::seed::Generator;

/// A generator that depends only on its three numbers.
#[derive(Clone, Debug)]
pub(super) struct Draw(Generator);

impl Draw {
    /// The generator for (seed, epoch, image).
    pub(super) fn of(seed: u64, epoch: u64, image: u64) -> Self {
        let mut state = seed;
        for part in [epoch, image] {
            // A step between the parts, so that (1, 2) and (2, 1) are far apart.
            state = Generator::new(state).bits() ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93);
        }
        Self(Generator::new(state))
    }

    /// Draws uniformly from `0..1`.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Draws uniformly from the integers below `count`, which is not 0.
    pub(super) fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.0.bits()) * u128::from(count)) >> 64) as u64
    }

    /// Draws uniformly between two numbers.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Draws between two positive numbers, uniformly in their logarithm.
    pub(super) fn ratio(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// Returns `true` with this probability.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Draws from Beta(α, α), 0 < α ≤ 2, by Jöhnk's rejection: `X/(X + Y)` with `X = U^(1/α)`, `Y = V^(1/α)`,
    /// `X + Y ≤ 1`.
    pub(super) fn beta(&mut self, alpha: f64) -> f64 {
        loop {
            let (x, y) = (self.unit().powf(1.0 / alpha), self.unit().powf(1.0 / alpha));
            if x + y > 0.0 && x + y <= 1.0 {
                return x / (x + y);
            }
        }
    }

    /// Shuffles items as [`Generator::shuffle`] does.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        self.0.shuffle(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_three_numbers_matters() {
        let first = |a, b, c| Draw::of(a, b, c).unit();
        let all = [first(1, 2, 3), first(2, 1, 3), first(1, 3, 2), first(3, 2, 1), first(0, 0, 0)];
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other != one));
        }
        assert_eq!(first(1, 2, 3), first(1, 2, 3));
    }

    #[test]
    fn beta_has_its_mean_and_variance() {
        // Var = 1 / (4·(2α + 1)).
        for alpha in [0.2, 1.0, 2.0] {
            let mut draw = Draw::of(5, 0, 0);
            let drawn: Vec<f64> = (0..20_000).map(|_| draw.beta(alpha)).collect();
            let mean = drawn.iter().sum::<f64>() / 20_000.0;
            let variance = drawn.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 20_000.0;
            assert!((mean - 0.5).abs() < 0.01, "{alpha}: {mean}");
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!((variance / expected - 1.0).abs() < 0.05, "{alpha}: {variance}");
        }
    }

    #[test]
    fn numbers_stay_in_their_range_and_reach_both_ends() {
        let mut draw = Draw::of(1, 0, 0);
        let drawn: Vec<u64> = (0..500).map(|_| draw.below(5)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&0), Some(&4)));
        assert!((0..500).all(|_| (0.5..2.0).contains(&draw.ratio(0.5, 2.0))));
        assert!(!draw.happens(0.0) && draw.happens(1.0));
    }
}
