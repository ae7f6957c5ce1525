//! A data set as a feed: batches with the name of the model's input.

use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use updp_exec::{Executor, compare_tensors};
use updp_ir::{DataType, Dim, Model, Tensor, TensorType, ValueId};
use updp_passes::surgery;

use crate::data::{self, DataError, Dataset, InputSpec, Preprocess};
use crate::error::TrainerError;
use crate::other_inputs::OtherInput;
use crate::run::{Batch, BatchSource, Batches, Runner};

/// Images per run if the model leaves the batch open. Large images use fewer.
const BATCH: usize = 64;

/// Maximum number of elements in a batch of images.
const MOST_ELEMENTS: usize = 4 << 20;

/// Images of a data set for one model.
#[derive(Clone, Debug)]
pub struct Images {
    dataset: Dataset,
    preprocess: Preprocess,
    spec: InputSpec,
    input: String,
    /// The other inputs, with their constants.
    others: Vec<OtherInput>,
    /// Type of the model's input.
    dtype: DataType,
    batch: usize,
    /// Whether the model rejects smaller batches.
    is_fixed: bool,
    /// Images that could not be read. They are known once all images have been read.
    skipped: Arc<OnceLock<Vec<String>>>,
}

impl Images {
    /// The images of `dataset` for the input of `model` that takes images. The other inputs, apart from λ and s, get the
    /// constants of [`Dataset::inputs`], and ones where there is none.
    ///
    /// # Errors
    /// T0001 when no input takes images, or several do and none is named; T0010 when a constant does not fit its input;
    /// T0107, T0108 when the input does not take images.
    pub fn new(
        model: &Model,
        dataset: Dataset,
        preprocess: &Preprocess,
    ) -> Result<Self, TrainerError> {
        let inputs = surgery::data_inputs(model);
        let wanted = dataset.inputs();
        let input = image_input(model, &inputs, &dataset, preprocess)?;
        let others = OtherInput::all(model, input, &inputs, wanted)?;
        let value = model.graph.value(input);
        let declared = value.declared().filter(|ty| TYPES.contains(&ty.dtype));
        let dtype = declared.map_or(DataType::Float, |ty| ty.dtype);
        let dims = declared.and_then(|ty| ty.shape.as_ref());
        let dims = dims.ok_or_else(|| TrainerError::Inputs {
            found: format!(
                "takes {}",
                value.declared().map_or_else(|| "no known type".to_owned(), ToString::to_string)
            ),
        })?;
        let dims: Vec<Option<usize>> = dims.iter().map(Dim::known).collect();
        let spec = InputSpec::of(&dims, preprocess)?;
        let constants: usize = others.iter().map(OtherInput::elements_per_image).sum();
        let size = (spec.row_dims().iter().product::<usize>() + constants).max(1);
        let fixed = dims.first().copied().flatten();
        Ok(Self {
            dataset,
            preprocess: preprocess.clone(),
            spec,
            input: value.name().to_owned(),
            others,
            dtype,
            batch: fixed.unwrap_or((MOST_ELEMENTS / size).clamp(1, BATCH)),
            is_fixed: fixed.is_some(),
            skipped: Arc::default(),
        })
    }

    /// The same images in at least this many batches, as far as the model allows it.
    #[must_use]
    pub fn in_batches(mut self, least: usize) -> Self {
        if !self.is_fixed {
            self.batch = self.batch.min(self.dataset.len() / least.max(1)).max(1);
        }
        self
    }

    /// Smallest useful number of images: two, or the batch size that the model fixes.
    #[must_use]
    pub fn least(&self) -> usize {
        if self.is_fixed { self.batch.max(2) } else { 2 }
    }

    /// The batch size that the model fixes; `None` if it accepts any.
    #[must_use]
    pub fn fixed_batch(&self) -> Option<usize> {
        self.is_fixed.then_some(self.batch)
    }

    /// The model's input in the form that images need.
    #[must_use]
    pub fn spec(&self) -> &InputSpec {
        &self.spec
    }

    /// Name of the model's input that takes the images.
    #[must_use]
    pub fn input(&self) -> &str {
        &self.input
    }

    /// The other inputs, with their constants.
    #[must_use]
    pub fn others(&self) -> &[OtherInput] {
        &self.others
    }

    /// Refuses models with other inputs beside the images, where training starts.
    ///
    /// # Errors
    /// T0001.
    pub fn refuse_others(&self) -> Result<(), TrainerError> {
        match self.others.len() {
            0 => Ok(()),
            others => Err(TrainerError::TrainInputs { count: others + 1 }),
        }
    }

    /// All inputs for a batch of images; the images come first.
    #[must_use]
    pub fn inputs(&self, images: Tensor) -> IndexMap<String, Tensor> {
        let count = images.dims().first().copied().unwrap_or(0);
        let others = self.others.iter();
        let others = others.map(|other| (other.name().to_owned(), other.for_images(count)));
        std::iter::once((self.input.clone(), images)).chain(others).collect()
    }

