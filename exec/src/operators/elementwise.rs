//! Functions of numbers, element by element, in one pass.

use super::call::{Attributes, Call, Operation, Refusal, refuse};
use super::lanes::{Level, Vectored, dispatch};

/// Number of elements that a thread takes at once.
const PART: usize = 1 << 14;

/// A function of `N` numbers; operands and result have the same dims.
pub(super) trait Pointwise<const N: usize>: Copy + Send + Sync + 'static {
    /// Name of the operator.
    const NAME: &'static str;

    /// Reads a node.
    fn read(attributes: &Attributes<'_>) -> Result<Self, Refusal>;

    /// The result. It must be `#[inline(always)]` and contain no calls, so that it is computed with vectors.
    fn of<const FUSED: bool>(self, operands: [f32; N]) -> f32;
}

/// The operator of a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elementwise<F, const N: usize>(F);

impl<F: Pointwise<N>, const N: usize> Operation for Elementwise<F, N> {
    const NAME: &'static str = F::NAME;
    const OPERANDS: usize = N;
    const RESULTS: usize = 1;

    fn read(attributes: &Attributes<'_>) -> Result<Self, Refusal> {
        F::read(attributes).map(Self)
    }

    fn run(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let operands = (0..N).map(|slot| call.operand(slot)).collect::<Result<Vec<_>, _>>()?;
        let dims = operands[0].dims();
        if operands.iter().any(|operand| operand.dims() != dims) {
            return refuse("the operands have other dims than the first");
        }
        let values = operands.iter().map(|operand| operand.values());
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let mut result = call.result(0, dims)?;
        let level = Level::here();
        call.split(result.values()?, PART, |at, result| {
            let operands = std::array::from_fn(|slot| &values[slot][at * PART..][..result.len()]);
            dispatch(level, Mapped { function: self.0, operands, result });
        })
    }
}

/// A function over a stretch of elements.
pub(super) struct Mapped<'a, F, const N: usize> {
    pub function: F,
    pub operands: [&'a [f32]; N],
    pub result: &'a mut [f32],
}

impl<F: Pointwise<N>, const N: usize> Vectored for Mapped<'_, F, N> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "see `lanes`")]
    #[inline(always)]
    fn run<const L: usize, const FUSED: bool>(self) {
        let Self { function, operands, result } = self;
        let operands = operands.map(|operand| &operand[..result.len()]);
        for at in 0..result.len() {
            let mut numbers = [0.0; N];
            for slot in 0..N {
                numbers[slot] = operands[slot][at];
            }
            result[at] = function.of::<FUSED>(numbers);
        }
    }
}

/// `ReluGradient` of ȳ and y = max(x, 0): x̄ = ȳ where y > 0, otherwise 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReluGradient;

impl Pointwise<2> for ReluGradient {
    const NAME: &'static str = "ReluGradient";

    fn read(_: &Attributes<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    #[expect(clippy::inline_always, reason = "see `lanes`")]
    #[inline(always)]
    fn of<const FUSED: bool>(self, [dy, y]: [f32; 2]) -> f32 {
        if y > 0.0 { dy } else { 0.0 }
    }
}

/// `ClipGradient` of ȳ and x: x̄ = ȳ where `low` < x < `high`, otherwise 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClipGradient {
    low: f32,
    high: f32,
}

impl Pointwise<2> for ClipGradient {
    const NAME: &'static str = "ClipGradient";

    fn read(attributes: &Attributes<'_>) -> Result<Self, Refusal> {
        Ok(Self { low: attributes.float("low")?, high: attributes.float("high")? })
    }

    #[expect(clippy::inline_always, reason = "see `lanes`")]
    #[inline(always)]
    fn of<const FUSED: bool>(self, [dy, x]: [f32; 2]) -> f32 {
        if x > self.low && x < self.high { dy } else { 0.0 }
    }
}
