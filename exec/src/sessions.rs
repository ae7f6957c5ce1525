//! Measurements of the same models in several sessions, combined.
//!
//! Where a session puts weights and values in memory changes its time by several percent, for as long as it is open. So
//! does the place where the system puts the process. So one session of each model gives a narrow interval around a wrong
//! value. Each measurement counts once here.

use crate::latency::{Interval, Latency, Measurement, median};

/// Two-sided 95 % quantiles of Student's t, by degrees of freedom from 1.
const STUDENT: [f64; 15] = [
    12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131,
];

/// The geometric means of the speedups with their 95 % confidence intervals, and the medians of the times. All
/// measurements are of the same models in the same order. With one measurement the intervals have no end.
#[must_use]
pub fn combined(measurements: &[Measurement]) -> Measurement {
    let models = measurements.first().map_or(0, |first| first.latencies.len());
    let over =
        |of: &dyn Fn(&Measurement) -> f64| -> Vec<f64> { measurements.iter().map(of).collect() };
    let mut found = Measurement {
        latencies: Vec::new(),
        speedups: Vec::new(),
        intervals: Vec::new(),
        noise: Vec::new(),
    };
    for at in 0..models {
        let middle = |of: &dyn Fn(&Latency) -> f64| median(over(&|one| of(&one.latencies[at])));
        found.latencies.push(Latency {
            median_ms: middle(&|it| it.median_ms),
            p10_ms: middle(&|it| it.p10_ms),
            p90_ms: middle(&|it| it.p90_ms),
            min_ms: over(&|one| one.latencies[at].min_ms).into_iter().fold(f64::INFINITY, f64::min),
            runs: measurements.iter().map(|one| one.latencies[at].runs).sum(),
        });
        let noise = |of: &dyn Fn(&Interval) -> f64| median(over(&|one| of(&one.noise[at])));
        found.noise.push(Interval { low: noise(&|it| it.low), high: noise(&|it| it.high) });
        let (speedup, interval) = mean(&over(&|one| one.speedups[at]));
        found.speedups.push(speedup);
        found.intervals.push(interval);
    }
    found
}

/// The geometric mean of ratios, with its 95 % confidence interval by Student's t of the logarithms.
fn mean(ratios: &[f64]) -> (f64, Interval) {
    let count = ratios.len() as f64;
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let mean = logs.iter().sum::<f64>() / count;
    let square = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>();
    let reach = match ratios.len() {
        0 | 1 => f64::INFINITY,
        many => {
            let student = STUDENT[(many - 2).min(STUDENT.len() - 1)];
            student * (square / (count - 1.0) / count).sqrt()
        }
    };
    (mean.exp(), Interval { low: (mean - reach).exp(), high: (mean + reach).exp() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(speedups: &[f64]) -> Measurement {
        let one = |speedup: &f64| Measurement::of(vec![vec![2.0 * speedup; 4], vec![2.0; 4]]);
        combined(&speedups.iter().map(one).collect::<Vec<_>>())
    }

    #[test]
    fn sessions_that_differ_make_a_wide_interval() {
        let found = measured(&[1.40, 1.46, 1.37, 1.49, 1.43]);
        assert!((found.speedups[1] - 1.4294).abs() < 1e-3, "{found:?}");
        // 2.776 · s / √5, s = 0.0338 of the logarithms.
        assert!((found.intervals[1].relative_width() - 0.0834).abs() < 2e-3, "{found:?}");
        assert!((found.latencies[0].median_ms - 2.86).abs() < 1e-12);
        assert_eq!((found.latencies[0].runs, found.speedups[0].to_bits()), (20, 1.0_f64.to_bits()));
        let same = measured(&[1.4; 5]);
        assert!(same.intervals[1].relative_width() < 1e-9, "{same:?}");
        assert!(measured(&[1.4]).intervals[1].high.is_infinite());
        assert!(combined(&[]).latencies.is_empty());
    }
}
