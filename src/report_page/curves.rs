//! The progress of a training as curves over its steps: loss, score, λ and learning rate.

use updp_prune::outcome::{Outcome, SupernetOutcome, TrainingOutcome};
use updp_trainer::evaluator::Score;
use updp_trainer::finetune::{EpochSummary, StepSummary};

use super::chart::{Axis, Circle, Frame, Plot};
use super::number;
use updp_prune::words::counted;

const FRAME: Frame = Frame { height: 210.0, top: 8.0, bottom: 26.0, left: 17.0, right: 5.0 };
/// Width and height of the coordinate system for a line; the browser stretches it to the plot.
pub(super) const SIDE: f64 = 1000.0;

/// One training with its curves; `curves.html` shows it.
pub(super) struct Training {
    pub(super) title: &'static str,
    /// The trained network, the duration and the number of images.
    pub(super) summary: String,
    /// The network that is scored; the text continues with "after each epoch".
    pub(super) scored: &'static str,
    pub(super) curves: Vec<Curve>,
}

/// One plot of a value over the steps.
pub(super) struct Curve {
    pub(super) title: &'static str,
    pub(super) plot: Plot,
    /// The last value.
    pub(super) end: f64,
    /// Points of the line, both coordinates from 0 to [`SIDE`].
    pub(super) points: String,
    /// Points with a tooltip.
    pub(super) dots: Vec<Circle>,
}

/// The records that both kinds of training have in common.
#[derive(Clone, Copy)]
struct Course<'a> {
    epochs: usize,
    images: usize,
    steps: u64,
    moments: &'a [StepSummary],
    history: &'a [EpochSummary],
}

/// The trainings of the supernet and of the result. A training without steps in this run is left out.
pub(super) fn trainings(outcome: &Outcome) -> Vec<Training> {
    let supernet = outcome.supernet.as_ref().and_then(|supernet| {
        let SupernetOutcome { epochs, images, steps, course: moments, history, .. } = supernet;
        let what = format!("{} in two flows", counted(supernet.blocks.len(), "block", "blocks"));
        Course { epochs: *epochs, images: *images, steps: *steps, moments, history }.training(
            "Supernet",
            &what,
            ", every block pruned",
        )
    });
    let training = outcome.training.as_ref().and_then(|training| {
        let TrainingOutcome { epochs, images, steps, course: moments, history, .. } = training;
        let has_lambda = moments.iter().any(|it| it.lambda.is_some());
        Course { epochs: *epochs, images: *images, steps: *steps, moments, history }.training(
            "Training",
            &training.method,
            if has_lambda { ", λ at 1" } else { "" },
        )
    });
    supernet.into_iter().chain(training).collect()
}

impl Course<'_> {
    /// `None` if nothing was recorded.
    fn training(self, title: &'static str, what: &str, scored: &'static str) -> Option<Training> {
        if self.moments.is_empty() && self.history.is_empty() {
            return None;
        }
        let summary = format!(
            "{what}: {} with {}, {}",
            counted(self.epochs, "epoch", "epochs"),
            counted(self.images, "image", "images"),
            counted(usize::try_from(self.steps).unwrap_or(usize::MAX), "step", "steps"),
        );
        Some(Training { title, summary, scored, curves: self.curves() })
    }

    fn curves(self) -> Vec<Curve> {
        let over = |of: &dyn Fn(&StepSummary) -> Option<f64>| -> Vec<(f64, f64)> {
            self.moments.iter().filter_map(|it| Some((it.step as f64, of(it)?))).collect()
        };
        let last = self.steps as f64;
        let per_epoch = last / self.epochs.max(1) as f64;
        let (title, score) = score_of(self.history);
        let scores: Vec<(f64, f64)> = self
            .history
            .iter()
            .filter_map(|it| Some((it.epoch as f64 * per_epoch, score(&it.score)?)))
            .collect();
        let curves = [
            curve("Loss", &over(&|it| Some(it.loss)), last, false),
            curve(title, &scores, last, true),
            curve("λ", &over(&|it| it.lambda), last, false),
            curve("Learning rate", &over(&|it| Some(it.learning_rate)), last, false),
        ];
        curves.into_iter().flatten().collect()
    }
}

/// The first of accuracy, agreement and overlap that every epoch has, with its name.
fn score_of(history: &[EpochSummary]) -> (&'static str, fn(&Score) -> Option<f64>) {
    let all = |is: fn(&Score) -> bool| history.iter().all(|it| is(&it.score));
    if all(|score| score.accuracy.is_some()) {
        ("Accuracy, %", |score| score.accuracy.map(|share| 100.0 * share))
    } else if all(|score| score.agreement.is_some()) {
        ("Agreement, %", |score| score.agreement.map(|share| 100.0 * share))
    } else {
        ("Overlap", |score| Some(score.overlap))
    }
}

/// One plot of (step, value) up to the last step; `None` if there is no finite value.
fn curve(title: &'static str, points: &[(f64, f64)], last: f64, has_dots: bool) -> Option<Curve> {
    let points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let (_, end) = *points.last()?;
    let across = Axis::over([0.0, last].into_iter(), false);
    let up = Axis::over(points.iter().map(|it| it.1), false);
    let line: Vec<String> = points
        .iter()
        .map(|(step, value)| {
            format!("{:.1},{:.1}", SIDE * across.part(*step), SIDE * (1.0 - up.part(*value)))
        })
        .collect();
    let plot = Plot { frame: FRAME, across, up };
    // A single point gives no line.
    let dots = if has_dots || points.len() == 1 { &points[..] } else { &[] };
    let dots = dots.iter().map(|(step, value)| Circle {
        class: "fill-is",
        x: plot.x(*step),
        y: plot.y(*value),
        radius: 3.5,
        tip: format!("step {}: {}", number(*step), number(*value)),
    });
    let dots = dots.collect();
    Some(Curve { title, plot, end, points: line.join(" "), dots })
}
