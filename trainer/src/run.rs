//! Running networks over images.

use indexmap::IndexMap;
use updp_exec::{Executor, ModelSource, Options, Runtime, open};
use updp_ir::{DataPlacement, Model, Tensor};

use crate::error::TrainerError;

/// How networks are run.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Which runtime.
    pub runtime: Runtime,
    /// Threads, device, optimizer.
    pub options: Options,
}

impl Runner {
    /// Loads a network.
    ///
    /// # Errors
    /// What encoding and the runtime refuse.
    pub fn open(&self, model: &Model) -> Result<Box<dyn Executor>, TrainerError> {
        let bytes = model.encode(&DataPlacement::Inline)?.model_to_bytes();
        Ok(open(ModelSource::Bytes(&bytes), self.runtime, &self.options)?)
    }
}

/// Images of one run, with their labels where there are any.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The input of the network, by name.
    pub inputs: IndexMap<String, Tensor>,
    /// Class of each image.
    pub labels: Option<Vec<usize>>,
}

/// Batches, read anew each time they are asked for.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<Batch, TrainerError>> + 'a>;

/// Where images come from, always in the same order.
pub trait BatchSource {
    /// Number of images.
    fn images(&self) -> usize;

    /// The images in batches that the network takes.
    ///
    /// # Errors
    /// What opening the data refuses.
    fn batches(&self) -> Result<Batches<'_>, TrainerError>;
}

/// Images kept in memory.
#[derive(Clone, Debug, Default)]
pub struct CachedBatches {
    /// The batches.
    pub batches: Vec<Batch>,
}

impl CachedBatches {
    /// Reads all of a feed.
    ///
    /// # Errors
    /// What reading refuses.
    pub fn of(feed: &dyn BatchSource) -> Result<Self, TrainerError> {
        Ok(Self { batches: feed.batches()?.collect::<Result<_, _>>()? })
    }

    /// Reads every `step`th batch of a feed as long as their inputs do not take more than so many bytes; `None` when they do.
    ///
    /// # Errors
    /// What reading refuses.
    pub fn within(
        feed: &dyn BatchSource,
        step: usize,
        most: usize,
    ) -> Result<Option<Self>, TrainerError> {
        let mut held = Self::default();
        let mut bytes = 0;
        for batch in feed.batches()?.step_by(step) {
            let batch = batch?;
            bytes += batch.inputs.values().map(|tensor| tensor.bytes().len()).sum::<usize>();
            if bytes > most {
                return Ok(None);
            }
            held.batches.push(batch);
        }
        Ok(Some(held))
    }
}

impl BatchSource for CachedBatches {
    fn images(&self) -> usize {
        self.batches.iter().map(Batch::images).sum()
    }

    fn batches(&self) -> Result<Batches<'_>, TrainerError> {
        Ok(Box::new(self.batches.iter().cloned().map(Ok)))
    }
}

impl Batch {
    /// Number of images.
    #[must_use]
    pub fn images(&self) -> usize {
        self.inputs.values().next().and_then(|t| t.dims().first().copied()).unwrap_or(0)
    }
}
