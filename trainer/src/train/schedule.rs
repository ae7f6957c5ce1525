//! Values that change from step to step: λ, the shrinking of kernels, the learning rate.
//!
//! They are pure functions of the step, so an interrupted training continues with the same numbers.

use std::f64::consts::PI;

use updp_passes::blocks::BlockKind;

use super::error::TrainError;

/// How λ rises from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum Ramp {
    /// `λ = u`, `[UPDP] eq. 3`.
    #[default]
    Linear,
    /// `λ = (1 − cos πu) / 2`, flat at both ends.
    Cosine,
}

/// How the taps that pruned kernels lose fade out: `W ⊙ (1 − s·(1 − mask))`.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub enum Shrink {
    /// `s = λ`.
    #[default]
    WithLambda,
    /// `s = 0` before this epoch and 1 from it on; `[UPDP]` uses epoch 100 of 150.
    AtEpoch(f64),
}

/// The schedule of a training. Epochs are counted from 0 and may be fractions.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// E, the total number of epochs.
    pub epochs: usize,
    /// Steps per epoch.
    pub steps_per_epoch: usize,
    /// K: λ is 1 from epoch E/K on; with ∞, λ is always 1.
    pub speed: f64,
    /// Shape of the ramp.
    pub ramp: Ramp,
    /// When kernels shrink.
    pub shrink: Shrink,
    /// Learning rate after the warm-up.
    pub peak: f64,
    /// Learning rate at the end.
    pub floor: f64,
    /// Number of epochs in which the learning rate rises from 0.
    pub warm_up_epochs: f64,
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Index of the step, from 0.
    pub step: u64,
    /// e, the epochs completed before the step.
    pub epoch: f64,
    /// λ of pruned blocks: 0 = as in the baseline, 1 = pruned.
    pub lambda: f64,
    /// s: 0 = whole kernels, 1 = shrunk.
    pub shrink: f64,
    /// Learning rate.
    pub learning_rate: f64,
}

impl Schedule {
    /// Rejects a schedule with settings out of range.
    ///
    /// # Errors
    /// T0401.
    pub fn check(&self) -> Result<(), TrainError> {
        let refused = |setting, found: String, expected| {
            Err(TrainError::Setting { setting, found, expected })
        };
        let Self { epochs, steps_per_epoch, speed, peak, floor, warm_up_epochs, .. } = *self;
        if epochs == 0 || steps_per_epoch == 0 {
            return refused("the number of steps", "0".to_owned(), "1 or more");
        }
        if speed.is_nan() || speed < 1.0 {
            return refused("the speed of λ", speed.to_string(), "1 or more");
        }
        if !(peak.is_finite() && peak > 0.0) {
            return refused("the learning rate", peak.to_string(), "above 0");
        }
        if !(0.0..=peak).contains(&floor) {
            return refused("the last learning rate", floor.to_string(), "0 to the learning rate");
        }
        if !(0.0..=epochs as f64).contains(&warm_up_epochs) {
            return refused("the warm-up", warm_up_epochs.to_string(), "0 to the epochs there are");
        }
        if let Shrink::AtEpoch(at) = self.shrink
            && !(0.0..=epochs as f64).contains(&at)
        {
            return refused("--shrink-at", at.to_string(), "0 to the epochs there are");
        }
        Ok(())
    }

    /// T, the total number of steps.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.epochs as u64 * self.steps_per_epoch as u64
    }

    /// The numbers of the step with this index; the first is 0.
    ///
    /// - `λ = min(1, K·e/E)`, `e = step / steps_per_epoch`
    /// - `η = peak · (step + 1)/w` in the first `w` steps, the warm-up
    /// - `η = floor + (peak − floor) · (1 + cos(π·(step − w)/(T − w)))/2` after it
    #[must_use]
    pub fn at(&self, step: u64) -> Point {
        let epoch = step as f64 / self.steps_per_epoch.max(1) as f64;
        let lambda = lambda(epoch, self.epochs as f64, self.speed, self.ramp);
        let shrink = match self.shrink {
            Shrink::WithLambda => lambda,
            Shrink::AtEpoch(at) => f64::from(epoch >= at),
        };
        let warm_up = (self.warm_up_epochs * self.steps_per_epoch as f64).round();
        let learning_rate = rate(step as f64, self.steps() as f64, warm_up, self.peak, self.floor);
        Point { step, epoch, lambda, shrink, learning_rate }
    }
}

