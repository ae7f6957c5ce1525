//! Data sets from arrays: `.npz` and `.npy`.
//!
//! u8 arrays are images: `[N, H, W]`, `[N, H, W, C]` with C = 1, 3 or 4, or `[N, C, H, W]` with C = 1 or 3, tried in
//! this order. Floats (f16, f32, f64) count as preprocessed and go to the model unchanged.

use std::path::Path;

use updp_ir::DataType;

use super::error::DataError;
use super::npz::{self, Layout};
use super::store::{Content, Elements, Entries, MOST_IN_MEMORY, Rows, Store, unknown};

/// Names of the array of images; the first one that exists is used.
const IMAGES: [&str; 6] = ["images", "x", "data", "input", "inputs", "pixels"];

/// Names of the array of labels; the first one that exists is used.
const LABELS: [&str; 3] = ["labels", "label", "y"];

/// The rows of a `.npy` file, without labels.
///
/// # Errors
/// T0101, T0102 when its rows are not images, T0105.
pub(super) fn open_npy(path: &Path) -> Result<Store, DataError> {
    let layout = npz::locate(path)?;
    let content = content(path, &layout)?;
    let Layout { dtype, dims, offset, .. } = layout;
    let elements = Elements::File { offset };
    let rows = Rows { path: path.to_owned(), elements, dtype, dims, content };
    Store::numbered(path, Entries::Rows(rows), None)
}

/// The images and labels of a `.npz` file.
///
/// # Errors
/// Those of [`open_npy`]; also T0102 when no array can be identified as the images, and T0106.
pub(super) fn open_npz(path: &Path) -> Result<Store, DataError> {
    let layouts = npz::layouts(path)?;
    let labels = LABELS.iter().find(|name| layouts.contains_key(**name)).copied();
    let mut others = layouts.keys().filter(|name| Some(name.as_str()) != labels);
    let named = IMAGES.iter().find(|name| layouts.contains_key(**name)).copied();
    let only = match (others.next(), others.next()) {
        (Some(only), None) => Some(only.as_str()),
        _ => None,
    };
    let Some(images) = named.or(only) else {
        let names: Vec<_> = layouts.keys().map(String::as_str).collect();
        return Err(unknown(
            path,
            format!("none of its arrays [{}] is named {}", names.join(", "), IMAGES.join(", ")),
        ));
    };
    let layout = &layouts[images];
    let content = content(path, layout)?;
    if layout.bytes as u64 > MOST_IN_MEMORY {
        return Err(unknown(
            path,
            format!(
                "{images:?} has {} bytes; as a .npy it need not be held in memory",
                layout.bytes
            ),
        ));
    }
    let labels =
        labels.map(|name| read_labels(path, name, &layouts[name], layout.dims[0])).transpose()?;
    let tensor = npz::read_member(path, images)?;
    let rows = Rows {
        path: path.to_owned(),
        dtype: tensor.dtype(),
        dims: tensor.dims().to_vec(),
        elements: Elements::Memory(tensor.bytes().clone()),
        content,
    };
    Store::numbered(path, Entries::Rows(rows), labels)
}

/// Reads the labels, unless there are more or fewer of them than images: they may take much memory.
fn read_labels(
    path: &Path,
    name: &str,
    layout: &Layout,
    images: usize,
) -> Result<Vec<i64>, DataError> {
    let refused = |detail: String| DataError::Labels { path: path.to_owned(), detail };
    let dims = &layout.dims;
    if !matches!(dims[..], [_] | [_, 1]) || layout.bytes as u64 > MOST_IN_MEMORY {
        return Err(refused(format!("{name:?} is of dims {dims:?}")));
    }
    if dims[0] != images {
        return Err(refused(format!("{} labels for {images} images", dims[0])));
    }
    let labels = npz::read_member(path, name)?;
    labels.to_i64().ok_or_else(|| refused(format!("{name:?} is of type {}", labels.dtype())))
}

fn content(path: &Path, layout: &Layout) -> Result<Content, DataError> {
    let Layout { dtype, dims, .. } = layout;
    let is_float = matches!(dtype, DataType::Float | DataType::Double | DataType::Float16);
    if dims.contains(&0) || dims.len() < 2 {
        return Err(unknown(path, format!("an array of dims {dims:?} holds no images")));
    }
    if is_float {
        return Ok(Content::Ready);
    }
    match (dtype, &dims[..]) {
        (DataType::Uint8, &[_, height, width]) => {
            Ok(Content::ChannelLast { height, width, channels: 1 })
        }
        (DataType::Uint8, &[_, height, width, channels @ (1 | 3 | 4)]) => {
            Ok(Content::ChannelLast { height, width, channels })
        }
        (DataType::Uint8, &[_, channels @ (1 | 3), height, width]) => {
            Ok(Content::ChannelFirst { height, width, channels })
        }
        _ => Err(unknown(
            path,
            format!("an array of {dtype} {dims:?} is neither u8 images nor floats"),
        )),
    }
}
