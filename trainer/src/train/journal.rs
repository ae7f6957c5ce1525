//! The progress of a training in two files: `steps.csv` has one row per step, `journal.jsonl` has steps and
//! validations.
//!
//! Both files hold only values that are the same in every run of the same settings. A training that resumes first drops
//! the rows of steps that it will repeat. There are no `TensorBoard` files: the crates for it depend on outdated crates
//! (`tensorboard-rs` 0.5.9 on `protobuf` 2 and `image` 0.23, `tfrecord` 0.15 on `prost` 0.12), and any plotting tool
//! loads the CSV.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::state::{Validation, failed};
use crate::error::TrainerError;
use crate::files;

/// First line of the CSV.
const HEADER: &str = "step,epoch,lambda,shrink,learning_rate,loss,accuracy,gradient_norm";

/// One completed step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Index of the step; the first is 0.
    pub step: u64,
    /// Epochs completed before it, with the fraction.
    pub epoch: f64,
    /// λ of pruned blocks.
    pub lambda: f64,
    /// s of shrinking kernels.
    pub shrink: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Loss before the update.
    pub loss: f64,
    /// Share of the step's images whose top class equals the class of their targets; `None` when the step does not
    /// report it.
    pub accuracy: Option<f64>,
    /// ‖∇‖₂ over all parameters; `None` when the step does not report it.
    pub gradient_norm: Option<f64>,
}

/// A line of the JSON file.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line<'a> {
    Step(&'a Row),
    Validation(&'a Validation),
}

/// The two files, open for appending.
#[derive(Debug)]
pub(super) struct Journal {
    csv: Open,
    json: Open,
}

/// A file with its path, for messages.
type Open = (PathBuf, BufWriter<File>);

impl Journal {
    /// Opens the files of a training that has completed `steps` steps. It drops the rows of later steps.
    ///
    /// # Errors
    /// T0006.
    pub(super) fn open(folder: &Path, steps: u64) -> Result<Self, TrainerError> {
        let of_csv = |line: &str| line.split(',').next()?.parse::<u64>().ok();
        let is_kept = |line: &str| of_csv(line).is_some_and(|step| step < steps);
        let csv = reopen(&folder.join("steps.csv"), Some(HEADER), is_kept)?;
        let is_kept = |line: &str| {
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { return false };
            let number = |key| line.get(key).and_then(serde_json::Value::as_u64);
            number("step").is_some_and(|step| step < steps)
                || number("steps").is_some_and(|done| done <= steps)
        };
        let json = reopen(&folder.join("journal.jsonl"), None, is_kept)?;
        Ok(Self { csv, json })
    }

    /// Appends a step.
    ///
    /// # Errors
    /// T0006.
    pub(super) fn step(&mut self, row: &Row) -> Result<(), TrainerError> {
        let text = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let Row { step, epoch, lambda, shrink, learning_rate, loss, accuracy, gradient_norm } = row;
        let (accuracy, norm) = (text(*accuracy), text(*gradient_norm));
        let (path, file) = &mut self.csv;
        writeln!(file, "{step},{epoch},{lambda},{shrink},{learning_rate},{loss},{accuracy},{norm}")
            .map_err(|error| failed(path, &error))?;
        self.line(&Line::Step(row))
    }

    /// Appends a validation.
    ///
    /// # Errors
    /// T0006.
    pub(super) fn validation(&mut self, validation: &Validation) -> Result<(), TrainerError> {
        self.line(&Line::Validation(validation))
    }

    fn line(&mut self, line: &Line<'_>) -> Result<(), TrainerError> {
        let (path, file) = &mut self.json;
        let text = serde_json::to_string(line).map_err(|error| failed(path, &error))?;
        writeln!(file, "{text}").map_err(|error| failed(path, &error))
    }

    /// Flushes everything to the disk.
    ///
    /// # Errors
    /// T0006.
    pub(super) fn flush(&mut self) -> Result<(), TrainerError> {
        for (path, file) in [&mut self.csv, &mut self.json] {
            let on_disk = file.flush().and_then(|()| file.get_ref().sync_data());
            on_disk.map_err(|error| failed(path, &error))?;
        }
        Ok(())
    }
}

/// Keeps the lines that are complete and wanted, then opens the file for appending.
fn reopen(
    path: &Path,
    header: Option<&str>,
    is_kept: impl Fn(&str) -> bool,
) -> Result<Open, TrainerError> {
    let old = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(path, &error)),
    };
    let whole = old.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let mut new = header.map_or_else(String::new, |header| format!("{header}\n"));
    new.extend(whole.filter(|line| is_kept(line.trim_end())));
    let error = |error: std::io::Error| failed(path, &error);
    if new != old {
        files::replace_own(path, new.as_bytes()).map_err(error)?;
    }
    let file = OpenOptions::new().append(true).create(true).open(path).map_err(error)?;
    Ok((path.to_owned(), BufWriter::new(file)))
}