/// `λ = min(1, K·e/E)` of `[UPDP] eq. 3`, or its cosine form. It is 1 when K is infinite.
#[must_use]
pub fn lambda(epoch: f64, epochs: f64, speed: f64, ramp: Ramp) -> f64 {
    if speed.is_infinite() {
        return 1.0;
    }
    let share = (speed * epoch / epochs).clamp(0.0, 1.0);
    match ramp {
        Ramp::Linear => share,
        Ramp::Cosine => f64::midpoint(1.0, -(PI * share).cos()),
    }
}

fn rate(step: f64, steps: f64, warm_up: f64, peak: f64, floor: f64) -> f64 {
    if step < warm_up {
        return peak * (step + 1.0) / warm_up;
    }
    let share = ((step - warm_up) / (steps - warm_up).max(1.0)).min(1.0);
    floor + (peak - floor) * f64::midpoint(1.0, (PI * share).cos())
}

/// K for each family of pruned blocks, from `[UPDP]`: `ResNet` 3, `MobileNetV2` 3, `ConvNeXt` 4.5, `DeiT` 6. Other
/// blocks take the K of the family that they resemble most.
#[must_use]
pub fn default_speed(kind: BlockKind) -> f64 {
    match kind {
        BlockKind::ConvNext => 4.5,
        BlockKind::VitLayer | BlockKind::Mlp => 6.0,
        _ => 3.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Schedule {
        Schedule {
            epochs: 150,
            steps_per_epoch: 10,
            speed: 3.0,
            ramp: Ramp::Linear,
            shrink: Shrink::WithLambda,
            peak: 0.4,
            floor: 0.1,
            warm_up_epochs: 5.0,
        }
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
    }

    #[test]
    fn lambda_is_one_from_a_third_of_the_epochs_on() {
        let plan = plan();
        plan.check().unwrap();
        assert_eq!(plan.steps(), 1500);
        for (step, expected) in [(0, 0.0), (125, 0.25), (250, 0.5), (499, 0.998), (500, 1.0)] {
            near(plan.at(step).lambda, expected);
        }
        assert_eq!(plan.at(1499).lambda, 1.0);
        near(plan.at(125).epoch, 12.5);
        assert_eq!(Schedule { speed: f64::INFINITY, ..plan }.at(0).lambda, 1.0);
    }

    #[test]
    fn the_cosine_ramp_meets_the_linear_one_at_its_ends_and_middle() {
        let plan = Schedule { ramp: Ramp::Cosine, ..plan() };
        let quarter = (1.0 - std::f64::consts::FRAC_1_SQRT_2) / 2.0;
        for (step, expected) in [(0, 0.0), (125, quarter), (250, 0.5), (500, 1.0), (900, 1.0)] {
            near(plan.at(step).lambda, expected);
        }
    }

    #[test]
    fn kernels_shrink_with_lambda_or_at_once() {
        assert_eq!(plan().at(250).shrink, plan().at(250).lambda);
        let plan = Schedule { shrink: Shrink::AtEpoch(100.0), ..plan() };
        assert_eq!([999, 1000, 1499].map(|step| plan.at(step).shrink), [0.0, 1.0, 1.0]);
    }

    #[test]
    fn the_learning_rate_rises_then_falls_as_a_cosine_to_its_floor() {
        let plan = plan();
        let rate = |step| plan.at(step).learning_rate;
        for (step, expected) in [(0, 0.4 / 50.0), (24, 0.2), (49, 0.4), (50, 0.4), (775, 0.25)] {
            near(rate(step), expected);
        }
        near(rate(1500), 0.1);
        assert!(rate(1499) > 0.1);
        assert_eq!(Schedule { warm_up_epochs: 0.0, ..plan }.at(0).learning_rate, 0.4);
    }

    #[test]
    fn speeds_are_those_of_the_paper() {
        let kinds = [
            BlockKind::Basic,
            BlockKind::InvertedResidual,
            BlockKind::ConvNext,
            BlockKind::VitLayer,
        ];
        assert_eq!(kinds.map(default_speed), [3.0, 3.0, 4.5, 6.0]);
    }

    #[test]
    fn plans_that_make_no_sense_are_refused() {
        for plan in [
            Schedule { epochs: 0, ..plan() },
            Schedule { steps_per_epoch: 0, ..plan() },
            Schedule { speed: 0.5, ..plan() },
            Schedule { speed: f64::NAN, ..plan() },
            Schedule { peak: 0.0, ..plan() },
            Schedule { peak: f64::INFINITY, ..plan() },
            Schedule { floor: 0.5, ..plan() },
            Schedule { warm_up_epochs: 151.0, ..plan() },
            Schedule { shrink: Shrink::AtEpoch(-1.0), ..plan() },
        ] {
            assert_eq!(plan.check().unwrap_err().code(), "T0401", "{plan:?}");
        }
    }
}
