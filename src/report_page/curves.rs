//! How a training went, as curves over its steps: loss, score, λ and learning rate.

use std::fmt::Write;

use updp_trainer::outcome::{EpochOutcome, Moment, Outcome, Score, TrainingOutcome};

use super::chart::Axis;
use super::{escape, number, put};
use crate::report::counted;

/// Height of a plot and its margins, in pixels.
const HEIGHT: f64 = 210.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 26.0;
/// Margins of a plot, in per cent of its width.
const LEFT: f64 = 17.0;
const RIGHT: f64 = 5.0;
/// Sides of the coordinates that a line is drawn in, stretched to the plot.
const SIDE: f64 = 1000.0;

/// The curves; nothing when nothing was trained, or everything was done before this run.
pub(super) fn training(html: &mut String, outcome: &Outcome) {
    let Some(training) = &outcome.training else { return };
    let TrainingOutcome { course, history, .. } = training;
    if course.is_empty() && history.is_empty() {
        return;
    }
    put(
        html,
        format_args!(
            "<h2>Training</h2>\n<p class=\"dim\">{}: {} with {}, {}. Across: steps. The score is that on the held-out images \
             after each epoch{}.</p>\n<div class=\"curves\">\n",
            escape(&training.method),
            counted(training.epochs, "epoch", "epochs"),
            counted(training.images, "image", "images"),
            counted(usize::try_from(training.steps).unwrap_or(usize::MAX), "step", "steps"),
            if course.iter().any(|it| it.lambda.is_some()) { ", λ at 1" } else { "" }
        ),
    );
    let over = |of: &dyn Fn(&Moment) -> Option<f64>| -> Vec<(f64, f64)> {
        course.iter().filter_map(|it| Some((it.step as f64, of(it)?))).collect()
    };
    let per_epoch = training.steps as f64 / training.epochs.max(1) as f64;
    let (title, score) = scored(history);
    let scores: Vec<(f64, f64)> = history
        .iter()
        .filter_map(|it| Some((it.epoch as f64 * per_epoch, score(&it.score)?)))
        .collect();
    let last = training.steps as f64;
    curve(html, "Loss", &over(&|it| Some(it.loss)), (last, false));
    curve(html, title, &scores, (last, true));
    curve(html, "λ", &over(&|it| it.lambda), (last, false));
    curve(html, "Learning rate", &over(&|it| Some(it.learning_rate)), (last, false));
    html.push_str("</div>\n");
}

/// What of a score all of them have, and its name.
fn scored(history: &[EpochOutcome]) -> (&'static str, fn(&Score) -> Option<f64>) {
    let all = |is: fn(&Score) -> bool| history.iter().all(|it| is(&it.score));
    if all(|score| score.accuracy.is_some()) {
        ("Accuracy, %", |score| score.accuracy.map(|share| 100.0 * share))
    } else if all(|score| score.agreement.is_some()) {
        ("Agreement, %", |score| score.agreement.map(|share| 100.0 * share))
    } else {
        ("Overlap", |score| Some(score.overlap))
    }
}

/// One plot of (step, value); nothing without a finite value. With dots, each value can be pointed at.
fn curve(html: &mut String, title: &str, points: &[(f64, f64)], (last, has_dots): (f64, bool)) {
    let points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let Some((_, end)) = points.last() else { return };
    let across = Axis::over([0.0, last].into_iter(), false);
    let up = Axis::over(points.iter().map(|it| it.1), false);
    let (floor, right) = (HEIGHT - BOTTOM, 100.0 - RIGHT);
    let x = |step: f64| LEFT + (right - LEFT) * across.part(step);
    let y = |value: f64| floor - (floor - TOP) * up.part(value);
    put(
        html,
        format_args!(
            "<div><h3>{title}</h3><svg width=\"100%\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{title}, {} at the end\">\n",
            number(*end)
        ),
    );
    for tick in up.ticks() {
        put(
            html,
            format_args!(
                "<line x1=\"{LEFT}%\" x2=\"{right}%\" y1=\"{y:.1}\" y2=\"{y:.1}\" />\
                 <text x=\"{}%\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 1.5,
                y(tick) + 4.0,
                up.label(tick),
                y = y(tick)
            ),
        );
    }
    for tick in across.ticks() {
        put(
            html,
            format_args!(
                "<text x=\"{:.2}%\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                x(tick),
                floor + 18.0,
                across.label(tick)
            ),
        );
    }
    let mut line = String::new();
    for (step, value) in &points {
        let _ =
            write!(line, "{:.1},{:.1} ", SIDE * across.part(*step), SIDE * (1.0 - up.part(*value)));
    }
    put(
        html,
        format_args!(
            "<svg x=\"{LEFT}%\" y=\"{TOP}\" width=\"{}%\" height=\"{}\" viewBox=\"0 0 {SIDE} {SIDE}\" \
             preserveAspectRatio=\"none\" overflow=\"visible\"><polyline class=\"curve\" points=\"{}\" /></svg>\n",
            right - LEFT,
            floor - TOP,
            line.trim_end()
        ),
    );
    // A single point has no line.
    if has_dots || points.len() == 1 {
        for (step, value) in &points {
            put(
                html,
                format_args!(
                    "<circle class=\"fill-is\" cx=\"{:.2}%\" cy=\"{:.1}\" r=\"3.5\"><title>step {}: {}</title></circle>\n",
                    x(*step),
                    y(*value),
                    number(*step),
                    number(*value)
                ),
            );
        }
    }
    html.push_str("</svg></div>\n");
}
