//! Images by position, as 8-bit pixels in the input's size. They are kept in memory if they fit.
//!
//! Training reads these images: each image is used again in every epoch, and augmentation works on pixels before they
//! are normalized.

use std::sync::{Arc, OnceLock};

use super::dataset::Dataset;
use super::error::DataError;
use super::input::InputSpec;
use super::plan::Plan;
use super::preprocess::Preprocess;
use super::read::{Raw, read};
use super::store::Store;

/// Random access to the images of a data set, resized and cropped for one input.
#[derive(Debug)]
pub struct Prepared {
    store: Arc<Store>,
    chosen: Arc<[usize]>,
    plan: Plan,
    /// The images read so far; `None` if all of them together would not fit.
    kept: Option<Vec<OnceLock<Box<[u8]>>>>,
}

impl Prepared {
    /// The images of `dataset` for `input`. They are kept after reading if all of them take at most `budget_bytes`.
    ///
    /// # Errors
    /// T0110 when the preprocessing or the rows of an array do not fit the input.
    pub fn new(
        dataset: &Dataset,
        preprocess: &Preprocess,
        input: &InputSpec,
        budget_bytes: u64,
    ) -> Result<Self, DataError> {
        let (store, chosen) = dataset.parts();
        let plan = preprocess.plan(input)?;
        store.check_rows(input)?;
        let mut prepared = Self { store, chosen, plan, kept: None };
        let bytes = (prepared.item_bytes() as u64).saturating_mul(prepared.len() as u64);
        if bytes <= budget_bytes {
            prepared.kept = Some((0..prepared.len()).map(|_| OnceLock::new()).collect());
        }
        Ok(prepared)
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Whether the items are 8-bit pixels `[H, W, C]`; otherwise they are rows of the input, as little-endian f32.
    #[must_use]
    pub fn is_pixels(&self) -> bool {
        self.store.is_pixels()
    }

    /// Whether images stay in memory once they are read.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// The input that the images are prepared for.
    #[must_use]
    pub fn input(&self) -> &InputSpec {
        self.plan.input()
    }

    /// Number of bytes of one item.
    #[must_use]
    pub fn item_bytes(&self) -> usize {
        if self.is_pixels() { self.plan.row_bytes() / 4 } else { self.plan.row_bytes() }
    }

    /// Name of the image at a position, for messages.
    #[must_use]
    pub fn name(&self, position: usize) -> String {
        self.chosen.get(position).map_or_else(String::new, |at| self.store.entries.name(*at))
    }

    /// Class of the image at a position; `None` without labels or beyond the last image.
    #[must_use]
    pub fn label(&self, position: usize) -> Option<usize> {
        let at = *self.chosen.get(position)?;
        self.store.labels.as_ref().map(|labels| labels[at])
    }

    /// Writes the item at a position into `item`, which has [`Self::item_bytes`] bytes.
    ///
    /// # Errors
    /// Describes the problem of the image in words.
    pub fn read(&self, position: usize, item: &mut [u8]) -> Result<(), String> {
        let kept = self.kept.as_ref().and_then(|kept| kept.get(position));
        if let Some(bytes) = kept.and_then(OnceLock::get) {
            item.copy_from_slice(bytes);
            return Ok(());
        }
        let at = *self.chosen.get(position).ok_or("there is no such image")?;
        match read(&self.store, at, self.plan.input().channels)? {
            Raw::Pixels(pixels) if self.is_pixels() => self.plan.fit(pixels, item)?,
            Raw::Floats(floats) if floats.len() == item.len() => item.copy_from_slice(&floats),
            _ => return Err("it is not of the size of the others".to_owned()),
        }
        if let Some(slot) = kept {
            // Another thread may have stored it first, with the same bytes.
            let _ = slot.set((*item).into());
        }
        Ok(())
    }

    /// Normalizes `pixels [H, W, C]` and writes them as a row of the input, in little-endian f32.
    pub fn normalize(&self, pixels: &[u8], row: &mut [u8]) {
        self.plan.normalize(pixels, row);
    }

    /// The pixel of each channel that is nearest to 0 after normalization; this is the mean of the data.
    #[must_use]
    pub fn mean_pixel(&self) -> Vec<u8> {
        self.plan.mean_pixel()
    }
}
