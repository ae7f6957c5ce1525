//! Estimates how long a training takes from a few of its steps.

use std::time::Instant;

use updp_ir::Model;
use updp_trainer::finetune::{FinetuneSettings, Finetuning};
use updp_trainer::observer::{Observer, TrainingEvent};

use crate::error::Result;
use crate::words::{about, counted};

/// Number of steps that are run.
const STEPS: usize = 5;

/// The result of running a few steps.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingEstimate {
    /// Number of updates in the whole training.
    pub steps: u64,
    /// Number of epochs in the whole training.
    pub epochs: usize,
    /// Number of trained tensors and number of their elements.
    pub parameters: (usize, usize),
    /// Seconds until the end of the first step. They include differentiating, opening, and comparing with the portable
    /// form.
    pub start: f64,
    /// Seconds per update: the median without the first step.
    pub step: f64,
    /// Seconds to score the network after an epoch.
    pub scoring: f64,
    /// Short trainings that choose the learning rate: their largest number, and the epochs of each.
    pub trials: (usize, usize),
}

impl TrainingEstimate {
    /// Seconds of the whole training at this rate.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        let epoch = self.step * self.steps as f64 / self.epochs.max(1) as f64 + self.scoring;
        let (trials, epochs) = (self.trials.0 as f64, (self.trials.0 * self.trials.1) as f64);
        (1.0 + trials) * self.start + (self.epochs as f64 + epochs) * epoch
    }

    /// A description in two lines. `what` names the thing that is trained or done.
    #[must_use]
    pub fn words(&self, what: &str) -> String {
        let (tensors, elements) = self.parameters;
        let trials = match self.trials {
            (0, _) => String::new(),
            (count, epochs) => format!(
                ", with up to {count} trainings of {} for the learning rate",
                counted(epochs, "epoch", "epochs")
            ),
        };
        format!(
            "{what}: {} and {} of {tensors} tensors with {elements} elements\n  \
             measured: {:.1} s to begin, {:.0} ms a step, {:.1} s to score an epoch; {}{trials}",
            counted(self.epochs, "epoch", "epochs"),
            counted(usize::try_from(self.steps).unwrap_or(usize::MAX), "step", "steps"),
            self.start,
            1e3 * self.step,
            self.scoring,
            about(self.seconds())
        )
    }
}

/// Runs the first steps of a training and discards the result.
///
/// # Errors
/// The errors of the training.
pub fn of_training(
    finetuning: &Finetuning<'_>,
    network: &Model,
    observer: &mut dyn Observer,
) -> Result<TrainingEstimate> {
    let settings = FinetuneSettings { folder: None, ..finetuning.settings.clone() };
    let finetuning = Finetuning { settings: &settings, ..*finetuning };
    let mut clock = Clock {
        observer,
        started: Instant::now(),
        mark: Instant::now(),
        steps: 0,
        times: Vec::new(),
        is_timed: false,
        is_over: false,
        scoring: None,
        scored: None,
    };
    let finetuned = finetuning.run(network, &mut clock)?;
    let scored = clock.scoring.map(|from| from.elapsed().as_secs_f64());
    let (first, rest) = clock.times.split_first().map_or((0.0, &[][..]), |(a, b)| (*a, b));
    let mut rest = rest.to_vec();
    rest.sort_by(f64::total_cmp);
    Ok(TrainingEstimate {
        steps: clock.steps,
        epochs: settings.epochs,
        parameters: finetuned.parameters,
        start: first,
        step: rest.get(rest.len() / 2).copied().unwrap_or(first),
        scoring: clock.scored.or(scored).unwrap_or_default(),
        trials: (0, 0),
    })
}

/// Records the times and then stops the training.
struct Clock<'a> {
    observer: &'a mut dyn Observer,
    started: Instant,
    /// When the last step or scoring ended.
    mark: Instant,
    /// Number of steps in the whole training.
    steps: u64,
    /// Seconds of each step. The first includes everything before it.
    times: Vec<f64>,
    /// Whether the current step already has its time. This is so when a scoring came before the step's report.
    is_timed: bool,
    is_over: bool,
    /// When the current scoring started.
    scoring: Option<Instant>,
    /// Seconds of the last finished scoring.
    scored: Option<f64>,
}

impl Clock<'_> {
    fn time(&mut self) {
        if !self.is_timed {
            let from = if self.times.is_empty() { self.started } else { self.mark };
            self.times.push(from.elapsed().as_secs_f64());
        }
        self.is_timed = true;
    }
}

impl Observer for Clock<'_> {
    fn message(&mut self, text: &str) {
        self.observer.message(text);
    }

    fn training(&mut self, event: TrainingEvent<'_>) {
        match event {
            TrainingEvent::Step(progress) => {
                self.time();
                self.steps = progress.steps;
                self.mark = Instant::now();
                self.is_timed = false;
            }
            TrainingEvent::Evaluating => {
                if !self.is_over {
                    self.time();
                }
                self.scoring = Some(Instant::now());
            }
            TrainingEvent::Epoch { .. } => {
                self.scored = self.scoring.take().map(|from| from.elapsed().as_secs_f64());
            }
            TrainingEvent::Started { .. } | TrainingEvent::Ended => {}
        }
    }

    fn is_cancelled(&mut self) -> bool {
        self.is_over = self.times.len() >= STEPS;
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_takes_its_start_its_steps_and_its_scores() {
        let estimate = TrainingEstimate {
            steps: 100,
            epochs: 4,
            parameters: (3, 500),
            start: 2.0,
            step: 0.5,
            scoring: 3.0,
            trials: (0, 0),
        };
        assert_eq!(estimate.seconds(), 64.0);
        let words = estimate.words("training");
        assert!(words.contains("4 epochs and 100 steps of 3 tensors with 500 elements"), "{words}");
        let trials = TrainingEstimate { trials: (3, 2), ..estimate };
        assert_eq!(trials.seconds(), 64.0 + 3.0 * 2.0 + 6.0 * 15.5);
        assert!(
            trials.words("training").ends_with("3 trainings of 2 epochs for the learning rate")
        );
        assert!(words.contains("500 ms a step") && words.ends_with("about 64 s"), "{words}");
    }
}
