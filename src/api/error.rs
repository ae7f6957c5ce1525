//! The error of the library, and the checks that end work early.

pub use crate::error::CliError as Error;

use super::Observer;

/// Ends the work when the observer asks for that.
///
/// # Errors
/// C0011.
pub(crate) fn check_cancelled(observer: &mut dyn Observer) -> Result<(), Error> {
    if observer.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
}
