//! Verification: runs two models in the same runtime on the same inputs and compares their outputs.
//!
//! An [`Oracle`] runs the reference once and compares any number of models with it. [`regions`] compares two models
//! part by part where no runtime can run the whole models. [`parts`] compares every changed part on the values that the
//! reference has there. [`nondeterminism`] and [`noise`] separate real differences from differences that the reference
//! itself does not decide. The crate prints nothing.

mod drawn;
pub mod error;
pub mod noise;
pub mod nondeterminism;
pub mod oracle;
pub mod parts;
pub mod regions;
mod slices;
mod telling;
mod verdict;

pub use error::VerifyError;
pub use oracle::{Oracle, OutputResult, Run, Verification};
pub use parts::Parts;
pub use telling::Silence;
