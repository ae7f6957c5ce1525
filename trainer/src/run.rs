//! Runs networks over images.

use indexmap::IndexMap;
use updp_exec::{Executor, ModelSource, Options, Runtime, open};
use updp_ir::{DataPlacement, Model, Tensor};

use crate::error::TrainerError;

/// The settings for running networks.
#[derive(Clone, Debug)]
pub struct Runner {
    /// The runtime.
    pub runtime: Runtime,
    /// Options of the runtime: threads, device, optimizer.
    pub options: Options,
}

impl Runner {
    /// Loads a network.
    ///
    /// # Errors
    /// Errors of encoding the model and of the runtime.
    pub fn open(&self, model: &Model) -> Result<Box<dyn Executor>, TrainerError> {
        let bytes = model.encode(&DataPlacement::Inline)?.model_to_bytes();
        let options = Options { sleeps: true, ..self.options.clone() };
        Ok(open(ModelSource::Bytes(&bytes), self.runtime, &options)?)
    }
}

/// Images of one run, with their labels if there are any.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The network's inputs, by name. In a batch of images, the images come first.
    pub inputs: IndexMap<String, Tensor>,
    /// Class of each image.
    pub labels: Option<Vec<usize>>,
    /// Number of images.
    pub count: usize,
}

/// Batches that are read again for each request.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<Batch, TrainerError>> + 'a>;

/// A source of images, which always returns them in the same order.
pub trait BatchSource {
    /// Number of images.
    fn images(&self) -> usize;

    /// The images, in batches of a size that the network accepts.
    ///
    /// # Errors
    /// Errors of opening the data.
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
    /// Errors of reading the data.
    pub fn of(feed: &dyn BatchSource) -> Result<Self, TrainerError> {
        Ok(Self { batches: feed.batches()?.collect::<Result<_, _>>()? })
    }

    /// Reads every `step`th batch of a feed. Returns `None` if the inputs take more than the given number of bytes.
    ///
    /// # Errors
    /// Errors of reading the data.
    pub fn within(
        feed: &dyn BatchSource,
        step: usize,
        most: usize,
    ) -> Result<Option<Self>, TrainerError> {
        let mut held = Self::default();
        let mut bytes = 0;
        for batch in feed.batches()?.step_by(step) {
            let batch = batch?;
            bytes += batch.bytes();
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
    /// A batch whose first input holds the images along axis 0.
    #[must_use]
    pub fn new(inputs: IndexMap<String, Tensor>, labels: Option<Vec<usize>>) -> Self {
        let first = inputs.values().next().and_then(|tensor| tensor.dims().first().copied());
        Self { inputs, labels, count: first.unwrap_or(0) }
    }

    /// Number of bytes of the inputs.
    pub(crate) fn bytes(&self) -> usize {
        self.inputs.values().map(|tensor| tensor.bytes().len()).sum()
    }

    /// Number of images.
    #[must_use]
    pub fn images(&self) -> usize {
        self.count
    }
}
