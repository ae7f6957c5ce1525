//! The speedup of one network over another, over several sessions of both.
//!
//! Where a session puts weights and values in memory changes its time by several percent, for as long as it is open. So
//! does the place where the system puts the process. So one pair of sessions gives a narrow interval around a wrong
//! value. Each pair counts once here, and each of its sessions has a process of its own where workers run the models.

use std::time::{Duration, Instant};

use updp_exec::{Executor, Interval, Measurement, Precision, median};

use crate::error::Result;
use crate::latency_table::Comparison;

/// Fewest and most pairs of sessions.
const SESSIONS: (usize, usize) = (5, 12);

/// Fewest rounds of one pair.
const ROUNDS: usize = 8;

/// Two-sided 95 % quantiles of Student's t, by degrees of freedom from 1.
const STUDENT: [f64; 11] =
    [12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201];

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
        let measured = measure(&mut [first.as_mut(), second.as_mut()], one)?;
        pairs.push(Pair {
            before_ms: measured.latencies[0].median_ms,
            after_ms: measured.latencies[1].median_ms,
            speedup: measured.speedups[1],
        });
        let found = combined(&pairs);
        let is_over = start.elapsed() >= precision.most_time || pairs.len() >= SESSIONS.1;
        let is_known = found.interval.relative_width() <= precision.width;
        if pairs.len() >= SESSIONS.0 && (is_known || is_over) {
            return Ok(found);
        }
    }
}

/// The result of one pair of sessions.
#[derive(Clone, Copy)]
struct Pair {
    before_ms: f64,
    after_ms: f64,
    speedup: f64,
}

/// The geometric mean of the speedups with its 95 % confidence interval, and the medians of the times.
fn combined(pairs: &[Pair]) -> Comparison {
    let count = pairs.len() as f64;
    let logs: Vec<f64> = pairs.iter().map(|pair| pair.speedup.ln()).collect();
    let mean = logs.iter().sum::<f64>() / count;
    let square = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>();
    let reach = match pairs.len() {
        0 | 1 => f64::INFINITY,
        many => {
            let student = STUDENT[(many - 2).min(STUDENT.len() - 1)];
            student * (square / (count - 1.0) / count).sqrt()
        }
    };
    Comparison {
        before_ms: median(pairs.iter().map(|pair| pair.before_ms).collect()),
        after_ms: median(pairs.iter().map(|pair| pair.after_ms).collect()),
        speedup: mean.exp(),
        interval: Interval { low: (mean - reach).exp(), high: (mean + reach).exp() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(speedups: &[f64]) -> Vec<Pair> {
        let pair =
            |speedup: &f64| Pair { before_ms: 2.0 * speedup, after_ms: 2.0, speedup: *speedup };
        speedups.iter().map(pair).collect()
    }

    #[test]
    fn sessions_that_differ_make_a_wide_interval() {
        let found = combined(&pairs(&[1.40, 1.46, 1.37, 1.49, 1.43]));
        assert!((found.speedup - 1.4294).abs() < 1e-3, "{found:?}");
        // 2.776 · s / √5, s = 0.0338 of the logarithms.
        assert!((found.interval.relative_width() - 0.0834).abs() < 2e-3, "{found:?}");
        assert!((found.before_ms - 2.86).abs() < 1e-12);
        let same = combined(&pairs(&[1.4; 5]));
        assert!(same.interval.relative_width() < 1e-9, "{same:?}");
        assert!(combined(&pairs(&[1.4])).interval.high.is_infinite());
    }
}
