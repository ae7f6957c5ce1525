//! The clocks that time a run.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The clock of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clock {
    /// The time that passes.
    Wall,
    /// The processor time of the calling thread; the time that passes where the system does not tell it.
    Thread,
}

impl Clock {
    /// Time of one call of `run`, in milliseconds.
    ///
    /// # Errors
    /// The error of `run`.
    pub fn timed<T, E>(self, run: impl FnOnce() -> Result<T, E>) -> Result<f64, E> {
        let (begin, processor) = (Instant::now(), thread_time());
        drop(run()?);
        let wall = begin.elapsed();
        let own = match (self, processor, thread_time()) {
            (Self::Thread, Some(from), Some(to)) => to.saturating_sub(from),
            _ => wall,
        };
        Ok(own.as_secs_f64() * 1e3)
    }
}

/// The processor time that the calling thread has used; `None` where the system does not tell.
fn thread_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let (seconds, nanos) = (time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?);
        Some(Duration::new(seconds, nanos))
    }
    #[cfg(not(unix))]
    None
}
