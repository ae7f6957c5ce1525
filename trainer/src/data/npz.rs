//! Tensors from `.npz` and `.npy` files.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use bytes::Bytes;
use indexmap::IndexMap;
use npyz::{DType, NpyHeader, Order};
use updp_ir::{DataType, Tensor};
use zip::ZipArchive;

use super::error::DataError;
use super::store::{MOST_IN_MEMORY, open_file};

/// Longest header text, in bytes; `numpy` itself reads up to 10 000.
const LONGEST_HEADER: usize = 16_384;

/// Bytes of the fixed start of a `.npy` file of version 2 or 3; version 1 has two less.
const START: usize = 12;

/// The contents of the header of a `.npy` file.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Element type.
    pub dtype: DataType,
    /// Dims in C order.
    pub dims: Vec<usize>,
    /// First byte of the elements.
    pub offset: u64,
    /// Bytes of all elements.
    pub bytes: usize,
}

fn damaged(path: &Path, detail: impl std::fmt::Display) -> DataError {
    DataError::Damaged { path: path.to_owned(), detail: detail.to_string() }
}

pub(super) fn open(path: &Path) -> Result<File, DataError> {
    open_file(path)
        .map_err(|error| DataError::Unreadable { path: path.to_owned(), detail: error.to_string() })
}

/// The array of a `.npy` file.
///
/// # Errors
/// T0101 when the file cannot be opened; T0105 when it is not a `.npy` array, or when it has Fortran order, big-endian
/// elements, a structured type or an element type without an ONNX counterpart.
pub fn read_npy(path: &Path) -> Result<Tensor, DataError> {
    let needed = layout(path, BufReader::new(open(path)?))?.bytes as u64;
    refuse_large(path, needed)?;
    tensor(path, BufReader::new(open(path)?))
}

fn refuse_large(path: &Path, needed: u64) -> Result<(), DataError> {
    if needed <= MOST_IN_MEMORY {
        return Ok(());
    }
    Err(damaged(path, format!("its arrays need {needed} bytes, more than {MOST_IN_MEMORY}")))
}

/// All arrays of a `.npz` file by name, in file order.
///
/// # Errors
/// Those of [`read_npy`], and T0105 when the archive is damaged or names more than 1 GiB of elements.
pub fn read_npz(path: &Path) -> Result<IndexMap<String, Tensor>, DataError> {
    // A packed file may name a thousand times its own size, and says so in its headers.
    let needed =
        layouts(path)?.values().map(|layout| layout.bytes as u64).fold(0, u64::saturating_add);
    refuse_large(path, needed)?;
    let mut arrays = IndexMap::new();
    visit(path, |name, source| {
        arrays.insert(name.to_owned(), tensor(path, source)?);
        Ok(())
    })?;
    Ok(arrays)
}

/// Names and layouts of the arrays of a `.npz` file, without their elements; `offset` counts within the array.
pub(super) fn layouts(path: &Path) -> Result<IndexMap<String, Layout>, DataError> {
    let mut found = IndexMap::new();
    visit(path, |name, source| {
        found.insert(name.to_owned(), layout(path, source)?);
        Ok(())
    })?;
    Ok(found)
}

/// One array of a `.npz` file.
pub(super) fn read_member(path: &Path, wanted: &str) -> Result<Tensor, DataError> {
    let mut found = None;
    visit(path, |name, source| {
        if name == wanted {
            found = Some(tensor(path, source)?);
        }
        Ok(())
    })?;
    found.ok_or_else(|| damaged(path, format!("no array {wanted:?}")))
}

fn visit(
    path: &Path,
    mut each: impl FnMut(&str, &mut dyn Read) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut archive =
        ZipArchive::new(BufReader::new(open(path)?)).map_err(|error| damaged(path, error))?;
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|error| damaged(path, error))?;
        let file = member.name().map_err(|error| damaged(path, error))?.into_owned();
        if let Some(name) = file.strip_suffix(".npy") {
            each(name, &mut member)?;
        }
    }
    Ok(())
}

