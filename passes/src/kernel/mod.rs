//! The exact affine algebra behind all merging, in f64 and independent of graphs.
//!
//! Every linear translation-invariant op lifts to one [`AffineMap`]. Composition
//! ([`AffineMap::then`]), parallel branches ([`AffineMap::plus`]) and per-channel maps act on it.
//! The conditions are L1–L16 of docs/papers.md. A condition that fails is an [`Obstacle`], never an
//! approximation.
//!
//! Arrays hold no batch axis: an image is `[C, in…]` with 0 to 3 spatial axes. A fully connected map has
//! no spatial axes.

mod affine_map;
mod batch_norm;
mod border;
mod channel;
mod compose;
mod groups;
mod moved;
mod obstacle;
mod oracle;
mod parallel;
mod statistics;

#[cfg(test)]
mod tests;

pub use affine_map::AffineMap;
pub use batch_norm::{BatchNormAffine, batch_norm_affine};
pub use border::{Border, constant_image_response, image_response};
pub use moved::padding_moved_to_first;
pub use obstacle::Obstacle;
pub use statistics::{WeightStatistics, weight_statistics};
