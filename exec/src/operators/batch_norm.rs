//! Batch normalization with the statistics of the batch: `BatchStatistics` and `BatchNormGradient`.
//!
//! μ = Σ x / m and q = Σ (x − μ)² over batch and space, with m elements per channel. With r = 1/√(σ² + ε):
//! β̄ = Σ ȳ, γ̄ = r·Σ ȳ·(x − μ), x̄ = γ·r·(ȳ − β̄/m − (x − μ)·r·γ̄/m). The sums of planes are added in f64, in the
//! order of the batch.

use super::call::{Attributes, Call, Operation, Refusal, refuse};
use super::lanes::{Level, dispatch};
use super::sums::{Along, Combined, Squares, Summed, Terms};

/// x [N, C, …].
struct Planes<'a> {
    values: &'a [f32],
    batch: usize,
    channels: usize,
    /// Number of elements of a plane.
    size: usize,
}

impl<'a> Planes<'a> {
    fn of(dims: &[usize], values: &'a [f32]) -> Result<Self, Refusal> {
        let [batch, channels, space @ ..] = dims else { return refuse("x has no channels") };
        let size = space.iter().product();
        if values.is_empty() {
            return refuse("x is empty");
        }
        Ok(Self { values, batch: *batch, channels: *channels, size })
    }

    /// Number of elements of a channel.
    fn count(&self) -> f64 {
        (self.batch * self.size) as f64
    }

    /// The planes of a channel, each with the plane of another value of the same dims.
    fn pairs<'b>(
        &self,
        other: &'b [f32],
        channel: usize,
    ) -> impl Iterator<Item = (&'a [f32], &'b [f32])> {
        let (values, size, channels) = (self.values, self.size, self.channels);
        (0..self.batch).map(move |image| {
            let place = (image * channels + channel) * size;
            (&values[place..][..size], &other[place..][..size])
        })
    }

    /// Sums over a channel.
    fn sum(&self, level: Level, g: &[f32], channel: usize, terms: impl Terms) -> [f64; 2] {
        let mut sums = [0.0; 2];
        for (x, g) in self.pairs(g, channel) {
            let own = dispatch(level, Summed { x, g, terms });
            sums = [sums[0] + own[0], sums[1] + own[1]];
        }
        sums
    }
}

/// μ [C] and q [C] of x [N, C, …].
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchStatistics;

impl Operation for BatchStatistics {
    const NAME: &'static str = "BatchStatistics";
    const OPERANDS: usize = 1;
    const RESULTS: usize = 2;

    fn read(_: &Attributes<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn run(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let x = call.operand(0)?;
        let planes = Planes::of(x.dims(), x.values()?)?;
        let level = Level::here();
        let mut found = vec![[0.0_f32; 2]; planes.channels];
        call.split(&mut found, 1, |channel, found| {
            let sums = planes.sum(level, planes.values, channel, Squares(0.0));
            let mean = (sums[0] / planes.count()) as f32;
            let sums = planes.sum(level, planes.values, channel, Squares(mean));
            found[0] = [mean, sums[1] as f32];
        })?;
        for slot in 0..2 {
            let mut result = call.result(slot, &[planes.channels])?;
            for (result, found) in result.values()?.iter_mut().zip(&found) {
                *result = found[slot];
            }
        }
        Ok(())
    }
}

/// x̄, γ̄ and β̄ of x, μ, σ², γ and ȳ.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchNormGradient {
    epsilon: f32,
}

impl Operation for BatchNormGradient {
    const NAME: &'static str = "BatchNormGradient";
    const OPERANDS: usize = 5;
    const RESULTS: usize = 3;

    fn read(attributes: &Attributes<'_>) -> Result<Self, Refusal> {
        Ok(Self { epsilon: attributes.float("epsilon")? })
    }

    fn run(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let (x, dy) = (call.operand(0)?, call.operand(4)?);
        let planes = Planes::of(x.dims(), x.values()?)?;
        let of_channels = [call.operand(1)?, call.operand(2)?, call.operand(3)?];
        let is_fit = |dims: &[usize]| dims == [planes.channels];
        if dy.dims() != x.dims() || !of_channels.iter().all(|operand| is_fit(operand.dims())) {
            return refuse("the operands do not belong together");
        }
        let [mean, variance, scale] = &of_channels;
        let (mean, variance, scale) = (mean.values()?, variance.values()?, scale.values()?);
        let (dy, level) = (dy.values()?, Level::here());
        let mut sums = vec![[0.0_f64; 2]; planes.channels];
        call.split(&mut sums, 1, |channel, sums| {
            sums[0] = planes.sum(level, dy, channel, Along(mean[channel]));
        })?;
        let inverse =
            |channel: usize| 1.0 / (f64::from(variance[channel]) + f64::from(self.epsilon)).sqrt();
        let factors = |channel: usize| {
            let ([dbias, along], r) = (sums[channel], inverse(channel));
            let gain = f64::from(scale[channel]) * r;
            let share = -gain / planes.count();
            [gain, share * r * r * along, share * dbias].map(|factor| factor as f32)
        };
        let at_once = PART.div_ceil(planes.size);
        let mut dx = call.result(0, x.dims())?;
        call.split(dx.values()?, at_once * planes.size, |part, dx| {
            for (at, result) in dx.chunks_exact_mut(planes.size).enumerate() {
                let plane = part * at_once + at;
                let channel = plane % planes.channels;
                let place = plane * planes.size;
                let (x, g) =
                    (&planes.values[place..][..result.len()], &dy[place..][..result.len()]);
                let (centre, factors) = (mean[channel], factors(channel));
                dispatch(level, Combined { x, g, centre, factors, result });
            }
        })?;
        let mut dscale = call.result(1, &[planes.channels])?;
        let mut dbias = call.result(2, &[planes.channels])?;
        for (channel, (dscale, dbias)) in
            dscale.values()?.iter_mut().zip(dbias.values()?).enumerate()
        {
            *dscale = (inverse(channel) * sums[channel][1]) as f32;
            *dbias = sums[channel][0] as f32;
        }
        Ok(())
    }
}

/// Number of elements that a thread takes at once.
const PART: usize = 1 << 14;
