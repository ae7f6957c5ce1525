//! The images of a data set, their order and their labels.

use std::path::Path;
use std::sync::Arc;

use super::batches::Batches;
use super::draw::stratified;
use super::error::DataError;
use super::input::InputSpec;
use super::model_inputs::ModelInputs;
use super::preprocess::Preprocess;
use super::store::{Store, file_name, is_image, is_packed, stamp, unknown};
use super::{array, folder, idx, shards};
use crate::hash::Fnv;

/// A set of images that are not decoded yet.
///
/// Clones and parts share the data that was found when the set was opened.
#[derive(Clone, Debug)]
pub struct Dataset {
    store: Arc<Store>,
    /// Indices into the store, in the order of the batches.
    chosen: Arc<[usize]>,
    /// What the model gets beside the images.
    inputs: Arc<ModelInputs>,
}

impl Dataset {
    /// Finds the images at `path`; the [module](super) lists the kinds of data.
    ///
    /// The images are in the order of their sorted names, or in the order of the archive or array.
    ///
    /// # Errors
    /// T0101 when something cannot be read, T0102 when it is none of the kinds or has no images, T0103 when it must be
    /// unpacked first, T0104 for a folder that contains `train` and `val`, T0105 for damaged files, T0106 for labels
    /// that do not match.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let store = open(path)?;
        let chosen = (0..store.entries.len()).collect();
        Ok(Self { store: Arc::new(store), chosen, inputs: Arc::default() })
    }

    /// The same images for a model with several inputs. Parts of the set keep this.
    #[must_use]
    pub fn with_inputs(mut self, inputs: ModelInputs) -> Self {
        self.inputs = Arc::new(inputs);
        self
    }

    /// What the model gets beside the images.
    #[must_use]
    pub fn inputs(&self) -> &ModelInputs {
        &self.inputs
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Whether there are no images; only a part of a data set can be empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Names of the classes in the order of their numbers: the sorted names of the folders, or `"0"`, `"1"`, … up to
    /// the largest label. Empty without labels.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.store.classes
    }

    /// Whether the class of each image is known.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        self.store.labels.is_some()
    }

    /// Class number of each image, in the order of the images; `None` without labels.
    #[must_use]
    pub fn labels(&self) -> Option<Vec<usize>> {
        let labels = self.store.labels.as_ref()?;
        Some(self.chosen.iter().map(|index| labels[*index]).collect())
    }

    /// Name of the image at a position: its path relative to the data set, or `FILE[ROW]`; `None` beyond the last
    /// image.
    #[must_use]
    pub fn name(&self, position: usize) -> Option<String> {
        self.chosen.get(position).map(|index| self.store.entries.name(*index))
    }

    /// Splits the images into two parts, `(rest, held out)`; `share` of them (0 to 1) is held out.
    ///
    /// Each class is split by `share`, both parts keep the order, and the same seed gives the same parts. If there are
    /// at least two images and the share is between 0 and 1, neither part is empty.
    #[must_use]
    pub fn split(&self, share: f64, seed: u64) -> (Self, Self) {
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        let mut count = (share * self.len() as f64).round() as usize;
        if share > 0.0 && share < 1.0 && self.len() > 1 {
            count = count.clamp(1, self.len() - 1);
        }
        let mut is_held_out = vec![false; self.len()];
        for position in stratified(&self.strata(), count, seed) {
            is_held_out[position] = true;
        }
        let part = |held_out: bool| {
            let chosen = self.chosen.iter().zip(&is_held_out);
            self.with(chosen.filter(|(_, is)| **is == held_out).map(|(index, _)| *index).collect())
        };
        (part(false), part(true))
    }

    /// Selects `count` images (all if there are fewer). Each class gets its share, and the order mixes the classes.
    ///
    /// The same seed gives the same images in the same order.
    #[must_use]
    pub fn sample(&self, count: usize, seed: u64) -> Self {
        let drawn = stratified(&self.strata(), count, seed);
        self.with(drawn.into_iter().map(|position| self.chosen[position]).collect())
    }

    /// A number that changes when the images or the constants of other inputs change: a hash of their names, sizes, order
    /// and labels, and of the times at which their files changed. Moving the folder does not change it.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        for class in &self.store.classes {
            hash.text(class);
        }
        for container in self.store.entries.containers() {
            let (bytes, changed) = stamp(container);
            hash.text(&file_name(container));
            hash.bytes(&bytes.to_le_bytes());
            hash.bytes(&changed.to_le_bytes());
        }
        for index in self.chosen.iter() {
            let (bytes, changed) = self.store.entries.stamp(*index);
            hash.text(&self.store.entries.name(*index));
            hash.bytes(&bytes.to_le_bytes());
            hash.bytes(&changed.to_le_bytes());
            let label = self.store.labels.as_ref().map_or(u64::MAX, |labels| labels[*index] as u64);
            hash.bytes(&label.to_le_bytes());
        }
        self.inputs.hash(&mut hash);
        hash.value()
    }

    /// Returns the images as batches of `batch` for a model's input. They are decoded on all cores, one batch ahead.
    ///
    /// # Errors
    /// T0110 when the preprocessing or the rows of an array do not fit the input; T0101 when no thread can be created.
    pub fn batches(
        &self,
        preprocess: &Preprocess,
        input: &InputSpec,
        batch: usize,
    ) -> Result<Batches, DataError> {
        Batches::start(
            Arc::clone(&self.store),
            Arc::clone(&self.chosen),
            preprocess.plan(input)?,
            batch,
        )
    }

    /// The store of the images and the indices of the selected ones.
    pub(super) fn parts(&self) -> (Arc<Store>, Arc<[usize]>) {
        (Arc::clone(&self.store), Arc::clone(&self.chosen))
    }

    fn with(&self, chosen: Arc<[usize]>) -> Self {
        Self { store: Arc::clone(&self.store), chosen, inputs: Arc::clone(&self.inputs) }
    }

    /// Class of each image; without labels all images have the same class.
    fn strata(&self) -> Vec<usize> {
        self.labels().unwrap_or_else(|| vec![0; self.len()])
    }
}

fn open(path: &Path) -> Result<Store, DataError> {
    let name = file_name(path);
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    if path.is_dir() {
        return folder::open(path);
    }
    if !path.exists() {
        return match idx::by_prefix(path) {
            Some(images) => idx::open(&images),
            None => Err(DataError::Unreadable {
                path: path.to_owned(),
                detail: "no such file or folder".to_owned(),
            }),
        };
    }
    if idx::is_images(&name) {
        idx::open(path)
    } else if folder::is_tar(&name) {
        shards::open(path, vec![path.to_owned()])
    } else if ending.as_deref() == Some("npz") {
        array::open_npz(path)
    } else if ending.as_deref() == Some("npy") {
        array::open_npy(path)
    } else if is_packed(&name) {
        Err(DataError::Packed { path: path.to_owned() })
    } else if is_image(&name) {
        Err(unknown(path, "it is a single image, and its folder is needed"))
    } else {
        Err(unknown(path, "files end with .tar, .npz, .npy or images-idx3-ubyte"))
    }
}
