//! Folders: class folders, flat folders, and the other kinds of data found in a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::DataError;
use super::store::{
    Entries, FileEntry, Store, file_name, is_image, is_packed, unknown, unreadable,
};
use super::{idx, shards};

/// Largest number of nested folders with a single subfolder.
const DEEPEST: usize = 8;

/// Common names for the parts of a data set.
const PARTS: [&str; 10] =
    ["train", "training", "val", "valid", "validation", "test", "testing", "eval", "dev", "extra"];

/// The direct contents of a folder, sorted, without hidden names.
struct Listing {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

/// Lists a folder. `follow` also follows links to folders; walks below a class do not follow them, so they end.
fn list(folder: &Path, follow: bool) -> Result<Listing, DataError> {
    let mut found = Listing { folders: Vec::new(), files: Vec::new() };
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
        let is_folder = kind.is_dir() || (kind.is_symlink() && path.is_dir());
        if !is_folder {
            found.files.push(path);
        } else if follow || kind.is_dir() {
            found.folders.push(path);
        }
    }
    found.folders.sort();
    found.files.sort();
    Ok(found)
}

fn has_image_name(path: &Path) -> bool {
    is_image(&file_name(path))
}

/// All images below a folder, and whether it contains any file at all.
fn images_below(folder: &Path) -> Result<(Vec<PathBuf>, bool), DataError> {
    let listing = list(folder, false)?;
    let mut has_files = !listing.files.is_empty();
    let mut images: Vec<_> =
        listing.files.into_iter().filter(|path| has_image_name(path)).collect();
    for below in &listing.folders {
        let (more, has_more) = images_below(below)?;
        images.extend(more);
        has_files |= has_more;
    }
    Ok((images, has_files))
}

/// The data set in a folder.
///
/// # Errors
/// T0101 to T0106.
pub(super) fn open(folder: &Path) -> Result<Store, DataError> {
    open_at(folder, DEEPEST)
}

fn open_at(folder: &Path, deeper: usize) -> Result<Store, DataError> {
    let listing = list(folder, true)?;
    let images: Vec<_> =
        listing.files.iter().filter(|path| has_image_name(path)).cloned().collect();
    if images.is_empty() {
        refuse_parts(folder, &listing.folders)?;
    }
    let mut below = BTreeMap::new();
    for class in &listing.folders {
        below.insert(class.clone(), images_below(class)?);
    }
    let with_images: Vec<_> = below.iter().filter(|(_, (images, _))| !images.is_empty()).collect();
    if with_images.len() > 1 {
        return class_folders(folder, below);
    }
    if !images.is_empty() {
        return Store::numbered(folder, Entries::Files(named(folder, images)), None);
    }
    let tars: Vec<_> =
        listing.files.iter().filter(|path| is_tar(&file_name(path))).cloned().collect();
    if !tars.is_empty() {
        return shards::open(folder, tars);
    }
    if let Some(images) = idx::choose(folder, &listing.files)? {
        return idx::open(&images);
    }
    let only = with_images.first().map(|(path, _)| (*path).clone());
    let only = only.or_else(|| listing.folders.first().filter(|_| below.len() == 1).cloned());
    if let Some(only) = only.filter(|_| deeper > 0) {
        return open_at(&only, deeper - 1);
    }
    if let Some(packed) = listing.files.iter().find(|path| is_packed(&file_name(path))) {
        return Err(DataError::Packed { path: packed.clone() });
    }
    Err(unknown(folder, "there are no images, class folders, .tar or IDX files in it"))
}

/// Whether a name ends like a `.tar` file.
pub(super) fn is_tar(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".tar")
}

fn refuse_parts(folder: &Path, folders: &[PathBuf]) -> Result<(), DataError> {
    let parts: Vec<_> = folders.iter().map(|path| file_name(path)).collect();
    let is_part = |name: &String| PARTS.contains(&&*name.to_ascii_lowercase());
    if parts.len() > 1 && parts.iter().all(is_part) {
        return Err(DataError::HasParts { path: folder.to_owned(), parts });
    }
    Ok(())
}

fn class_folders(
    folder: &Path,
    below: BTreeMap<PathBuf, (Vec<PathBuf>, bool)>,
) -> Result<Store, DataError> {
    let (mut entries, mut labels, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for (class, (images, has_files)) in below {
        let name = file_name(&class);
        if images.is_empty() && has_files {
            let detail = format!("{name:?} lies among the class folders and holds no images");
            return Err(DataError::Labels { path: folder.to_owned(), detail });
        }
        labels.extend(std::iter::repeat_n(classes.len(), images.len()));
        entries.extend(named(folder, images));
        classes.push(name);
    }
    let entries = Entries::Files(entries);
    Ok(Store { path: folder.to_owned(), entries, labels: Some(labels), classes })
}

fn named(folder: &Path, images: Vec<PathBuf>) -> Vec<FileEntry> {
    let name = |path: &Path| {
        let below = path.strip_prefix(folder).unwrap_or(path);
        let parts: Vec<_> =
            below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        parts.join("/")
    };
    images.into_iter().map(|path| FileEntry { name: name(&path), path }).collect()
}
