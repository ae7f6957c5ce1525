//! Batches of decoded images, one ahead of the caller.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use rayon::prelude::*;
use updp_ir::{DataType, Tensor};

use super::decode::{Pixels, decode};
use super::error::DataError;
use super::plan::Plan;
use super::store::{Content, Entries, Rows, Store, read_file, read_range};

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
        if let Entries::Rows(rows) = &store.entries {
            let expected = plan.input().row_dims();
            if rows.content == Content::Ready && rows.row_dims() != expected {
                return Err(DataError::DoesNotFit {
                    what: "the rows of the array are".to_owned(),
                    found: format!("{:?}", rows.row_dims()),
                    expected: format!("{expected:?}"),
                });
            }
        }
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
        let allowed = ALWAYS_ALLOWED.max(total / ONE_IN);
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

    /// Writes one image into its row of the batch; a decoder's panic counts as an unreadable image.
    fn fill(&self, index: usize, row: &mut [u8]) -> Result<(), String> {
        let work = AssertUnwindSafe(|| match &self.store.entries {
            Entries::Files(files) => self.encoded(&read_file(&files[index].path)?, row),
            Entries::Members { shards, members } => {
                let member = &members[index];
                let shard = &shards[member.shard];
                self.encoded(&read_range(shard, member.offset, member.bytes)?, row)
            }
            Entries::Rows(rows) => self.array_row(rows, index, row),
        });
        catch_unwind(work).unwrap_or_else(|_| Err("its decoder failed".to_owned()))
    }

    fn encoded(&self, encoded: &[u8], row: &mut [u8]) -> Result<(), String> {
        self.plan.apply(decode(encoded, self.plan.input().channels)?, row)
    }

    fn array_row(&self, rows: &Rows, index: usize, row: &mut [u8]) -> Result<(), String> {
        let bytes = rows.read(index)?;
        match rows.content {
            Content::ChannelLast { height, width, channels: 4 } => {
                let bytes = bytes.as_chunks::<4>().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]);
                let bytes = bytes.collect();
                self.plan.apply(Pixels { height, width, channels: 3, bytes }, row)
            }
            Content::ChannelLast { height, width, channels } => {
                self.plan.apply(Pixels { height, width, channels, bytes: bytes.to_vec() }, row)
            }
            Content::ChannelFirst { height, width, channels } => {
                let plane = height * width;
                let at = |at: usize| bytes[(at % channels) * plane + at / channels];
                let bytes = (0..plane * channels).map(at).collect();
                self.plan.apply(Pixels { height, width, channels, bytes }, row)
            }
            Content::Ready if rows.dtype == DataType::Float => {
                row.copy_from_slice(&bytes);
                Ok(())
            }
            Content::Ready => {
                let tensor = Tensor::new(rows.dtype, rows.row_dims().to_vec(), bytes)
                    .map_err(|error| error.to_string())?;
                let values = tensor.to_f64().unwrap_or_default();
                for (cell, value) in row.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                    *cell = (value as f32).to_le_bytes();
                }
                Ok(())
            }
        }
    }
}

fn too_many(skipped: &[Skipped], total: usize) -> DataError {
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
