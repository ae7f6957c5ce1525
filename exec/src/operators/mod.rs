//! Our own operators for ONNX Runtime's CPU provider, in the domain [`DOMAIN`].
//!
//! Each operator computes the same as a sequence of standard operators, in fewer passes over memory. A training step
//! has them instead of these sequences where `updp-autodiff` lowers it for a processor. A written file never contains
//! them. All of them are deterministic for any number of threads.
//!
//! An operator that does not fit its operands is an error of the run (X0403). So is a panic in an operator (X0402).

mod batch_norm;
mod call;
mod conv_weight_gradient;
mod dense;
mod depthwise;
mod elementwise;
mod gelu;
mod lanes;
mod layer_norm;
mod product;
mod scratch;
mod softmax;
mod sums;
mod window;

#[cfg(test)]
mod tests;

use ort::operator::OperatorDomain;

use batch_norm::{BatchNormGradient, BatchStatistics};
use call::Entry;
pub(crate) use call::{PANICKED, REFUSED};
use conv_weight_gradient::ConvWeightGradient;
use elementwise::{ClipGradient, Elementwise, ReluGradient};
use gelu::{Gelu, GeluGradient};
use layer_norm::LayerNormGradient;
use product::Product;
use softmax::SoftmaxGradient;

/// The domain of these operators; version 1.
pub const DOMAIN: &str = "updp";

/// The domain with every operator, for one session.
pub(crate) fn domain() -> ort::Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?
        .add(Entry::<BatchNormGradient>::new())?
        .add(Entry::<BatchStatistics>::new())?
        .add(Entry::<Elementwise<ClipGradient, 2>>::new())?
        .add(Entry::<ConvWeightGradient>::new())?
        .add(Entry::<Elementwise<Gelu, 1>>::new())?
        .add(Entry::<Elementwise<GeluGradient, 2>>::new())?
        .add(Entry::<LayerNormGradient>::new())?
        .add(Entry::<Product<false>>::new())?
        .add(Entry::<Product<true>>::new())?
        .add(Entry::<Elementwise<ReluGradient, 2>>::new())?
        .add(Entry::<SoftmaxGradient>::new())
}
