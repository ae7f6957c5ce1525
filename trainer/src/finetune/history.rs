//! The course of a training, for reports.

use serde::Serialize;

use crate::evaluator::Score;
use crate::train::Progress;

/// Maximum number of steps that a report shows.
const MOST_STEPS: usize = 300;

/// The state of a training after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EpochSummary {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Loss of the epoch's last step.
    pub loss: f64,
    /// λ at the end of the epoch; `None` without λ.
    pub lambda: Option<f64>,
    /// Score of the network with λ at its final value.
    pub score: Score,
}

/// The state of a training after a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepSummary {
    /// Number of finished updates.
    pub step: u64,
    /// Loss before the update, or the mean loss of several steps that are shown as one.
    pub loss: f64,
    /// λ of the step; `None` without λ.
    pub lambda: Option<f64>,
    /// Learning rate.
    pub learning_rate: f64,
}

/// Records one run of a training.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    has_lambda: bool,
    last: Option<Progress>,
    epochs: Vec<EpochSummary>,
    steps: Vec<StepSummary>,
}

/// The record of one training run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// Results after each epoch of the run.
    pub epochs: Vec<EpochSummary>,
    /// The steps of the run, thinned evenly.
    pub steps: Vec<StepSummary>,
    /// Images per second at the last step; `None` if no step was left.
    pub images_per_second: Option<f64>,
}

impl History {
    pub(super) fn new(has_lambda: bool) -> Self {
        Self { has_lambda, ..Self::default() }
    }

    pub(super) fn step(&mut self, progress: &Progress) {
        self.last = Some(*progress);
        let row = &progress.row;
        self.steps.push(StepSummary {
            step: progress.done,
            loss: row.loss,
            lambda: self.has_lambda.then_some(row.lambda),
            learning_rate: row.learning_rate,
        });
    }

    pub(super) fn epoch(&mut self, epoch: u64, score: &Score) {
        let loss = self.last.map_or(f64::NAN, |last| last.row.loss);
        let lambda = self.last.filter(|_| self.has_lambda).map(|last| last.row.lambda);
        self.epochs.push(EpochSummary { epoch, loss, lambda, score: *score });
    }

    pub(super) fn finish(self) -> Course {
        Course {
            epochs: self.epochs,
            steps: thinned(&self.steps, MOST_STEPS),
            images_per_second: self.last.map(|last| last.images_per_second),
        }
    }
}

/// At most `most` summaries: the last step of each run of equal length, with the mean of its losses.
fn thinned(steps: &[StepSummary], most: usize) -> Vec<StepSummary> {
    let length = steps.len().div_ceil(most.max(1)).max(1);
    let last = |chunk: &[StepSummary]| {
        let loss = chunk.iter().map(|it| it.loss).sum::<f64>() / chunk.len() as f64;
        chunk.last().map(|last| StepSummary { loss, ..*last })
    };
    steps.chunks(length).filter_map(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_is_thinned_to_means_and_keeps_its_last_step() {
        let summary = |step: u64| StepSummary {
            step,
            loss: step as f64,
            lambda: Some(0.5),
            learning_rate: 0.1,
        };
        let steps: Vec<StepSummary> = (1..=7).map(summary).collect();
        assert_eq!(thinned(&steps, 7), steps);
        let thin: Vec<(u64, f64)> =
            thinned(&steps, 3).iter().map(|it| (it.step, it.loss)).collect();
        assert_eq!(thin, [(3, 2.0), (6, 5.0), (7, 7.0)]);
        assert!(thinned(&[], 3).is_empty());
    }
}
