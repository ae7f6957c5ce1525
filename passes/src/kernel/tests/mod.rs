//! Tests of the algebra against the oracle: drawn maps, images and the comparison.

mod borders;
mod channels;
mod composing;
mod parallel_branches;

use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed};

use super::{AffineMap, Obstacle};

/// Relative tolerance of an f64 composition against the f64 oracle.
const TOLERANCE: f64 = 1e-12;

fn fixed_seed(cases: u32) -> Config {
    Config {
        cases,
        rng_seed: RngSeed::Fixed(0x5550_4450),
        failure_persistence: None,
        ..Config::default()
    }
}

/// Returns numbers in `[-1, 1)` that depend only on the seed.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut number = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| number()).collect()
}

fn image(dims: &[usize], seed: u64) -> ArrayD<f64> {
    ArrayD::from_shape_vec(IxDyn(dims), numbers(dims.iter().product(), seed)).unwrap()
}

fn image_for(map: &AffineMap, size: &[usize], seed: u64) -> ArrayD<f64> {
    image(&[&[map.in_channels()], size].concat(), seed)
}

/// Sizes of a drawn map along its spatial axes.
#[derive(Debug, Clone)]
struct Geometry {
    kernel: Vec<usize>,
    stride: Vec<usize>,
    dilation: Vec<usize>,
    begin: Vec<usize>,
    end: Vec<usize>,
}

impl Geometry {
    fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: vec![kernel; 2],
            stride: vec![stride; 2],
            dilation: vec![1; 2],
            begin: vec![padding; 2],
            end: vec![padding; 2],
        }
    }

    fn unpadded(mut self) -> Self {
        self.begin.fill(0);
        self.end.fill(0);
        self
    }

    fn pointwise(mut self) -> Self {
        self.kernel.fill(1);
        self
    }

    /// Returns a map `[O, I/g, k…]` with drawn weights; an odd seed draws a bias, an even seed does
    /// not.
    fn map(&self, inputs: usize, outputs: usize, groups: usize, seed: u64) -> AffineMap {
        let dims = [&[outputs, inputs / groups], &self.kernel[..]].concat();
        let bias = if seed % 2 == 1 { numbers(outputs, seed ^ 0xB1A5) } else { vec![0.0; outputs] };
        let (begin, end) = (self.begin.clone(), self.end.clone());
        let (stride, dilation) = (self.stride.clone(), self.dilation.clone());
        AffineMap::new(image(&dims, seed), bias, stride, dilation, begin, end, groups).unwrap()
    }
}

/// Draws sizes: kernels 1 to 3 (2 with three axes), strides and dilations 1 to 2, asymmetric pads 0
/// to 2.
fn geometry(rank: usize) -> impl Strategy<Value = Geometry> {
    let list = |low: usize, high: usize| prop::collection::vec(low..=high, rank);
    let kernel = list(1, if rank == 3 { 2 } else { 3 });
    (kernel, list(1, 2), list(1, 2), list(0, 2), list(0, 2)).prop_map(
        |(kernel, stride, dilation, begin, end)| Geometry { kernel, stride, dilation, begin, end },
    )
}

/// Channels and groups of two maps in a row: `(I, M, O, g₁, g₂)`.
fn channels() -> impl Strategy<Value = (usize, usize, usize, usize, usize)> {
    select(vec![
        (1, 1, 1, 1, 1),
        (3, 4, 2, 1, 1),
        (4, 4, 4, 4, 4),
        (4, 4, 3, 4, 1),
        (3, 4, 4, 1, 4),
        (2, 4, 4, 2, 4),
        (2, 4, 8, 2, 4),
        (4, 4, 4, 2, 4),
        (4, 4, 8, 4, 2),
        (6, 6, 6, 2, 3),
        (4, 6, 9, 2, 3),
        (6, 12, 6, 6, 2),
    ])
}

/// Returns `extra` plus the smallest input size of at least 1 that gives both maps an output.
fn input_size(first: &AffineMap, next: &AffineMap, extra: usize) -> Vec<usize> {
    let size = |axis: usize| {
        let (own, after) = (first.axis(axis), next.axis(axis));
        let middle = (after.extent() + 1).saturating_sub(after.begin + after.end).max(1);
        let input = (middle - 1) * own.stride + own.extent() + 1;
        input.saturating_sub(own.begin + own.end).max(1) + extra
    };
    (0..first.spatial_rank()).map(size).collect()
}

fn is_close(found: &ArrayD<f64>, expected: &ArrayD<f64>) -> bool {
    let scale = expected.iter().fold(1.0_f64, |max, value| max.max(value.abs()));
    found.shape() == expected.shape()
        && found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= TOLERANCE * scale)
}

/// Compares a composed map with its parts, element by element.
fn equals_chain(
    composed: &AffineMap,
    first: &AffineMap,
    next: &AffineMap,
    input: &ArrayD<f64>,
) -> bool {
    let expected = next.apply(&first.apply(input).unwrap()).unwrap();
    is_close(&composed.apply(input).unwrap(), &expected)
}

fn reason<T: std::fmt::Debug>(result: Result<T, Obstacle>) -> &'static str {
    result.unwrap_err().reason()
}
