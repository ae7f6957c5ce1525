//! Checkpoints of a training: they hold everything needed to continue as if it had never stopped.
//!
//! Each checkpoint is one file, `step-NNNNNNNNNN.safetensors`: the states are tensors, everything else is JSON in the
//! metadata. A file is written under another name, flushed to the disk and then renamed, so it exists complete or not
//! at all. The last two are kept. A hash of everything in it detects a damaged file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use updp_ir::{DataType, Tensor};

use super::error::TrainError;
use crate::error::TrainerError;
use crate::files;
use crate::hash::Fnv;

/// Key of the JSON in the metadata.
const META: &str = "updp-train";

/// Version of the JSON.
const FORMAT: u32 = 2;

/// Number of checkpoints kept.
const KEPT: usize = 2;

/// The result of a validation on the held-out images after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Completed steps.
    pub steps: u64,
    /// Completed epochs.
    pub epoch: u64,
    /// Higher is better; usually the accuracy, 0 to 1.
    pub score: f64,
}

/// The state of a training between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Completed steps; the loader continues with the batch of this index.
    pub steps: u64,
    /// All validations so far, in order.
    pub validations: Vec<Validation>,
    /// The states by name.
    pub state: IndexMap<String, Tensor>,
}

/// The checkpoints found in the folder.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The newest checkpoint that is not damaged, and its file.
    pub newest: Option<(Snapshot, PathBuf)>,
    /// Newer files that were damaged, with the reason. They are removed.
    pub damaged: Vec<String>,
}

/// The checkpoints of one training in a folder.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    /// The fingerprint: the settings that must be the same for a training to resume.
    settings: BTreeMap<String, String>,
}

/// The metadata.
#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
    steps: u64,
    settings: BTreeMap<String, String>,
    validations: Vec<Validation>,
    /// FNV-1a of everything above and of the states, in hexadecimal.
    hash: String,
}

impl Meta {
    /// The hash of the metadata and the states. It does not depend on the order of the states, because the file does not
    /// keep it.
    fn hash(&self, state: &IndexMap<String, Tensor>) -> Result<String, serde_json::Error> {
        let mut hash = Fnv::default();
        let Self { format, steps, settings, validations, .. } = self;
        hash.text(&serde_json::to_string(&(format, steps, settings, validations))?);
        let mut sorted: Vec<_> = state.iter().collect();
        sorted.sort_by_key(|(name, _)| *name);
        for (name, tensor) in sorted {
            hash.text(name);
            hash.text(&format!("{} {:?}", tensor.dtype(), tensor.dims()));
            hash.bytes(tensor.bytes());
        }
        Ok(format!("{:016x}", hash.value()))
    }
}

impl Checkpoints {
    /// The checkpoints in `folder`, which is created if it does not exist. `settings` holds, by name, everything that
    /// must be the same for a training to resume: the hash of the step model, the fingerprint of the data, seed,
    /// schedule, augmentation.
    ///
    /// # Errors
    /// T0006 when the folder cannot be created.
    pub fn open(folder: &Path, settings: BTreeMap<String, String>) -> Result<Self, TrainerError> {
        fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        Ok(Self { folder: folder.to_owned(), settings })
    }

    /// The newest checkpoint that is not damaged. Damaged ones are removed and reported.
    ///
    /// # Errors
    /// T0404 when it belongs to another training, T0006 when a file cannot be read or removed.
    pub fn latest(&self) -> Result<Found, TrainerError> {
        let mut found = Found::default();
        for path in self.files()?.into_iter().rev() {
            let bytes = fs::read(&path).map_err(|error| failed(&path, &error))?;
            match self.read(&path, &bytes) {
                Ok(snapshot) => {
                    found.newest = Some((snapshot, path));
                    break;
                }
                Err(Unread::Other(error)) => return Err(error.into()),
                Err(Unread::Damaged(reason)) => {
                    // Otherwise it would count as newer than what is trained now.
                    fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
                    found.damaged.push(format!("{}: {reason}", path.display()));
                }
            }
        }
        Ok(found)
    }

    /// Writes a checkpoint, removes all but the last two and returns its path.
    ///
    /// # Errors
    /// T0006 when it cannot be written; the older ones then still exist.
    pub fn save(&self, snapshot: &Snapshot) -> Result<PathBuf, TrainerError> {
        let path = self.folder.join(format!("step-{:010}.safetensors", snapshot.steps));
        let bytes = self.encode(snapshot).map_err(|detail| failed(&path, &detail))?;
        files::replace_own(&path, &bytes).map_err(|error| failed(&path, &error))?;
        let files = self.files()?;
        for old in &files[..files.len().saturating_sub(KEPT)] {
            fs::remove_file(old).map_err(|error| failed(old, &error))?;
        }
        Ok(path)
    }

