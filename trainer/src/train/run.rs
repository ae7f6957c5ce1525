//! The training loop: it gives batches to the step, writes results to the journal and saves states as checkpoints.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use indexmap::IndexMap;
use updp_autodiff::StepNames;
use updp_exec::StepSession;
use updp_ir::Tensor;
use updp_passes::surgery::{LAMBDA_INPUT, SHRINK_INPUT};

use super::error::{Activations, TrainError};
use super::journal::{Journal, Row};
use super::loader::{Loader, Stream};
use super::schedule::{Point, Schedule};
use super::state::{Checkpoints, Snapshot, Validation};
use crate::error::TrainerError;

/// Options of a training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainOptions {
    /// Folder of the checkpoints and the journal. A training resumes from it; `None` keeps nothing.
    pub folder: Option<PathBuf>,
    /// Steps between checkpoints; 0 = at the end only.
    pub checkpoint_every: u64,
    /// A training resumes only if these entries are the same, in addition to the settings of schedule and loader: the
    /// hash of the step model, the fingerprint of the data, the number of threads.
    pub fingerprint: BTreeMap<String, String>,
    /// Input of the step model that takes the images.
    pub images: String,
    /// Inputs and outputs of the step model that the loop gives and reads.
    pub names: StepNames,
    /// Factor of λ for each block, 0 to 1; empty for a step without λ.
    pub pruned: Vec<f32>,
    /// Batches whose gradients make one update, at least 1. Above 1 the step has the inputs [`StepNames::apply`] and
    /// [`StepNames::share`].
    pub accumulate: u64,
    /// Whether the step scales its loss and skips updates whose gradients are not finite.
    pub scales_loss: bool,
}

/// Largest number of consecutive updates that a step with a scaled loss may skip. Its scale reaches 1 long before.
const MOST_LEFT_OUT: u32 = 40;

/// The progress of a training after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Completed steps.
    pub done: u64,
    /// Total number of steps.
    pub steps: u64,
    /// The numbers of the step.
    pub row: Row,
    /// Images per second since the training started or resumed.
    pub images_per_second: f64,
    /// Seconds left at this rate, including validation as far as its time is known.
    pub seconds_left: f64,
}

/// Calls from the training loop to its caller. Every method has a default that does nothing.
pub trait Hooks {
    /// After each step.
    fn progress(&mut self, _progress: &Progress) {}

    /// Reports an event, such as a damaged checkpoint that the training skips.
    fn notice(&mut self, _text: &str) {}

    /// Called after each step; `true` saves and ends the training.
    fn is_stopped(&mut self) -> bool {
        false
    }

    /// Inputs of the step that add to the loop's own or replace them: outputs of a teacher, another λ for each of the
    /// accumulated batches. They must depend only on the arguments, or a resumed training does not continue as it was.
    ///
    /// # Errors
    /// An error ends the training.
    fn inputs(
        &mut self,
        _images: &Tensor,
        _point: &Point,
        _batch: u64,
    ) -> Result<IndexMap<String, Tensor>, TrainerError> {
        Ok(IndexMap::new())
    }

    /// Called after each epoch, with the states by name. Returns how good they are, higher is better; `None` = not
    /// checked.
    ///
    /// # Errors
    /// An error ends the training.
    fn validate(
        &mut self,
        _state: &IndexMap<String, Tensor>,
        _epoch: u64,
    ) -> Result<Option<f64>, TrainerError> {
        Ok(None)
    }

    /// Called when a training diverges, for its diagnosis. Returns the activations that follow from the inputs of the
    /// last run of the step and the state it read, by name; `None` = not checked.
    fn activations(&mut self, _given: &IndexMap<String, Tensor>) -> Option<Activations> {
        None
    }
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps are complete.
    Finished,
    /// [`Hooks::is_stopped`] returned `true`; the state is saved.
    Stopped,
}

/// A training that ended without error.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Why it ended.
    pub end: End,
    /// The states, the validations and the number of steps.
    pub snapshot: Snapshot,
}

