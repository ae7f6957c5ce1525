//! Errors of pruning.

use std::path::PathBuf;

use updp_exec::ExecError;
use updp_ir::IrError;
use updp_passes::PassError;
use updp_trainer::data::DataError;
use updp_trainer::error::TrainerError;

/// An error that ends a pruning run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum PruneError {
    #[error("cannot write {path:?}: {detail}")]
    Write { path: PathBuf, detail: String },
    #[error("there is no block {index}: the model has {count}")]
    NoSuchBlock { index: usize, count: usize },
    #[error("nothing to prune: {detail}")]
    NothingToPrune { detail: String },
    #[error("the latency table {path:?} cannot be used: {detail}")]
    LatencyTable { path: PathBuf, detail: String },
    #[error(
        "no statistics for {name:?}: the data are too few for the batch, or a value is not finite"
    )]
    Calibration { name: String },
    #[error("there is no front to pick from in {work:?}: {detail}")]
    NoFront { work: PathBuf, detail: String },
    #[error("there is no network {number}: the front has {count}")]
    NoSuchNetwork { number: usize, count: usize },
    #[error("the work folder {work:?} is in use: {holder} is in it")]
    WorkInUse { work: PathBuf, holder: String },
    #[error("a network cannot be scored: {detail}")]
    Score { detail: String },
    #[error("interrupted; what was trained is kept")]
    Interrupted,
    #[error("the result cannot be verified: an input has no known shape")]
    InputShape,
    #[error(transparent)]
    Ir(#[from] IrError),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Trainer(TrainerError),
}

/// Result of a stage.
pub type Result<T> = std::result::Result<T, PruneError>;

impl From<TrainerError> for PruneError {
    fn from(error: TrainerError) -> Self {
        match error {
            TrainerError::Ir(error) => Self::Ir(error),
            TrainerError::Pass(error) => Self::Pass(error),
            TrainerError::Exec(error) => Self::Exec(error),
            other => Self::Trainer(other),
        }
    }
}

impl From<DataError> for PruneError {
    fn from(error: DataError) -> Self {
        Self::Trainer(error.into())
    }
}

impl PruneError {
    /// None of the requested blocks can be pruned.
    pub(crate) fn nothing(detail: impl Into<String>) -> Self {
        Self::NothingToPrune { detail: detail.into() }
    }

    /// The stable code that users see. docs/errors.md lists its cause and remedy.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Write { .. } => "C0003",
            Self::InputShape => "C0009",
            Self::Interrupted => "C0011",
            Self::NoSuchBlock { .. } => "C0013",
            Self::NothingToPrune { .. } => "C0014",
            Self::LatencyTable { .. } => "C0015",
            Self::Calibration { .. } => "C0016",
            Self::NoFront { .. } => "C0019",
            Self::NoSuchNetwork { .. } => "C0020",
            Self::Score { .. } => "C0022",
            Self::WorkInUse { .. } => "C0024",
            Self::Trainer(error) => error.code(),
            Self::Ir(error) => error.code(),
            Self::Pass(error) => error.code(),
            Self::Exec(error) => error.code(),
        }
    }

    /// What to do about it; `None` when the text says it all, or when the error is another crate's.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            Self::Write { .. } => "the folder must exist and be writable",
            Self::NoSuchBlock { .. } | Self::NothingToPrune { .. } => {
                "updp-compile inspect MODEL lists the blocks, and why one cannot be pruned"
            }
            Self::LatencyTable { .. } => "remove the file, and it is measured again",
            Self::Calibration { .. } => "give at least one batch of finite inputs",
            Self::NoFront { .. } => {
                "run with --front FILE first; then --pick K takes the same --work folder, model, images and options"
            }
            Self::NoSuchNetwork { .. } => "the table that --front wrote numbers the networks",
            Self::WorkInUse { .. } => {
                "wait until it has ended (--work-wait SECONDS), or name another folder with --work"
            }
            Self::InputShape => "fix the shape with --input-shape NAME:1,3,224,224",
            _ => return None,
        })
    }
}
