//! `LayerNormGradient`: x̄, γ̄ and β̄ of x [.., D], γ [D] and ȳ. With x̂ = (x − mean)·r, r = 1/√(var + ε) over D:
//! x̄ = r·(g − mean g − x̂·mean(g·x̂)) with g = ȳ·γ, γ̄ = Σ ȳ·x̂, β̄ = Σ ȳ.
//!
//! This takes one pass: a row stays in the first-level cache. The number of rows alone determines how the rows are cut
//! into parts, and γ̄ and β̄ of the parts are added in order.

use std::sync::{Mutex, PoisonError};

use super::call::{Attributes, Call, Operation, Refusal, refuse};
use super::lanes::{Level, Vectored, dispatch, fma};
use super::sums::{Along, Squares, Summed};

/// Maximum number of parts into which the rows are cut.
const PARTS: usize = 16;

/// The attributes.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerNormGradient {
    epsilon: f32,
}

impl Operation for LayerNormGradient {
    const NAME: &'static str = "LayerNormGradient";
    const OPERANDS: usize = 3;
    const RESULTS: usize = 3;

    fn read(attributes: &Attributes<'_>) -> Result<Self, Refusal> {
        Ok(Self { epsilon: attributes.float("epsilon")? })
    }

    fn run(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let (x, scale, dy) = (call.operand(0)?, call.operand(1)?, call.operand(2)?);
        let width = scale.values()?.len();
        let is_row = x.dims().last() == Some(&width) && scale.dims().len() == 1;
        if x.dims() != dy.dims() || !is_row || width == 0 {
            return refuse("the operands do not belong together");
        }
        let (x_values, scale, dy) = (x.values()?, scale.values()?, dy.values()?);
        let rows = x_values.len() / width;
        let size = rows.div_ceil(PARTS).max(1) * width;
        let mut dx = call.result(0, x.dims())?;
        let dx = dx.values()?;
        let mut sums = vec![0.0; 2 * width * dx.len().div_ceil(size)];
        let of_parts: Vec<Mutex<&mut [f32]>> =
            sums.chunks_exact_mut(2 * width).map(Mutex::new).collect();
        let (level, epsilon) = (Level::here(), self.epsilon);
        call.split(dx, size, |part, dx| {
            let mut sums = of_parts[part].lock().unwrap_or_else(PoisonError::into_inner);
            let (dscale, dbias) = sums.split_at_mut(width);
            let place = part * size;
            let (x, dy) = (&x_values[place..][..dx.len()], &dy[place..][..dx.len()]);
            let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
            for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(width)) {
                dispatch(level, Row { x, dy, scale, epsilon, dx, dscale, dbias });
            }
        })?;
        drop(of_parts);
        for slot in 0..2 {
            let mut result = call.result(1 + slot, &[width])?;
            for (at, result) in result.values()?.iter_mut().enumerate() {
                *result = sums.iter().skip(slot * width + at).step_by(2 * width).sum();
            }
        }
        Ok(())
    }
}

/// A row of D numbers.
pub(super) struct Row<'a> {
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub scale: &'a [f32],
    pub epsilon: f32,
    /// x̄.
    pub dx: &'a mut [f32],
    /// γ̄ of the rows so far.
    pub dscale: &'a mut [f32],
    /// β̄ of the rows so far.
    pub dbias: &'a mut [f32],
}

impl Vectored for Row<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "see `lanes`")]
    #[inline(always)]
    fn run<const L: usize, const FUSED: bool>(self) {
        let Self { x, dy, scale, epsilon, dx, dscale, dbias } = self;
        let width = x.len();
        let (dy, scale) = (&dy[..width], &scale[..width]);
        let (dx, dscale, dbias) = (&mut dx[..width], &mut dscale[..width], &mut dbias[..width]);
        let share = 1.0 / width as f64;
        let [sum, _] = Summed { x, g: x, terms: Squares(0.0) }.run::<L, FUSED>();
        let mean = (sum * share) as f32;
        let [_, squares] = Summed { x, g: x, terms: Squares(mean) }.run::<L, FUSED>();
        let inverse = (1.0 / (squares * share + f64::from(epsilon)).sqrt()) as f32;
        for at in 0..width {
            let normal = (x[at] - mean) * inverse;
            dscale[at] = fma::<FUSED>(dy[at], normal, dscale[at]);
            dbias[at] += dy[at];
            dx[at] = dy[at] * scale[at];
        }
        let [g, along] = Summed { x, g: dx, terms: Along(mean) }.run::<L, FUSED>();
        let level = (g * share) as f32;
        // x̂·mean(g·x̂) = (x − mean)·r²·mean(g·(x − mean))
        let slope = (along * share * f64::from(inverse) * f64::from(inverse)) as f32;
        for at in 0..width {
            dx[at] = inverse * fma::<FUSED>(-slope, x[at] - mean, dx[at] - level);
        }
    }
}
