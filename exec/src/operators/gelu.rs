//! `Gelu`: y = x·Φ(x). `GeluGradient` of ȳ and x: x̄ = ȳ·(Φ(x) + x·φ(x)). Here Φ = ½·(1 + erf(x/√2)) and
//! φ = exp(−x²/2)/√(2π).

#![expect(clippy::inline_always, reason = "see `lanes`")]

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

use super::call::{Attributes, Refusal};
use super::elementwise::Pointwise;
use super::lanes::fma;

/// The function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gelu;

impl Pointwise<1> for Gelu {
    const NAME: &'static str = "Gelu";

    fn read(_: &Attributes<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    #[inline(always)]
    fn of<const FUSED: bool>(self, [x]: [f32; 1]) -> f32 {
        x * distribution::<FUSED>(x)
    }
}

/// Its gradient.
#[derive(Clone, Copy, Debug)]
pub(super) struct GeluGradient;

impl Pointwise<2> for GeluGradient {
    const NAME: &'static str = "GeluGradient";

    fn read(_: &Attributes<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    #[inline(always)]
    fn of<const FUSED: bool>(self, [dy, x]: [f32; 2]) -> f32 {
        /// 1/√(2π).
        const DENSITY: f32 = 0.398_942_3;
        let density = DENSITY * exp::<FUSED>(-0.5 * x * x);
        dy * fma::<FUSED>(x, density, distribution::<FUSED>(x))
    }
}

/// Φ(x).
#[inline(always)]
fn distribution<const FUSED: bool>(x: f32) -> f32 {
    fma::<FUSED>(0.5, erf::<FUSED>(x * FRAC_1_SQRT_2), 0.5)
}

/// erf with an error of 1.2e-7: a polynomial near 0, elsewhere 1 − exp of a polynomial.
#[inline(always)]
pub(super) fn erf<const FUSED: bool>(x: f32) -> f32 {
    let (far, square) = (x.abs(), x * x);
    let mut tail = fma::<FUSED>(-1.728_534_7e-5, far, 3.831_971_3e-4);
    tail = fma::<FUSED>(tail, square, fma::<FUSED>(-3.883_964_4e-3, far, 2.425_462_2e-2));
    for factor in [-1.067_778_8e-1, -6.348_467e-1, -1.287_175_1e-1] {
        tail = fma::<FUSED>(tail, far, factor);
    }
    let tail = (1.0 - exp::<FUSED>(fma::<FUSED>(tail, far, -far))).copysign(x);
    let mut near = -5.967_617e-4;
    for factor in
        [4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_4e-1, 1.283_791_7e-1]
    {
        near = fma::<FUSED>(near, square, factor);
    }
    let near = fma::<FUSED>(near, x, x);
    if far > 0.927_734_4 { tail } else { near }
}

/// eˣ with a relative error of 2e-7: 2ⁿ·eʳ with |r| ≤ ½·ln 2. It is 0 below −87, and it does not reach ∞ above 88.
#[inline(always)]
pub(super) fn exp<const FUSED: bool>(x: f32) -> f32 {
    /// When this is added to a number below 2²², the low bits hold the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the first part ends in zero bits.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let small = x.clamp(-87.0, 88.0);
    let shifted = fma::<FUSED>(small, LOG2_E, ROUND);
    let n = shifted - ROUND;
    let rest = fma::<FUSED>(n, -LOW, fma::<FUSED>(n, -HIGH, small));
    let mut power = 1.987_569_1e-4;
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_5e-2, 1.666_666_5e-1, 0.5] {
        power = fma::<FUSED>(power, rest, factor);
    }
    let power = fma::<FUSED>(power, rest * rest, rest + 1.0);
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let scale = f32::from_bits(exponent << 23);
    if x < -87.0 { 0.0 } else { power * scale }
}
