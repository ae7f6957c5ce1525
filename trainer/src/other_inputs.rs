//! The inputs of a model beside the images: each gets a constant with every batch.

use serde::Serialize;
use updp_ir::{DataType, Dim, Model, Tensor, TensorType, ValueId};

use crate::data::ModelInputs;
use crate::error::TrainerError;

/// An input that does not take images, with its constant.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherInput {
    name: String,
    /// The constant for one image, or for a whole batch if it is not repeated.
    tensor: Tensor,
    /// Whether each image of a batch gets the constant: axis 0 is open, as that of the images is.
    is_repeated: bool,
    /// Whether the caller gave the constant. Otherwise all elements are 1.
    is_given: bool,
}

/// The constant of an input, for reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherInputOutcome {
    /// Name of the input.
    pub name: String,
    /// Element type.
    pub dtype: String,
    /// Dims of the constant.
    pub dims: Vec<usize>,
    /// Whether axis 0 is repeated for each image of a batch.
    pub is_repeated: bool,
    /// Whether the caller gave the constant. Otherwise all elements are 1.
    pub is_given: bool,
}

impl OtherInput {
    /// The constants of all data inputs of a model except that of the images.
    ///
    /// # Errors
    /// T0001 for an input without a known type; T0010 for a constant that does not fit.
    pub(crate) fn all(
        model: &Model,
        image: ValueId,
        inputs: &[ValueId],
        wanted: &ModelInputs,
    ) -> Result<Vec<Self>, TrainerError> {
        let graph = &model.graph;
        let name = |input: &ValueId| graph.value(*input).name();
        for given in wanted.constants.keys() {
            let refused = |detail: &str| TrainerError::Constant {
                input: given.clone(),
                detail: detail.to_owned(),
            };
            if given == name(&image) {
                return Err(refused("this input takes the images"));
            }
            if !inputs.iter().any(|input| name(input) == given) {
                return Err(refused("the model has no such input"));
            }
        }
        let images = graph.value(image).declared();
        let others = inputs.iter().filter(|input| **input != image);
        others
            .map(|input| {
                let value = graph.value(*input);
                let ty = value.declared().filter(|ty| ty.shape.is_some());
                let ty = ty.ok_or_else(|| TrainerError::Inputs {
                    found: format!("has an input {:?} of no known type", value.name()),
                })?;
                Self::of(value.name(), ty, images, wanted.constants.get(value.name()))
            })
            .collect()
    }

    fn of(
        name: &str,
        ty: &TensorType,
        images: Option<&TensorType>,
        given: Option<&Tensor>,
    ) -> Result<Self, TrainerError> {
        let refused = |detail: String| TrainerError::Constant { input: name.to_owned(), detail };
        let dims = ty.shape.as_deref().unwrap_or_default();
        let first = |ty: &TensorType| ty.shape.as_ref().and_then(|dims| dims.first().cloned());
        let batch = images.and_then(first).filter(|dim| dim.known().is_none());
        let is_open = dims.first().is_some_and(|dim| dim.known().is_none()) && batch.is_some();
        let Some(given) = given else {
            let sizes: Vec<usize> = dims.iter().map(|dim| dim.known().unwrap_or(1)).collect();
            let count = sizes.iter().product();
            let tensor = typed(ty.dtype, sizes, &vec![1.0; count]);
            let tensor = tensor.ok_or_else(|| {
                refused(format!("there are no ones of type {}: give an array", ty.dtype))
            })?;
            return Ok(Self {
                name: name.to_owned(),
                tensor,
                is_repeated: is_open,
                is_given: false,
            });
        };
        let fits = given.dims().len() == dims.len()
            && dims
                .iter()
                .zip(given.dims())
                .all(|(dim, size)| *size > 0 && dim.known().is_none_or(|known| known == *size));
        if !fits {
            return Err(refused(format!("its dims are {:?}, and the input is {ty}", given.dims())));
        }
        let is_one = given.dims().first() == Some(&1);
        let is_batch =
            is_open && dims.first() == batch.as_ref() && dims.first() != Some(&Dim::Unknown);
        if is_batch && !is_one {
            return Err(refused(format!(
                "its dims are {:?}, and axis 0 of the input is the batch: give the array for one image",
                given.dims()
            )));
        }
        let values =
            given.to_f64().ok_or_else(|| refused(format!("it has type {}", given.dtype())))?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(refused("it holds a value that is not finite".to_owned()));
        }
        let tensor = if given.dtype() == ty.dtype {
            Some(given.clone())
        } else {
            typed(ty.dtype, given.dims().to_vec(), &values)
        };
        let tensor = tensor.ok_or_else(|| {
            refused(format!("its values are {}, and the input takes {}", given.dtype(), ty.dtype))
        })?;
        Ok(Self { name: name.to_owned(), tensor, is_repeated: is_open && is_one, is_given: true })
    }

    /// Name of the input.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Dims of the constant.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    /// Whether each image of a batch gets the constant.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    /// Whether the caller gave the constant. Otherwise all elements are 1.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.is_given
    }

    /// Number of elements for each further image of a batch.
    pub(crate) fn elements_per_image(&self) -> usize {
        if self.is_repeated { self.tensor.len() } else { 0 }
    }

    /// The constant for a batch of this many images.
    #[must_use]
    pub fn for_images(&self, images: usize) -> Tensor {
        if !self.is_repeated || images == 1 {
            return self.tensor.clone();
        }
        let mut dims = self.tensor.dims().to_vec();
        if let Some(first) = dims.first_mut() {
            *first = images;
        }
        let bytes = self.tensor.bytes().repeat(images);
        Tensor::new(self.tensor.dtype(), dims, bytes.into()).unwrap_or_else(|_| self.tensor.clone())
    }

    /// For reports.
    #[must_use]
    pub fn outcome(&self) -> OtherInputOutcome {
        OtherInputOutcome {
            name: self.name.clone(),
            dtype: self.tensor.dtype().to_string(),
            dims: self.tensor.dims().to_vec(),
            is_repeated: self.is_repeated,
            is_given: self.is_given,
        }
    }
}

