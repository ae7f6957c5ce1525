//! Batches that are kept for many passes: in memory as far as they fit, the rest in a file without a name.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;
use updp_ir::{DataType, Tensor};

use crate::error::TrainerError;
use crate::run::{Batch, BatchSource, Batches};

/// Batches in memory and in a file. The file vanishes with this value, also when the program is killed.
#[derive(Clone, Debug)]
pub struct StoredBatches {
    /// Bytes of the batches that may stay in memory, and of all batches.
    most: (usize, usize),
    held: Vec<Batch>,
    bytes: usize,
    file: Option<Arc<File>>,
    filed: Vec<Filed>,
    filed_bytes: u64,
}

/// A batch whose values are in the file.
#[derive(Clone, Debug)]
struct Filed {
    inputs: Vec<(String, DataType, Vec<usize>, u64, usize)>,
    labels: Option<Vec<usize>>,
    count: usize,
}

impl StoredBatches {
    /// No batches yet: this many bytes of them stay in memory, and `all` bytes are kept at most.
    #[must_use]
    pub fn within(memory: usize, all: usize) -> Self {
        Self {
            most: (memory, all),
            held: Vec::new(),
            bytes: 0,
            file: None,
            filed: Vec::new(),
            filed_bytes: 0,
        }
    }

    /// Reads all batches of a feed; `None` if they are too large, or if no file takes them.
    ///
    /// # Errors
    /// Errors of reading the data.
    pub fn of(
        feed: &dyn BatchSource,
        memory: usize,
        all: usize,
    ) -> Result<Option<Self>, TrainerError> {
        let mut stored = Self::within(memory, all);
        for batch in feed.batches()? {
            if !stored.push(batch?) {
                return Ok(None);
            }
        }
        Ok(Some(stored))
    }

    /// Adds a batch. Returns false if there is no room for it.
    pub fn push(&mut self, batch: Batch) -> bool {
        let bytes = batch.bytes();
        if self.bytes + bytes > self.most.1 {
            return false;
        }
        self.bytes += bytes;
        if self.filed.is_empty() && self.bytes <= self.most.0 {
            self.held.push(batch);
            return true;
        }
        self.write(batch).is_some()
    }

    fn write(&mut self, batch: Batch) -> Option<()> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.file.insert(Arc::new(unnamed_file()?))),
        };
        let mut inputs = Vec::new();
        for (name, tensor) in batch.inputs {
            let (offset, length) = (self.filed_bytes, tensor.bytes().len());
            (&*file).write_all(tensor.bytes()).ok()?;
            self.filed_bytes += length as u64;
            inputs.push((name, tensor.dtype(), tensor.dims().to_vec(), offset, length));
        }
        self.filed.push(Filed { inputs, labels: batch.labels, count: batch.count });
        Some(())
    }

    fn read(&self, filed: &Filed) -> Result<Batch, TrainerError> {
        let folder = || "of temporary files".to_owned();
        let lost = |detail: String| TrainerError::Work { folder: folder(), detail };
        let file = self.file.as_ref().ok_or_else(|| lost("it is gone".to_owned()))?;
        let mut inputs = IndexMap::new();
        for (name, dtype, dims, offset, length) in &filed.inputs {
            let mut bytes = vec![0; *length];
            read_at(file, &mut bytes, *offset).map_err(|error| lost(error.to_string()))?;
            let tensor = Tensor::new(*dtype, dims.clone(), Bytes::from(bytes))?;
            inputs.insert(name.clone(), tensor);
        }
        Ok(Batch { inputs, labels: filed.labels.clone(), count: filed.count })
    }
}

impl BatchSource for StoredBatches {
    fn images(&self) -> usize {
        let filed = self.filed.iter().map(|batch| batch.count).sum::<usize>();
        self.held.iter().map(Batch::images).sum::<usize>() + filed
    }

    fn batches(&self) -> Result<Batches<'_>, TrainerError> {
        let held = self.held.iter().cloned().map(Ok);
        Ok(Box::new(held.chain(self.filed.iter().map(|filed| self.read(filed)))))
    }
}

/// A file that has no name, where large temporary files belong: the usual folder may lie in memory.
fn unnamed_file() -> Option<File> {
    let large = Path::new("/var/tmp");
    if std::env::var_os("TMPDIR").is_none()
        && large.is_dir()
        && let Ok(file) = tempfile::tempfile_in(large)
    {
        return Some(file);
    }
    tempfile::tempfile().ok()
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: usize) -> Batch {
        let values: Vec<f32> = (first..first + 6).map(|value| value as f32).collect();
        let tensor = Tensor::from_f32(vec![2, 3], &values).expect("whole");
        let other = Tensor::from_f32(vec![2], &values[..2]).expect("whole");
        let inputs = IndexMap::from([("x".to_owned(), tensor), ("y".to_owned(), other)]);
        Batch::new(inputs, Some(vec![first, first + 1]))
    }

    #[test]
    fn batches_come_back_as_they_went_in_from_memory_and_from_the_file() {
        // A batch has 32 bytes.
        let mut stored = StoredBatches::within(70, 200);
        assert!((0..6).all(|at| stored.push(batch(10 * at))));
        assert_eq!((stored.held.len(), stored.filed.len()), (2, 4));
        assert!(!stored.push(batch(0)), "there is no room");
        assert_eq!(stored.images(), 12);
        for _ in 0..2 {
            let found = stored.batches().expect("ok").map(|it| it.expect("read"));
            for (at, found) in found.enumerate() {
                let expected = batch(10 * at);
                assert_eq!(found.labels, expected.labels);
                for (name, tensor) in &expected.inputs {
                    assert_eq!(found.inputs[name].bytes(), tensor.bytes());
                    assert_eq!(found.inputs[name].dims(), tensor.dims());
                }
            }
        }
    }
}
