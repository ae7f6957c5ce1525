//! Intermediate results, kept in a folder so that a killed run can resume.
//!
//! Each entry is one file, `KEY.safetensors`. It holds the weights as f64 and everything else as JSON in the metadata.
//! The file is written under another name and then renamed, so an entry is either complete or absent. A hash of the
//! key, the JSON and the weights tells whether an entry is the one that was written; if not, it is made again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use updp_passes::kernel::AffineMap;
use updp_passes::surgery::{Fitted, Site};

use updp_trainer::error::TrainerError;
use updp_trainer::evaluator::Score;
use updp_trainer::files;
use updp_trainer::fit::FittedForm;
use updp_trainer::hash::Fnv;

use crate::score_bits::ScoreBits;

/// Key of the hash and the JSON in the metadata. There is one key: several would be in a different order each time.
const META: &str = "updp";

/// Ending of the files.
const ENDING: &str = ".safetensors";

/// A fitted form with its score.
#[derive(Clone, Debug)]
pub struct Scored {
    /// The fitted form.
    pub form: FittedForm,
    /// Score of the network with this form on the calibration images, cross-fitted.
    pub score: Score,
}

/// A folder of entries. Without a folder, nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    folder: Option<PathBuf>,
}

/// The JSON of a file.
#[derive(Serialize, Deserialize)]
struct Meta {
    /// The sites that the entries were asked for.
    sites: String,
    entries: Vec<Entry>,
}

/// One candidate as JSON; numbers are the bits of an f64.
#[derive(Serialize, Deserialize)]
struct Entry {
    form: String,
    ridge: Option<u64>,
    output_error: u64,
    score: ScoreBits,
    /// The form as it was fitted to all images, then without the images of each fold.
    variants: Vec<Variant>,
}

/// A replacement of a branch, without its weights.
#[derive(Serialize, Deserialize)]
struct Variant {
    /// The hidden channels that stay, in a thin block.
    kept: Option<Vec<usize>>,
    /// The operators; none if the branch is dropped.
    maps: Vec<Steps>,
}

/// The fields of an affine map other than its weight and bias.
#[derive(Serialize, Deserialize)]
struct Steps {
    stride: Vec<usize>,
    dilation: Vec<usize>,
    pad_begin: Vec<usize>,
    pad_end: Vec<usize>,
    groups: usize,
}

impl Checkpoint {
    /// Opens the entries in `folder`. Creates the folder if it does not exist.
    ///
    /// # Errors
    /// T0006 when the folder cannot be created.
    pub fn open(folder: &Path) -> Result<Self, TrainerError> {
        fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        Ok(Self { folder: Some(folder.to_owned()) })
    }

    /// The folder; `None` when nothing is kept.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The forms of a key, attached to their sites. `None` if there are none, or if they were stored for a different
    /// set of sites.
    #[must_use]
    pub fn get(&self, key: &str, sites: &[Site]) -> Option<Vec<Scored>> {
        let bytes = fs::read(self.path(key)?).ok()?;
        let (meta, tensors) = read(key, &bytes)?;
        let Meta { sites: asked, entries } = serde_json::from_str(&meta).ok()?;
        if asked != names_of(sites) {
            return None;
        }
        let mut found = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            let site = sites.iter().find(|site| site.form.name() == entry.form)?;
            let numbered = entry.variants.into_iter().enumerate();
            let mut variants =
                numbered.map(|(fold, it)| fitted(&tensors, &format!("{at}.{fold}"), it));
            let form = FittedForm {
                site: site.clone(),
                fitted: variants.next()??,
                folds: variants.collect::<Option<_>>()?,
                ridge: entry.ridge.map(f64::from_bits),
                output_error: f64::from_bits(entry.output_error),
            };
            found.push(Scored { form, score: entry.score.into() });
        }
        Some(found)
    }

    /// Stores the forms of a key together with the sites that they were requested for.
    ///
    /// # Errors
    /// T0006 when the folder cannot be written.
    pub fn put(&self, key: &str, sites: &[Site], scored: &[Scored]) -> Result<(), TrainerError> {
        let Some(path) = self.path(key) else { return Ok(()) };
        let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
        let mut entries = Vec::new();
        for (at, Scored { form, score }) in scored.iter().enumerate() {
            let mut variants = Vec::new();
            for (fold, fitted) in std::iter::once(&form.fitted).chain(&form.folds).enumerate() {
                for (part, map) in maps_of(fitted).iter().enumerate() {
                    let bytes = |values: &mut dyn Iterator<Item = f64>| {
                        values.flat_map(f64::to_le_bytes).collect::<Vec<u8>>()
                    };
                    let name = format!("{at}.{fold}.{part}");
                    let weight = bytes(&mut map.weight.iter().copied());
                    tensors.insert(format!("{name}.weight"), (map.weight.shape().to_vec(), weight));
                    let bias = bytes(&mut map.bias.iter().copied());
                    tensors.insert(format!("{name}.bias"), (vec![map.bias.len()], bias));
                }
                variants.push(Variant::of(fitted));
            }
            entries.push(Entry {
                form: form.site.form.name().to_owned(),
                ridge: form.ridge.map(f64::to_bits),
                output_error: form.output_error.to_bits(),
                score: (*score).into(),
                variants,
            });
        }
        let error = |error: &dyn std::fmt::Display| failed(&path, error);
        let meta = Meta { sites: names_of(sites), entries };
        let meta = serde_json::to_string(&meta).map_err(|e| error(&e))?;
        let hashed = tensors.iter().map(|(name, (dims, bytes))| (&**name, &**dims, &**bytes));
        let meta = format!("{:016x} {meta}", hash(key, &meta, hashed));
        let views = tensors.iter().map(|(name, (dims, bytes))| {
            let view = TensorView::new(Dtype::F64, dims.clone(), bytes);
            view.map(|view| (name.as_str(), view))
        });
        let views: Vec<_> = views.collect::<Result<_, _>>().map_err(|e| error(&e))?;
        let meta = Some([(META.to_owned(), meta)].into_iter().collect());
        let bytes = safetensors::serialize(views, meta).map_err(|e| error(&e))?;
        files::replace_own(&path, &bytes).map_err(|e| error(&e))
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{key}{ENDING}")))
    }
}

