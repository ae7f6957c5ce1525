//! Images from folders and archives, decoded and preprocessed into batches.
//!
//! | path given | read as | labels |
//! |---|---|---|
//! | folder with two or more subfolders that hold images | one class per subfolder, including deeper folders | index of the subfolder in sorted order |
//! | folder of images | flat | none |
//! | folder with a single subfolder that holds images | that subfolder | as above |
//! | folder of `.tar` files, or one `.tar` file | `WebDataset` shards | the text integers of `key.cls` |
//! | folder of IDX files, one images file, or `DIR/t10k` | MNIST's format, also `.gz` | the `labels` file beside it |
//! | `.npz` | the array `images`, `x`, `data`, `input`, `inputs` or `pixels`, or the only one | the array `labels`, `label` or `y` |
//! | `.npy` | one array | none |
//!
//! Images are `.jpg`, `.jpeg`, `.png`, `.webp` and `.bmp`. Hidden files and folders are ignored. The folders inside a
//! `.tar` do not name classes, because shards use folders for other purposes; unpack it to get labels from them.
//! Encoded images, `.npy` and unpacked IDX files stay in their file and are read one batch at a time; `.npz` and packed
//! IDX files are held in memory, with at most 1 GiB per array.

mod array;
mod batches;
mod config;
mod dataset;
mod decode;
mod draw;
mod error;
mod folder;
mod idx;
mod input;
mod model_inputs;
pub mod npz;
mod plan;
mod prepared;
mod preprocess;
mod read;
mod shards;
mod store;
#[cfg(test)]
mod tests;

pub use batches::{Batch, Batches, Skipped};
pub(crate) use batches::{most_skipped, too_many};
pub use dataset::Dataset;
pub use error::DataError;
pub use input::InputSpec;
pub use model_inputs::ModelInputs;
pub use prepared::Prepared;
pub use preprocess::{Interpolation, Preprocess, Resize};
