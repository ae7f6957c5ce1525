//! Numbers drawn from a seed, the same on every machine.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A generator whose draws reach written files, so its sequence never changes: `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Generator(SplitMix64);

impl Generator {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::from_seed(seed.to_le_bytes()))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Evenly among the numbers below `count`; 0 when that is 0.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// Puts the items into a drawn order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }

    /// `count` different numbers below `of`, rising.
    pub fn choose(&mut self, count: usize, of: usize) -> Vec<usize> {
        if count >= of {
            return (0..of).collect();
        }
        // Selection sampling: each number is taken with the share of those still wanted.
        let mut chosen = Vec::with_capacity(count);
        for at in 0..of {
            let (wanted, left) = ((count - chosen.len()) as u64, (of - at) as u64);
            if self.bits() % left < wanted {
                chosen.push(at);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::Generator;

    #[test]
    fn the_sequence_is_that_of_written_files() {
        // The reference values of SplitMix64 for the seed 0.
        let mut generator = Generator::new(0);
        assert_eq!(generator.bits(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(generator.bits(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn drawing_takes_each_number_once_and_the_same_ones_again() {
        let chosen = Generator::new(5).choose(10, 37);
        assert_eq!(chosen.len(), 10);
        assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(chosen, Generator::new(5).choose(10, 37));
        assert_ne!(chosen, Generator::new(6).choose(10, 37));
    }
}
