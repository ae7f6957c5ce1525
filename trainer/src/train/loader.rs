//! Shuffled, augmented batches with soft labels, made ahead of the training.
//!
//! Every epoch is a permutation of the images, cut into full batches. The few remaining images are left out; they
//! differ from epoch to epoch. A batch is a pure function of (seed, step): it depends neither on threads nor on where a
//! training was interrupted, so the position of the loader is the number of the step.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use rayon::prelude::*;
use updp_ir::{DataType, Tensor};

use super::augment::{Augment, Half, View, mix};
use super::draw::Draw;
use super::error::TrainError;
use super::targets::{ClassWeights, Targets};
use crate::data::{Dataset, InputSpec, Prepared, Preprocess, Skipped, most_skipped, too_many};
use crate::error::TrainerError;

/// Takes the place of the image number when the order of an epoch is drawn.
const ORDER: u64 = u64::MAX;

/// This bit is set in the image number when the draw is for the image's pair.
const PAIR: u64 = 1 << 63;

/// Settings of the batches.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderSettings {
    /// Images per step.
    pub batch: usize,
    /// Classes of the model.
    pub classes: usize,
    /// Whether labels are targets. Otherwise every image counts as one without a label.
    pub reads_labels: bool,
    /// Seed of the order and the augmentation.
    pub seed: u64,
    /// Augmentation of the images.
    pub augment: Augment,
    /// ε of label smoothing, at least 0 and below 1.
    pub smoothing: f64,
    /// Weights of the classes in the loss.
    pub weights: ClassWeights,
    /// Number of batches made ahead of the training, at least 1.
    pub ahead: usize,
    /// Number of threads that make batches; `None` uses rayon's own threads.
    pub threads: Option<NonZeroUsize>,
    /// Images are kept in memory when all of them together take at most this many bytes.
    pub memory_bytes: u64,
}

impl LoaderSettings {
    /// No augmentation, equal classes, four batches ahead, 1 GiB.
    #[must_use]
    pub fn new(batch: usize, classes: usize, seed: u64) -> Self {
        Self {
            batch,
            classes,
            reads_labels: true,
            seed,
            augment: Augment::default(),
            smoothing: 0.0,
            weights: ClassWeights::Equal,
            ahead: 4,
            threads: None,
            memory_bytes: 1 << 30,
        }
    }
}

/// The input of one training step.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// f32 `[N, C, H, W]` or `[N, H, W, C]`, in the layout of the input.
    pub images: Tensor,
    /// f32 `[N, classes]`; rows are zero without labels and for images that cannot be read.
    pub targets: Tensor,
    /// Position of each image in the data set.
    pub positions: Vec<usize>,
}

/// Makes the batches of a training.
#[derive(Clone, Debug)]
pub struct Loader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    prepared: Prepared,
    settings: LoaderSettings,
    targets: Targets,
    view: View,
    fill: Vec<u8>,
    pool: Option<rayon::ThreadPool>,
    /// Images that cannot be read, with the reason.
    skipped: Mutex<BTreeMap<usize, String>>,
}

/// An endless sequence of batches; a thread makes them ahead.
#[derive(Debug)]
pub struct Stream {
    receiver: Option<Receiver<Result<Loaded, TrainerError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Makes the batches of `dataset` for a model's input.
    ///
    /// # Errors
    /// T0110 when data, preprocessing and input do not fit, T0401 for settings out of range, T0406 when the data set
    /// has fewer images than one batch, T0407 for labels that have no class in the model, T0408 when the data are
    /// floats and the augmentation needs pixels, T0006 when no threads can be created.
    pub fn new(
        dataset: &Dataset,
        preprocess: &Preprocess,
        input: &InputSpec,
        settings: LoaderSettings,
    ) -> Result<Self, TrainerError> {
        let prepared = Prepared::new(dataset, preprocess, input, settings.memory_bytes)?;
        settings.augment.check(prepared.is_pixels())?;
        let (found, needed) = (prepared.len(), settings.batch);
        if needed == 0 || settings.classes == 0 {
            let (setting, expected) = ("the batch or the number of classes", "1 or more");
            return Err(TrainError::Setting { setting, found: "0".into(), expected }.into());
        }
        if found < needed {
            return Err(TrainError::TooFewImages { found, needed }.into());
        }
        let labels = dataset.labels().filter(|_| settings.reads_labels);
        let targets = Targets::new(
            labels.as_deref(),
            settings.classes,
            settings.smoothing,
            &settings.weights,
        )?;
        let pool = settings.threads.map(|threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build().map_err(|error| {
                TrainerError::Work { folder: "threads".to_owned(), detail: error.to_string() }
            })
        });
        let InputSpec { channels, height, width, .. } = *input;
        Ok(Self(Arc::new(Inner {
            fill: prepared.mean_pixel(),
            pool: pool.transpose()?,
            prepared,
            settings,
            targets,
            view: View { channels, height, width },
            skipped: Mutex::default(),
        })))
    }

    /// Settings of the batches.
    #[must_use]
    pub fn settings(&self) -> &LoaderSettings {
        &self.0.settings
    }

    /// Steps per epoch: only full batches count.
    #[must_use]
    pub fn steps_per_epoch(&self) -> usize {
        self.0.prepared.len() / self.0.settings.batch
    }

    /// The positions of all images in the order of an epoch.
    #[must_use]
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.0.prepared.len()).collect();
        Draw::of(self.0.settings.seed, epoch, ORDER).shuffle(&mut order);
        order
    }

    /// The images left out so far because they cannot be read.
    #[must_use]
    pub fn skipped(&self) -> Vec<Skipped> {
        self.0.skipped()
    }

    /// The batches from this step on; the first step is 0. A thread makes them ahead until the stream is dropped.
    ///
    /// # Errors
    /// T0006 when no thread can be created.
    pub fn stream(&self, step: u64) -> Result<Stream, TrainerError> {
        let loader = self.clone();
        let (sender, receiver) = sync_channel(self.0.settings.ahead.max(1));
        let work = move || {
            let per_epoch = loader.steps_per_epoch() as u64;
            let (mut epoch, mut at) = (step / per_epoch, step % per_epoch);
            loop {
                let order = loader.order(epoch);
                for positions in order.chunks_exact(loader.0.settings.batch).skip(at as usize) {
                    let loaded = loader.0.load(epoch, positions);
                    let is_last = loaded.is_err();
                    if sender.send(loaded).is_err() || is_last {
                        return;
                    }
                }
                (epoch, at) = (epoch + 1, 0);
            }
        };
        let thread = std::thread::Builder::new()
            .name("updp-loader".to_owned())
            .spawn(work)
            .map_err(|e| TrainerError::Work { folder: "threads".into(), detail: e.to_string() })?;
        Ok(Stream { receiver: Some(receiver), thread: Some(thread) })
    }
}

