//! Latency of models. The models take turns, so that a slow period of the machine affects all of them alike.

use std::time::{Duration, Instant};

use indexmap::IndexMap;
use updp_ir::Tensor;

use crate::clock::Clock;
use crate::error::ExecError;
use crate::executor::Executor;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// This number of rounds, at least one. A round runs each executor once.
    Runs(usize),
    /// Rounds until this time is over, at least three. In a round each executor has one turn.
    Time(Duration),
    /// Rounds until the speedups are known well enough.
    Precise(Precision),
}

/// How well the speedups must be known before a measurement ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    /// Largest width of the interval of every speedup, relative to the speedup: 0.02 means ±1 %.
    pub width: f64,
    /// Fewest rounds, at least one.
    pub least_rounds: usize,
    /// Most rounds.
    pub most_rounds: usize,
    /// The measurement ends after this time even if the intervals are wider. Three rounds are made in any case.
    pub most_time: Duration,
}

impl Default for Precision {
    /// ±1 %, in 20 to 2000 rounds and at most 20 seconds.
    fn default() -> Self {
        Self {
            width: 0.02,
            least_rounds: 20,
            most_rounds: 2000,
            most_time: Duration::from_secs(20),
        }
    }
}

impl Precision {
    /// Whether a measurement with these times may end: one list per executor, of one length, and the time since it
    /// started.
    fn is_reached(&self, times: &[Vec<f64>], elapsed: Duration) -> bool {
        let rounds = times.first().map_or(0, Vec::len);
        if rounds >= self.most_rounds.max(1) || (rounds >= 3 && elapsed >= self.most_time) {
            return true;
        }
        // The intervals are looked at in every fifth round only. An interval that is looked at too often is narrow by
        // chance sooner or later.
        rounds >= self.least_rounds.max(1)
            && (rounds - self.least_rounds.max(1)).is_multiple_of(5)
            && times.iter().skip(1).all(|own| {
                median_interval(&ratios(&times[0], own))
                    .is_some_and(|it| it.relative_width() <= self.width)
            })
    }
}

impl Budget {
    fn is_spent(self, times: &[Vec<f64>], elapsed: Duration) -> bool {
        let rounds = times.first().map_or(0, Vec::len);
        match self {
            Self::Runs(runs) => rounds >= runs.max(1),
            Self::Time(time) => rounds >= 3 && elapsed >= time,
            Self::Precise(precision) => precision.is_reached(times, elapsed),
        }
    }
}

/// A 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Width relative to the middle; 0.02 means ±1 %. NaN if an end is not a number.
    #[must_use]
    pub fn relative_width(&self) -> f64 {
        (self.high - self.low) / (0.5 * (self.high + self.low))
    }
}

/// The 95 % confidence interval of the median of values in the order in which they were measured. `None` for fewer than
/// six values: no interval of order statistics covers the median that surely.
///
/// The ends are the quantiles `½ ± 0.98/√m`: the number of values below the median is binomial with the standard
/// deviation `½·√m`. The number of independent values is `m = n·(1 − ρ)/(1 + ρ)`. ρ ≥ 0 is the correlation of
/// neighbours of the signs of (value − median), because a slow period of a machine lasts for several rounds.
#[must_use]
pub fn median_interval(values: &[f64]) -> Option<Interval> {
    const FEWEST: usize = 6;
    if values.len() < FEWEST || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let sorted = sorted(values.to_vec());
    let median = quantile(&sorted, 0.5);
    let sign = |value: f64| if value == median { 0.0 } else { (value - median).signum() };
    let signs: Vec<f64> = values.iter().map(|value| sign(*value)).collect();
    let power: f64 = signs.iter().map(|sign| sign * sign).sum();
    let shared: f64 = signs.windows(2).map(|pair| pair[0] * pair[1]).sum();
    // Two series of the same independent values differ by about 1/√n; a smaller correlation is chance.
    let chance = 1.0 / (values.len() as f64).sqrt();
    let found = if power > 0.0 { shared / power } else { 0.0 };
    let rho = if found > chance { found.min(0.9) } else { 0.0 };
    let independent = values.len() as f64 * (1.0 - rho) / (1.0 + rho);
    let reach = (0.98 / independent.sqrt()).min(0.5);
    Some(Interval { low: quantile(&sorted, 0.5 - reach), high: quantile(&sorted, 0.5 + reach) })
}