/// A tensor with these values; `None` if the type cannot hold them.
fn typed(dtype: DataType, dims: Vec<usize>, values: &[f64]) -> Option<Tensor> {
    let is_float = matches!(
        dtype,
        DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16
    );
    if is_float {
        return Tensor::from_f64(dtype, dims, values).ok();
    }
    let (least, most, bytes) = match dtype {
        DataType::Bool => (0.0, 1.0, 1),
        DataType::Uint8 => (0.0, f64::from(u8::MAX), 1),
        DataType::Int8 => (f64::from(i8::MIN), f64::from(i8::MAX), 1),
        DataType::Uint16 => (0.0, f64::from(u16::MAX), 2),
        DataType::Int16 => (f64::from(i16::MIN), f64::from(i16::MAX), 2),
        DataType::Uint32 => (0.0, f64::from(u32::MAX), 4),
        DataType::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX), 4),
        // Beyond 2⁵³ an f64 is not exact.
        DataType::Uint64 => (0.0, 9_007_199_254_740_992.0, 8),
        DataType::Int64 => (-9_007_199_254_740_992.0, 9_007_199_254_740_992.0, 8),
        _ => return None,
    };
    let fits = |value: &f64| value.fract() == 0.0 && (least..=most).contains(value);
    if !values.iter().all(fits) {
        return None;
    }
    // The low bytes of a number in two's complement are the number in fewer bytes.
    let raw = values.iter().flat_map(|value| (*value as i64).to_le_bytes().into_iter().take(bytes));
    Tensor::new(dtype, dims, raw.collect::<Vec<u8>>().into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(dtype: DataType, dims: &[Option<usize>]) -> TensorType {
        let dim = |size: &Option<usize>| size.map_or(Dim::from("n"), Dim::Known);
        TensorType { shape: Some(dims.iter().map(dim).collect()), ..TensorType::fixed(dtype, &[]) }
    }

    #[test]
    fn every_number_type_has_ones() {
        let types = [
            DataType::Float,
            DataType::Float16,
            DataType::Double,
            DataType::Int64,
            DataType::Int32,
            DataType::Uint8,
            DataType::Int8,
            DataType::Bool,
        ];
        for dtype in types {
            let other =
                OtherInput::of("x", &ty(dtype, &[Some(2), None]), None, None).expect("ones");
            assert_eq!((other.dims(), other.tensor.dtype()), (&[2, 1][..], dtype));
            assert_eq!(other.tensor.to_f64(), Some(vec![1.0; 2]), "{dtype}");
        }
        let strings = OtherInput::of("x", &ty(DataType::String, &[None]), None, None);
        assert_eq!(strings.expect_err("no ones").code(), "T0010");
    }

    #[test]
    fn a_constant_is_repeated_where_both_batches_are_open() {
        let images = ty(DataType::Float, &[None, Some(3), Some(8), Some(8)]);
        let fixed = ty(DataType::Float, &[Some(1), Some(3), Some(8), Some(8)]);
        let own = ty(DataType::Float, &[None, Some(2)]);
        let given = Tensor::from_f32(vec![1, 2], &[3.0, 4.0]).expect("two");
        let open = OtherInput::of("x", &own, Some(&images), Some(&given)).expect("fits");
        assert_eq!(open.for_images(3).to_f64(), Some(vec![3.0, 4.0, 3.0, 4.0, 3.0, 4.0]));
        assert_eq!(open.for_images(3).dims(), [3, 2]);
        let closed = OtherInput::of("x", &own, Some(&fixed), Some(&given)).expect("fits");
        assert_eq!(closed.for_images(3).dims(), [1, 2]);
    }

    #[test]
    fn constants_that_do_not_fit_are_refused() {
        let images = ty(DataType::Float, &[None, Some(3), Some(8), Some(8)]);
        let of = |dtype, given: &Tensor| {
            OtherInput::of("x", &ty(dtype, &[None, Some(2)]), Some(&images), Some(given))
        };
        let tensor = |dims: &[usize], values: &[f32]| {
            Tensor::from_f32(dims.to_vec(), values).expect("whole")
        };
        let wide = of(DataType::Int64, &tensor(&[1, 2], &[640.0, 480.0])).expect("whole numbers");
        assert_eq!(wide.tensor.to_i64(), Some(vec![640, 480]));
        for (dtype, wrong) in [
            (DataType::Float, tensor(&[2], &[1.0, 2.0])),
            (DataType::Float, tensor(&[1, 3], &[1.0, 2.0, 3.0])),
            (DataType::Float, tensor(&[2, 2], &[1.0, 2.0, 3.0, 4.0])),
            (DataType::Float, tensor(&[1, 2], &[1.0, f32::NAN])),
            (DataType::Int64, tensor(&[1, 2], &[0.5, 2.0])),
            (DataType::Bool, tensor(&[1, 2], &[0.0, 2.0])),
        ] {
            let error = of(dtype, &wrong).expect_err("refused");
            assert_eq!(error.code(), "T0010", "{dtype} {:?}", wrong.dims());
        }
    }
}