impl Iterator for Stream {
    type Item = Result<Loaded, TrainerError>;

    /// The next batch; `None` only after an error.
    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.as_ref()?.recv().ok()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The thread ends when no receiver is left; a panic of the thread would already have ended the stream.
        self.receiver = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Inner {
    /// Makes one batch with the threads of the pool.
    ///
    /// # Errors
    /// T0111 when too many images cannot be read.
    fn load(&self, epoch: u64, positions: &[usize]) -> Result<Loaded, TrainerError> {
        let work = || self.fill(epoch, positions);
        let (images, targets) = match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        };
        let (total, skipped) = (self.prepared.len(), self.skipped());
        if skipped.len() > most_skipped(total) || skipped.len() == total {
            return Err(too_many(&skipped, total).into());
        }
        let rows = positions.len();
        let dims = [&[rows], &self.prepared.input().row_dims()[..]].concat();
        let images = Tensor::new(DataType::Float, dims, Bytes::from(images))?;
        let dims = vec![rows, self.settings.classes];
        let targets = Tensor::new(DataType::Float, dims, Bytes::from(targets))?;
        Ok(Loaded { images, targets, positions: positions.to_vec() })
    }

    /// Images and targets of a batch; image `i` is mixed with image `N − 1 − i`.
    fn fill(&self, epoch: u64, positions: &[usize]) -> (Vec<u8>, Vec<u8>) {
        let row = self.prepared.input().row_dims().iter().product::<usize>() * 4;
        let label = self.settings.classes * 4;
        let rows = positions.len();
        let half = rows / 2;
        let (mut images, mut targets) = (vec![0; rows * row], vec![0; rows * label]);
        {
            let (front, back) = images.split_at_mut(half * row);
            let (middle, back) = back.split_at_mut((rows % 2) * row);
            let (front_targets, back_targets) = targets.split_at_mut(half * label);
            let (middle_targets, back_targets) = back_targets.split_at_mut((rows % 2) * label);
            if rows % 2 == 1 {
                let mut alone = Half { image: middle, targets: middle_targets };
                self.one(epoch, positions[half], &mut alone);
            }
            let front = front.par_chunks_mut(row).zip(front_targets.par_chunks_mut(label));
            let back = back.par_chunks_mut(row).zip(back_targets.par_chunks_mut(label));
            front.zip(back.rev()).enumerate().for_each(|(at, (one, two))| {
                let (first, second) = (positions[at], positions[rows - 1 - at]);
                let mut one = Half { image: one.0, targets: one.1 };
                let mut two = Half { image: two.0, targets: two.1 };
                self.one(epoch, first, &mut one);
                self.one(epoch, second, &mut two);
                let mut draw = Draw::of(self.settings.seed, epoch, first as u64 | PAIR);
                let (augment, input) = (&self.settings.augment, self.prepared.input());
                mix(augment, input, &mut one, &mut two, &mut draw);
            });
        }
        (images, targets)
    }

    /// Writes one image with its targets. An image that cannot be read gets zeros, so it does not count.
    fn one(&self, epoch: u64, position: usize, half: &mut Half<'_>) {
        let is_read = if self.prepared.is_pixels() {
            let mut pixels = vec![0; self.prepared.item_bytes()];
            self.prepared.read(position, &mut pixels).map(|()| {
                let mut draw = Draw::of(self.settings.seed, epoch, position as u64);
                self.settings.augment.apply(self.view, &mut pixels, &self.fill, &mut draw);
                self.prepared.normalize(&pixels, half.image);
            })
        } else {
            self.prepared.read(position, half.image)
        };
        match is_read {
            Ok(()) => self.targets.write(self.prepared.label(position), half.targets),
            Err(reason) => {
                half.image.fill(0);
                let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
                skipped.insert(position, reason);
            }
        }
    }

    fn skipped(&self) -> Vec<Skipped> {
        let skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |(at, reason): (&usize, &String)| Skipped {
            name: self.prepared.name(*at),
            reason: reason.clone(),
        };
        skipped.iter().map(named).collect()
    }
}