/// (time of the first) / (own time), round by round. Rounds in which another process took the processor away are left
/// out: a time is above 1¼ times the executor's own 20 % quantile. A long run is disturbed more often than a short one,
/// so keeping such rounds would favour the faster model. All rounds count when fewer than six, or than a sixth, are left.
fn ratios(first: &[f64], own: &[f64]) -> Vec<f64> {
    const DISTURBED: f64 = 1.25;
    const FEWEST: usize = 6;
    let limit = |times: &[f64]| DISTURBED * quantile(&sorted(times.to_vec()), 0.2);
    let limits = (limit(first), limit(own));
    let pairs = first.iter().zip(own);
    let calm = pairs.clone().filter(|(first, own)| **first <= limits.0 && **own <= limits.1);
    let calm: Vec<f64> = calm.map(|(first, own)| first / own).collect();
    if calm.len() < FEWEST.max(first.len() / 6) {
        return pairs.map(|(first, own)| first / own).collect();
    }
    calm
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
    /// One entry per executor: the median over the rounds of (time of the first executor) / (time of this one). An entry above 1 means faster than the first. The first entry is 1.
    pub speedups: Vec<f64>,
    /// The 95 % confidence interval of each speedup ([`median_interval`]). With fewer than six rounds it reaches from
    /// the smallest ratio to the largest one.
    pub intervals: Vec<Interval>,
    /// One entry per executor: the interval of the median of (time of a run) / (time of its next run), as a measure of
    /// noise. Its middle is near 1.
    pub noise: Vec<Interval>,
}

/// The runs of a turn take at least this long.
const TURN: Duration = Duration::from_millis(1);
/// Most runs of one turn.
const MOST_RUNS: usize = 100;

/// Runs the executors in turns, in the order A B, B A, A B …, after `warm_up` rounds that are not measured.
///
/// With [`Budget::Runs`] a turn is one run. Otherwise each model runs so often that the turn of the shortest one takes 1 ms
/// or longer, and the median of these runs counts in the ratios. A model of more than 1 ms so finds the caches full of
/// another model's weights, as it does in a program that decodes an image between two runs.
///
/// The time of a run includes passing the inputs and copying the outputs. If every executor computes on the calling
/// thread ([`Executor::computes_on_calling_thread`]), it is the processor time of this thread. So the times while other
/// processes have the processor do not count. Otherwise it is the time on the wall.
///
/// # Errors
/// The first error of a run.
pub fn measure(
    executors: &mut [&mut dyn Executor],
    inputs: &IndexMap<String, Tensor>,
    warm_up: usize,
    budget: Budget,
) -> Result<Measurement, ExecError> {
    let is_one_thread = executors.iter().all(|executor| executor.computes_on_calling_thread());
    let clock = if is_one_thread { Clock::Thread } else { Clock::Wall };
    let mut shortest = vec![f64::INFINITY; executors.len()];
    for _ in 0..warm_up {
        for (executor, shortest) in executors.iter_mut().zip(&mut shortest) {
            let times = executor.time(inputs, 1, clock)?;
            *shortest = times.into_iter().fold(*shortest, f64::min);
        }
    }
    let is_single = matches!(budget, Budget::Runs(_));
    // Equal numbers for all: the later a run comes in its turn, the warmer are its caches.
    let most = shortest.iter().map(|ms| repeats(*ms)).max().unwrap_or(1);
    let repeats = if is_single { 1 } else { most };
    let mut turns: Vec<Vec<f64>> = vec![Vec::new(); executors.len()];
    let mut runs = turns.clone();
    let start = Instant::now();
    let mut rounds = 0;
    while !executors.is_empty() && !budget.is_spent(&turns, start.elapsed()) {
        for turn in 0..executors.len() {
            // Every second round runs backwards, so that no executor always comes first.
            let slot = if rounds % 2 == 0 { turn } else { executors.len() - 1 - turn };
            let times = executors[slot].time(inputs, repeats, clock)?;
            runs[slot].extend_from_slice(&times);
            turns[slot].push(median(times));
        }
        rounds += 1;
    }
    let latencies = runs.into_iter().map(summary).collect();
    Ok(Measurement { latencies, ..Measurement::of(turns) })
}

