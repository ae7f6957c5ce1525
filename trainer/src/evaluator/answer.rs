//! The output of a network for a batch, and how far another network's output is from it.

use indexmap::IndexMap;
use updp_ir::{DataType, Tensor};

use crate::error::TrainerError;
use crate::fit::floats;
use crate::similarity::kl;

/// Most elements of an image's output that are compared. The pixels of a map differ little from their neighbours, and
/// a map of classes for each pixel has millions of elements.
const MOST_COMPARED: usize = 1 << 16;

/// Output of a network for a batch.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Output elements, image by image. Of large outputs that are no class scores, these are elements at equal distances.
    pub(super) values: Vec<f32>,
    /// Number of these elements per image.
    pub(super) width: usize,
    /// Type and dims of the tensor.
    pub(super) dtype: DataType,
    pub(super) dims: Vec<usize>,
    /// Whether the elements are class scores: one number per class.
    pub(super) is_classes: bool,
}

impl Answer {
    fn of(
        outputs: &IndexMap<String, Tensor>,
        name: &str,
        images: usize,
    ) -> Result<Self, TrainerError> {
        let tensor = outputs.get(name).ok_or(TrainerError::NoOutput)?;
        let values = floats(tensor).ok_or(TrainerError::NoOutput)?;
        let width = values.len() / images.max(1);
        let (dtype, dims) = (tensor.dtype(), tensor.dims().to_vec());
        let is_classes = dims.len() == 2 && width > 1;
        if is_classes || width <= MOST_COMPARED {
            return Ok(Self { values: values.into_owned(), width, dtype, is_classes, dims });
        }
        let step = width.div_ceil(MOST_COMPARED);
        // Without a common divisor the elements of a map of pixels come from every channel and column alike.
        let step = (step..=width).find(|step| divisor(*step, width) == 1).unwrap_or(step);
        let rows = values.chunks_exact(width);
        let values = rows.flat_map(|row| row.iter().step_by(step).copied()).collect();
        Ok(Self { values, width: width.div_ceil(step), dtype, is_classes, dims })
    }

    /// The outputs with these names.
    pub(super) fn all(
        outputs: &IndexMap<String, Tensor>,
        names: &[String],
        images: usize,
    ) -> Result<Vec<Self>, TrainerError> {
        names.iter().map(|name| Self::of(outputs, name, images)).collect()
    }

    /// The output for one image alone.
    pub(super) fn image(&self, at: usize) -> Self {
        let values = self.values.chunks_exact(self.width.max(1)).nth(at).unwrap_or_default();
        let mut dims = self.dims.clone();
        if let Some(images) = dims.first_mut() {
            *images = 1;
        }
        Self { values: values.to_vec(), dims, ..*self }
    }

    pub(super) fn images(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// The divergence of another network's output from this output of the original, averaged over the images, in nats.
    pub(super) fn divergence(&self, other: &Self, variance: f64) -> f64 {
        if self.is_classes {
            let pairs = self.rows().zip(other.rows());
            let sum: f64 = pairs.map(|(old, new)| kl(old, new)).sum();
            return sum / self.images().max(1) as f64;
        }
        let pairs = self.values.iter().zip(&other.values);
        let sum: f64 = pairs.map(|(old, new)| f64::from(old - new).powi(2)).sum();
        let mean = sum / self.values.len().max(1) as f64;
        if mean == 0.0 { 0.0 } else { mean / (2.0 * variance.max(f64::MIN_POSITIVE)) }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }
}

/// Greatest common divisor.
fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}