/// Trains from the newest checkpoint in the folder, or from the session's own state, to the end of the schedule.
///
/// The loop gives the step every input of [`TrainOptions::names`] that the step has, the images, [`LAMBDA_INPUT`]
/// `[blocks]` and [`SHRINK_INPUT`]; all are f32. Batch `b` of step `s` is batch `s·accumulate + b` of the loader.
///
/// A training that was killed and restarted ends with the same bits as one that was not. This holds on the processor
/// with the same number of threads.
///
/// # Errors
/// T0401 for settings out of range, T0402 when the step model does not suit this loop, T0403 when the loss, the
/// gradient or a state to keep is not finite, T0404 for checkpoints of another training,
/// T0006 when the folder cannot be used, and the errors of the session, the loader and the hooks.
pub fn train(
    session: &mut StepSession,
    loader: &Loader,
    schedule: &Schedule,
    options: &TrainOptions,
    hooks: &mut dyn Hooks,
) -> Result<Trained, TrainerError> {
    check(session, schedule, options)?;
    let checkpoints = options
        .folder
        .as_ref()
        .map(|folder| Checkpoints::open(folder, fingerprint(loader, schedule, options)));
    let checkpoints = checkpoints.transpose()?;
    let (mut done, mut validations, mut last_good) = (0, Vec::new(), None);
    if let Some(checkpoints) = &checkpoints {
        let found = checkpoints.latest()?;
        if !found.damaged.is_empty() {
            let damaged = found.damaged.join("; ");
            hooks.notice(&format!("damaged, and trained again from before: {damaged}"));
        }
        if let Some((snapshot, path)) = found.newest {
            session.set_state(&snapshot.state)?;
            done = snapshot.steps;
            validations = snapshot.validations;
            last_good = Some(path);
        }
    }
    let journal = options.folder.as_ref().map(|folder| Journal::open(folder, done));
    Run {
        stream: loader.stream(done * options.accumulate)?,
        batch: loader.settings().batch,
        started: (Instant::now(), done),
        journal: journal.transpose()?,
        session,
        schedule,
        options,
        checkpoints,
        done,
        validations,
        last_good,
        left_out: 0,
        given: IndexMap::new(),
    }
    .finish(hooks)
}

/// A running training.
struct Run<'a> {
    session: &'a mut StepSession,
    schedule: &'a Schedule,
    options: &'a TrainOptions,
    stream: Stream,
    /// Images per batch.
    batch: usize,
    checkpoints: Option<Checkpoints>,
    journal: Option<Journal>,
    /// When, and after how many steps.
    started: (Instant, u64),
    done: u64,
    validations: Vec<Validation>,
    last_good: Option<PathBuf>,
    /// Number of consecutive skipped updates.
    left_out: u32,
    /// Inputs of the last run of the step.
    given: IndexMap<String, Tensor>,
}

