//! Which form of a gradient is written: one table, so that another target can have another one.
//!
//! Measured on ONNX Runtime's CPU provider; every form is exact and made of operators that all providers have.

use super::geometry::Geometry;

/// Forms of x̄.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputForm {
    /// Wᵀ·ȳ for 1×1 kernels without stride.
    Product,
    /// A convolution of ȳ with the flipped kernel.
    FlippedConv,
    /// A transposed convolution without `output_padding`, which MIGraphX computes as zeros.
    TransposedConv,
}

/// Forms of W̄.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WeightForm {
    /// ȳ·colsᵀ, cols = x unrolled by a one-hot grouped convolution (x itself, or a strided slice, for 1×1).
    Unrolled,
    /// A convolution of x with ȳ as its kernel, one group an image and channel, then a sum over the batch.
    CotangentKernel,
}

/// Channels from which a dense transposed convolution is faster than the flipped one.
const MANY_CHANNELS: usize = 256;

fn has_many_channels(geometry: &Geometry) -> bool {
    geometry.in_channels.min(geometry.out_channels) >= MANY_CHANNELS
}

/// The form of x̄ of this layer.
pub(super) fn input_form(geometry: &Geometry) -> InputForm {
    if geometry.is_pointwise() && geometry.group == 1 {
        InputForm::Product
    } else if !geometry.has_stride_1() || geometry.group == 1 && has_many_channels(geometry) {
        InputForm::TransposedConv
    } else {
        InputForm::FlippedConv
    }
}

/// The form of W̄ of this layer.
pub(super) fn weight_form(geometry: &Geometry) -> WeightForm {
    if geometry.is_depthwise() { WeightForm::CotangentKernel } else { WeightForm::Unrolled }
}
