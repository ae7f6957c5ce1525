//! Chooses the form of a gradient. The choice is one table, so that another target can have another table.
//!
//! The table is measured on ONNX Runtime's CPU provider. Every form is exact and consists of operators that all
//! providers have.

use super::geometry::Geometry;

/// Forms of x̄.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputForm {
    /// Wᵀ·ȳ for 1×1 kernels without stride.
    Product,
    /// A convolution of ȳ with the flipped kernel.
    FlippedConv,
    /// A transposed convolution without `output_padding`, because MIGraphX computes `output_padding` as zeros.
    TransposedConv,
}

/// Forms of W̄.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WeightForm {
    /// ȳ·colsᵀ, where cols is x unrolled by a one-hot grouped convolution (x itself, or a strided slice, for 1×1).
    Unrolled,
    /// A convolution of x with ȳ as its kernel, one group per image and channel, then a sum over the batch.
    CotangentKernel,
    /// For each row of a depthwise kernel the products of all rows of ȳ and x. A mask takes their diagonals.
    RowProducts,
}

/// From this number of kernel positions on, the row products of a depthwise kernel are faster.
const MANY_TAPS: usize = 25;

/// From this number of channels on, a dense transposed convolution is faster than the flipped one.
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
    if !geometry.is_depthwise() {
        WeightForm::Unrolled
    } else if geometry.taps() >= MANY_TAPS
        && geometry.space() == 2
        && geometry.has_stride_1()
        && geometry.out_channels == geometry.in_channels
    {
        WeightForm::RowProducts
    } else {
        WeightForm::CotangentKernel
    }
}
