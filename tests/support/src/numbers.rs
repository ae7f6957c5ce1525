//! Deterministic numbers, and tensors made from them.

use updp_ir::{DataType, Dim, Tensor};

/// A small generator (splitmix64) that gives the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number in `[low, high)`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        low + unit * (high - low)
    }

    /// The next `count` numbers in `[low, high)`.
    pub fn many(&mut self, count: usize, low: f64, high: f64) -> Vec<f64> {
        (0..count).map(|_| self.between(low, high)).collect()
    }
}

/// `count` numbers in `[-1, 1)`.
#[must_use]
pub fn seeded(seed: u64, count: usize) -> Vec<f64> {
    seeded_between(seed, count, -1.0, 1.0)
}

/// `count` numbers in `[low, high)`.
#[must_use]
pub fn seeded_between(seed: u64, count: usize, low: f64, high: f64) -> Vec<f64> {
    Random::new(seed).many(count, low, high)
}

/// A tensor of `dtype` (f32, f64, f16, bf16); each value is rounded once.
///
/// # Panics
/// When the number of values does not match `dims`, or for any other dtype. Both are bugs in the test.
#[must_use]
pub fn tensor(dtype: DataType, dims: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(dtype, dims.to_vec(), values)
        .unwrap_or_else(|error| panic!("tensor of {dtype} {dims:?}: {error}"))
}

/// Dims that are numbers.
#[must_use]
pub fn known(dims: &[usize]) -> Vec<Dim> {
    dims.iter().map(|dim| Dim::Known(*dim)).collect()
}

/// A named dim.
#[must_use]
pub fn symbol(name: &str) -> Dim {
    Dim::Symbol(name.into())
}
