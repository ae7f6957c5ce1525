//! From graph nodes to affine maps and back: the layer between the views and the algebra.
//!
//! [`Linear`] is one weighted operator (with the bias `Add` of a `MatMul`); [`ChannelAffine`] is one
//! per-channel scale and shift. Rules match these two and never read operators themselves.

mod carrier;
mod channel_affine;
mod emit;
mod layout;
mod linear;
mod path;
pub mod weights;

pub use carrier::{Carrier, Demand};
pub use channel_affine::{ChannelAffine, is_no_summand, spread, summands};
pub use layout::{Layout, layouts_above, layouts_below};
pub use linear::{Form, Linear};
pub use path::{Domain, Path, Selection, Step, input_size};