    /// The data set.
    #[must_use]
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Names of the images that cannot be read, with the reasons. Reads all images unless this was done before.
    ///
    /// # Errors
    /// Errors of reading the data.
    pub fn skipped(&self) -> Result<&[String], TrainerError> {
        if self.skipped.get().is_none() {
            for batch in self.read()? {
                batch?;
            }
        }
        Ok(self.skipped.get().map_or(&[], Vec::as_slice))
    }

    /// Number of images per run: the batch size that the model fixes, or one chosen for the size of its input.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// All images in batches. The last batch may be smaller than the batch that the model fixes.
    ///
    /// # Errors
    /// Errors of opening the data.
    pub(crate) fn all(&self) -> Result<AllImages, TrainerError> {
        let batches = self.dataset.batches(&self.preprocess, &self.spec, self.batch)?;
        Ok(AllImages { batches, dtype: self.dtype })
    }

    fn read(&self) -> Result<Reading, TrainerError> {
        let batches = self.dataset.batches(&self.preprocess, &self.spec, self.batch)?;
        Ok(Reading { batches, skipped: Arc::clone(&self.skipped) })
    }
}

/// All images of a data set in batches, in the type of the model's input.
pub(crate) struct AllImages {
    batches: data::Batches,
    dtype: DataType,
}

impl AllImages {
    /// The images left out before the batches returned so far.
    pub(crate) fn skipped(&self) -> &[data::Skipped] {
        self.batches.skipped()
    }
}

impl Iterator for AllImages {
    type Item = Result<data::Batch, TrainerError>;

    fn next(&mut self) -> Option<Self::Item> {
        let typed = |batch: data::Batch| {
            Ok(data::Batch { images: cast(batch.images, self.dtype)?, ..batch })
        };
        self.batches.next().map(|batch| batch.map_err(TrainerError::from).and_then(typed))
    }
}

/// An iterator over batches. It also records the images that could not be read.
struct Reading {
    batches: data::Batches,
    skipped: Arc<OnceLock<Vec<String>>>,
}

impl Iterator for Reading {
    type Item = Result<data::Batch, TrainerError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.batches.next();
        if next.is_none() {
            let skipped = self.batches.skipped().iter();
            let names = skipped.map(|image| format!("{}: {}", image.name, image.reason));
            self.skipped.get_or_init(|| names.collect());
        }
        next.map(|batch| batch.map_err(TrainerError::from))
    }
}

impl BatchSource for Images {
    fn images(&self) -> usize {
        if self.is_fixed {
            self.dataset.len() / self.batch * self.batch
        } else {
            self.dataset.len()
        }
    }

    fn batches(&self) -> Result<Batches<'_>, TrainerError> {
        let named = self.read()?.map(|batch| {
            let data::Batch { images, labels } = batch?;
            let images = cast(images, self.dtype)?;
            Ok(Batch::new(self.inputs(images), labels))
        });
        // A model with a fixed batch cannot process the remaining rows.
        let is_whole = |batch: &Result<Batch, TrainerError>| {
            !self.is_fixed || batch.as_ref().map_or(true, |b| b.images() == self.batch)
        };
        Ok(Box::new(named.filter(is_whole)))
    }
}

/// Types of inputs that take images.
const TYPES: [DataType; 4] =
    [DataType::Float, DataType::Float16, DataType::Double, DataType::Uint8];

/// The input that takes the images: the one that is named, or the only one that can.
fn image_input(
    model: &Model,
    inputs: &[ValueId],
    dataset: &Dataset,
    preprocess: &Preprocess,
) -> Result<ValueId, TrainerError> {
    let graph = &model.graph;
    let wanted = dataset.inputs();
    let told = |inputs: &[ValueId]| {
        let each = inputs.iter().map(|input| {
            let value = graph.value(*input);
            let ty = value
                .declared()
                .map_or_else(|| "of no known type".to_owned(), TensorType::to_string);
            format!("{:?} {ty}", value.name())
        });
        each.collect::<Vec<_>>().join(", ")
    };
    if let Some(name) = &wanted.image {
        let named = inputs.iter().find(|input| graph.value(**input).name() == name);
        let found = || format!("has no input {name:?}; its inputs are {}", told(inputs));
        return named.copied().ok_or_else(|| TrainerError::Inputs { found: found() });
    }
    if let [input] = inputs {
        return Ok(*input);
    }
    let takes_images = |input: &&ValueId| {
        let value = graph.value(**input);
        let declared = value.declared().filter(|ty| TYPES.contains(&ty.dtype));
        let dims = declared.and_then(|ty| ty.shape.as_ref());
        let dims: Option<Vec<_>> = dims.map(|dims| dims.iter().map(Dim::known).collect());
        !wanted.constants.contains_key(value.name())
            && dims.is_some_and(|dims| {
                let spec = InputSpec::of(&dims, preprocess);
                matches!(spec, Ok(_) | Err(DataError::SizeUnknown { .. }))
            })
    };
    let candidates: Vec<ValueId> = inputs.iter().filter(takes_images).copied().collect();
    match candidates[..] {
        [input] => Ok(input),
        [] => {
            let found = match inputs {
                [] => "has no inputs".to_owned(),
                _ => {
                    format!("has {} inputs, and none takes images: {}", inputs.len(), told(inputs))
                }
            };
            Err(TrainerError::Inputs { found })
        }
        _ => Err(TrainerError::ImageInput { candidates: told(&candidates) }),
    }
}

