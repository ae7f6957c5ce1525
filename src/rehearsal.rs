//! A few steps of a training, to tell how long all of it would take.

use std::time::Instant;

use updp_ir::Model;
use updp_passes::surgery;
use updp_trainer::error::TrainerError;
use updp_trainer::outcome::Score;
use updp_trainer::train::Progress;
use updp_trainer::tune::{Observer, TuneSettings, Tuning};

use crate::error::CliError;
use crate::report::counted;

/// Steps that are run.
const STEPS: usize = 5;

/// What a few steps showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsed {
    /// Updates of the whole training.
    pub steps: u64,
    /// Epochs of it.
    pub epochs: usize,
    /// Trained tensors, and their elements.
    pub parameters: (usize, usize),
    /// Seconds until the first step is done, itself included: differentiating, opening, comparing with the portable form.
    pub start: f64,
    /// Seconds of an update: median of those after the first.
    pub step: f64,
    /// Seconds to score the network after an epoch.
    pub judging: f64,
}

impl Rehearsed {
    /// Seconds that the whole training takes at this rate.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.start + self.step * self.steps as f64 + self.judging * self.epochs as f64
    }

    /// In words, two lines; `what` is trained or done.
    #[must_use]
    pub fn words(&self, what: &str) -> String {
        let (tensors, elements) = self.parameters;
        format!(
            "{what}: {} and {} of {tensors} tensors with {elements} elements\n  \
             measured: {:.1} s to begin, {:.0} ms a step, {:.1} s to score an epoch; {}",
            counted(self.epochs, "epoch", "epochs"),
            counted(usize::try_from(self.steps).unwrap_or(usize::MAX), "step", "steps"),
            self.start,
            1e3 * self.step,
            self.judging,
            about(self.seconds())
        )
    }
}

/// Runs the first steps of a training and keeps nothing of it.
///
/// # Errors
/// What the training refuses.
pub fn rehearse(tuning: &Tuning<'_>, network: &Model) -> Result<Rehearsed, CliError> {
    let settings = TuneSettings { folder: None, ..tuning.settings.clone() };
    let tuning = Tuning { settings: &settings, ..*tuning };
    let mut clock = Clock {
        started: Instant::now(),
        mark: Instant::now(),
        steps: 0,
        times: Vec::new(),
        is_timed: false,
        is_over: false,
        judging: None,
        judged: None,
    };
    let tuned = tuning.run(network, &mut clock)?;
    let judged = clock.judging.map(|from| from.elapsed().as_secs_f64());
    let (first, rest) = clock.times.split_first().map_or((0.0, &[][..]), |(a, b)| (*a, b));
    let mut rest = rest.to_vec();
    rest.sort_by(f64::total_cmp);
    Ok(Rehearsed {
        steps: clock.steps,
        epochs: settings.epochs,
        parameters: tuned.parameters,
        start: first,
        step: rest.get(rest.len() / 2).copied().unwrap_or(first),
        judging: clock.judged.or(judged).unwrap_or_default(),
    })
}

/// Takes the times, then stops.
struct Clock {
    started: Instant,
    /// When the last step or scoring ended.
    mark: Instant,
    /// Steps of the whole training.
    steps: u64,
    /// Seconds of each step; of the first with all that goes before it.
    times: Vec<f64>,
    /// Whether the step at hand has its time already: a scoring came before the report of it.
    is_timed: bool,
    is_over: bool,
    /// Since when a network is scored.
    judging: Option<Instant>,
    /// Seconds of a scoring that ended.
    judged: Option<f64>,
}

impl Clock {
    fn time(&mut self) {
        if !self.is_timed {
            let from = if self.times.is_empty() { self.started } else { self.mark };
            self.times.push(from.elapsed().as_secs_f64());
        }
        self.is_timed = true;
    }
}

impl Observer for Clock {
    fn progress(&mut self, progress: &Progress) {
        self.time();
        self.steps = progress.steps;
        self.mark = Instant::now();
        self.is_timed = false;
    }

    fn notice(&mut self, text: &str) {
        crate::terminal::remark(text);
    }

    fn epoch(&mut self, _epoch: u64, _score: &Score) {
        self.judged = self.judging.take().map(|from| from.elapsed().as_secs_f64());
    }

    fn is_stopped(&mut self) -> bool {
        self.is_over = self.times.len() >= STEPS;
        self.is_over
    }

    fn judged(&mut self, mut network: Model) -> Result<Model, TrainerError> {
        if !self.is_over {
            self.time();
        }
        self.judging = Some(Instant::now());
        // A network without λ stays as it is.
        surgery::settle(&mut network)?;
        Ok(network)
    }
}

/// A time in words: two digits are all an estimate has.
#[must_use]
pub fn about(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "no estimate".to_owned(),
        s if s < 90.0 => format!("about {:.0} s", s.max(1.0)),
        s if s < 90.0 * 60.0 => format!("about {:.0} min", s / 60.0),
        s => format!("about {:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let texts = [0.1, 42.4, 95.0, 3600.0, 7200.0, f64::NAN].map(about);
        let expected = [
            "about 1 s",
            "about 42 s",
            "about 2 min",
            "about 60 min",
            "about 2.0 h",
            "no estimate",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_training_takes_its_start_its_steps_and_its_scores() {
        let rehearsed = Rehearsed {
            steps: 100,
            epochs: 4,
            parameters: (3, 500),
            start: 2.0,
            step: 0.5,
            judging: 3.0,
        };
        assert_eq!(rehearsed.seconds(), 64.0);
        let words = rehearsed.words("training");
        assert!(words.contains("4 epochs and 100 steps of 3 tensors with 500 elements"), "{words}");
        assert!(words.contains("500 ms a step") && words.ends_with("about 64 s"), "{words}");
    }
}
