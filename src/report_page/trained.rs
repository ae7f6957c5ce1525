//! A training without pruning as a page: scores before and after, and curves.

use askama::Template;
use updp_trainer::evaluator::Score;
use updp_trainer::finetune::Course;

use super::{Card, Origin, curves, filters};

/// The data that `trained.html` shows.
#[derive(Template)]
#[template(path = "trained.html")]
struct Page<'a> {
    title: String,
    heading: String,
    output: &'a str,
    origin: &'a Origin,
    warnings: Vec<String>,
    cards: Vec<Card>,
    training: Option<curves::Training>,
}

/// The page for a model that was trained and written: the names of both, the scores before and after, the number of
/// steps, and the course.
#[must_use]
pub fn trained(
    (input, output): (&str, &str),
    (before, after): (Score, Score),
    steps: u64,
    course: &Course,
    origin: &Origin,
) -> String {
    let lost = 100.0 * before.answer_loss(&after);
    let warning = format!(
        "The trained model is worse than the input model by {lost:.2} points on the held-out images"
    );
    let page = Page {
        title: format!("{input} trained"),
        heading: format!("{input}, trained"),
        output,
        origin,
        warnings: (lost > 0.0).then_some(warning).into_iter().collect(),
        cards: super::score_cards(before, after),
        training: curves::alone(course.epochs.len(), steps, course),
    };
    page.to_string()
}
