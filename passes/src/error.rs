//! Errors and refusals of rules.

use updp_ir::IrError;

/// A rewrite that could not be planned or applied. The cause is a malformed model or our bug, never a refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum PassError {
    #[error("rule {rule} left the graph broken at node {node:?}: {source}")]
    Apply { rule: &'static str, node: String, source: IrError },
    #[error(transparent)]
    Ir(#[from] IrError),
    #[error("the rules did not come to an end after {rewrites} rewrites; the last were {last:?}")]
    Endless { rewrites: usize, last: Vec<String> },
    #[error("there is no rule {name:?}")]
    UnknownRule { name: String },
    #[error("block {index} ({name}) cannot be pruned: {detail} ({reason})")]
    Refused { index: usize, name: String, reason: &'static str, detail: String },
    #[error("the model has an input updp_lambda or updp_shrink already: it was expanded before")]
    AlreadyExpanded,
    #[error("the part that was cut out is no block by itself")]
    NoBlock,
    #[error("the input {input} is read by {node:?}, which is none of what expanding writes")]
    NotAMix { input: &'static str, node: String },
    #[error("λ has {expected} entries, one a block, and the genome has {found}")]
    Genome { expected: usize, found: usize },
    #[error("the network has no inserted BatchNorm {name:?} of known shape")]
    NoSuchNorm { name: String },
    #[error("the statistics of {name:?} do not fit: {detail}")]
    Statistics { name: String, detail: String },
}

impl PassError {
    /// The stable code shown to users; docs/errors.md gives cause and cure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Apply { .. } => "P0001",
            Self::Ir(error) => error.code(),
            Self::Endless { .. } => "P0002",
            Self::UnknownRule { .. } => "P0003",
            Self::Refused { .. } => "P0004",
            Self::NoBlock => "P0008",
            Self::AlreadyExpanded => "P0009",
            Self::NotAMix { .. } => "P0005",
            Self::Genome { .. } => "P0010",
            Self::NoSuchNorm { .. } => "P0006",
            Self::Statistics { .. } => "P0007",
        }
    }
}

/// Why a matched rule makes no change; shown by `--why-not`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// Stable kebab-case name of the failed condition.
    pub reason: &'static str,
    /// One sentence with the numbers of the case.
    pub detail: String,
}

impl Declined {
    /// A refusal; `detail` is one lower-case sentence without full stop.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// The reason why a matched rule gives no patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A condition does not hold.
    Declined(Declined),
    /// The model is malformed, or our code has a bug.
    Failed(PassError),
}

impl From<Declined> for Stop {
    fn from(declined: Declined) -> Self {
        Self::Declined(declined)
    }
}

impl From<PassError> for Stop {
    fn from(error: PassError) -> Self {
        Self::Failed(error)
    }
}

impl From<IrError> for Stop {
    fn from(error: IrError) -> Self {
        Self::Failed(error.into())
    }
}
