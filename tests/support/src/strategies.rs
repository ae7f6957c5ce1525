//! Drawn convolution shapes, the same on every run.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::micro::{Micro, Val};
use crate::spec::{ConvSpec, conv};

/// A convolution and the input it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvCase {
    /// Seed of the weights.
    pub seed: u64,
    /// Channels of the input.
    pub in_channels: usize,
    /// Spatial dims of the input.
    pub spatial: Vec<usize>,
    /// The convolution, with lists of full length.
    pub spec: ConvSpec,
}

impl ConvCase {
    /// A micro-model with this case's seed and its input `x`.
    #[must_use]
    pub fn start(&self) -> (Micro, Val) {
        let mut micro = Micro::new(self.seed);
        let mut dims = vec![self.in_channels];
        dims.extend(&self.spatial);
        let x = micro.input("x", &dims);
        (micro, x)
    }
}

/// Convolutions over 1 to 3 spatial dims: kernels 1 to 3, strides and dilations 1 or 2, unequal
/// pads, groups, depthwise with and without multiplier, with and without bias. Every case has an output.
pub fn conv_cases() -> impl Strategy<Value = ConvCase> {
    (1_usize..=3)
        .prop_flat_map(|rank| {
            let kernel = prop::collection::vec(1_usize..=3, rank);
            let stride = prop::collection::vec(1_usize..=2, rank);
            let dilation = prop::collection::vec(1_usize..=2, rank);
            let pads = prop::collection::vec(0_i64..=2, 2 * rank);
            // 5 is the widest window: a kernel of 3 with dilation 2 spans it.
            let spatial = prop::collection::vec(5_usize..=7, rank);
            let channels = prop_oneof![
                3 => (1_usize..=3, 1_usize..=3).prop_map(|(i, o)| (1, i, o)),
                2 => (2_usize..=3, 1_usize..=2, 1_usize..=2),
                2 => (2_usize..=4, Just(1), 1_usize..=2),
            ];
            (kernel, stride, dilation, pads, spatial, channels, any::<bool>(), 0_u64..1000)
        })
        .prop_map(|(kernel, stride, dilation, pads, spatial, (groups, i, o), bias, seed)| {
            ConvCase {
                seed,
                in_channels: groups * i,
                spatial,
                spec: ConvSpec { kernel, stride, dilation, pads, groups, bias, ..conv(groups * o) },
            }
        })
}

/// Runs `test` on `cases` values drawn from a fixed seed, which is printed. Panics with the smallest
/// value that fails.
///
/// # Panics
/// When `test` panics for some value.
pub fn check<S: Strategy>(cases: u32, seed: u8, strategy: &S, test: impl Fn(S::Value)) {
    println!("{cases} cases of seed {seed}");
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, random);
    let result = runner.run(strategy, |value| {
        test(value);
        Ok::<(), TestCaseError>(())
    });
    if let Err(error) = result {
        panic!("seed {seed}: {error}");
    }
}
