//! x̄[i] = Σ W[k]·ȳ[o] over all k and o with i = o·s + k·d − p.

use updp_ir::{Node, ValueId};

use super::choice::{InputForm, input_form};
use super::geometry::{Geometry, Slide, convolve};
use crate::emit::Emit;
use crate::error::Result;

impl Geometry {
    /// x̄ [N, I, input] from W [O, I/g, kernel] and ȳ [N, O, output].
    pub fn input_gradient(
        &self,
        emit: &mut Emit<'_>,
        weight: ValueId,
        dy: ValueId,
    ) -> Result<ValueId> {
        match input_form(self) {
            InputForm::Product => self.product(emit, weight, dy),
            InputForm::FlippedConv => self.flipped(emit, weight, dy),
            InputForm::TransposedConv => self.transposed(emit, weight, dy),
        }
    }

    /// Wᵀ [I, O] · ȳ [N, O, P].
    fn product(&self, emit: &mut Emit<'_>, weight: ValueId, dy: ValueId) -> Result<ValueId> {
        let weight = emit.reshape(weight, &[self.out_channels, self.in_channels])?;
        let weight = emit.transpose_last(weight)?;
        let dy = emit.reshape(dy, &[self.batch, self.out_channels, self.pixels()])?;
        let dx = emit.matmul(weight, dy)?;
        emit.reshape(dx, &self.input_dims())
    }

    fn input_dims(&self) -> Vec<usize> {
        let mut dims = vec![self.batch, self.in_channels];
        dims.extend(&self.input);
        dims
    }

    /// ȳ convolved with W, where W is flipped in space and its channels are swapped within each group. For stride 1
    /// only.
    fn flipped(&self, emit: &mut Emit<'_>, weight: ValueId, dy: ValueId) -> Result<ValueId> {
        let (g, taps) = (self.group, self.taps());
        let (inner, outer) = (self.in_channels / g, self.out_channels / g);
        let apart = emit.reshape(weight, &[g, outer, inner, taps])?;
        let swapped = emit.transpose(apart, &[0, 2, 1, 3])?; // [g, I/g, O/g, taps]
        let mut flat = swapped;
        if taps > 1 {
            let reversed: Vec<i64> = (0..taps as i64).rev().collect();
            flat = emit.gather(swapped, 3, &reversed)?;
        }
        let mut dims = vec![self.in_channels, outer];
        dims.extend(&self.kernel);
        let flipped = emit.reshape(flat, &dims)?;
        let axes = 0..self.space();
        let begin: Vec<i64> =
            axes.clone().map(|a| self.reach(a) as i64 - self.begin[a] as i64).collect();
        // size of x = size of ȳ + begin + end − reach
        let end: Vec<i64> = axes
            .map(|a| self.input[a] as i64 + self.reach(a) as i64 - self.output[a] as i64 - begin[a])
            .collect();
        convolve(
            emit,
            dy,
            flipped,
            &Slide {
                group: g,
                strides: &self.strides,
                dilations: &self.dilations,
                begin: &begin,
                end: &end,
            },
        )
    }

    /// The transposed convolution. Zeros are appended for the last rows of x, which no window reached.
    fn transposed(&self, emit: &mut Emit<'_>, weight: ValueId, dy: ValueId) -> Result<ValueId> {
        let end = self.end();
        let cut: Vec<i64> = end.iter().map(|pad| (*pad).max(0)).collect();
        let pads: Vec<i64> = self.begin.iter().map(|pad| *pad as i64).chain(cut).collect();
        let node = Node::new("ConvTranspose")
            .with("kernel_shape", self.kernel.as_slice())
            .with("strides", self.strides.as_slice())
            .with("dilations", self.dilations.as_slice())
            .with("group", self.group as i64)
            .with("pads", pads);
        let dx = emit.node(node, &[Some(dy), Some(weight)])?;
        let missing: Vec<i64> =
            [0, 0].into_iter().chain(end.iter().map(|pad| (-pad).max(0))).collect();
        emit.pad(dx, &vec![0; missing.len()], &missing, 0.0)
    }
}