/// Number of runs of this many milliseconds in a turn; one without a known time.
fn repeats(ms: f64) -> usize {
    let count = (TURN.as_secs_f64() * 1e3 / ms.max(1e-6)).ceil();
    (count as usize).clamp(1, MOST_RUNS)
}

impl Measurement {
    /// The result for these times in milliseconds: one list per executor, all of the same length, in the order in which
    /// they were measured.
    #[must_use]
    pub fn of(times: Vec<Vec<f64>>) -> Self {
        let mut speedups = Vec::new();
        let mut intervals = Vec::new();
        for own in &times {
            let ratios = ratios(&times[0], own);
            let known = median_interval(&ratios);
            let ratios = sorted(ratios);
            speedups.push(quantile(&ratios, 0.5));
            let all = || Interval { low: quantile(&ratios, 0.0), high: quantile(&ratios, 1.0) };
            intervals.push(known.unwrap_or_else(all));
        }
        let noise = times.iter().map(|own| own_noise(own)).collect();
        Self { latencies: times.into_iter().map(summary).collect(), speedups, intervals, noise }
    }
}

fn own_noise(times: &[f64]) -> Interval {
    let ratios: Vec<f64> = times.windows(2).map(|pair| pair[0] / pair[1]).collect();
    median_interval(&ratios).unwrap_or(Interval { low: f64::NAN, high: f64::NAN })
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

/// The median, the mean of the two middle values where their number is even; NaN for no values.
#[must_use]
pub fn median(values: Vec<f64>) -> f64 {
    quantile(&sorted(values), 0.5)
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
        is_one_thread: bool,
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

        fn computes_on_calling_thread(&self) -> bool {
            self.is_one_thread
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

    /// Draws in (−1, 1) with a peak at 0, from a fixed seed.
    fn draws(seed: u64, count: usize) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..count).map(|_| next() + next() - 1.0).collect()
    }

    #[test]
    fn the_interval_covers_the_median_in_about_95_of_100_draws() {
        let covered = |of: &dyn Fn(u64) -> Vec<f64>| {
            let holds = |seed: &u64| {
                let it = median_interval(&of(*seed)).expect("enough values");
                it.low <= 1.0 && 1.0 <= it.high
            };
            (0..400).filter(holds).count()
        };
        let independent = covered(&|seed| draws(seed, 60).iter().map(|it| 1.0 + it).collect());
        assert!((364..=398).contains(&independent), "{independent} of 400");
        // Each draw stays for four rounds. Without the correction only two thirds are covered.
        let slow = |seed| draws(seed, 30).iter().flat_map(|it| [1.0 + it; 4]).collect::<Vec<_>>();
        let correlated = covered(&slow);
        assert!((350..=399).contains(&correlated), "{correlated} of 400");
    }

    #[test]
    fn the_interval_ignores_outliers_and_needs_six_values() {
        let mut values = vec![1.25; 30];
        values[3] = 40.0;
        values[17] = 0.01;
        assert_eq!(median_interval(&values), Some(Interval { low: 1.25, high: 1.25 }));
        assert_eq!(median_interval(&values[..5]), None);
        assert_eq!(median_interval(&[f64::NAN; 9]), None);
        let wide = Interval { low: 0.99, high: 1.01 };
        assert!((wide.relative_width() - 0.02).abs() < 1e-12);
    }

    #[test]
    fn a_measurement_ends_as_soon_as_the_interval_is_narrow() {
        let precision = Precision {
            width: 0.02,
            least_rounds: 10,
            most_rounds: 100,
            most_time: Duration::from_secs(9),
        };
        let times = |spread: f64, rounds: usize| {
            let own = draws(7, rounds).iter().map(|it| 4.0 * (1.0 + spread * it)).collect();
            vec![vec![5.0; rounds], own]
        };
        let soon = Duration::from_secs(1);
        assert!(!precision.is_reached(&times(0.001, 9), soon), "too few rounds");
        assert!(precision.is_reached(&times(0.001, 10), soon));
        assert!(!precision.is_reached(&times(0.001, 11), soon), "it looks in every fifth round");
        assert!(!precision.is_reached(&times(0.5, 50), soon), "the interval is too wide");
        assert!(precision.is_reached(&times(0.5, 50), Duration::from_secs(9)));
        assert!(!precision.is_reached(&times(0.5, 2), Duration::from_secs(9)), "three rounds");
        assert!(precision.is_reached(&times(0.5, 100), soon), "the last round");
    }

    #[test]
    fn rounds_that_another_process_disturbed_are_left_out() {
        // Most runs of the long model are disturbed, and few of the short one.
        let long = (0..40).map(|at| if at % 3 == 0 { 4.0 } else { 12.0 }).collect();
        let short = (0..40).map(|at| if at % 7 == 1 { 9.0 } else { 2.0 }).collect();
        let found = Measurement::of(vec![long, short]);
        assert_eq!(found.speedups[1].to_bits(), 2.0_f64.to_bits());
        // With nothing calm in common, all rounds count.
        let turns =
            |calm: usize| (0..40).map(|at| if at % 2 == calm { 2.0 } else { 8.0 }).collect();
        let found = Measurement::of(vec![turns(0), turns(1)]);
        assert_eq!((found.intervals[1].low, found.intervals[1].high), (0.25, 4.0));
    }

    #[test]
    fn a_short_model_runs_several_times_in_a_turn() {
        assert_eq!((repeats(0.25), repeats(0.6), repeats(25.0)), (4, 2, 1));
        assert_eq!((repeats(f64::INFINITY), repeats(0.0)), (1, MOST_RUNS));
    }

    #[test]
    fn ratios_are_paired_so_a_slow_period_cancels_out() {
        let slow = |ms: f64| (0..40).map(|at| if at < 15 { 3.0 * ms } else { ms }).collect();
        let found = Measurement::of(vec![slow(5.0), slow(4.0)]);
        assert!((found.speedups[1] - 1.25).abs() < 1e-12);
        assert!(found.intervals[1].relative_width() < 1e-12);
        let few = Measurement::of(vec![vec![2.0, 3.0], vec![1.0, 1.0]]);
        assert_eq!(few.intervals[1], Interval { low: 2.0, high: 3.0 });
    }

    #[test]
    fn runs_in_turns_and_tells_who_is_faster() {
        let mut slow = Sleeper { nap: Duration::from_millis(8), runs: 0, is_one_thread: false };
        let mut fast = Sleeper { nap: Duration::from_millis(1), runs: 0, is_one_thread: false };
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
    #[cfg(unix)]
    fn time_in_which_the_calling_thread_does_not_compute_does_not_count() {
        let nap = Duration::from_millis(20);
        let mut one = Sleeper { nap, runs: 0, is_one_thread: true };
        let run = |executors: &mut [&mut dyn Executor]| {
            let budget = Budget::Runs(3);
            measure(executors, &IndexMap::new(), 0, budget).expect("ok").latencies[0].min_ms
        };
        assert!(run(&mut [&mut one]) < 20.0);
        let mut other = Sleeper { nap, runs: 0, is_one_thread: false };
        assert!(run(&mut [&mut one, &mut other]) >= 20.0, "one clock for both");
    }

    #[test]
    fn a_time_budget_makes_at_least_three_rounds() {
        let mut one = Sleeper { nap: Duration::from_millis(1), runs: 0, is_one_thread: false };
        let budget = Budget::Time(Duration::ZERO);
        let measured = measure(&mut [&mut one], &IndexMap::new(), 0, budget).expect("ok");
        // Without a warm-up round the time of a run is not known, so a turn is one run.
        assert_eq!(measured.latencies[0].runs, 3);
        assert!(measure(&mut [], &IndexMap::new(), 1, budget).expect("ok").latencies.is_empty());
    }
}
