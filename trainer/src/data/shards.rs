//! `.tar` files: `WebDataset` shards, or plain archives of images.
//!
//! If there are `.cls` members, the names are read as `WebDataset` reads them: the key ends at the first dot of the
//! file name, and the rest gives the kind of the member. Otherwise every member that ends like an image is an image,
//! without a label.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::error::DataError;
use super::store::{Entries, Member, Store, file_name, is_image, open_file, unreadable};

/// Longest `.cls` member, in bytes.
const LONGEST_LABEL: u64 = 32;

/// Most bytes that a member may have in front of its contents: headers, a long name, extended attributes.
const LONGEST_NAMES: u64 = 1 << 20;

/// A `.tar` of which at most `left` bytes are read between two members. The contents are skipped by seeking; what is read
/// is headers and names, which `tar` holds in memory whatever their length.
struct Bounded {
    file: File,
    left: Rc<Cell<u64>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !buffer.is_empty() {
            return Err(std::io::Error::other("the name of a member is longer than 1 MiB"));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.file.read(&mut buffer[..most])?;
        self.left.set(left - count as u64);
        Ok(count)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

/// Members of shards, grouped by kind.
#[derive(Default)]
struct Index {
    images: Vec<Member>,
    /// Class by shard and key.
    labels: BTreeMap<(usize, String), i64>,
}

/// The images of all `shards`, in their order.
///
/// # Errors
/// T0101, T0102 without images, T0105 when a shard is truncated, T0106 when a `.cls` is not a number or when an image
/// has none while others have one.
pub(super) fn open(path: &Path, shards: Vec<PathBuf>) -> Result<Store, DataError> {
    let mut index = Index::default();
    for (number, shard) in shards.iter().enumerate() {
        scan(number, shard, &mut index)?;
    }
    let Index { mut images, labels } = index;
    if labels.is_empty() {
        return Store::numbered(path, Entries::Members { shards, members: images }, None);
    }
    images.retain(|image| !key_and_kind(&image.name).1.contains('.'));
    let label = |image: &Member| {
        let key = key_and_kind(&image.name).0.to_owned();
        labels.get(&(image.shard, key)).copied().ok_or_else(|| {
            let detail = format!("{:?} has no .cls, and others have", image.name);
            DataError::Labels { path: shards[image.shard].clone(), detail }
        })
    };
    let found = images.iter().map(label).collect::<Result<_, _>>()?;
    Store::numbered(path, Entries::Members { shards, members: images }, Some(found))
}

/// Splits `a/b.seg.png` into `a/b` and `seg.png`.
fn key_and_kind(name: &str) -> (&str, &str) {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[start..].find('.') {
        Some(dot) => (&name[..start + dot], &name[start + dot + 1..]),
        None => (name, ""),
    }
}

fn scan(number: usize, shard: &Path, index: &mut Index) -> Result<(), DataError> {
    let damaged = |detail: String| DataError::Damaged { path: shard.to_owned(), detail };
    let file = open_file(shard).map_err(|error| unreadable(shard, &error))?;
    let held = file.metadata().map_err(|error| unreadable(shard, &error))?.len();
    let budget = Rc::new(Cell::new(0));
    let mut archive = tar::Archive::new(Bounded { file, left: Rc::clone(&budget) });
    budget.set(LONGEST_NAMES);
    for member in archive.entries_with_seek().map_err(|error| damaged(error.to_string()))? {
        budget.set(LONGEST_NAMES);
        let mut member = member.map_err(|error| damaged(error.to_string()))?;
        let (offset, bytes) = (member.raw_file_position(), member.size());
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        if offset.checked_add(bytes).is_none_or(|end| end > held) {
            return Err(damaged(format!("it ends inside the member {name:?}")));
        }
        let is_hidden = file_name(Path::new(&name)).starts_with('.');
        if !member.header().entry_type().is_file() || is_hidden {
            continue;
        }
        let (key, kind) = key_and_kind(&name);
        if kind == "cls" {
            let label = read_label(&mut member, bytes).ok_or_else(|| DataError::Labels {
                path: shard.to_owned(),
                detail: format!("{name:?} is no number"),
            })?;
            index.labels.insert((number, key.to_owned()), label);
        } else if is_image(&name) {
            index.images.push(Member { shard: number, name, offset, bytes });
        }
    }
    Ok(())
}

fn read_label(member: &mut impl Read, bytes: u64) -> Option<i64> {
    let mut text = String::new();
    (bytes <= LONGEST_LABEL).then(|| member.read_to_string(&mut text).ok())??;
    text.trim().parse().ok()
}
