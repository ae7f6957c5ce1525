//! How a training went, as curves over its steps: loss, score, λ and learning rate.

use std::fmt::Write;

use updp_trainer::outcome::{
    EpochOutcome, Moment, Outcome, Score, SupernetOutcome, TrainingOutcome,
};

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

/// What is told of one training.
struct Told<'a> {
    title: &'a str,
    what: String,
    epochs: usize,
    images: usize,
    steps: u64,
    /// What the score is of, behind "after each epoch".
    scored: &'a str,
    course: &'a [Moment],
    history: &'a [EpochOutcome],
}

/// The curves of supernet and training; nothing of what was not trained, or was done before this run.
pub(super) fn trainings(html: &mut String, outcome: &Outcome) {
    if let Some(supernet) = &outcome.supernet {
        let SupernetOutcome { course, history, .. } = supernet;
        let what = format!("{} in two flows", counted(supernet.blocks.len(), "block", "blocks"));
        let (epochs, images, steps) = (supernet.epochs, supernet.images, supernet.steps);
        let (title, scored) = ("Supernet", ", every block pruned");
        curves(html, &Told { title, what, epochs, images, steps, scored, course, history });
    }
    if let Some(training) = &outcome.training {
        let TrainingOutcome { course, history, .. } = training;
        let what = escape(&training.method);
        let (epochs, images, steps) = (training.epochs, training.images, training.steps);
        let has_lambda = course.iter().any(|it| it.lambda.is_some());
        let (title, scored) = ("Training", if has_lambda { ", λ at 1" } else { "" });
        curves(html, &Told { title, what, epochs, images, steps, scored, course, history });
    }
}

fn curves(html: &mut String, told: &Told<'_>) {
    let Told { title, what, epochs, images, steps, scored, course, history } = told;
    if course.is_empty() && history.is_empty() {
        return;
    }
    put(
        html,
        format_args!(
            "<h2>{title}</h2>\n<p class=\"dim\">{what}: {} with {}, {}. Across: steps. The score is that on the held-out images \
             after each epoch{scored}.</p>\n<div class=\"curves\">\n",
            counted(*epochs, "epoch", "epochs"),
            counted(*images, "image", "images"),
            counted(usize::try_from(*steps).unwrap_or(usize::MAX), "step", "steps"),
        ),
    );
    let over = |of: &dyn Fn(&Moment) -> Option<f64>| -> Vec<(f64, f64)> {
        course.iter().filter_map(|it| Some((it.step as f64, of(it)?))).collect()
    };
    let last = *steps as f64;
    let per_epoch = last / (*epochs).max(1) as f64;
    let (title, score) = score_of(history);
    let scores: Vec<(f64, f64)> = history
        .iter()
        .filter_map(|it| Some((it.epoch as f64 * per_epoch, score(&it.score)?)))
        .collect();
    curve(html, "Loss", &over(&|it| Some(it.loss)), (last, false));
    curve(html, title, &scores, (last, true));
    curve(html, "λ", &over(&|it| it.lambda), (last, false));
    curve(html, "Learning rate", &over(&|it| Some(it.learning_rate)), (last, false));
    html.push_str("</div>\n");
}

/// What of a score all of them have, and its name.
fn score_of(history: &[EpochOutcome]) -> (&'static str, fn(&Score) -> Option<f64>) {
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
