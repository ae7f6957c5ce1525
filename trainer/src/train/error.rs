//! Errors of training, with stable `T04` codes.

use std::fmt;
use std::path::PathBuf;

/// The result of one operator in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// Name of the tensor.
    pub name: String,
    /// The operator that computes it.
    pub op: String,
    /// The largest magnitude of its finite elements.
    pub magnitude: f64,
}

/// The activations of a step that diverged.
#[derive(Clone, Debug, PartialEq)]
pub struct Activations {
    /// The largest magnitude of all finite elements.
    pub largest: Activation,
    /// The first tensor, in the order of computation, with elements that are not finite.
    pub spoilt: Option<Activation>,
}

impl fmt::Display for Activations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Activation { name, op, magnitude } = &self.largest;
        write!(f, "largest activation {magnitude:.3e} in {name:?} ({op})")?;
        let Some(Activation { name, op, .. }) = &self.spoilt else { return Ok(()) };
        write!(f, ", the first not finite in {name:?} ({op})")
    }
}

/// A training that cannot start, continue or resume.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum TrainError {
    #[error("{setting} is {found}, and has to be {expected}")]
    Setting { setting: &'static str, found: String, expected: &'static str },
    #[error("the training step {detail}")]
    Step { detail: String },
    #[error(
        "training diverged at step {step} (loss {loss}, λ {lambda}, learning rate {learning_rate}, gradient norm \
         {gradient_norm}{}); not finite: {}; last good state: {}",
        .activations.as_ref().map_or_else(String::new, |found| format!(", {found}")),
        if .states.is_empty() { "no state".to_owned() } else { .states.join(", ") },
        .checkpoint.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string())
    )]
    Diverged {
        step: u64,
        loss: f64,
        lambda: f64,
        learning_rate: f64,
        gradient_norm: f64,
        activations: Option<Box<Activations>>,
        states: Vec<String>,
        checkpoint: Option<PathBuf>,
    },
    #[error("{path:?} is of another training: {}", .differs.join("; "))]
    OtherTraining { path: PathBuf, differs: Vec<String> },
    #[error("there are {found} images to train with, and a step takes {needed}")]
    TooFewImages { found: usize, needed: usize },
    #[error("an image is of class {label}, and the model has {classes} classes")]
    LabelBeyond { label: usize, classes: usize },
    #[error("the data are floats, and {augmentation} needs pixels")]
    NotPixels { augmentation: &'static str },
}

impl TrainError {
    /// Every code of this module; docs/errors.md gives the cause and the cure.
    pub const CODES: &[&str] = &["T0401", "T0402", "T0403", "T0404", "T0406", "T0407", "T0408"];

    /// The stable code shown to users.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Setting { .. } => "T0401",
            Self::Step { .. } => "T0402",
            Self::Diverged { .. } => "T0403",
            Self::OtherTraining { .. } => "T0404",
            Self::TooFewImages { .. } => "T0406",
            Self::LabelBeyond { .. } => "T0407",
            Self::NotPixels { .. } => "T0408",
        }
    }

    /// What the user can do about it; `None` when the message already says it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Setting { .. } | Self::Step { .. } => return None,
            Self::Diverged { .. } => {
                "lower the learning rate, warm up for longer, or clip the gradient".into()
            }
            Self::OtherTraining { .. } => {
                "go on with the settings it was started with, or name another folder with --work"
                    .into()
            }
            Self::TooFewImages { .. } => "give more images, or a smaller batch".into(),
            Self::LabelBeyond { .. } => "give the data that the model was trained for".into(),
            Self::NotPixels { .. } => "give images instead of arrays of floats".into(),
        })
    }
}