/// Images in the type of the model's input.
///
/// # Errors
/// T0001 when values do not fit into 8 bits: the preprocessing is not that of the model.
fn cast(images: Tensor, dtype: DataType) -> Result<Tensor, TrainerError> {
    if dtype == images.dtype() {
        return Ok(images);
    }
    let values = images.to_f64().unwrap_or_default();
    if dtype != DataType::Uint8 {
        return Ok(Tensor::from_f64(dtype, images.dims().to_vec(), &values)?);
    }
    let round = |value: &f64| {
        let rounded = value.round();
        // A value in this range is exact as u8.
        (0.0..=255.0).contains(&rounded).then_some(rounded as u8)
    };
    let bytes: Option<Vec<u8>> = values.iter().map(round).collect();
    // Pixels of 0 to 1 would all become 0 or 1.
    let is_scaled = |bytes: &Vec<u8>| bytes.iter().all(|byte| *byte <= 1);
    let Some(bytes) = bytes.filter(|bytes| !is_scaled(bytes)) else {
        let found = "takes 8-bit pixels, and the preprocessing makes other values of them; \
                     --preprocess none leaves pixels as they are"
            .to_owned();
        return Err(TrainerError::Inputs { found });
    };
    Ok(Tensor::new(dtype, images.dims().to_vec(), bytes.into())?)
}

/// Whether a network with an opened batch gives each image the same result as the network with the fixed batch.
///
/// # Errors
/// Errors of running the network with the fixed batch.
pub fn is_same_by_image(
    runner: &Runner,
    fixed: &Model,
    opened: &Model,
    images: &dyn BatchSource,
) -> Result<bool, TrainerError> {
    let runs: Vec<Batch> = images.batches()?.take(2).collect::<Result<_, _>>()?;
    let [first, second] = &runs[..] else { return Ok(false) };
    let mut together = IndexMap::new();
    for (name, tensor) in &first.inputs {
        // An input whose axis 0 stays fixed gets the same for any number of images.
        let value = opened.graph.find(name).and_then(|id| opened.graph.value(id).declared());
        let is_open = value.is_some_and(|ty| {
            ty.shape.as_ref().and_then(|dims| dims.first()).is_some_and(|dim| dim.known().is_none())
        });
        let both =
            if is_open { joined(tensor, &second.inputs[name]) } else { Some(tensor.clone()) };
        let Some(both) = both else { return Ok(false) };
        together.insert(name.clone(), both);
    }
    let mut own = runner.open(fixed)?;
    let (one, two) = (own.run(&first.inputs)?, own.run(&second.inputs)?);
    // If the network cannot run with another batch, this is not an error: the fixed batch is used.
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

/// Concatenates two tensors along axis 0.
fn joined(a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let (mut dims, rest) = (a.dims().to_vec(), b.dims());
    if dims.is_empty() || dims.len() != rest.len() || dims[1..] != rest[1..] {
        return None;
    }
    dims[0] += rest[0];
    let bytes = [a.bytes().as_ref(), b.bytes().as_ref()].concat();
    Tensor::new(a.dtype(), dims, bytes.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_get_the_type_of_the_input() {
        let images =
            |values: &[f32]| Tensor::from_f32(vec![1, values.len()], values).expect("whole");
        let pixels = cast(images(&[0.0, 254.6, 17.4]), DataType::Uint8).expect("they fit");
        assert_eq!((pixels.dtype(), pixels.bytes().as_ref()), (DataType::Uint8, &[0, 255, 17][..]));
        let halves = cast(images(&[0.5, -2.0]), DataType::Float16).expect("they fit");
        assert_eq!(halves.to_f64(), Some(vec![0.5, -2.0]));
        let same = images(&[0.5]);
        assert_eq!(cast(same.clone(), DataType::Float).expect("ok").bytes(), same.bytes());
        for wrong in [[0.2, 0.7], [-1.0, 20.0], [10.0, 300.0], [f32::NAN, 9.0]] {
            let error = cast(images(&wrong), DataType::Uint8).expect_err("no pixels");
            assert_eq!(error.code(), "T0001", "{wrong:?}");
        }
    }
}
