//! Whether latencies are measured with several threads or with one. Several threads that are hardly faster, or that make
//! times noisier than the effect of pruning, give no usable clock.

use std::time::Duration;

use updp_exec::{Measurement, Precision, RuntimeOptions};

/// Several threads must be this many times as fast as one.
const FASTER: f64 = 1.1;
/// Widest interval that a speedup may have at the end: ±1 %.
const WIDTH: f64 = 0.02;
/// A final measurement takes up to this many milliseconds.
const FINAL_MS: f64 = 20_000.0;

/// The measurement for the decision: 40 rounds, or as many as there are in 4 seconds.
pub(crate) const PRECISION: Precision =
    Precision { width: 0.0, least_rounds: 40, most_rounds: 40, most_time: Duration::from_secs(4) };

/// Number of threads that these options give a session.
pub(crate) fn default_count(runtime: &RuntimeOptions) -> usize {
    match runtime.thread_count() {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// Why one thread is used instead of `many`; `None` when `many` are faster and steady enough. The first executor of the
/// measurement has one thread, and the second has `many`.
pub(crate) fn decide(measured: &Measurement, many: usize) -> Option<String> {
    let faster = *measured.speedups.get(1)?;
    if faster < FASTER {
        return Some(format!(
            "latencies are measured with one thread: {many} threads are only {faster:.2} times as fast (--threads {many} uses them all the same)"
        ));
    }
    let (one, all) = (final_width(measured, 0), final_width(measured, 1));
    (all > WIDTH && all > 1.5 * one).then(|| {
        format!(
            "latencies are measured with one thread: with {many} threads, speedups are known within ±{:.1} % at best, with one within ±{:.1} % (--threads {many} uses them all the same)",
            50.0 * all, 50.0 * one
        )
    })
}

/// The sentence for a decision that an earlier run made.
pub(crate) fn again(many: usize) -> String {
    format!("latencies are measured with one thread, as before (--threads {many} uses {many})")
}

/// Expected width of the interval of a speedup after a final measurement. It narrows with the root of the number of
/// rounds.
fn final_width(measured: &Measurement, executor: usize) -> f64 {
    let (noise, latency) = (&measured.noise[executor], &measured.latencies[executor]);
    let possible = FINAL_MS / (2.0 * latency.median_ms);
    noise.relative_width() * (latency.runs as f64 / possible).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 40 runs around `ms`; the runs differ by ±`spread`.
    fn times(ms: f64, spread: f64) -> Vec<f64> {
        let wave = [0.3, -0.8, 0.9, -0.2, -1.0, 0.6, 0.1, -0.5, 1.0, -0.4, 0.7];
        (0..40).map(|at| ms * (1.0 + spread * wave[(at * 7) % 11])).collect()
    }

    fn decided(one: Vec<f64>, many: Vec<f64>) -> Option<String> {
        decide(&Measurement::of(vec![one, many]), 2)
    }

    #[test]
    fn threads_that_are_faster_and_steady_are_used() {
        assert_eq!(decided(times(200.0, 0.01), times(110.0, 0.01)), None);
    }

    #[test]
    fn threads_that_are_hardly_faster_are_not_used() {
        let reason = decided(times(20.0, 0.01), times(19.0, 0.01)).expect("one thread");
        assert!(reason.contains("only 1.05 times as fast"), "{reason}");
    }

    #[test]
    fn threads_that_make_times_too_noisy_are_not_used() {
        let reason = decided(times(200.0, 0.01), times(120.0, 0.6)).expect("one thread");
        assert!(reason.contains("at best"), "{reason}");
        // Noise that one thread has too is no reason.
        assert_eq!(decided(times(200.0, 0.6), times(110.0, 0.6)), None);
        // Many rounds of a fast model make up for the noise.
        assert_eq!(decided(times(0.2, 0.01), times(0.12, 0.6)), None);
    }
}
