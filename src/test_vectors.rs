//! Inputs and outputs as files, in the layout of the ONNX backend tests, for runners of other runtimes.
//!
//! `DIR/model.onnx`, `DIR/test_data_set_N/input_K.pb` and `output_K.pb`. Outputs are those of the reference, so a
//! runner that agrees with them agrees with what verification compared.

use std::fs;
use std::path::Path;

use crate::error::CliError;
use crate::interrupt;
use crate::model_file::folder_of;
use crate::verify::Run;

/// Writes one set a run, whole or not at all; a folder written before is replaced.
///
/// # Errors
/// C0003, also when the folder holds something else.
pub fn write(folder: &Path, model: Option<&[u8]>, runs: &[Run]) -> Result<(), CliError> {
    let failed = |detail: String| CliError::Write { path: folder.to_owned(), detail };
    let io = |error: std::io::Error| failed(error.to_string());
    if let Some(foreign) = foreign_entry(folder).map_err(io)? {
        return Err(failed(format!("the folder holds {foreign:?}, which is no test vector")));
    }
    let staged =
        tempfile::Builder::new().prefix(".updp-").tempdir_in(folder_of(folder)).map_err(io)?;
    interrupt::register(staged.path());
    let filled = fill(&staged.path().join("vectors"), model, runs);
    let placed = filled.and_then(|()| {
        interrupt::uninterrupted(|| {
            if folder.exists() {
                fs::rename(folder, staged.path().join("old"))?;
            }
            fs::rename(staged.path().join("vectors"), folder)
        })
    });
    let path = staged.path().to_owned();
    drop(staged);
    interrupt::release(&path);
    placed.map_err(io)
}

fn fill(folder: &Path, model: Option<&[u8]>, runs: &[Run]) -> std::io::Result<()> {
    fs::create_dir(folder)?;
    if let Some(bytes) = model {
        fs::write(folder.join("model.onnx"), bytes)?;
    }
    for (number, (inputs, outputs)) in runs.iter().enumerate() {
        let set = folder.join(format!("test_data_set_{number}"));
        fs::create_dir(&set)?;
        for (kind, tensors) in [("input", inputs), ("output", outputs)] {
            for (at, (name, tensor)) in tensors.iter().enumerate() {
                fs::write(set.join(format!("{kind}_{at}.pb")), tensor.to_message(name))?;
            }
        }
    }
    Ok(())
}

/// The first thing in a folder that is no test vector.
fn foreign_entry(folder: &Path) -> std::io::Result<Option<String>> {
    if !folder.exists() {
        return Ok(None);
    }
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "model.onnx" && !name.starts_with("test_data_set_") {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