/// Removes the entries of a folder that are not those that were written. Returns their names.
///
/// # Errors
/// T0006 when one cannot be removed.
pub(crate) fn remove_damaged(folder: &Path) -> Result<Vec<String>, TrainerError> {
    let mut damaged = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        // A training keeps its states in folders of its own.
        let key = name.strip_suffix(ENDING).filter(|key| is_file && !key.starts_with("step-"));
        let Some(key) = key else { continue };
        let bytes = fs::read(entry.path()).map_err(|error| failed(&entry.path(), &error))?;
        if read(key, &bytes).is_none() {
            fs::remove_file(entry.path()).map_err(|error| failed(&entry.path(), &error))?;
            damaged.push(name);
        }
    }
    damaged.sort();
    Ok(damaged)
}

/// The JSON and the weights of an entry; `None` if they are not those that were written under this key.
fn read<'a>(key: &str, bytes: &'a [u8]) -> Option<(String, SafeTensors<'a>)> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let (written, meta) = header.metadata().as_ref()?.get(META)?.split_once(' ')?;
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let mut views: Vec<(&str, TensorView<'_>)> = tensors.iter().collect();
    views.sort_by_key(|(name, _)| *name);
    let hashed = views.iter().map(|(name, view)| (*name, view.shape(), view.data()));
    let is_whole = format!("{:016x}", hash(key, meta, hashed)) == written;
    is_whole.then(|| (meta.to_owned(), tensors))
}

/// The hash of an entry; tensors are sorted by name.
fn hash<'a>(
    key: &str,
    meta: &str,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
) -> u64 {
    let mut hash = Fnv::default();
    hash.text(key);
    hash.text(meta);
    for (name, dims, bytes) in tensors {
        hash.text(name);
        hash.text(&format!("{dims:?}"));
        hash.bytes(bytes);
    }
    hash.value()
}

/// The operators of a replacement.
fn maps_of(fitted: &Fitted) -> &[AffineMap] {
    match fitted {
        Fitted::Drop => &[],
        Fitted::Maps(maps) => maps,
        Fitted::Thin { last, .. } => std::slice::from_ref(last),
    }
}

impl Variant {
    fn of(fitted: &Fitted) -> Self {
        let kept = match fitted {
            Fitted::Thin { kept, .. } => Some(kept.clone()),
            Fitted::Drop | Fitted::Maps(_) => None,
        };
        Self { kept, maps: maps_of(fitted).iter().map(Steps::of).collect() }
    }
}

/// The replacement with its weights, whose names start with `name`.
fn fitted(tensors: &SafeTensors<'_>, name: &str, variant: Variant) -> Option<Fitted> {
    let read = |(part, steps)| map(tensors, &format!("{name}.{part}"), steps);
    let mut maps: Vec<AffineMap> =
        variant.maps.into_iter().enumerate().map(read).collect::<Option<_>>()?;
    Some(match variant.kept {
        Some(kept) => Fitted::Thin { kept, last: maps.pop()? },
        None if maps.is_empty() => Fitted::Drop,
        None => Fitted::Maps(maps),
    })
}

impl Steps {
    fn of(map: &AffineMap) -> Self {
        Self {
            stride: map.stride.clone(),
            dilation: map.dilation.clone(),
            pad_begin: map.pad_begin.clone(),
            pad_end: map.pad_end.clone(),
            groups: map.groups,
        }
    }
}

fn map(tensors: &SafeTensors<'_>, name: &str, steps: Steps) -> Option<AffineMap> {
    let read = |part: &str| {
        let view = tensors.tensor(&format!("{name}.{part}")).ok()?;
        let values = view.data().chunks_exact(8).map(|b| b.try_into().map(f64::from_le_bytes));
        Some((view.shape().to_vec(), values.collect::<Result<Vec<f64>, _>>().ok()?))
    };
    let (dims, weight) = read("weight")?;
    let (_, bias) = read("bias")?;
    let weight = ArrayD::from_shape_vec(IxDyn(&dims), weight).ok()?;
    let Steps { stride, dilation, pad_begin, pad_end, groups } = steps;
    AffineMap::new(weight, bias, stride, dilation, pad_begin, pad_end, groups).ok()
}

fn names_of(sites: &[Site]) -> String {
    let name = |site: &Site| format!("{} {} {}", site.block, site.form.name(), site.output);
    sites.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> TrainerError {
    TrainerError::Work { folder: path.display().to_string(), detail: error.to_string() }
}
