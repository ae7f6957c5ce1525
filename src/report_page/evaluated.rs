//! An evaluation as a page: scores, the change of each class, and the images that change their class.

use askama::Template;

use super::chart::{Bar, Group};
use super::{Card, Origin, number, percent};
use crate::api::{ClassScore, EvaluateReport};
use updp_prune::words::counted;

/// The data that `evaluated.html` shows.
#[derive(Template)]
#[template(path = "evaluated.html")]
struct Page<'a> {
    title: String,
    origin: &'a Origin,
    data: String,
    cards: Vec<Card>,
    /// What the bars of the classes show.
    told: &'static str,
    classes: Vec<Group<'a>>,
    changes: Vec<Group<'a>>,
    flipped: Vec<String>,
    flipped_count: usize,
    skipped: &'a [String],
}

/// The page for one evaluation, with the first `shown` of the images that change their class.
#[must_use]
pub fn evaluated(report: &EvaluateReport, data: &str, shown: usize, origin: &Origin) -> String {
    let paths: Vec<String> =
        report.models.iter().map(|model| model.path.display().to_string()).collect();
    let unlabelled = if report.has_labels { "" } else { ", without labels" };
    let told = match (report.has_labels, report.models.len()) {
        (true, 1) => "Share of the images of each class that the model names right.",
        (true, _) => {
            "Share of the images of each class that each model names right: grey A, green B."
        }
        (false, _) => "Share of the images of each class of A that B puts into the same class.",
    };
    let page = Page {
        title: paths.join(" and "),
        origin,
        data: format!("{} of {data}{unlabelled}", counted(report.images, "image", "images")),
        cards: cards(report),
        told,
        classes: report.classes.iter().map(class).collect(),
        changes: changes(&report.classes),
        flipped: report.flipped.iter().take(shown).map(flipped).collect(),
        flipped_count: report.flipped.len(),
        skipped: &report.skipped,
    };
    page.to_string()
}

fn cards(report: &EvaluateReport) -> Vec<Card> {
    let mut cards = Vec::new();
    let mut add = |title, shares: Vec<Option<f64>>| {
        let shares: Vec<f64> = shares.into_iter().flatten().collect();
        let Some(last) = shares.last() else { return };
        let error = 100.0 * (last * (1.0 - last) / report.images.max(1) as f64).sqrt();
        let (value, change) = match shares[..] {
            [first, second] => (
                format!("{} → {}", number(100.0 * first), percent(second)),
                format!("{} points, ", super::signed(100.0 * (second - first))),
            ),
            _ => (percent(*last), String::new()),
        };
        let images = counted(report.images, "image", "images");
        let detail = format!("{change}±\u{a0}{} standard error, {images}", number(error));
        cards.push(Card { title, value, detail });
    };
    add("Accuracy", report.models.iter().map(|model| model.top1).collect());
    add("Label among the first five", report.models.iter().map(|model| model.top5).collect());
    add("Agreement", vec![report.agreement]);
    cards
}

/// The shares of one class.
fn class(class: &ClassScore) -> Group<'_> {
    let bar = |label: &str, fill, share: f64| {
        let text = percent(share);
        Bar::new(label.to_owned(), fill, share, text.clone(), text)
    };
    let bars = match class.top1[..] {
        [] => class.agreement.map(|share| bar("agreement", "fill-is", share)).into_iter().collect(),
        [share] => vec![bar("A", "fill-is", share)],
        [first, second, ..] => vec![bar("A", "fill-was", first), bar("B", "fill-is", second)],
    };
    Group {
        heading: format!("{} ({})", class.name, counted(class.images, "image", "images")),
        name: "",
        bars,
        note: None,
    }
}

/// The change of each class from A to B in points, the largest loss first; empty with one model or without labels.
fn changes(classes: &[ClassScore]) -> Vec<Group<'_>> {
    let mut all: Vec<(&str, f64)> = classes
        .iter()
        .filter_map(|class| match class.top1[..] {
            [first, second, ..] => Some((class.name.as_str(), 100.0 * (second - first))),
            _ => None,
        })
        .collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    let most = all.iter().map(|it| it.1.abs()).fold(0.0, f64::max);
    if most == 0.0 {
        return Vec::new();
    }
    let bars = all.into_iter().map(|(name, points)| {
        let fill = if points < 0.0 { "fill-loss" } else { "fill-is" };
        let text = format!("{} points", super::signed(points));
        let tip = format!("{name}: {text}");
        Bar::new(name.to_owned(), fill, points.abs() / most, text, tip)
    });
    vec![Group { heading: String::new(), name: "", bars: bars.collect(), note: None }]
}

fn flipped(image: &crate::api::FlippedImage) -> String {
    let class = |name: &Option<String>| name.clone().unwrap_or_else(|| "not finite".to_owned());
    let label = image.label.as_ref().map_or_else(String::new, |label| format!(" (label {label})"));
    format!("{}: {} → {}{label}", image.name, class(&image.first), class(&image.second))
}
