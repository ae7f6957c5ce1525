//! W̄[k] = Σ ȳ[o]·x[o·s + k·d − p] over batch and output positions.

use updp_ir::{Node, ValueId};

use super::choice::{WeightForm, weight_form};
use super::geometry::{Geometry, Slide, convolve, one_hot};
use crate::emit::Emit;
use crate::error::Result;

impl Geometry {
    /// W̄ [O, I/g, kernel] from x [N, I, input] and ȳ [N, O, output].
    pub fn weight_gradient(&self, emit: &mut Emit<'_>, x: ValueId, dy: ValueId) -> Result<ValueId> {
        let gradient = match weight_form(self) {
            WeightForm::Unrolled => self.unrolled(emit, x, dy),
            WeightForm::CotangentKernel => self.cotangent_kernel(emit, x, dy),
            WeightForm::RowProducts => self.row_products(emit, x, dy),
        }?;
        if self.space() == 2 {
            let node = Node::new("ConvWeightGradient")
                .with("group", self.group as i64)
                .with("kernel_shape", self.kernel.as_slice())
                .with("strides", self.strides.as_slice())
                .with("dilations", self.dilations.as_slice())
                .with("begin", self.begin.as_slice());
            emit.record_fused_alternative(node, &[x, dy], &[gradient])?;
        }
        Ok(gradient)
    }

    fn weight_dims(&self) -> Vec<usize> {
        let mut dims = vec![self.out_channels, self.in_channels / self.group];
        dims.extend(&self.kernel);
        dims
    }

    /// Σₙ ȳ [N, g, O/g, P] · colsᵀ [N, g, P, I/g·taps], or its transpose. ONNX Runtime copies the right factor, so the
    /// right factor is the smaller one.
    fn unrolled(&self, emit: &mut Emit<'_>, x: ValueId, dy: ValueId) -> Result<ValueId> {
        let (n, g, pixels) = (self.batch, self.group, self.pixels());
        let row = self.in_channels / g * self.taps();
        let outer = self.out_channels / g;
        let dims = |rows| if g == 1 { vec![n, rows, pixels] } else { vec![n, g, rows, pixels] };
        let cols = self.columns(emit, x)?;
        let cols = emit.reshape(cols, &dims(row))?;
        let dy = emit.reshape(dy, &dims(outer))?;
        let is_transposed = outer < row;
        let (left, right) = if is_transposed { (cols, dy) } else { (dy, cols) };
        let right = emit.transpose_last(right)?;
        let product = emit.matmul(left, right)?; // [N, (g,) O/g, I/g·taps] or its last two swapped
        let mut sum = emit.reduce_sum(product, &[0], false)?;
        if is_transposed {
            sum = emit.transpose_last(sum)?;
        }
        emit.reshape(sum, &self.weight_dims())
    }

    /// The entries that each output position reads: [N, I·taps, output], taps fastest.
    fn columns(&self, emit: &mut Emit<'_>, x: ValueId) -> Result<ValueId> {
        if self.is_pointwise() {
            return Ok(x);
        }
        let dtype = emit.dtype(x)?;
        let one = one_hot(&self.kernel);
        let all: Vec<f64> = (0..self.in_channels).flat_map(|_| one.iter().copied()).collect();
        let mut dims = vec![self.in_channels * self.taps(), 1];
        dims.extend(&self.kernel);
        let kernel = emit.floats(dtype, &dims, &all)?;
        let grouped = Self {
            group: self.in_channels,
            out_channels: self.in_channels * self.taps(),
            ..self.clone()
        };
        grouped.forward(emit, x, kernel)
    }

    /// x [1, N·C, input] convolved with ȳ [N·O, 1, output] in N·C groups. Strides and dilations are swapped.
    fn cotangent_kernel(&self, emit: &mut Emit<'_>, x: ValueId, dy: ValueId) -> Result<ValueId> {
        let n = self.batch;
        let mut x_dims = vec![1, n * self.in_channels];
        x_dims.extend(&self.input);
        let mut dy_dims = vec![n * self.out_channels, 1];
        dy_dims.extend(&self.output);
        let (x, dy) = (emit.reshape(x, &x_dims)?, emit.reshape(dy, &dy_dims)?);
        let begin: Vec<i64> = self.begin.iter().map(|pad| *pad as i64).collect();
        let product = convolve(
            emit,
            x,
            dy,
            &Slide {
                group: n * self.in_channels,
                strides: &self.dilations,
                dilations: &self.strides,
                begin: &begin,
                end: &self.end(),
            },
        )?; // [1, N·O, kernel]
        let mut apart = vec![n];
        apart.extend(self.weight_dims());
        let apart = emit.reshape(product, &apart)?;
        emit.reduce_sum(apart, &[0], false)
    }

    /// W̄[c, ky, kx] = Σ ȳ[n, c, h, w]·x[n, c, h·s + ky·d, w·s + kx·d] over padded x. For each ky this is the product
    /// over (n, h) [C, Wo, Wp], and kx takes the entries (w, w·s + kx·d) of it. Only for one output channel per group.
    fn row_products(&self, emit: &mut Emit<'_>, x: ValueId, dy: ValueId) -> Result<ValueId> {
        let (n, c) = (self.batch, self.in_channels);
        let (rows, columns) = (self.output[0], self.output[1]);
        let end = self.end();
        let begin = [0, 0, self.begin[0] as i64, self.begin[1] as i64];
        let padded = emit.pad(x, &begin, &[0, 0, end[0], end[1]], 0.0)?;
        let wide = emit.dims(padded)?[3];
        let by_channel = emit.transpose(padded, &[1, 0, 2, 3])?; // [C, N, Hp, Wp]
        let dy = emit.transpose(dy, &[1, 3, 0, 2])?; // [C, Wo, N, Ho]
        let dy = emit.reshape(dy, &[c, columns, n * rows])?;
        let mut products = Vec::with_capacity(self.kernel[0]);
        for ky in 0..self.kernel[0] {
            let first = ky * self.dilations[0];
            let last = first + (rows - 1) * self.strides[0] + 1;
            let seen = emit.slice(by_channel, &[2], &[first], &[last], &[self.strides[0]])?;
            let seen = emit.reshape(seen, &[c, n * rows, wide])?;
            let product = emit.matmul(dy, seen)?; // [C, Wo, Wp]
            products.push(emit.reshape(product, &[c, 1, columns * wide])?);
        }
        let products = emit.concat(&products, 1)?; // [C, kh, Wo·Wp]
        let kernel = self.kernel[1];
        let mut mask = vec![0.0; columns * wide * kernel];
        for column in 0..columns {
            for kx in 0..kernel {
                let at = column * self.strides[1] + kx * self.dilations[1];
                mask[(column * wide + at) * kernel + kx] = 1.0;
            }
        }
        let dtype = emit.dtype(x)?;
        let mask = emit.floats(dtype, &[columns * wide, kernel], &mask)?;
        let taken = emit.matmul(products, mask)?; // [C, kh, kw]
        emit.reshape(taken, &self.weight_dims())
    }
}
