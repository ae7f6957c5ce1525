//! Latency of models. The models take turns, so that a slow period of the machine affects all of them alike.

use std::time::{Duration, Instant};

use indexmap::IndexMap;
use updp_ir::Tensor;

use crate::error::ExecError;
use crate::executor::Executor;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// This number of rounds, at least one. A round runs each executor once.
    Runs(usize),
    /// Rounds until this time is over, at least three.
    Time(Duration),
}

impl Budget {
    fn is_spent(self, rounds: usize, since: Instant) -> bool {
        match self {
            Self::Runs(runs) => rounds >= runs.max(1),
            Self::Time(time) => rounds >= 3 && since.elapsed() >= time,
        }
    }
}

/// Times of the runs of one executor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Half of the runs took at most this, in milliseconds.
    pub median_ms: f64,
    /// A tenth of the runs took at most this, in milliseconds.
    pub p10_ms: f64,
    /// Nine tenths of the runs took at most this, in milliseconds.
    pub p90_ms: f64,
    /// The fastest run, in milliseconds.
    pub min_ms: f64,
    /// Number of measured runs.
    pub runs: usize,
}

/// The result of [`measure`].
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// One entry per executor, in the order given.
    pub latencies: Vec<Latency>,
    /// One entry per executor: the median over the rounds of (time of the first executor) / (time of
    /// this one). An entry above 1 means faster than the first. The first entry is 1.
    pub speedups: Vec<f64>,
}

/// Runs every executor once per round, in the order A B, B A, A B …, after `warm_up` rounds that
/// are not measured.
///
/// The time of a run includes passing the inputs and copying the outputs.
///
/// # Errors
/// The first error of a run.
pub fn measure(
    executors: &mut [&mut dyn Executor],
    inputs: &IndexMap<String, Tensor>,
    warm_up: usize,
    budget: Budget,
) -> Result<Measurement, ExecError> {
    for _ in 0..warm_up {
        for executor in executors.iter_mut() {
            executor.run(inputs)?;
        }
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); executors.len()];
    let start = Instant::now();
    let mut rounds = 0;
    while !executors.is_empty() && !budget.is_spent(rounds, start) {
        for turn in 0..executors.len() {
            // Every second round runs backwards, so that no executor always comes first.
            let slot = if rounds % 2 == 0 { turn } else { executors.len() - 1 - turn };
            let begin = Instant::now();
            executors[slot].run(inputs)?;
            times[slot].push(begin.elapsed().as_secs_f64() * 1e3);
        }
        rounds += 1;
    }
    let speedups = times
        .iter()
        .map(|own| times[0].iter().zip(own).map(|(first, own)| first / own).collect())
        .map(|ratios: Vec<f64>| quantile(&sorted(ratios), 0.5))
        .collect();
    Ok(Measurement { latencies: times.into_iter().map(summary).collect(), speedups })
}

fn summary(times: Vec<f64>) -> Latency {
    let times = sorted(times);
    Latency {
        median_ms: quantile(&times, 0.5),
        p10_ms: quantile(&times, 0.1),
        p90_ms: quantile(&times, 0.9),
        min_ms: quantile(&times, 0.0),
        runs: times.len(),
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The quantile of sorted values, interpolated linearly between two of them; NaN for no values.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sleeps instead of computing.
    struct Sleeper {
        nap: Duration,
        runs: usize,
    }

    impl Executor for Sleeper {
        fn name(&self) -> String {
            "sleeper".to_owned()
        }

        fn input_names(&self) -> Vec<String> {
            Vec::new()
        }

        fn output_names(&self) -> Vec<String> {
            Vec::new()
        }

        fn run(
            &mut self,
            _: &IndexMap<String, Tensor>,
        ) -> Result<IndexMap<String, Tensor>, ExecError> {
            self.runs += 1;
            std::thread::sleep(self.nap);
            Ok(IndexMap::new())
        }
    }

    #[test]
    fn quantiles_lie_between_the_values() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert!((quantile(&values, 0.5) - 2.5).abs() < 1e-12);
        assert!((quantile(&values, 0.0) - 1.0).abs() < 1e-12);
        assert!((quantile(&values, 1.0) - 4.0).abs() < 1e-12);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn runs_in_turns_and_tells_who_is_faster() {
        let mut slow = Sleeper { nap: Duration::from_millis(8), runs: 0 };
        let mut fast = Sleeper { nap: Duration::from_millis(1), runs: 0 };
        let measured =
            measure(&mut [&mut slow, &mut fast], &IndexMap::new(), 2, Budget::Runs(5)).expect("ok");
        assert_eq!((slow.runs, fast.runs), (7, 7));
        assert_eq!(measured.latencies[0].runs, 5);
        assert!(measured.latencies[0].min_ms >= 8.0);
        assert!(measured.latencies[0].p10_ms <= measured.latencies[0].p90_ms);
        assert!(measured.speedups[1] > 1.5, "{measured:?}");
        assert!((measured.speedups[0] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_time_budget_makes_at_least_three_rounds() {
        let mut one = Sleeper { nap: Duration::from_millis(1), runs: 0 };
        let budget = Budget::Time(Duration::ZERO);
        let measured = measure(&mut [&mut one], &IndexMap::new(), 0, budget).expect("ok");
        assert_eq!(measured.latencies[0].runs, 3);
        assert!(measure(&mut [], &IndexMap::new(), 1, budget).expect("ok").latencies.is_empty());
    }
}
