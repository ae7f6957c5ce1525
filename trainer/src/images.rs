//! A data set as a feed: batches under the name of the model's input.

use indexmap::IndexMap;
use updp_exec::{Executor, compare_tensors};
use updp_ir::{DataType, Dim, Model, Tensor};

use crate::data::{Dataset, InputSpec, Preprocess};
use crate::error::TrainerError;
use crate::run::{Batch, Batches, Feed, Runner};

/// Images a run where the model leaves the batch open; fewer where they are large.
const BATCH: usize = 64;

/// Most elements of a batch of images.
const MOST_ELEMENTS: usize = 4 << 20;

/// Images of a data set for one model.
#[derive(Clone, Debug)]
pub struct Images {
    dataset: Dataset,
    preprocess: Preprocess,
    spec: InputSpec,
    input: String,
    batch: usize,
    /// Whether the model takes no smaller batch.
    is_fixed: bool,
}

impl Images {
    /// Images of `dataset` for the only input of `model`.
    ///
    /// # Errors
    /// T0001 when the model has not one f32 input; T0107, T0108 when that takes no images.
    pub fn new(
        model: &Model,
        dataset: Dataset,
        preprocess: &Preprocess,
    ) -> Result<Self, TrainerError> {
        let inputs: Vec<_> = model.graph.required_inputs().collect();
        let [input] = inputs[..] else {
            return Err(TrainerError::Inputs { found: inputs.len() });
        };
        let value = model.graph.value(input);
        let declared = value.declared().filter(|ty| ty.dtype == DataType::Float);
        let dims = declared.and_then(|ty| ty.shape.as_ref());
        let dims = dims.ok_or(TrainerError::Inputs { found: 1 })?;
        let dims: Vec<Option<usize>> = dims.iter().map(Dim::known).collect();
        let spec = InputSpec::of(&dims, preprocess)?;
        let size = spec.row_dims().iter().product::<usize>().max(1);
        let fixed = dims.first().copied().flatten();
        Ok(Self {
            dataset,
            preprocess: preprocess.clone(),
            spec,
            input: value.name().to_owned(),
            batch: fixed.unwrap_or((MOST_ELEMENTS / size).clamp(1, BATCH)),
            is_fixed: fixed.is_some(),
        })
    }

    /// The data set.
    #[must_use]
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Names and reasons of images that cannot be read; reads all of them.
    ///
    /// # Errors
    /// What reading refuses.
    pub fn skipped(&self) -> Result<Vec<String>, TrainerError> {
        let mut batches = self.dataset.batches(&self.preprocess, &self.spec, self.batch)?;
        for batch in &mut batches {
            batch?;
        }
        Ok(batches.skipped().iter().map(|s| format!("{}: {}", s.name, s.reason)).collect())
    }
}

impl Feed for Images {
    fn images(&self) -> usize {
        if self.is_fixed {
            self.dataset.len() / self.batch * self.batch
        } else {
            self.dataset.len()
        }
    }

    fn batches(&self) -> Result<Batches<'_>, TrainerError> {
        let batches = self.dataset.batches(&self.preprocess, &self.spec, self.batch)?;
        let named = batches.map(|batch| {
            let crate::data::Batch { images, labels } = batch?;
            Ok(Batch { inputs: IndexMap::from([(self.input.clone(), images)]), labels })
        });
        // A model of fixed batch cannot take the rows left over.
        let is_whole = |batch: &Result<Batch, TrainerError>| {
            !self.is_fixed || batch.as_ref().map_or(true, |b| b.images() == self.batch)
        };
        Ok(Box::new(named.filter(is_whole)))
    }
}

/// Whether a network whose batch was opened gives each image what the one of fixed batch gives it.
///
/// # Errors
/// What running the network of fixed batch refuses.
pub fn is_same_by_image(
    runner: &Runner,
    fixed: &Model,
    opened: &Model,
    images: &dyn Feed,
) -> Result<bool, TrainerError> {
    let runs: Vec<Batch> = images.batches()?.take(2).collect::<Result<_, _>>()?;
    let [first, second] = &runs[..] else { return Ok(false) };
    let mut together = IndexMap::new();
    for (name, tensor) in &first.inputs {
        let Some(joined) = joined(tensor, &second.inputs[name]) else { return Ok(false) };
        together.insert(name.clone(), joined);
    }
    let mut own = runner.open(fixed)?;
    let (one, two) = (own.run(&first.inputs)?, own.run(&second.inputs)?);
    // What cannot run with another batch is no error: the fixed one serves.
    let run =
        |executor: Result<Box<dyn Executor>, TrainerError>| executor.ok()?.run(&together).ok();
    let Some(both) = run(runner.open(opened)) else { return Ok(false) };
    Ok(one.iter().all(|(name, one)| {
        let expected = two.get(name).and_then(|two| joined(one, two));
        match (expected, both.get(name)) {
            (Some(expected), Some(found)) => compare_tensors(&expected, found).is_within(1e-3),
            _ => false,
        }
    }))
}

/// Two tensors along axis 0.
fn joined(a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let (mut dims, rest) = (a.dims().to_vec(), b.dims());
    if dims.is_empty() || dims.len() != rest.len() || dims[1..] != rest[1..] {
        return None;
    }
    dims[0] += rest[0];
    let bytes = [a.bytes().as_ref(), b.bytes().as_ref()].concat();
    Tensor::new(a.dtype(), dims, bytes.into()).ok()
}
