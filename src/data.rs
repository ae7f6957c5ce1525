//! `--input-data`: tensors from `.npz` and `.npy` files.

use std::path::Path;

use updp_exec::InputData;
use updp_ir::Tensor;
use updp_trainer::data::{DataError, ModelInputs, npz};
use updp_trainer::error::TrainerError;

use crate::cli::InputArgs;
use crate::error::CliError;

/// Largest class number + 1, as in data sets.
const MOST_CLASSES: i64 = 1_000_000;

fn detail(error: &DataError) -> String {
    match error {
        DataError::Unreadable { detail, .. } | DataError::Damaged { detail, .. } => detail.clone(),
        other => other.to_string(),
    }
}

fn failed(error: &DataError, path: &Path) -> CliError {
    CliError::InputData { path: path.to_owned(), detail: detail(error) }
}

/// Reads the arrays of `--input NAME=FILE.npy`.
///
/// # Errors
/// T0010 for a file that cannot be read as an array, C0001 for a name that comes twice.
pub fn model_inputs(arguments: &InputArgs) -> Result<ModelInputs, CliError> {
    let mut inputs = ModelInputs { image: arguments.image_input.clone(), ..Default::default() };
    for argument in &arguments.constants {
        let (name, file) = argument.rsplit_once('=').unwrap_or((argument, ""));
        let tensor = npz::read_npy(Path::new(file)).map_err(|error| TrainerError::Constant {
            input: name.to_owned(),
            detail: format!("{file}: {}", detail(&error)),
        })?;
        if inputs.constants.insert(name.to_owned(), tensor).is_some() {
            let detail = format!("--input: {name:?} has two arrays");
            return Err(CliError::Usage { detail });
        }
    }
    Ok(inputs)
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
                data.labels = Some(
                    labels(&tensor)
                        .map_err(|detail| CliError::InputData { path: path.to_owned(), detail })?,
                );
            } else {
                data.arrays.insert(name, tensor);
            }
        }
    }
    check_counts(&data, arguments)?;
    Ok(data)
}

/// Class numbers as `--data` takes them: integers `[N]` or `[N, 1]`, from 0 to 999999.
fn labels(tensor: &Tensor) -> Result<Vec<i64>, String> {
    if !matches!(tensor.dims(), [_] | [_, 1]) {
        return Err(format!("\"labels\" is of dims {:?}", tensor.dims()));
    }
    let labels =
        tensor.to_i64().ok_or_else(|| format!("\"labels\" is of type {}", tensor.dtype()))?;
    match labels.iter().find(|label| !(0..MOST_CLASSES).contains(*label)) {
        Some(label) => Err(format!("the label {label} is no class number")),
        None => Ok(labels),
    }
}

/// Refuses labels that are not one for each row of the first array.
fn check_counts(data: &InputData, arguments: &[String]) -> Result<(), CliError> {
    let (Some(labels), Some(rows)) = (&data.labels, data.arrays.values().next()) else {
        return Ok(());
    };
    let rows = rows.dims().first().copied().unwrap_or(1);
    if labels.len() == rows {
        return Ok(());
    }
    let path = arguments.first().map(Into::into).unwrap_or_default();
    Err(CliError::InputData { path, detail: format!("{} labels for {rows} images", labels.len()) })
}
