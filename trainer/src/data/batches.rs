//! Batches of decoded images, prepared one ahead of the caller.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use rayon::prelude::*;
use updp_ir::{DataType, Tensor};

use super::error::DataError;
use super::plan::Plan;
use super::read::{Raw, read};
use super::store::Store;

/// Any data set may have this many unreadable images.
const ALWAYS_ALLOWED: usize = 10;

/// In a large data set, one in this many images may be unreadable.
const ONE_IN: usize = 20;

/// Number of unreadable images that an error names.
const NAMED: usize = 5;

/// Images for one run of a model.
#[derive(Clone, Debug)]
pub struct Batch {
    /// f32 `[n, C, H, W]` or `[n, H, W, C]`, in the layout of the input.
    pub images: Tensor,
    /// Class number of each image; `None` without labels.
    pub labels: Option<Vec<usize>>,
}

/// An image that could not be read and was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its path relative to the data set.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// The images of a data set as batches, in the order of the data set. Only the last batch may be smaller.
///
/// A thread prepares one batch on rayon's threads while the caller uses the other, so two batches are in memory. Images
/// that cannot be read are left out. If they are more than 10 and more than 5 % of the images, or all images, the
/// batches end with T0111.
#[derive(Debug)]
pub struct Batches {
    path: PathBuf,
    receiver: Receiver<Message>,
    skipped: Vec<Skipped>,
    is_done: bool,
}

/// A batch or the end, with the images skipped before it.
#[derive(Debug)]
struct Message {
    result: Option<Result<Batch, DataError>>,
    skipped: Vec<Skipped>,
}

impl Batches {
    /// Starts the thread.
    ///
    /// # Errors
    /// T0110 when the rows of an array do not match the model's input; T0101 when no thread can be created.
    pub(super) fn start(
        store: Arc<Store>,
        chosen: Arc<[usize]>,
        plan: Plan,
        batch: usize,
    ) -> Result<Self, DataError> {
        store.check_rows(plan.input())?;
        let path = store.path.clone();
        let (sender, receiver) = sync_channel(0);
        let worker = Worker { store, chosen, plan, batch: batch.max(1) };
        std::thread::Builder::new()
            .name("updp-data".to_owned())
            .spawn(move || worker.run(&sender))
            .map_err(|error| DataError::Unreadable {
                path: path.clone(),
                detail: error.to_string(),
            })?;
        Ok(Self { path, receiver, skipped: Vec::new(), is_done: false })
    }

    /// The images left out before the batches returned so far; after the last batch these are all of them.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let Ok(message) = self.receiver.recv() else {
            self.is_done = true;
            let detail = "the thread that reads it ended early".to_owned();
            return Some(Err(DataError::Unreadable { path: self.path.clone(), detail }));
        };
        self.skipped.extend(message.skipped);
        self.is_done = !matches!(message.result, Some(Ok(_)));
        message.result
    }
}

/// The data that the thread works on.
struct Worker {
    store: Arc<Store>,
    chosen: Arc<[usize]>,
    plan: Plan,
    batch: usize,
}

impl Worker {
    fn run(&self, sender: &SyncSender<Message>) {
        let total = self.chosen.len();
        let allowed = most_skipped(total);
        let (mut next, mut reported) = (0, 0);
        let mut skipped = Vec::new();
        loop {
            let is_first = next == 0;
            let result = self.gather(&mut next, allowed, &mut skipped);
            let is_unread = is_first && total > 0 && matches!(result, Ok(None));
            let result = if skipped.len() > allowed || is_unread {
                Some(Err(too_many(&skipped, total)))
            } else {
                result.transpose()
            };
            let is_last = !matches!(result, Some(Ok(_)));
            let message = Message { result, skipped: skipped[reported..].to_vec() };
            reported = skipped.len();
            if sender.send(message).is_err() || is_last {
                return;
            }
        }
    }

    /// Returns the next batch, filled up with later images if some are left out; `None` when no image is left.
    fn gather(
        &self,
        next: &mut usize,
        allowed: usize,
        skipped: &mut Vec<Skipped>,
    ) -> Result<Option<Batch>, DataError> {
        let row = self.plan.row_bytes();
        let mut bytes = vec![0; row * self.batch.min(self.chosen.len() - *next)];
        let mut taken: Vec<usize> = Vec::new();
        while *next < self.chosen.len() && taken.len() * row < bytes.len() {
            let filled = taken.len() * row;
            let room = (bytes.len() - filled) / row;
            let indices = &self.chosen[*next..self.chosen.len().min(*next + room)];
            let results: Vec<Result<(), String>> = bytes[filled..]
                .par_chunks_mut(row)
                .zip(indices)
                .map(|(row, index)| self.fill(*index, row))
                .collect();
            for (slot, (result, index)) in results.into_iter().zip(indices).enumerate() {
                if let Err(reason) = result {
                    skipped.push(Skipped { name: self.store.entries.name(*index), reason });
                    continue;
                }
                let from = filled + slot * row;
                bytes.copy_within(from..from + row, taken.len() * row);
                taken.push(*index);
            }
            *next += indices.len();
            if skipped.len() > allowed {
                return Ok(None);
            }
        }
        if taken.is_empty() {
            return Ok(None);
        }
        bytes.truncate(taken.len() * row);
        let dims = [&[taken.len()], &self.plan.input().row_dims()[..]].concat();
        let images = Tensor::new(DataType::Float, dims, Bytes::from(bytes))
            .map_err(|error| damaged(&self.store, error.to_string()))?;
        let labels = self.store.labels.as_ref();
        let labels = labels.map(|labels| taken.iter().map(|index| labels[*index]).collect());
        Ok(Some(Batch { images, labels }))
    }

    /// Writes one image into its row of the batch.
    fn fill(&self, index: usize, row: &mut [u8]) -> Result<(), String> {
        match read(&self.store, index, self.plan.input().channels)? {
            Raw::Pixels(pixels) => self.plan.apply(pixels, row),
            Raw::Floats(floats) if floats.len() == row.len() => {
                row.copy_from_slice(&floats);
                Ok(())
            }
            Raw::Floats(floats) => Err(format!("it has {} bytes", floats.len())),
        }
    }
}

/// Number of images that may be unreadable out of `total`.
pub(crate) fn most_skipped(total: usize) -> usize {
    ALWAYS_ALLOWED.max(total / ONE_IN)
}

/// T0111.
pub(crate) fn too_many(skipped: &[Skipped], total: usize) -> DataError {
    let first = skipped.iter().take(NAMED);
    DataError::TooManySkipped {
        skipped: skipped.len(),
        total,
        first: first.map(|skipped| format!("{}: {}", skipped.name, skipped.reason)).collect(),
    }
}

fn damaged(store: &Store, detail: String) -> DataError {
    DataError::Damaged { path: store.path.clone(), detail }
}
