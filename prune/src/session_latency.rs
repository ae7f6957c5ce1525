//! The speedup of one network over another, over several sessions of both (`updp_exec::sessions` says why). Each session
//! has a process of its own where workers run the models.

use std::time::{Duration, Instant};

use updp_exec::{Executor, Measurement, Precision, combined};

use crate::error::Result;
use crate::latency_table::Comparison;

/// Fewest and most pairs of sessions.
const SESSIONS: (usize, usize) = (5, 12);

/// Fewest rounds of one pair.
const ROUNDS: usize = 8;

/// Opens pairs of sessions, the original first, and measures each pair in turns with `measure`. It ends when the interval of
/// the speedup is narrower than that of `precision`, or after its time, but not before a few pairs.
///
/// # Errors
/// Errors of opening and measuring.
pub(crate) fn over_sessions(
    precision: Precision,
    mut open: impl FnMut(usize) -> Result<[Box<dyn Executor>; 2]>,
    mut measure: impl FnMut(&mut [&mut dyn Executor], Precision) -> Result<Measurement>,
) -> Result<Comparison> {
    let one = Precision {
        width: 2.0 * precision.width,
        least_rounds: ROUNDS,
        most_rounds: (precision.most_rounds / SESSIONS.0).max(ROUNDS),
        most_time: precision.most_time.div_f64(SESSIONS.1 as f64).max(Duration::from_millis(50)),
    };
    let start = Instant::now();
    let mut pairs = Vec::new();
    loop {
        let [mut first, mut second] = open(pairs.len())?;
        pairs.push(measure(&mut [first.as_mut(), second.as_mut()], one)?);
        let found = combined(&pairs);
        let is_over = start.elapsed() >= precision.most_time || pairs.len() >= SESSIONS.1;
        let is_known = found.intervals[1].relative_width() <= precision.width;
        if pairs.len() >= SESSIONS.0 && (is_known || is_over) {
            return Ok(Comparison {
                before_ms: found.latencies[0].median_ms,
                after_ms: found.latencies[1].median_ms,
                speedup: found.speedups[1],
                interval: found.intervals[1],
            });
        }
    }
}
