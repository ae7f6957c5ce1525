//! The error type of the library, and the check that ends work early.

pub use crate::error::CliError as Error;

use super::Observer;

/// Ends the work if the observer asks for it.
///
/// # Errors
/// C0011.
pub(crate) fn check_cancelled(observer: &mut dyn Observer) -> Result<(), Error> {
    if observer.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
}
