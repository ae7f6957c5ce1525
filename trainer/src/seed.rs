//! Numbers drawn from a seed, the same on every machine.

/// `SplitMix64`, a generator whose whole state is one number.
#[derive(Clone, Debug)]
pub struct Generator(pub u64);

impl Generator {
    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly among the numbers below `count`; 0 when that is 0.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
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
            if self.next() % left < wanted {
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
    fn drawing_takes_each_number_once_and_the_same_ones_again() {
        let chosen = Generator(5).choose(10, 37);
        assert_eq!(chosen.len(), 10);
        assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(chosen, Generator(5).choose(10, 37));
        assert_ne!(chosen, Generator(6).choose(10, 37));
    }
}
