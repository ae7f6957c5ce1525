//! Training with a step model: schedule, data, checkpoints, and the loop.

pub mod augment;
mod draw;
pub mod error;
pub mod loader;
pub mod schedule;
pub mod targets;
#[cfg(test)]
mod tests;

pub use augment::Augment;
pub use error::TrainError;
pub use loader::{Loaded, Loader, LoaderSettings, Stream};
pub use schedule::{Point, Ramp, Schedule, Shrink};
pub use targets::ClassWeights;
