//! `--input-data`: tensors from `.npz` and `.npy` files.

use std::path::Path;

use updp_exec::InputData;
use updp_trainer::data::{DataError, npz};

use crate::error::CliError;

fn failed(error: &DataError, path: &Path) -> CliError {
    let detail = match error {
        DataError::Unreadable { detail, .. } | DataError::Damaged { detail, .. } => detail.clone(),
        other => other.to_string(),
    };
    CliError::InputData { path: path.to_owned(), detail }
}

/// Reads the files that the arguments name: `FILE.npz` or `NAME:FILE.npy`.
///
/// # Errors
/// C0006. The message names the file and says what is wrong with it.
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
