//! `ConvWeightGradient`: W̄ [O, I/g, kh, kw] of x [N, I, H, W] and ȳ [N, O, Ho, Wo], W̄[k] = Σ ȳ[o]·x[o·s + k·d − p].
//!
//! The attributes are those of `Conv`, and all must be given: `group`, `kernel_shape`, `strides`, `dilations`, and
//! `begin`, the number of zeros before each axis. The number of zeros after each axis follows from the last window.
//! All values are f32.

use super::call::{Attributes, Call, Operation, Refusal, refuse};
use super::dense::{Dense, Plan};
use super::depthwise::Depthwise;
use super::lanes::Level;
use super::scratch;
use super::window::{Phases, Window};

/// The attributes.
#[derive(Clone, Debug)]
pub(super) struct ConvWeightGradient {
    group: usize,
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    begin: [usize; 2],
}

impl Operation for ConvWeightGradient {
    const NAME: &'static str = "ConvWeightGradient";
    const OPERANDS: usize = 2;
    const RESULTS: usize = 1;

    fn read(attributes: &Attributes<'_>) -> Result<Self, Refusal> {
        let own = Self {
            group: attributes.size("group")?,
            kernel: attributes.sizes("kernel_shape")?,
            strides: attributes.sizes("strides")?,
            dilations: attributes.sizes("dilations")?,
            begin: attributes.sizes("begin")?,
        };
        let positive = [own.kernel, own.strides, own.dilations].concat();
        if own.group == 0 || positive.contains(&0) {
            return refuse("group, kernel_shape, strides and dilations are at least 1");
        }
        Ok(own)
    }

    fn run(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let (x, dy) = (call.operand(0)?, call.operand(1)?);
        let window = self.window(x.dims(), dy.dims())?;
        let [kh, kw] = self.kernel;
        let dims = [window.out_channels, window.in_channels / window.group, kh, kw];
        let mut gradient = call.result(0, &dims)?;
        let task = Task { window: &window, phases: Phases::of(&window), level: Level::here() };
        task.run(call, x.values()?, dy.values()?, gradient.values()?)
    }
}

impl ConvWeightGradient {
    /// The convolution for x and ȳ with these dims.
    fn window(&self, x: &[usize], dy: &[usize]) -> Result<Window, Refusal> {
        let (&[batch, in_channels, height, width], &[images, out_channels, rows, columns]) =
            (x, dy)
        else {
            return refuse(&format!("x {x:?} and dy {dy:?} are not both images"));
        };
        let is_empty = x.iter().chain(dy).any(|size| *size == 0);
        let fits = batch == images
            && in_channels.is_multiple_of(self.group)
            && out_channels.is_multiple_of(self.group);
        if is_empty || !fits {
            return refuse(&format!("x {x:?} and dy {dy:?} do not belong together"));
        }
        Ok(Window {
            batch,
            in_channels,
            out_channels,
            group: self.group,
            input: [height, width],
            output: [rows, columns],
            kernel: self.kernel,
            strides: self.strides,
            dilations: self.dilations,
            begin: self.begin,
        })
    }
}

/// One gradient.
struct Task<'a> {
    window: &'a Window,
    phases: Phases,
    level: Level,
}

impl Task<'_> {
    fn run(
        &self,
        call: &Call<'_>,
        x: &[f32],
        dy: &[f32],
        gradient: &mut [f32],
    ) -> Result<(), Refusal> {
        let window = self.window;
        if window.group == window.in_channels && window.group > 1 {
            return self.depthwise(call, x, dy, gradient);
        }
        let plan = Plan::of(window, self.level);
        let (parts, size) = (plan.parts(window), plan.sums(window));
        scratch::with(parts.len() * size, |sums| {
            call.split(sums, size, |at, sums| {
                scratch::with(plan.room(window, &self.phases), |scratch| {
                    let part = parts[at].clone();
                    let (phases, plan) = (&self.phases, &plan);
                    Dense { window, phases, plan, part, x, dy, sums, scratch }.run();
                });
            })?;
            plan.gather(window, sums, gradient);
            Ok(())
        })
    }

    fn depthwise(
        &self,
        call: &Call<'_>,
        x: &[f32],
        dy: &[f32],
        gradient: &mut [f32],
    ) -> Result<(), Refusal> {
        let (window, phases) = (self.window, &self.phases);
        let room = Depthwise::room(window, phases, self.level.lanes());
        let channels = window.out_channels.div_ceil(CHANNEL_PARTS);
        call.split(gradient, channels * window.taps(), |at, gradient| {
            scratch::with(room, |scratch| {
                let first = at * channels;
                let level = self.level;
                Depthwise { window, phases, level, x, dy, first, gradient, scratch }.run();
            });
        })
    }
}

/// Maximum number of parts into which the channels of a depthwise layer are cut.
const CHANNEL_PARTS: usize = 32;