    /// The checkpoint files, oldest first.
    fn files(&self) -> Result<Vec<PathBuf>, TrainerError> {
        let entries = fs::read_dir(&self.folder).map_err(|error| failed(&self.folder, &error))?;
        let is_checkpoint = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            let digits = name.and_then(|n| n.strip_prefix("step-")?.strip_suffix(".safetensors"));
            digits.is_some_and(|d| d.len() == 10 && d.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let paths = paths.collect::<Result<Vec<_>, _>>().map_err(|e| failed(&self.folder, &e))?;
        let mut files: Vec<_> = paths.into_iter().filter(is_checkpoint).collect();
        files.sort();
        Ok(files)
    }

    fn encode(&self, snapshot: &Snapshot) -> Result<Vec<u8>, String> {
        let views: Vec<_> = snapshot
            .state
            .iter()
            .map(|(name, tensor)| view(name, tensor))
            .collect::<Result<_, _>>()?;
        let mut meta = Meta {
            format: FORMAT,
            steps: snapshot.steps,
            settings: self.settings.clone(),
            validations: snapshot.validations.clone(),
            hash: String::new(),
        };
        meta.hash = meta.hash(&snapshot.state).map_err(|error| error.to_string())?;
        let meta = serde_json::to_string(&meta).map_err(|error| error.to_string())?;
        // Only one key: several keys would be in a different order each time.
        let meta = Some([(META.to_owned(), meta)].into_iter().collect());
        safetensors::serialize(views, meta).map_err(|error| error.to_string())
    }

    fn read(&self, path: &Path, bytes: &[u8]) -> Result<Snapshot, Unread> {
        let damaged = |error: &dyn std::fmt::Display| Unread::Damaged(error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
        let json = header.metadata().as_ref().and_then(|meta| meta.get(META));
        let json = json.ok_or_else(|| damaged(&"it is no checkpoint of a training"))?;
        let meta: Meta = serde_json::from_str(json).map_err(|e| damaged(&e))?;
        if meta.format != FORMAT {
            return Err(damaged(&format!("its format is {}, and {FORMAT} is read", meta.format)));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
        let mut state = IndexMap::new();
        for (name, view) in tensors.iter() {
            let dtype = loaded(view.dtype()).ok_or_else(|| damaged(&"a dtype that is not ours"))?;
            let bytes = bytes::Bytes::copy_from_slice(view.data());
            let tensor = Tensor::new(dtype, view.shape().to_vec(), bytes);
            state.insert(name.to_owned(), tensor.map_err(|e| damaged(&e))?);
        }
        if meta.hash(&state).map_err(|e| damaged(&e))? != meta.hash {
            return Err(damaged(&"it does not hold what was written"));
        }
        let differs = differing(&meta.settings, &self.settings);
        if !differs.is_empty() {
            return Err(Unread::Other(TrainError::OtherTraining { path: path.into(), differs }));
        }
        Ok(Snapshot { steps: meta.steps, validations: meta.validations, state })
    }
}

/// A state as the file stores it.
fn view<'a>(name: &'a String, tensor: &'a Tensor) -> Result<(&'a String, TensorView<'a>), String> {
    let dtype = stored(tensor.dtype()).ok_or_else(|| format!("{name}: {}", tensor.dtype()))?;
    let view = TensorView::new(dtype, tensor.dims().to_vec(), tensor.bytes());
    view.map(|view| (name, view)).map_err(|error| error.to_string())
}

/// The reason why a checkpoint cannot be read.
enum Unread {
    Damaged(String),
    Other(TrainError),
}

/// Describes the settings that differ.
fn differing(then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = then.keys().chain(now.keys()).collect();
    let of =
        |all: &BTreeMap<String, String>, name| all.get(name).map_or("nothing", |v| v).to_owned();
    let differs = names.into_iter().filter(|name| then.get(*name) != now.get(*name));
    differs.map(|name| format!("{name} was {}, is {}", of(then, name), of(now, name))).collect()
}

fn stored(dtype: DataType) -> Option<Dtype> {
    Some(match dtype {
        DataType::Float => Dtype::F32,
        DataType::Double => Dtype::F64,
        DataType::Float16 => Dtype::F16,
        DataType::Bfloat16 => Dtype::BF16,
        DataType::Uint8 => Dtype::U8,
        DataType::Int8 => Dtype::I8,
        DataType::Uint16 => Dtype::U16,
        DataType::Int16 => Dtype::I16,
        DataType::Uint32 => Dtype::U32,
        DataType::Int32 => Dtype::I32,
        DataType::Uint64 => Dtype::U64,
        DataType::Int64 => Dtype::I64,
        _ => return None,
    })
}

fn loaded(dtype: Dtype) -> Option<DataType> {
    Some(match dtype {
        Dtype::F32 => DataType::Float,
        Dtype::F64 => DataType::Double,
        Dtype::F16 => DataType::Float16,
        Dtype::BF16 => DataType::Bfloat16,
        Dtype::U8 => DataType::Uint8,
        Dtype::I8 => DataType::Int8,
        Dtype::U16 => DataType::Uint16,
        Dtype::I16 => DataType::Int16,
        Dtype::U32 => DataType::Uint32,
        Dtype::I32 => DataType::Int32,
        Dtype::U64 => DataType::Uint64,
        Dtype::I64 => DataType::Int64,
        _ => return None,
    })
}

pub(super) fn failed(path: &Path, error: &dyn std::fmt::Display) -> TrainerError {
    TrainerError::Work { folder: path.display().to_string(), detail: error.to_string() }
}
