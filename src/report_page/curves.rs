//! The progress of a training as curves over its steps: loss, score, λ and learning rate.

use updp_prune::outcome::{Outcome, SupernetOutcome, TrainingOutcome};
use updp_trainer::evaluator::Score;
use updp_trainer::finetune::{self as trainer, EpochSummary, StepSummary};

use super::axis::Axis;
use super::chart::{Circle, Frame, Plot};
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

/// A training without pruning: epochs that ended, steps that were made.
pub(super) fn alone(epochs: usize, steps: u64, course: &trainer::Course) -> Option<Training> {
    let (moments, history) = (&course.steps, &course.epochs);
    let summary = format!(
        "{}, {}",
        counted(epochs, "epoch", "epochs"),
        counted(usize::try_from(steps).unwrap_or(usize::MAX), "step", "steps")
    );
    let course = Course { epochs, images: 0, steps, moments, history };
    let curves = course.curves();
    (!curves.is_empty()).then_some(Training { title: "Training", summary, scored: "", curves })
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
        let (title, score, bound) = score_of(self.history);
        let scores: Vec<(f64, f64)> = self
            .history
            .iter()
            .filter_map(|it| Some((it.epoch as f64 * per_epoch, score(&it.score)?)))
            .collect();
        let curves = [
            curve("Loss", &over(&|it| Some(it.loss)), last, f64::INFINITY, false),
            curve(title, &scores, last, bound, true),
            curve("λ", &over(&|it| it.lambda), last, 1.0, false),
            curve("Learning rate", &over(&|it| Some(it.learning_rate)), last, f64::INFINITY, false),
        ];
        curves.into_iter().flatten().collect()
    }
}

/// One number of a score.
type Share = fn(&Score) -> Option<f64>;

/// The first of accuracy, agreement and overlap that every epoch has: its name, its value, and the largest value that can
/// be.
fn score_of(history: &[EpochSummary]) -> (&'static str, Share, f64) {
    let all = |is: fn(&Score) -> bool| history.iter().all(|it| is(&it.score));
    if all(|score| score.accuracy.is_some()) {
        ("Accuracy, %", |score| score.accuracy.map(|share| 100.0 * share), 100.0)
    } else if all(|score| score.agreement.is_some()) {
        ("Agreement, %", |score| score.agreement.map(|share| 100.0 * share), 100.0)
    } else {
        ("Overlap", |score| Some(score.overlap), 1.0)
    }
}

/// One plot of (step, value) up to the last step, with values up to `bound`; `None` if there is no finite value.
fn curve(
    title: &'static str,
    points: &[(f64, f64)],
    last: f64,
    bound: f64,
    has_dots: bool,
) -> Option<Curve> {
    let points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let (_, end) = *points.last()?;
    let across = Axis::over([0.0, last].into_iter());
    let up = Axis::within(points.iter().map(|it| it.1), bound);
    let line: Vec<String> = points
        .iter()
        .map(|(step, value)| {
            format!("{:.1},{:.1}", SIDE * across.part(*step), SIDE * (1.0 - up.part(*value)))
        })
        .collect();
    let plot = Plot { frame: FRAME, across, up };
    // A single point gives no line.
    let dots = if has_dots || points.len() == 1 { &points[..] } else { &[] };
    let dots = dots.iter().map(|(step, value)| {
        let tip = format!("step {}: {}", number(*step), number(*value));
        plot.point("fill-is", 3.5, (*step, *value), tip)
    });
    let dots = dots.collect();
    Some(Curve { title, plot, end, points: line.join(" "), dots })
}
