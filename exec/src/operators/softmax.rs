//! `SoftmaxGradient` of ȳ and y = softmax x: x̄ = y·(ȳ − Σ ȳ·y) along the last axis.

use super::call::{Attributes, Call, Operation, Refusal, refuse};
use super::lanes::{Level, Vectored, dispatch};
use super::sums::{Along, Summed};

/// Approximate number of elements that a thread takes at once.
const PART: usize = 1 << 14;

/// The operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct SoftmaxGradient;

impl Operation for SoftmaxGradient {
    const NAME: &'static str = "SoftmaxGradient";
    const OPERANDS: usize = 2;
    const RESULTS: usize = 1;

    fn read(_: &Attributes<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn run(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let (dy, y) = (call.operand(0)?, call.operand(1)?);
        let width = y.dims().last().copied().unwrap_or(0);
        if dy.dims() != y.dims() || width == 0 {
            return refuse("the operands do not belong together");
        }
        let (dims, dy, y) = (y.dims(), dy.values()?, y.values()?);
        let size = PART.div_ceil(width) * width;
        let level = Level::here();
        let mut dx = call.result(0, dims)?;
        call.split(dx.values()?, size, |part, dx| {
            for (at, dx) in dx.chunks_exact_mut(width).enumerate() {
                let place = part * size + at * width;
                let (dy, y) = (&dy[place..][..width], &y[place..][..width]);
                dispatch(level, Row { dy, y, dx });
            }
        })
    }
}

/// One row.
pub(super) struct Row<'a> {
    pub dy: &'a [f32],
    pub y: &'a [f32],
    /// x̄.
    pub dx: &'a mut [f32],
}

impl Vectored for Row<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "see `lanes`")]
    #[inline(always)]
    fn run<const L: usize, const FUSED: bool>(self) {
        let Self { dy, y, dx } = self;
        let (dy, y) = (&dy[..dx.len()], &y[..dx.len()]);
        let [_, along] = Summed { x: y, g: dy, terms: Along(0.0) }.run::<L, FUSED>();
        let along = along as f32;
        for at in 0..dx.len() {
            dx[at] = y[at] * (dy[at] - along);
        }
    }
}