impl Run<'_> {
    fn finish(mut self, hooks: &mut dyn Hooks) -> Result<Trained, TrainerError> {
        let steps = self.schedule.steps();
        while self.done < steps {
            let row = self.step(hooks)?;
            self.done += 1;
            if let Some(journal) = &mut self.journal {
                journal.step(&row)?;
            }
            self.validate(hooks)?;
            hooks.progress(&self.progress(row));
            let is_stopped = hooks.is_stopped() && self.done < steps;
            let every = self.options.checkpoint_every;
            if is_stopped || self.done == steps || self.done.is_multiple_of(every) {
                self.save(&row, hooks)?;
            }
            if is_stopped {
                return self.end(End::Stopped);
            }
        }
        self.end(End::Finished)
    }

    /// Makes one update from one batch or several.
    fn step(&mut self, hooks: &mut dyn Hooks) -> Result<Row, TrainerError> {
        let point = self.schedule.at(self.done);
        let batches = self.options.accumulate;
        let (mut loss, mut correct, mut norm) = (0.0, None, None);
        for batch in 0..batches {
            let results = self.run(&point, batch, hooks)?;
            let names = &self.options.names;
            let number = |name: &String| results.get(name).and_then(Tensor::scalar_f64);
            let missing = || TrainError::Step { detail: "gives no loss".to_owned() };
            loss += number(&names.loss).ok_or_else(missing)? / batches as f64;
            let more = names.correct.as_ref().and_then(number);
            correct = more.map(|more| correct.unwrap_or(0.0) + more);
            norm = number(&names.gradient_norm);
        }
        let is_finite = loss.is_finite() && norm.is_none_or(f64::is_finite);
        let is_left_out = !is_finite && self.options.scales_loss;
        self.left_out = if is_left_out { self.left_out + 1 } else { 0 };
        if !is_finite && (!is_left_out || self.left_out > MOST_LEFT_OUT) {
            let state = self.session.state()?;
            return Err(self.diverged(&self.row(&point, loss, None, norm), &state, hooks)?);
        }
        let images = self.batch as u64 * batches;
        let accuracy = correct.map(|correct| correct / images as f64);
        Ok(self.row(&point, loss, accuracy, norm))
    }

    fn row(
        &self,
        point: &Point,
        loss: f64,
        accuracy: Option<f64>,
        gradient_norm: Option<f64>,
    ) -> Row {
        Row {
            step: self.done,
            epoch: point.epoch,
            lambda: point.lambda,
            shrink: point.shrink,
            learning_rate: point.learning_rate,
            loss,
            accuracy,
            gradient_norm,
        }
    }

    /// Runs the step model once.
    fn run(
        &mut self,
        point: &Point,
        batch: u64,
        hooks: &mut dyn Hooks,
    ) -> Result<IndexMap<String, Tensor>, TrainerError> {
        let ended = || TrainError::Step { detail: "is given no more batches".to_owned() };
        let loaded = self.stream.next().ok_or_else(ended)??;
        let batches = self.options.accumulate;
        let number = |value: f64| Tensor::from_f32(Vec::new(), &[value as f32]);
        let lambda: Vec<f32> =
            self.options.pruned.iter().map(|share| share * point.lambda as f32).collect();
        let names = &self.options.names;
        let mut inputs = IndexMap::from([
            (LAMBDA_INPUT.to_owned(), Tensor::from_f32(vec![lambda.len()], &lambda)?),
            (SHRINK_INPUT.to_owned(), number(point.shrink)?),
            (names.learning_rate.clone(), number(point.learning_rate)?),
        ]);
        let optional = [
            (&names.targets, loaded.targets),
            (&names.step, number((self.done + 1) as f64)?),
            (&names.apply, number(f64::from(batch + 1 == batches))?),
            (&names.share, number(1.0 / batches as f64)?),
        ];
        inputs
            .extend(optional.into_iter().filter_map(|(name, value)| Some((name.clone()?, value))));
        inputs.extend(hooks.inputs(&loaded.images, point, batch)?);
        inputs.insert(self.options.images.clone(), loaded.images);
        let wanted = self.session.input_names();
        let given: Vec<(&str, &Tensor)> = inputs
            .iter()
            .filter(|(name, _)| wanted.contains(&name.as_str()))
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        let results = self.session.step(&given)?;
        self.given = inputs;
        Ok(results)
    }

    /// Runs at the end of an epoch.
    fn validate(&mut self, hooks: &mut dyn Hooks) -> Result<(), TrainerError> {
        let per_epoch = self.schedule.steps_per_epoch as u64;
        if !self.done.is_multiple_of(per_epoch) {
            return Ok(());
        }
        let epoch = self.done / per_epoch;
        if let Some(score) = hooks.validate(&self.session.state()?, epoch)? {
            let validation = Validation { steps: self.done, epoch, score };
            self.validations.push(validation);
            if let Some(journal) = &mut self.journal {
                journal.validation(&validation)?;
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot, TrainerError> {
        let state = self.session.state()?;
        Ok(Snapshot { steps: self.done, validations: self.validations.clone(), state })
    }

    /// Writes a checkpoint, unless the last step has spoilt the state. The journal is written first, so a checkpoint
    /// never contains steps that the journal lacks.
    fn save(&mut self, row: &Row, hooks: &mut dyn Hooks) -> Result<(), TrainerError> {
        if let Some(journal) = &mut self.journal {
            journal.flush()?;
        }
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        let snapshot = self.snapshot()?;
        if snapshot.state.values().any(is_spoilt) {
            return Err(self.diverged(row, &snapshot.state, hooks)?);
        }
        self.last_good = Some(checkpoints.save(&snapshot)?);
        Ok(())
    }

    fn end(self, end: End) -> Result<Trained, TrainerError> {
        Ok(Trained { end, snapshot: self.snapshot()? })
    }

    fn progress(&self, row: Row) -> Progress {
        let (at, from) = self.started;
        let (seconds, steps) = (at.elapsed().as_secs_f64().max(1e-9), self.schedule.steps());
        let pace = (self.done - from) as f64 / seconds;
        let images = self.batch as f64 * self.options.accumulate as f64;
        Progress {
            done: self.done,
            steps,
            row,
            images_per_second: pace * images,
            seconds_left: (steps - self.done) as f64 / pace,
        }
    }

    fn diverged(
        &self,
        row: &Row,
        state: &IndexMap<String, Tensor>,
        hooks: &mut dyn Hooks,
    ) -> Result<TrainerError, TrainerError> {
        let spoilt = state.iter().filter(|(_, tensor)| is_spoilt(tensor));
        let mut given = self.session.previous_state()?;
        given.extend(self.given.clone());
        let found = TrainError::Diverged {
            step: row.step,
            loss: row.loss,
            lambda: row.lambda,
            learning_rate: row.learning_rate,
            gradient_norm: row.gradient_norm.unwrap_or(f64::NAN),
            activations: hooks.activations(&given).map(Box::new),
            states: spoilt.map(|(name, _)| name.clone()).collect(),
            checkpoint: self.last_good.clone(),
        };
        Ok(found.into())
    }
}

/// Whether a tensor holds NaN or infinity.
fn is_spoilt(tensor: &Tensor) -> bool {
    tensor.to_f64().is_some_and(|values| values.iter().any(|value| !value.is_finite()))
}

/// Rejects a training that cannot work, before the first step.
fn check(
    session: &StepSession,
    schedule: &Schedule,
    options: &TrainOptions,
) -> Result<(), TrainerError> {
    schedule.check()?;
    if options.accumulate == 0 {
        let (setting, expected) = ("the number of accumulated batches", "1 or more");
        return Err(TrainError::Setting { setting, found: "0".to_owned(), expected }.into());
    }
    if let Some(share) = options.pruned.iter().find(|share| !(0.0..=1.0).contains(*share)) {
        let (setting, expected) = ("the share of λ of a block", "0 to 1");
        return Err(TrainError::Setting { setting, found: share.to_string(), expected }.into());
    }
    let inputs = session.input_names();
    let has = |name: &str| inputs.contains(&name);
    let lacks = |name: &str| TrainError::Step { detail: format!("has no input {name:?}") };
    let names = &options.names;
    let mut needed = vec![options.images.as_str(), names.learning_rate.as_str()];
    if !options.pruned.is_empty() {
        needed.push(LAMBDA_INPUT);
    }
    if options.accumulate > 1 {
        let (Some(apply), Some(share)) = (&names.apply, &names.share) else {
            let detail = "has no inputs for the accumulation of batches".to_owned();
            return Err(TrainError::Step { detail }.into());
        };
        needed.extend([apply.as_str(), share.as_str()]);
    }
    if let Some(name) = needed.into_iter().find(|name| !has(name)) {
        return Err(lacks(name).into());
    }
    if !session.output_names().contains(&names.loss.as_str()) {
        return Err(TrainError::Step { detail: "gives no loss".to_owned() }.into());
    }
    Ok(())
}

/// The settings that must be the same for a training to resume, by name.
fn fingerprint(
    loader: &Loader,
    schedule: &Schedule,
    options: &TrainOptions,
) -> BTreeMap<String, String> {
    let settings = loader.settings();
    let own = [
        ("accumulated batches", options.accumulate.to_string()),
        ("augmentation", format!("{:?}", settings.augment)),
        ("batch", settings.batch.to_string()),
        ("class weights", format!("{:?}", settings.weights)),
        ("classes", settings.classes.to_string()),
        ("label smoothing", settings.smoothing.to_string()),
        ("pruned", format!("{:?}", options.pruned)),
        ("schedule", format!("{schedule:?}")),
        ("seed", settings.seed.to_string()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    options.fingerprint.clone().into_iter().chain(own).collect()
}
