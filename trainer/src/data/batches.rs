//! Batches of decoded images, one ahead of the caller.

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

/// So many images may be unreadable in any data set.
const ALWAYS_ALLOWED: usize = 10;

/// One in so many images may be unreadable in a large one.
const ONE_IN: usize = 20;

/// How many unreadable images an error names.
const NAMED: usize = 5;

/// Images for one run of a model.
#[derive(Clone, Debug)]
pub struct Batch {
    /// f32 `[n, C, H, W]` or `[n, H, W, C]`, as the input has it.
    pub images: Tensor,
    /// Class number of each image; `None` without labels.
    pub labels: Option<Vec<usize>>,
}

/// An image that could not be read and is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its path below the data set.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The images of a data set as batches, in its order; only the last may be smaller.
///
/// A thread prepares one batch while the caller has the other, with rayon's threads, so two batches are in memory.
/// Images that cannot be read are left out; more than 10 and more than 5 % of them, or all, end the batches with T0111.
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
    /// T0110 when the rows of an array are not the model's input; T0101 when no thread can be had.
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

    /// The images left out before the batches so far; all of them once the last batch is out.
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

/// What the thread works on.
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

    /// The next batch, filled up with later images where some are left out; `None` when no image is left.
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

/// How many of so many images may be unreadable.
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
