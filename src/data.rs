//! `--input-data`: tensors from `.npz` and `.npy` files.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use indexmap::IndexMap;
use npyz::{DType, NpyFile, Order};
use updp_ir::{DataType, Tensor};

use crate::error::CliError;

/// Arrays given for the inputs, and labels when there are any.
#[derive(Debug, Default)]
pub struct InputData {
    /// Arrays by input name.
    pub arrays: IndexMap<String, Tensor>,
    /// Class of each image.
    pub labels: Option<Vec<i64>>,
}

fn failed(path: &Path, detail: impl std::fmt::Display) -> CliError {
    CliError::InputData { path: path.to_owned(), detail: detail.to_string() }
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
            let path = PathBuf::from(file);
            let source = File::open(&path).map_err(|e| failed(&path, e))?;
            data.arrays.insert(name.to_owned(), array(&path, BufReader::new(source))?);
            continue;
        }
        let path = PathBuf::from(argument);
        let source = File::open(&path).map_err(|e| failed(&path, e))?;
        let mut archive =
            npyz::npz::NpzArchive::new(BufReader::new(source)).map_err(|e| failed(&path, e))?;
        let names: Vec<String> = archive.array_names().map(ToOwned::to_owned).collect();
        for name in names {
            let file = archive.by_name(&name).map_err(|e| failed(&path, e))?;
            let file = file.ok_or_else(|| failed(&path, format!("no array {name:?}")))?;
            let tensor = tensor(&path, file)?;
            if name == "labels" {
                data.labels = tensor.to_i64();
            } else {
                data.arrays.insert(name, tensor);
            }
        }
    }
    Ok(data)
}

fn array(path: &Path, source: impl Read) -> Result<Tensor, CliError> {
    tensor(path, NpyFile::new(source).map_err(|e| failed(path, e))?)
}

fn tensor<R: Read>(path: &Path, file: NpyFile<R>) -> Result<Tensor, CliError> {
    if file.order() != Order::C {
        return Err(failed(path, "arrays in Fortran order are not read"));
    }
    let dims: Vec<usize> = file.shape().iter().map(|d| *d as usize).collect();
    let DType::Plain(kind) = file.dtype() else {
        return Err(failed(path, "structured arrays are not read"));
    };
    let kind = kind.to_string();
    let dtype = match kind.trim_start_matches(['<', '|', '=', '>']) {
        "f4" => DataType::Float,
        "f8" => DataType::Double,
        "f2" => DataType::Float16,
        "i8" => DataType::Int64,
        "i4" => DataType::Int32,
        "i2" => DataType::Int16,
        "i1" => DataType::Int8,
        "u1" => DataType::Uint8,
        "u2" => DataType::Uint16,
        "u4" => DataType::Uint32,
        "u8" => DataType::Uint64,
        "b1" => DataType::Bool,
        other => return Err(failed(path, format!("arrays of type {other} are not read"))),
    };
    if kind.starts_with('>') {
        return Err(failed(path, "big-endian arrays are not read"));
    }
    let mut bytes = Vec::new();
    file.into_inner().read_to_end(&mut bytes).map_err(|e| failed(path, e))?;
    Tensor::new(dtype, dims, Bytes::from(bytes)).map_err(|e| failed(path, e))
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
