//! Errors of the command line, and the exit code for each error of any crate.

use std::path::{Path, PathBuf};

use updp_autodiff::AutodiffError;
use updp_exec::ExecError;
use updp_ir::IrError;
use updp_passes::PassError;
use updp_prune::PruneError;
use updp_trainer::data::DataError;
use updp_trainer::error::TrainerError;
use updp_verify::VerifyError;

/// An error that ends a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum CliError {
    #[error("{detail}")]
    Usage { detail: String },
    #[error("cannot read {path:?}: {detail}")]
    Read { path: PathBuf, detail: String, is_model: bool },
    #[error("cannot write {path:?}: {detail}")]
    Write { path: PathBuf, detail: String },
    #[error("a model with external data or above 2 GB cannot go through standard input or output")]
    Pipe,
    #[error("--input-shape {text:?}: {detail}")]
    InputShape { text: String, detail: String },
    #[error("--input-data {path:?}: {detail}")]
    InputData { path: PathBuf, detail: String },
    #[error("the models do not have the same {what}: {first} and {second}")]
    DifferentSignature { what: &'static str, first: String, second: String },
    #[error("{detail}")]
    VerificationFailed { detail: String },
    #[error("{detail}")]
    Different { detail: String },
    #[error("the result cannot be verified: {detail}")]
    Unverifiable { detail: String },
    #[error("values cannot verify this model: {detail}")]
    Chaotic { detail: String },
    #[error("the comparison proves nothing: {detail}")]
    ProvesNothing { detail: String },
    #[error("the score command {command:?} gives no score of {}: {detail}", .model.display())]
    ScoreCommand { command: String, model: PathBuf, detail: String },
    #[error("{target} refuses {count} of the findings above; the model is written all the same")]
    TargetRefuses { target: &'static str, count: usize },
    #[error("the goal is missed: {detail}; the result is written all the same")]
    GoalMissed { detail: String },
    #[error("{}: {detail}", place(path, *line))]
    Config { path: PathBuf, line: Option<usize>, detail: String, cure: String },
    #[error("{option} {path:?} would overwrite {what}")]
    Overwrites { option: &'static str, path: PathBuf, what: String },
    #[error("cancelled")]
    Cancelled,
    #[error("there is no error code {code:?}")]
    UnknownCode { code: String },
    #[error(transparent)]
    Ir(#[from] IrError),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Trainer(TrainerError),
    #[error(transparent)]
    Prune(PruneError),
}

impl From<TrainerError> for CliError {
    fn from(error: TrainerError) -> Self {
        match error {
            TrainerError::Ir(error) => Self::Ir(error),
            TrainerError::Pass(error) => Self::Pass(error),
            TrainerError::Exec(error) => Self::Exec(error),
            other => Self::Trainer(other),
        }
    }
}

impl From<PruneError> for CliError {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Write { path, detail } => Self::Write { path, detail },
            PruneError::Ir(error) => Self::Ir(error),
            PruneError::Pass(error) => Self::Pass(error),
            PruneError::Exec(error) => Self::Exec(error),
            PruneError::Trainer(error) => error.into(),
            other => Self::Prune(other),
        }
    }
}

impl From<VerifyError> for CliError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::VerificationFailed { detail } => Self::VerificationFailed { detail },
            VerifyError::Ir(error) => Self::Ir(error),
            VerifyError::Exec(error) => Self::Exec(error),
            VerifyError::Unverifiable { detail } => Self::Unverifiable { detail },
            VerifyError::Chaotic { detail } => Self::Chaotic { detail },
            VerifyError::ProvesNothing { detail } => Self::ProvesNothing { detail },
            other => Self::Unverifiable { detail: other.to_string() },
        }
    }
}

impl From<DataError> for CliError {
    fn from(error: DataError) -> Self {
        Self::Trainer(error.into())
    }
}

