//! Verification: runs two models in the same runtime on the same inputs and compares their outputs.
//!
//! An [`Oracle`] runs the reference once and compares any number of models with it. [`regions`] compares two models
//! part by part where no runtime can run the whole models. [`nondeterminism`] separates real differences from
//! differences that the reference itself does not decide. The crate prints nothing.

pub mod error;
pub mod nondeterminism;
pub mod oracle;
pub mod regions;

pub use error::VerifyError;
pub use oracle::{Oracle, OutputResult, Run, Verification};
