//! Intermediate results, kept in a folder so that a killed run can resume.
//!
//! Each entry is one file, `KEY.safetensors`. It holds the weights as f64 and everything else as JSON in the metadata.
//! The file is written under another name and then renamed, so an entry is either complete or absent.

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
use updp_trainer::fit::FittedForm;

use crate::files;

/// Key of the JSON in the metadata.
const META: &str = "updp";

/// Key of the sites in the metadata.
const SITES: &str = "sites";

/// A fitted form with its score.
#[derive(Clone, Debug)]
pub struct Scored {
    /// The fitted form.
    pub form: FittedForm,
    /// Score of the network with this form, on the held-out images.
    pub score: Score,
}

/// A folder of entries. Without a folder, nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    folder: Option<PathBuf>,
}

/// One candidate as JSON.
#[derive(Serialize, Deserialize)]
struct Entry {
    form: String,
    ridge: Option<f64>,
    output_error: f64,
    score: Score,
    /// `None` = the branch is dropped.
    maps: Option<Vec<Steps>>,
    /// The hidden channels that stay; the branch is thin.
    #[serde(default)]
    kept: Option<Vec<usize>>,
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
        let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
        let entries: Vec<Entry> =
            serde_json::from_str(header.metadata().as_ref()?.get(META)?).ok()?;
        if header.metadata().as_ref()?.get(SITES)? != &names_of(sites) {
            return None;
        }
        let tensors = SafeTensors::deserialize(&bytes).ok()?;
        let mut found = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            let site = sites.iter().find(|site| site.form.name() == entry.form)?;
            let fitted = match entry.maps {
                None => Fitted::Drop,
                Some(steps) => {
                    let read = |(part, steps)| map(&tensors, &format!("{at}.{part}"), steps);
                    let mut maps: Vec<AffineMap> =
                        steps.into_iter().enumerate().map(read).collect::<Option<_>>()?;
                    match entry.kept {
                        Some(kept) => Fitted::Thin { kept, last: maps.pop()? },
                        None => Fitted::Maps(maps),
                    }
                }
            };
            let form = FittedForm {
                site: site.clone(),
                fitted,
                ridge: entry.ridge,
                output_error: entry.output_error,
            };
            found.push(Scored { form, score: entry.score });
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
            let (maps, kept) = match &form.fitted {
                Fitted::Drop => (None, None),
                Fitted::Maps(maps) => (Some(maps.as_slice()), None),
                Fitted::Thin { kept, last } => {
                    (Some(std::slice::from_ref(last)), Some(kept.clone()))
                }
            };
            for (part, map) in maps.into_iter().flatten().enumerate() {
                let bytes = |values: &mut dyn Iterator<Item = f64>| {
                    values.flat_map(f64::to_le_bytes).collect::<Vec<u8>>()
                };
                let name = format!("{at}.{part}");
                let weight = bytes(&mut map.weight.iter().copied());
                tensors.insert(format!("{name}.weight"), (map.weight.shape().to_vec(), weight));
                let bias = bytes(&mut map.bias.iter().copied());
                tensors.insert(format!("{name}.bias"), (vec![map.bias.len()], bias));
            }
            entries.push(Entry {
                form: form.site.form.name().to_owned(),
                ridge: form.ridge,
                output_error: form.output_error,
                score: *score,
                maps: maps.map(|maps| maps.iter().map(Steps::of).collect()),
                kept,
            });
        }
        let error = |error: &dyn std::fmt::Display| failed(&path, error);
        let meta = serde_json::to_string(&entries).map_err(|e| error(&e))?;
        let views = tensors.iter().map(|(name, (dims, bytes))| {
            let view = TensorView::new(Dtype::F64, dims.clone(), bytes);
            view.map(|view| (name.as_str(), view))
        });
        let views: Vec<_> = views.collect::<Result<_, _>>().map_err(|e| error(&e))?;
        let meta = [(META.to_owned(), meta), (SITES.to_owned(), names_of(sites))];
        let meta = Some(meta.into_iter().collect());
        let bytes = safetensors::serialize(views, meta).map_err(|e| error(&e))?;
        files::replace(&path, &bytes).map_err(|e| error(&e))
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{key}.safetensors")))
    }
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
