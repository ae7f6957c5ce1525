//! Training with a step model: schedule, data, checkpoints and the loop.

pub mod augment;
mod draw;
pub mod error;
mod journal;
pub mod loader;
mod run;
pub mod sandwich;
pub mod schedule;
pub mod state;
pub mod targets;
#[cfg(test)]
mod tests;

pub use augment::Augment;
pub use error::TrainError;
pub use journal::Row;
pub use loader::{Loaded, Loader, LoaderSettings, Stream};
pub use run::{End, Hooks, Progress, TrainOptions, Trained, train};
pub use schedule::{Point, Ramp, Schedule, Shrink};
pub use state::{Checkpoints, Found, Snapshot, Validation};
pub use targets::ClassWeights;