/// Reads the header of a `.npy` file on disk and checks that the file contains exactly its elements.
pub(super) fn locate(path: &Path) -> Result<Layout, DataError> {
    let mut file = open(path)?;
    let layout = layout(path, &mut file)?;
    let end = file.seek(std::io::SeekFrom::End(0)).map_err(|error| damaged(path, error))?;
    let held = end.saturating_sub(layout.offset);
    if held == layout.bytes as u64 {
        return Ok(layout);
    }
    let needed = layout.bytes;
    Err(damaged(path, format!("its header needs {needed} bytes of elements, it holds {held}")))
}

fn tensor(path: &Path, mut source: impl Read) -> Result<Tensor, DataError> {
    let layout = layout(path, &mut source)?;
    let mut bytes = Vec::new();
    source
        .take(layout.bytes as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(path, error))?;
    Tensor::new(layout.dtype, layout.dims, Bytes::from(bytes)).map_err(|error| damaged(path, error))
}

fn layout(path: &Path, mut source: impl Read) -> Result<Layout, DataError> {
    let text = header_bytes(&mut source).map_err(|detail| damaged(path, detail))?;
    let offset = text.len() as u64;
    let header = NpyHeader::from_reader(Cursor::new(text)).map_err(|error| damaged(path, error))?;
    if header.order() != Order::C {
        return Err(damaged(path, "arrays in Fortran order are not read"));
    }
    let dims: Vec<usize> = header.shape().iter().map(|d| *d as usize).collect();
    let DType::Plain(kind) = header.dtype() else {
        return Err(damaged(path, "structured arrays are not read"));
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
        other => return Err(damaged(path, format!("arrays of type {other} are not read"))),
    };
    if kind.starts_with('>') {
        return Err(damaged(path, "big-endian arrays are not read"));
    }
    let bytes = dims.iter().try_fold(1_usize, |total, dim| total.checked_mul(*dim));
    let bytes = bytes
        .and_then(|count| dtype.byte_len(count))
        .filter(|bytes| *bytes < usize::MAX / 2)
        .ok_or_else(|| damaged(path, "its header names more elements than memory can hold"))?;
    Ok(Layout { dtype, dims, offset, bytes })
}

/// Reads the start of the file up to the elements and checks it before npyz reads it: npyz allocates the length that
/// the file gives, parses nested brackets by recursion and multiplies the dims without a check.
fn header_bytes(source: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let mut take = |text: &mut Vec<u8>, count: usize| {
        source.by_ref().take(count as u64).read_to_end(text).map_err(|error| error.to_string())
    };
    take(&mut text, START - 2)?;
    let is_first_version = text.get(6) == Some(&1);
    if !is_first_version {
        take(&mut text, 2)?;
    }
    let length = match text.get(8..) {
        Some([a, b]) => usize::from(u16::from_le_bytes([*a, *b])),
        Some([a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        _ => 0,
    };
    if text.starts_with(b"\x93NUMPY") && length > LONGEST_HEADER {
        return Err(format!("its header is {length} bytes long"));
    }
    let start = text.len();
    take(&mut text, length.min(LONGEST_HEADER))?;
    check_header(&text[start..])?;
    Ok(text)
}

fn check_header(text: &[u8]) -> Result<(), String> {
    let brackets = text.iter().filter(|byte| matches!(byte, b'(' | b'[' | b'{')).count();
    if brackets > 64 {
        return Err("structured arrays are not read".to_owned());
    }
    let too_large = || "its header names more elements than memory can hold".to_owned();
    let mut product = 1_u64;
    let mut digits = String::new();
    for byte in text.iter().chain(b" ") {
        if byte.is_ascii_digit() {
            digits.push(char::from(*byte));
            continue;
        }
        if digits.is_empty() {
            continue;
        }
        if matches!(byte, b'_' | b'x' | b'X' | b'o' | b'O' | b'b' | b'B') {
            return Err("its header is not as NumPy writes it".to_owned());
        }
        let number: u64 = digits.parse().map_err(|_| too_large())?;
        product = product.checked_mul(number.max(1)).ok_or_else(too_large)?;
        digits.clear();
    }
    Ok(())
}
