//! The range of an axis, with round ticks.

/// A range of numbers with round ticks.
pub(super) struct Axis {
    least: f64,
    most: f64,
    step: f64,
}

impl Axis {
    /// Covers the finite values; covers 0 to 1 if there are none.
    pub(super) fn over(values: impl Iterator<Item = f64>) -> Self {
        Self::within(values, f64::INFINITY)
    }

    /// Covers the finite values and 0.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>) -> Self {
        Self::over(values.chain([0.0]))
    }

    /// As [`Self::over`], and ends at `bound` at the latest. `bound` is above no value that can be: 100 for per cent.
    pub(super) fn within(values: impl Iterator<Item = f64>, bound: f64) -> Self {
        let all: Vec<f64> = values.filter(|it| it.is_finite()).collect();
        let least = all.iter().copied().reduce(f64::min).unwrap_or(0.0);
        let most = all.iter().copied().reduce(f64::max).unwrap_or(1.0);
        let size = most.abs().max(least.abs());
        let is_flat = most - least <= 1e-9 * size || size < 1e-12;
        // One value alone has room on both sides.
        let span = if size < 1e-12 {
            1.0
        } else if is_flat {
            0.04 * size
        } else {
            most - least
        };
        let step = round_step(span / 4.0);
        let (mut low, mut high) = ((least / step).floor() * step, (most / step).ceil() * step);
        if is_flat {
            let middle = (least / step).round() * step;
            (low, high) = (middle - step, middle + step);
        }
        if least >= 0.0 {
            low = low.max(0.0);
        }
        let high = high.min(bound.max(most));
        Self { least: low.min(high - step), most: high, step }
    }

    /// Covers 0 and the values that matter beside `chosen`: at least those up to four times as large, and the smallest
    /// third. It covers all values if that makes it no more than twice as long.
    pub(super) fn near(values: impl Iterator<Item = f64>, chosen: f64) -> Self {
        let mut all: Vec<f64> = values.filter(|it| it.is_finite()).collect();
        all.sort_by(f64::total_cmp);
        let positive = all.partition_point(|it| *it <= 0.0);
        let third = all.get(positive + (all.len() - positive) / 3).copied().unwrap_or(0.0);
        let limit = third.max(if chosen.is_finite() { 4.0 * chosen } else { 0.0 });
        if all.last().is_some_and(|most| *most > 2.0 * limit) && limit > 0.0 {
            all.retain(|it| *it <= limit);
            all.push(limit);
        }
        Self::from_zero(all.into_iter())
    }

    /// The largest number of the range.
    pub(super) fn most(&self) -> f64 {
        self.most
    }

    /// Whether the range ends below this number.
    pub(super) fn is_below(&self, value: f64) -> bool {
        value > self.most + 1e-9 * (self.most - self.least)
    }

    /// Position on the axis, from 0 to 1.
    pub(super) fn part(&self, value: f64) -> f64 {
        let part = (value - self.least) / (self.most - self.least);
        if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) }
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.most - self.least) / self.step).round() as i64;
        (0..=count).map(|at| self.least + at as f64 * self.step)
    }

    /// The number with as many decimals as the step needs, or with a power of ten if all numbers are small.
    pub(super) fn label(&self, value: f64) -> String {
        if self.most.abs().max(self.least.abs()) < 1e-3 {
            if value.abs() < 1e-6 * self.step {
                return "0".to_owned();
            }
            let text = format!("{value:.3e}");
            let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            return format!("{digits}e{power}").replace('-', "−");
        }
        let decimals = (2.0 - self.step.log10()).floor().max(0.0) as usize;
        let text = format!("{value:.decimals$}");
        let text = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            &text
        };
        if text == "-0" { "0".to_owned() } else { text.replace('-', "−") }
    }
}

/// The smallest of 1, 2, 2.5 and 5 times a power of ten that is no smaller than this.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0].map(|it| it * power).into_iter().find(|it| *it >= rough);
    step.unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().map(|it| axis.label(it)).collect()
    }

    #[test]
    fn an_axis_of_per_cent_keeps_to_its_values_and_ends_at_100() {
        let cases: [(&[f64], &[&str]); 5] = [
            (&[100.0, 100.0], &["99", "100"]),
            (&[97.3, 99.9], &["97", "98", "99", "100"]),
            (&[82.0, 88.0], &["82", "84", "86", "88"]),
            (&[90.0], &["89", "90", "91"]),
            (&[0.0, 100.0], &["0", "25", "50", "75", "100"]),
        ];
        for (values, ticks) in cases {
            let axis = Axis::within(values.iter().copied(), 100.0);
            assert_eq!(labels(&axis), ticks, "{values:?}");
        }
    }

    #[test]
    fn a_constant_is_in_the_middle_and_nothing_covers_0_to_1() {
        let axis = Axis::over([5e-4; 3].into_iter());
        assert!((axis.part(5e-4) - 0.5).abs() < 0.01, "{:?}", labels(&axis));
        assert_eq!(labels(&Axis::over([f64::NAN].into_iter())), ["0", "0.25", "0.5", "0.75", "1"]);
        let axis = Axis::from_zero([5e-5].into_iter());
        assert_eq!(labels(&axis), ["0", "2e−5", "4e−5", "6e−5"], "short enough for a narrow chart");
        let axis = Axis::from_zero([0.0].into_iter());
        assert!(axis.part(0.0) == 0.0 && axis.most() > 0.0);
    }

    #[test]
    fn extreme_points_do_not_squeeze_those_that_matter() {
        let values = [0.0, 0.01, 0.02, 0.05, 0.1, 0.3, 40.0, 400.0];
        let axis = Axis::near(values.into_iter(), 0.05);
        assert!(axis.most() > 0.19 && axis.most() < 0.5, "{}", axis.most());
        assert!(axis.is_below(40.0) && axis.is_below(400.0) && !axis.is_below(0.1));
        assert!((axis.part(400.0) - 1.0).abs() < 1e-9 && axis.part(f64::INFINITY) > 0.99);
        // Values that are at most twice as far fit as they are.
        let axis = Axis::near([0.0, 0.1, 0.2, 0.35].into_iter(), 0.05);
        assert!(!axis.is_below(0.35));
        // Nothing is lost: all values are 0.
        assert!(!Axis::near([0.0, 0.0].into_iter(), 0.0).is_below(0.0));
    }
}
