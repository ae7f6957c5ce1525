//! IDX, the format of MNIST and similar data sets: `*-images-idx3-ubyte` with `*-labels-idx1-ubyte`, also `.gz`.
//!
//! A file starts with two zero bytes, the element type (8 = u8), the rank, and the dims as big-endian u32.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use updp_ir::DataType;

use super::error::DataError;
use super::store::{
    Content, Elements, Entries, MOST_IN_MEMORY, Rows, Store, file_name, open_file, unknown,
    unreadable,
};

/// Whether this is the name of an IDX file of images.
pub(super) fn is_images(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('.', "-");
    let name = name.strip_suffix("-gz").unwrap_or(&name);
    name.contains("images") && (name.ends_with("idx3-ubyte") || name.ends_with("idx4-ubyte"))
}

fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz"))
}

/// The images file that represents a folder: the only one, or the one that starts with `train`. If a file and its `.gz`
/// both exist, the file is used. `None` if there is no images file.
///
/// # Errors
/// T0102 when there are several and none is for training.
pub(super) fn choose(folder: &Path, files: &[PathBuf]) -> Result<Option<PathBuf>, DataError> {
    let unpacked = |path: &Path| path.with_extension("");
    let found: Vec<_> = files
        .iter()
        .filter(|path| is_images(&file_name(path)))
        .filter(|path| !is_gz(path) || !files.contains(&unpacked(path)))
        .collect();
    let is_training = |path: &&&PathBuf| file_name(path).to_ascii_lowercase().starts_with("train");
    let training: Vec<_> = found.iter().filter(is_training).copied().collect();
    match (&found[..], &training[..]) {
        ([], _) => Ok(None),
        ([only], _) | (_, [only]) => Ok(Some((*only).clone())),
        _ => {
            let names: Vec<_> = found.iter().map(|path| file_name(path)).collect();
            Err(unknown(folder, format!("give one of its files, {}", names.join(", "))))
        }
    }
}

/// The images file that starts with a path such as `DIR/t10k`; `None` if there is none.
pub(super) fn by_prefix(path: &Path) -> Option<PathBuf> {
    let prefix = file_name(path);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let files = std::fs::read_dir(parent.unwrap_or_else(|| Path::new("."))).ok()?;
    let mut found: Vec<_> = files
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_images(&file_name(path)))
        .filter(|path| {
            file_name(path).strip_prefix(&prefix).is_some_and(|rest| rest.starts_with(['-', '.']))
        })
        .collect();
    found.sort();
    found.into_iter().next()
}

/// The images of a file with the labels of the file beside it; without that file there are no labels.
///
/// # Errors
/// T0101, T0102 without images, T0105 when a header does not match its file, T0106 when labels and images do not match.
pub(super) fn open(images: &Path) -> Result<Store, DataError> {
    let (dims, elements) = read(images)?;
    let (height, width, channels) = match dims[..] {
        [_, height, width] => (height, width, 1),
        [_, height, width, channels @ (1 | 3)] => (height, width, channels),
        _ => return Err(damaged(images, format!("images of dims {dims:?} are not read"))),
    };
    if height == 0 || width == 0 {
        return Err(damaged(images, format!("its images are {height}×{width}")));
    }
    let labels = labels_file(images).map(|path| labels(&path)).transpose()?;
    let content = Content::ChannelLast { height, width, channels };
    let rows = Rows { path: images.to_owned(), elements, dtype: DataType::Uint8, dims, content };
    Store::numbered(images, Entries::Rows(rows), labels)
}

fn labels_file(images: &Path) -> Option<PathBuf> {
    let name = file_name(images);
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let name = name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1");
    [name.clone(), format!("{name}.gz")]
        .into_iter()
        .map(|name| images.with_file_name(name))
        .find(|path| path.is_file())
}

fn labels(path: &Path) -> Result<Vec<i64>, DataError> {
    let (dims, elements) = read(path)?;
    if dims.len() != 1 {
        return Err(damaged(path, format!("labels of dims {dims:?} are not read")));
    }
    let all = match elements {
        Elements::Memory(bytes) => bytes,
        Elements::File { .. } => {
            std::fs::read(path).map_err(|e| unreadable(path, &e))?.split_off(8).into()
        }
    };
    Ok(all.iter().map(|label| i64::from(*label)).collect())
}

/// Reads dims and elements; a `.gz` file is unpacked into memory.
fn read(path: &Path) -> Result<(Vec<usize>, Elements), DataError> {
    let file = open_file(path).map_err(|error| unreadable(path, &error))?;
    let bytes = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    let mut source: Box<dyn Read> = if is_gz(path) {
        Box::new(MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    let (dims, header) = header(path, &mut source)?;
    let needed = dims.iter().try_fold(1_u64, |total, dim| total.checked_mul(*dim as u64));
    let needed = needed.unwrap_or(u64::MAX);
    let lies = |held: String| damaged(path, format!("its header says {dims:?}, it holds {held}"));
    if !is_gz(path) {
        let held = bytes - header;
        return if held == needed {
            Ok((dims, Elements::File { offset: header }))
        } else {
            Err(lies(format!("{held} bytes")))
        };
    }
    if needed > MOST_IN_MEMORY {
        return Err(damaged(path, format!("its header says {dims:?}; unpack it if that is so")));
    }
    let mut elements = Vec::new();
    source
        .take(needed + 1)
        .read_to_end(&mut elements)
        .map_err(|error| damaged(path, error.to_string()))?;
    match elements.len() as u64 {
        held if held == needed => Ok((dims, Elements::Memory(Bytes::from(elements)))),
        held if held > needed => Err(lies("more".to_owned())),
        held => Err(lies(format!("{held} bytes"))),
    }
}

/// Reads the dims, and the number of bytes of the header.
fn header(path: &Path, source: &mut dyn Read) -> Result<(Vec<usize>, u64), DataError> {
    let mut word = || {
        let mut bytes = [0; 4];
        source.read_exact(&mut bytes).map_err(|error| damaged(path, error.to_string()))?;
        Ok(bytes)
    };
    let [0, 0, 8, rank @ 1..=4] = word()? else {
        return Err(damaged(path, "it does not start like an IDX file of bytes".to_owned()));
    };
    let dims =
        (0..rank).map(|_| Ok(u32::from_be_bytes(word()?) as usize)).collect::<Result<_, _>>()?;
    Ok((dims, 4 + 4 * u64::from(rank)))
}

fn damaged(path: &Path, detail: String) -> DataError {
    DataError::Damaged { path: path.to_owned(), detail }
}
