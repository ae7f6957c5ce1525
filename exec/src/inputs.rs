//! The inputs that a model needs: their types, the sizes of their open dims, and the arrays given for them.

use indexmap::IndexMap;
use updp_ir::{DataType, Dim, Graph, Tensor};

/// The model's declaration of an input that the caller must give (one without an initializer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// Name of the input.
    pub name: String,
    /// Element type.
    pub dtype: DataType,
    /// Dims, outermost first.
    pub dims: Vec<Dim>,
}

/// Sizes for the dims that are not fixed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymbolSizes {
    /// Sizes of named dims.
    pub symbols: IndexMap<String, usize>,
    /// Sizes of unknown dims, by input name and axis.
    pub unknown: IndexMap<(String, usize), usize>,
}

impl SymbolSizes {
    /// The size of a dim; a symbol or unknown dim not listed here gets its default.
    #[must_use]
    pub fn size_of(&self, spec: &InputSpec, axis: usize) -> usize {
        let default = || default_size(spec, axis);
        match spec.dims.get(axis) {
            Some(Dim::Known(size)) => *size,
            Some(Dim::Symbol(name)) => self.symbols.get(&**name).copied().unwrap_or_else(default),
            Some(Dim::Unknown) | None => {
                self.unknown.get(&(spec.name.clone(), axis)).copied().unwrap_or_else(default)
            }
        }
    }

    /// Sets the size of axis 0 of an input where the model leaves it open.
    fn set_batch(&mut self, spec: &InputSpec, batch: usize) {
        match spec.dims.first() {
            Some(Dim::Symbol(name)) => {
                self.symbols.insert(name.to_string(), batch);
            }
            Some(Dim::Unknown) => {
                self.unknown.insert((spec.name.clone(), 0), batch);
            }
            Some(Dim::Known(_)) | None => {}
        }
    }
}

/// Batch sizes to run when the batch is not fixed: one image, and an odd number of images. An odd
/// number reveals a dim that was mistaken for another.
const BATCH_SIZES: [usize; 2] = [1, 3];

/// Height and width of an image when the model does not fix them: large enough for five strides of 2.
const IMAGE_SIZE: usize = 64;

/// Size of any other dim.
const OTHER_SIZE: usize = 8;

fn default_size(spec: &InputSpec, axis: usize) -> usize {
    match (spec.dims.len(), axis) {
        (_, 0) => BATCH_SIZES[0],
        // An image has three channels.
        (4, 1) => 3,
        (4, _) => IMAGE_SIZE,
        _ => OTHER_SIZE,
    }
}

/// Sizes to run a model at: two plans (batch 1 and 3) when axis 0 of some input is not fixed,
/// otherwise one plan.
///
/// A symbol that is used on axis 0 of some input is a batch wherever it appears. An input
/// `[N, C, H, W]` with open dims gets height and width 64 and 3 channels; every other open dim
/// gets 8. The caller may change the plans.
#[must_use]
pub fn symbol_plans(specs: &[InputSpec]) -> Vec<SymbolSizes> {
    let on_axis_0 = |spec: &InputSpec| spec.dims.first().cloned();
    let has_batch = specs.iter().any(|s| on_axis_0(s).is_some_and(|d| !matches!(d, Dim::Known(_))));
    let batches = if has_batch { &BATCH_SIZES[..] } else { &BATCH_SIZES[..1] };
    batches.iter().map(|batch| symbol_plan(specs, *batch)).collect()
}

fn symbol_plan(specs: &[InputSpec], batch: usize) -> SymbolSizes {
    let mut sizes = SymbolSizes::default();
    for spec in specs {
        sizes.set_batch(spec, batch);
    }
    for spec in specs {
        for (axis, dim) in spec.dims.iter().enumerate().skip(1) {
            let default = default_size(spec, axis);
            match dim {
                Dim::Known(_) => {}
                Dim::Symbol(name) => {
                    sizes.symbols.entry(name.to_string()).or_insert(default);
                }
                Dim::Unknown => {
                    sizes.unknown.insert((spec.name.clone(), axis), default);
                }
            }
        }
    }
    sizes
}

/// The first plan of [`symbol_plans`], with every open batch (axis 0) set to `batch`.
#[must_use]
pub fn batch_plan(specs: &[InputSpec], batch: usize) -> SymbolSizes {
    let mut plan = symbol_plans(specs).into_iter().next().unwrap_or_default();
    for spec in specs {
        plan.set_batch(spec, batch);
    }
    plan
}

/// The inputs that a caller must give; `None` when an input is not a tensor or its rank is unknown.
#[must_use]
pub fn input_specs(graph: &Graph) -> Option<Vec<InputSpec>> {
    let spec = |id| {
        let value = graph.value(id);
        let declared = value.declared()?;
        let dims = declared.shape.clone()?;
        Some(InputSpec { name: value.name().to_owned(), dtype: declared.dtype, dims })
    };
    graph.required_inputs().map(spec).collect()
}

/// Arrays for the inputs of a model, with labels where there are any.
#[derive(Clone, Debug, Default)]
pub struct InputData {
    /// Arrays by input name; axis 0 counts the images.
    pub arrays: IndexMap<String, Tensor>,
    /// Class of each image.
    pub labels: Option<Vec<i64>>,
}

impl InputData {
    /// Splits the arrays along axis 0 into batches of at most `size` images. An array that is longer than
    /// the shortest one is cut to its length.
    #[must_use]
    pub fn batches(&self, size: usize) -> Vec<IndexMap<String, Tensor>> {
        let rows = self.arrays.values().map(|t| t.dims().first().copied().unwrap_or(1)).min();
        let rows = rows.unwrap_or(0);
        (0..rows.div_ceil(size.max(1)))
            .map(|batch| {
                let (from, to) = (batch * size, ((batch + 1) * size).min(rows));
                self.arrays
                    .iter()
                    .filter_map(|(name, tensor)| Some((name.clone(), cut(tensor, from, to)?)))
                    .collect()
            })
            .collect()
    }
}

/// Rows `from..to` of axis 0; the bytes are shared, not copied.
fn cut(tensor: &Tensor, from: usize, to: usize) -> Option<Tensor> {
    let row: usize = tensor.dims().get(1..)?.iter().product();
    let width = tensor.dtype().bits()? / 8 * row;
    let mut dims = tensor.dims().to_vec();
    dims[0] = to - from;
    Tensor::new(tensor.dtype(), dims, tensor.bytes().slice(from * width..to * width)).ok()
}