impl CliError {
    /// The stable code that users see; docs/errors.md gives the cause and the remedy.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Usage { .. } => "C0001",
            Self::Read { .. } => "C0002",
            Self::Write { .. } => "C0003",
            Self::Pipe => "C0004",
            Self::InputShape { .. } => "C0005",
            Self::InputData { .. } => "C0006",
            Self::DifferentSignature { .. } => "C0007",
            Self::VerificationFailed { .. } | Self::Different { .. } => "C0008",
            Self::Unverifiable { .. } => "C0009",
            Self::Chaotic { .. } => "C0021",
            Self::ProvesNothing { .. } => "C0031",
            Self::ScoreCommand { .. } => "C0022",
            Self::UnknownCode { .. } => "C0010",
            Self::TargetRefuses { .. } => "C0012",
            Self::GoalMissed { .. } => "C0017",
            Self::Cancelled => "C0011",
            Self::Config { .. } => "C0018",
            Self::Overwrites { .. } => "C0023",
            Self::Trainer(error) => error.code(),
            Self::Prune(error) => error.code(),
            Self::Ir(error) => error.code(),
            Self::Pass(error) => error.code(),
            Self::Exec(error) => error.code(),
        }
    }

    /// The exit code; docs/errors.md documents all exit codes.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Read { is_model: true, .. } => 3,
            Self::Trainer(TrainerError::Autodiff(error)) => autodiff_exit_code(error),
            Self::Usage { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Pipe
            | Self::InputShape { .. }
            | Self::InputData { .. }
            | Self::UnknownCode { .. }
            | Self::ScoreCommand { .. }
            | Self::Config { .. }
            | Self::Overwrites { .. }
            | Self::Trainer(_)
            | Self::Pass(PassError::UnknownRule { .. } | PassError::AlreadyExpanded)
            | Self::Exec(
                ExecError::InputMissing { .. }
                | ExecError::InputUnknown { .. }
                | ExecError::InputMismatch { .. },
            ) => 2,
            Self::Pass(PassError::Refused { .. }) => 6,
            Self::Cancelled => 130,
            Self::Prune(error) => prune_exit_code(error),
            Self::DifferentSignature { .. }
            | Self::VerificationFailed { .. }
            | Self::Different { .. } => 5,
            Self::TargetRefuses { .. } => 4,
            Self::GoalMissed { .. } => 7,
            Self::Ir(error) | Self::Pass(PassError::Ir(error)) => ir_exit_code(error),
            Self::Pass(_) => 1,
            Self::Unverifiable { .. }
            | Self::Chaotic { .. }
            | Self::ProvesNothing { .. }
            | Self::Exec(_) => 8,
        }
    }

    /// The remedy; `None` if the text already says it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Usage { .. } => "updp-compile --help lists everything".into(),
            Self::Read { is_model: true, .. } => "give the path of an .onnx file, or - for stdin".into(),
            Self::Write { detail, .. } if detail.contains("No space left") => {
                "free some space on that disk, or name a path on another one".into()
            }
            Self::Write { .. } => "the folder must exist and be writable".into(),
            Self::Pipe => "give the paths of files".into(),
            Self::InputShape { .. } => "write it as NAME:1,3,224,224".into(),
            Self::InputData { .. } => {
                "an .npz with one array an input, or NAME:FILE.npy".into()
            }
            Self::Unverifiable { .. } => {
                "give fitting inputs with --input-data, install ONNX Runtime if it is missing (pip install 'onnxruntime>=1.24'), or compile with --no-verify".into()
            }
            Self::Chaotic { .. } => {
                "give inputs like those of the training with --input-data, --skip RULE leaves a rule out, --no-verify writes the result without running it".into()
            }
            Self::ProvesNothing { .. } => {
                "give inputs like those of the training with --input-data; when compiling, --no-verify writes the result without running it".into()
            }
            Self::VerificationFailed { .. } => {
                "nothing was written; --skip RULE leaves a rule out; please report the model".into()
            }
            Self::Different { .. } => {
                "--limit X allows a larger difference; a pruned or trained model is another function: updp-compile evaluate A B --data PATH compares what both say of images".into()
            }
            Self::ScoreCommand { .. } => {
                "it must print a number last, such as: python eval.py {model}; higher is better"
                    .into()
            }
            Self::UnknownCode { .. } => "updp-compile errors lists them all".into(),
            Self::TargetRefuses { .. } => "every finding says its cure and its source".into(),
            Self::GoalMissed { .. } => {
                "another goal or gate; when pruning, the report says what each block costs and saves".into()
            },
            Self::Config { cure, .. } => cure.clone(),
            Self::Overwrites { option: "-o", what, .. } if what.starts_with("the model") => {
                "name another file, or say that it is meant: --in-place".into()
            }
            Self::Overwrites { option, .. } => format!("name another path with {option}"),
            Self::Trainer(error) => return error.help(),
            Self::Prune(error) => return error.help().map(str::to_owned),
            Self::Pass(PassError::Refused { .. }) => {
                "--form auto takes a form that the block offers".into()
            }
            Self::Ir(error) | Self::Pass(PassError::Ir(error)) => {
                return Some(format!("updp-compile errors {} explains it", error.code()));
            }
            Self::Pass(PassError::UnknownRule { .. }) => {
                "updp-compile --list-passes lists the rules".into()
            }
            Self::Exec(error) => return error.help(),
            _ => return None,
        })
    }
}

/// A file and a line in it.
fn place(path: &Path, line: Option<usize>) -> String {
    line.map_or_else(|| path.display().to_string(), |line| format!("{}:{line}", path.display()))
}

fn prune_exit_code(error: &PruneError) -> u8 {
    match error {
        PruneError::NothingToPrune { .. } => 6,
        PruneError::Interrupted => 130,
        PruneError::InputShape => 8,
        _ => 2,
    }
}

/// If no rule can differentiate an operator, the error is "unsupported". If other arguments can fix it, the error is
/// "usage".
fn autodiff_exit_code(error: &AutodiffError) -> u8 {
    match error {
        AutodiffError::Operator { .. }
        | AutodiffError::Form { .. }
        | AutodiffError::Opset { .. }
        | AutodiffError::Type { .. }
        | AutodiffError::NoBatchNorm { .. }
        | AutodiffError::Target { .. } => 4,
        AutodiffError::Ir(error) => ir_exit_code(error),
        _ => 2,
    }
}

fn ir_exit_code(error: &IrError) -> u8 {
    match error {
        IrError::NewerIr { .. } => 4,
        error if error.is_bad_model() => 3,
        _ => 1,
    }
}
