//! Errors of verification. Its own codes are C0008, C0009, C0021 and C0031 of the command line; errors of other crates pass through.

use updp_exec::ExecError;
use updp_ir::IrError;

/// A comparison that was not possible, or that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum VerifyError {
    #[error("{detail}")]
    VerificationFailed { detail: String },
    #[error("the result cannot be verified: {detail}")]
    Unverifiable { detail: String },
    #[error("values cannot verify this model: {detail}")]
    Chaotic { detail: String },
    #[error("the comparison proves nothing: {detail}")]
    ProvesNothing { detail: String },
    #[error(transparent)]
    Ir(#[from] IrError),
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl VerifyError {
    /// The stable code shown to users; docs/errors.md explains causes and remedies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::VerificationFailed { .. } => "C0008",
            Self::Unverifiable { .. } => "C0009",
            Self::Chaotic { .. } => "C0021",
            Self::ProvesNothing { .. } => "C0031",
            Self::Ir(error) => error.code(),
            Self::Exec(error) => error.code(),
        }
    }
}
