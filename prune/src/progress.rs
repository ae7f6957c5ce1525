//! Progress that can be answered with a request to stop.

use crate::Observer;
use crate::error::{PruneError, Result};

/// Tells the observer how far a piece of work is, and ends the work if the observer asks for it.
///
/// # Errors
/// C0011.
pub(crate) fn tell(
    observer: &mut dyn Observer,
    what: &str,
    done: usize,
    total: usize,
) -> Result<()> {
    observer.progress(what, done, total);
    if observer.is_cancelled() { Err(PruneError::Interrupted) } else { Ok(()) }
}
