//! `--input-data`: tensors from `.npz` and `.npy` files.

use std::path::Path;

use indexmap::IndexMap;
use updp_ir::Tensor;
use updp_trainer::data::{DataError, npz};

use crate::error::CliError;

/// Arrays given for the inputs, and labels when there are any.
#[derive(Debug, Default)]
pub struct InputData {
    /// Arrays by input name.
    pub arrays: IndexMap<String, Tensor>,
    /// Class of each image.
    pub labels: Option<Vec<i64>>,
}

fn failed(error: &DataError, path: &Path) -> CliError {
    let detail = match error {
        DataError::Unreadable { detail, .. } | DataError::Damaged { detail, .. } => detail.clone(),
        other => other.to_string(),
    };
    CliError::InputData { path: path.to_owned(), detail }
}

/// Reads what the arguments name: `FILE.npz` or `NAME:FILE.npy`.
///
/// # Errors
/// C0006 with the file and what is wrong.
pub fn read(arguments: &[String]) -> Result<InputData, CliError> {
    let mut data = InputData::default();
    for argument in arguments {
        let is_file = Path::new(argument).exists();
        if let Some((name, file)) = argument.split_once(':').filter(|_| !is_file) {
            let tensor = npz::read_npy(Path::new(file)).map_err(|e| failed(&e, Path::new(file)))?;
            data.arrays.insert(name.to_owned(), tensor);
            continue;
        }
        let path = Path::new(argument);
        for (name, tensor) in npz::read_npz(path).map_err(|e| failed(&e, path))? {
            if name == "labels" {
                data.labels = tensor.to_i64();
            } else {
                data.arrays.insert(name, tensor);
            }
        }
    }
    Ok(data)
}

impl InputData {
    /// Splits the arrays along axis 0 into batches of at most `size` that agree over all inputs.
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

/// Rows `from..to` of axis 0, sharing the bytes.
fn cut(tensor: &Tensor, from: usize, to: usize) -> Option<Tensor> {
    let row: usize = tensor.dims().get(1..)?.iter().product();
    let width = tensor.dtype().bits()? / 8 * row;
    let mut dims = tensor.dims().to_vec();
    dims[0] = to - from;
    Tensor::new(tensor.dtype(), dims, tensor.bytes().slice(from * width..to * width)).ok()
}
