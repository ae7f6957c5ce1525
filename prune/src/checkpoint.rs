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
    /// Score of the network with this form on the calibration images, cross-fitted.
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
            let numbered = entry.variants.into_iter().enumerate();
            let mut variants =
                numbered.map(|(fold, it)| fitted(&tensors, &format!("{at}.{fold}"), it));
            let form = FittedForm {
                site: site.clone(),
                fitted: variants.next()??,
                folds: variants.collect::<Option<_>>()?,
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
                ridge: form.ridge,
                output_error: form.output_error,
                score: *score,
                variants,
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
