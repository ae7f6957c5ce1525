//! Errors of verification. Its own codes are the command line's C0008 and C0009; other crates' errors pass through.

use updp_exec::ExecError;
use updp_ir::IrError;

/// A comparison that could not be made, or that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum VerifyError {
    #[error("{detail}")]
    VerificationFailed { detail: String },
    #[error("the result cannot be verified: {detail}")]
    Unverifiable { detail: String },
    #[error(transparent)]
    Ir(#[from] IrError),
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl VerifyError {
    /// The stable code shown to users; docs/errors.md gives cause and cure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::VerificationFailed { .. } => "C0008",
            Self::Unverifiable { .. } => "C0009",
            Self::Ir(error) => error.code(),
            Self::Exec(error) => error.code(),
        }
    }
}
