//! The places where the images of a data set are stored, and the code that reads the bytes of one image.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use updp_ir::DataType;

use super::error::DataError;
use super::input::InputSpec;

/// Largest size of one array in memory, in bytes.
pub(super) const MOST_IN_MEMORY: u64 = 1 << 30;

/// Largest size of one encoded image, in bytes.
const LARGEST_FILE: u64 = 256 << 20;

/// Largest class number + 1.
const MOST_CLASSES: usize = 1_000_000;

/// All images of a data set.
#[derive(Debug)]
pub(super) struct Store {
    /// The path that was opened.
    pub path: PathBuf,
    /// The images.
    pub entries: Entries,
    /// Class of each image.
    pub labels: Option<Vec<usize>>,
    /// Names of the classes; empty without labels.
    pub classes: Vec<String>,
}

/// The images, by kind of storage.
#[derive(Debug)]
pub(super) enum Entries {
    /// Each image is one encoded file.
    Files(Vec<FileEntry>),
    /// Encoded members of `.tar` files.
    Members {
        /// The `.tar` files.
        shards: Vec<PathBuf>,
        /// The images in them.
        members: Vec<Member>,
    },
    /// Rows of one array.
    Rows(Rows),
}

/// One encoded image.
#[derive(Debug)]
pub(super) struct FileEntry {
    /// Path of the file.
    pub path: PathBuf,
    /// Path relative to the data set, with `/`.
    pub name: String,
}

/// One encoded image inside a `.tar`.
#[derive(Debug)]
pub(super) struct Member {
    /// Index of the `.tar`.
    pub shard: usize,
    /// Path inside it.
    pub name: String,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// An array whose first axis counts the images.
#[derive(Debug)]
pub(super) struct Rows {
    /// The file it comes from.
    pub path: PathBuf,
    /// The place of its elements.
    pub elements: Elements,
    /// The type of its elements.
    pub dtype: DataType,
    /// Dims; the first one counts the images.
    pub dims: Vec<usize>,
    /// Contents of one row.
    pub content: Content,
}

/// Contents of one row of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// u8 pixels `[H, W, C]`, or `[H, W]` with C = 1.
    ChannelLast { height: usize, width: usize, channels: usize },
    /// u8 pixels `[C, H, W]`.
    ChannelFirst { height: usize, width: usize, channels: usize },
    /// Floats that are already the model's input.
    Ready,
}

/// Elements of an array in C order.
#[derive(Debug)]
pub(super) enum Elements {
    /// All elements, in memory.
    Memory(Bytes),
    /// The elements from this byte of the array's file on.
    File { offset: u64 },
}

impl Store {
    /// Makes a store whose classes are named by their numbers, with one label per image.
    ///
    /// # Errors
    /// T0102 without images; T0106 unless there is one class number per image, each 0 or larger.
    pub(super) fn numbered(
        path: &Path,
        entries: Entries,
        labels: Option<Vec<i64>>,
    ) -> Result<Self, DataError> {
        let refused = |detail: String| DataError::Labels { path: path.to_owned(), detail };
        let images = entries.len();
        if images == 0 {
            return Err(unknown(path, "it holds no images"));
        }
        let Some(labels) = labels else {
            return Ok(Self { path: path.to_owned(), entries, labels: None, classes: Vec::new() });
        };
        if labels.len() != images {
            let found = labels.len();
            return Err(refused(format!("{found} labels for {images} images")));
        }
        let labels: Vec<usize> = labels
            .into_iter()
            .map(|label| {
                usize::try_from(label)
                    .ok()
                    .filter(|label| *label < MOST_CLASSES)
                    .ok_or_else(|| refused(format!("{label} is no class number")))
            })
            .collect::<Result<_, _>>()?;
        let count = labels.iter().max().map_or(0, |last| last + 1);
        let classes = (0..count).map(|class| class.to_string()).collect();
        Ok(Self { path: path.to_owned(), entries, labels: Some(labels), classes })
    }
}

impl Store {
    /// Whether images are pixels; otherwise they are floats that are already the model's input.
    pub(super) fn is_pixels(&self) -> bool {
        !matches!(&self.entries, Entries::Rows(rows) if rows.content == Content::Ready)
    }

    /// Rejects an array of floats whose rows do not match the input.
    ///
    /// # Errors
    /// T0110.
    pub(super) fn check_rows(&self, input: &InputSpec) -> Result<(), DataError> {
        let Entries::Rows(rows) = &self.entries else { return Ok(()) };
        let expected = input.row_dims();
        if rows.content != Content::Ready || rows.row_dims() == expected {
            return Ok(());
        }
        Err(DataError::DoesNotFit {
            what: "the rows of the array are".to_owned(),
            found: format!("{:?}", rows.row_dims()),
            expected: format!("{expected:?}"),
        })
    }
}

