//! Full-size networks with seeded weights, written as torch's exporters would write them.
//!
//! Node types, operand order, attributes and names follow the real exports; the weights are random
//! but of a scale that keeps activations alive, so that outputs can be compared. The folded and the
//! unfolded form of one seed are the same function. A development tool, not shipped.

mod attention;
mod convnext;
mod deit;
mod dialect;
mod layers;
mod mobilenet;
mod mobileone;
mod net;
mod network;
mod repvgg;
mod resnet;
mod tokens;
mod vgg;
mod weights;

pub use dialect::{Dialect, Options};
pub use network::Network;
