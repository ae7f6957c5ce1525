//! Inputs and outputs as files, in the layout of the ONNX backend tests, for test runners of other runtimes.
//!
//! The files are `DIR/model.onnx` (with its data file), `DIR/test_data_set_N/input_K.pb` and `output_K.pb`. They are
//! numbered in the order of the graph. The outputs come from the reference, so a runner that agrees with them agrees
//! with the outputs that the verification compared.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use updp_ir::Graph;

use crate::error::CliError;
use crate::interrupt;
use crate::model_file::ModelFile;
use crate::write::{self, StagingFolder};
use updp_trainer::files::{self, folder_of};
use updp_verify::Run;

/// Lists the files that this program wrote into a folder, so that it never replaces anything else. The list is a hidden
/// file, not a folder: runners treat every visible folder as a data set.
const MARKER: &str = ".updp-test-vectors";
const MODEL: &str = "model.onnx";

/// Test vectors that do not have their final name yet; if they are dropped, they leave no trace.
#[derive(Debug)]
pub struct StagedVectors {
    folder: StagingFolder,
    target: PathBuf,
}

fn failed(path: &Path, detail: &dyn Display) -> CliError {
    CliError::Write { path: path.to_owned(), detail: detail.to_string() }
}

impl StagedVectors {
    /// Writes one set for each run beside `folder`, with a copy of `model`.
    ///
    /// # Errors
    /// C0003, also if the folder holds something that no run of this program wrote.
    pub fn new(folder: &Path, model: &ModelFile, runs: &[Run]) -> Result<Self, CliError> {
        refuse_foreign(folder)?;
        let io = |error: io::Error| failed(folder, &error);
        let (staging, target) = StagingFolder::beside(folder).map_err(io)?;
        fill(&staging.place("vectors"), model, runs).map_err(io)?;
        Ok(Self { folder: staging, target })
    }

    /// Gives the folder its name, and replaces vectors that were written there before.
    ///
    /// # Errors
    /// C0003; the previous contents are then still there.
    pub fn commit(self) -> Result<(), CliError> {
        // The target folder is checked again, because time has passed.
        refuse_foreign(&self.target)?;
        let old = self.folder.place("old");
        let placed = interrupt::uninterrupted(|| {
            if self.target.exists() {
                fs::rename(&self.target, &old)?;
            }
            fs::rename(self.folder.place("vectors"), &self.target).inspect_err(|_| {
                // Otherwise it is removed with the staging folder.
                let _ = fs::rename(&old, &self.target);
            })?;
            files::sync_folder(folder_of(&self.target))
        });
        placed.map_err(|error| failed(&self.target, &error))?;
        Ok(())
    }
}

/// Refuses a folder that holds one of these files: replacing the folder would remove them.
///
/// # Errors
/// C0003.
pub fn refuse_around(folder: &Path, files: &[&Path]) -> Result<(), CliError> {
    let Ok(real) = folder.canonicalize() else { return Ok(()) };
    for file in files {
        if folder_of(file).canonicalize().is_ok_and(|parent| parent.starts_with(&real)) {
            return Err(failed(folder, &format!("{} lies in it", file.display())));
        }
    }
    Ok(())
}

fn fill(folder: &Path, model: &ModelFile, runs: &[Run]) -> io::Result<()> {
    fs::create_dir(folder)?;
    let mut names = vec![MODEL.to_owned()];
    write::synced(&folder.join(MODEL), &model.source.bytes)?;
    for file in &model.source.data_files {
        let name = file.file_name().unwrap_or_default();
        fs::copy(file, folder.join(name))?;
        fs::File::open(folder.join(name))?.sync_all()?;
        names.push(name.to_string_lossy().into_owned());
    }
    let graph = &model.model.graph;
    for (number, run) in runs.iter().enumerate() {
        let name = format!("test_data_set_{number}");
        fill_set(&folder.join(&name), graph, run)?;
        names.push(name);
    }
    write::synced(&folder.join(MARKER), (names.join("\n") + "\n").as_bytes())?;
    files::sync_folder(folder)
}

/// One set; runners number inputs and outputs in the order of the graph.
fn fill_set(set: &Path, graph: &Graph, (inputs, outputs): &Run) -> io::Result<()> {
    fs::create_dir(set)?;
    let given = graph.required_inputs().map(|id| graph.value(id).name());
    for (at, name) in given.enumerate() {
        if let Some(tensor) = inputs.get(name) {
            write::synced(&set.join(format!("input_{at}.pb")), &tensor.to_message(name))?;
        }
    }
    for (at, name) in graph.outputs().map(|id| graph.value(id).name()).enumerate() {
        if let Some(tensor) = outputs.get(name) {
            write::synced(&set.join(format!("output_{at}.pb")), &tensor.to_message(name))?;
        }
    }
    files::sync_folder(set)
}

/// Accepts a folder that is empty or that holds only files that this program wrote. Refuses any other folder.
///
/// # Errors
/// C0003.
pub fn refuse_foreign(folder: &Path) -> Result<(), CliError> {
    match foreign_entry(folder) {
        Ok(None) => Ok(()),
        Ok(Some(name)) => Err(failed(
            folder,
            &format!(
                "the folder holds {name:?}, which --test-vectors did not write; give a new or empty folder"
            ),
        )),
        Err(error) => Err(failed(folder, &error)),
    }
}

/// The first entry of a folder, by name, that this program did not write.
fn foreign_entry(folder: &Path) -> io::Result<Option<String>> {
    if !folder.exists() {
        return Ok(None);
    }
    let marker = fs::read_to_string(folder.join(MARKER)).unwrap_or_default();
    let ours: BTreeSet<&str> = marker.lines().collect();
    for name in entries(folder)? {
        if name == MARKER {
            continue;
        }
        if !ours.contains(name.as_str()) {
            return Ok(Some(name));
        }
        let path = folder.join(&name);
        if path.is_dir() {
            let added = entries(&path)?.into_iter().find(|file| !is_tensor_file(file));
            if let Some(file) = added {
                return Ok(Some(format!("{name}/{file}")));
            }
        }
    }
    Ok(None)
}

fn entries(folder: &Path) -> io::Result<BTreeSet<String>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// `input_K.pb` or `output_K.pb`.
fn is_tensor_file(name: &str) -> bool {
    let stem = name.strip_suffix(".pb").unwrap_or_default();
    let number = stem.strip_prefix("input_").or_else(|| stem.strip_prefix("output_"));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}