impl Entries {
    /// Number of images.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Files(files) => files.len(),
            Self::Members { members, .. } => members.len(),
            Self::Rows(rows) => rows.dims.first().copied().unwrap_or(0),
        }
    }

    /// Name of an image for messages.
    pub(super) fn name(&self, index: usize) -> String {
        match self {
            Self::Files(files) => files[index].name.clone(),
            Self::Members { shards, members } if shards.len() > 1 => {
                let member = &members[index];
                format!("{}:{}", file_name(&shards[member.shard]), member.name)
            }
            Self::Members { members, .. } => members[index].name.clone(),
            Self::Rows(rows) => format!("{}[{index}]", file_name(&rows.path)),
        }
    }

    /// Size in bytes and time of the last change of a stored image, as far as they are known.
    pub(super) fn stamp(&self, index: usize) -> (u64, u128) {
        match self {
            Self::Files(files) => stamp(&files[index].path),
            Self::Members { members, .. } => (members[index].bytes, 0),
            Self::Rows(_) => (0, 0),
        }
    }

    /// The files that each hold several images.
    pub(super) fn containers(&self) -> Vec<&Path> {
        match self {
            Self::Files(_) => Vec::new(),
            Self::Members { shards, .. } => shards.iter().map(PathBuf::as_path).collect(),
            Self::Rows(rows) => vec![&rows.path],
        }
    }
}

/// Size in bytes and time of the last change in nanoseconds; zeros if they cannot be read.
pub(super) fn stamp(path: &Path) -> (u64, u128) {
    let Ok(meta) = std::fs::metadata(path) else { return (0, 0) };
    let changed = meta.modified().ok();
    let changed = changed.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    (meta.len(), changed.map_or(0, |time| time.as_nanos()))
}

/// Opens a file of data. A named pipe would wait for a writer that never comes, and a device may not end.
///
/// # Errors
/// Those of opening it; also that it is no regular file.
pub(super) fn open_file(path: &Path) -> std::io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other(
            "it is no regular file (a folder, pipe, socket or device)",
        ));
    }
    File::open(path)
}

/// Reads the bytes of an encoded file.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    read_range(path, 0, bytes)
}

/// Reads `bytes` bytes of a file from `offset` on.
pub(super) fn read_range(path: &Path, offset: u64, bytes: u64) -> Result<Vec<u8>, String> {
    if bytes > LARGEST_FILE {
        return Err(format!("{bytes} bytes are more than one image may have"));
    }
    let read = || {
        let mut file = open_file(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut content = Vec::with_capacity(bytes as usize);
        file.take(bytes).read_to_end(&mut content)?;
        Ok::<_, std::io::Error>(content)
    };
    let content = read().map_err(|error| error.to_string())?;
    if content.len() as u64 == bytes { Ok(content) } else { Err("the file got shorter".to_owned()) }
}

impl Rows {
    /// Dims of one row.
    pub(super) fn row_dims(&self) -> &[usize] {
        self.dims.get(1..).unwrap_or_default()
    }

    /// The bytes of one row.
    pub(super) fn read(&self, index: usize) -> Result<Bytes, String> {
        let elements: usize = self.row_dims().iter().product();
        let bytes = self.dtype.byte_len(elements).unwrap_or(0);
        match &self.elements {
            Elements::Memory(all) => Ok(all.slice(index * bytes..(index + 1) * bytes)),
            Elements::File { offset } => {
                let start = offset + (index * bytes) as u64;
                read_range(&self.path, start, bytes as u64).map(Bytes::from)
            }
        }
    }
}

/// Last part of a path, as text.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Whether a name ends like an image that can be read.
pub(super) fn is_image(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| matches!(&*ending, "jpg" | "jpeg" | "png" | "webp" | "bmp"))
}

/// Whether a name ends like an archive that must be unpacked first.
pub(super) fn is_packed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let endings = [".tgz", ".tbz", ".tbz2", ".txz", ".zip", ".7z", ".rar"];
    let packers = [".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4"];
    endings.iter().chain(&packers).any(|ending| name.ends_with(ending))
}

/// T0102.
pub(super) fn unknown(path: &Path, detail: impl Into<String>) -> DataError {
    DataError::UnknownKind { path: path.to_owned(), detail: detail.into() }
}

/// T0101.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> DataError {
    DataError::Unreadable { path: path.to_owned(), detail: error.to_string() }
}
