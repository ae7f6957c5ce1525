//! Measured latencies as a page: whole models in turns, or the blocks of one model in each of their forms.

use askama::Template;
use updp_prune::profile::BlockProfile;
use updp_prune::words::counted;

use super::chart::{Bar, Group};
use super::{Card, Origin, number};
use crate::api::{BenchReport, BlockBenchReport};

/// The data that `benched.html` shows.
#[derive(Template)]
#[template(path = "benched.html")]
struct Page<'a> {
    title: String,
    origin: &'a Origin,
    /// How was measured.
    how: String,
    cards: Vec<Card>,
    heading: &'static str,
    /// What the bars show.
    told: &'static str,
    groups: Vec<Group<'a>>,
}

/// The page for one or two models; `how` says how they were measured.
#[must_use]
pub fn benched(report: &BenchReport, how: &str, origin: &Origin) -> String {
    let names: Vec<String> =
        report.models.iter().map(|model| model.path.display().to_string()).collect();
    let most = report.models.iter().map(|model| model.latency.p90_ms).fold(0.0, f64::max);
    let groups = report.models.iter().zip(["A", "B"]).map(|(model, letter)| {
        let latency = &model.latency;
        let bar = |label: &str, fill, ms: f64| {
            let text = format!("{} ms", number(ms));
            Bar::new(label.to_owned(), fill, ms / most, text.clone(), text)
        };
        Group {
            heading: letter.to_owned(),
            name: &model.runtime,
            bars: vec![
                bar("Tenth percentile", "fill-was", latency.p10_ms),
                bar("Median", "fill-is", latency.median_ms),
                bar("Ninetieth percentile", "fill-was", latency.p90_ms),
            ],
            note: Some(format!("{} in {} runs", model.path.display(), latency.runs)),
        }
    });
    let page = Page {
        title: format!("Latency of {}", names.join(" and ")),
        origin,
        how: how.to_owned(),
        cards: cards(report),
        heading: "Latency",
        told: "Time of one run, in milliseconds.",
        groups: groups.collect(),
    };
    page.to_string()
}

fn cards(report: &BenchReport) -> Vec<Card> {
    let mut cards: Vec<Card> = report
        .models
        .iter()
        .zip(["Median of A", "Median of B"])
        .map(|(model, title)| Card {
            title,
            value: format!("{} ms", number(model.latency.median_ms)),
            detail: counted(model.latency.runs, "run", "runs"),
        })
        .collect();
    if let Some(second) = report.models.get(1) {
        cards.push(Card {
            title: "Speed of B against A",
            value: format!("{}×", number(second.speedup)),
            detail: format!(
                "between {} and {} with 95 % confidence",
                number(second.interval.low),
                number(second.interval.high)
            ),
        });
    }
    cards
}

/// The page for the blocks of the model with this name; `how` says how they were measured.
#[must_use]
pub fn benched_blocks(name: &str, report: &BlockBenchReport, how: &str, origin: &Origin) -> String {
    let times = |row: &BlockProfile| {
        let forms = row.forms.values().filter_map(|form| Some(form.as_ref().ok()?.time_ms()));
        forms.chain([row.baseline.time_ms()]).fold(0.0, f64::max)
    };
    let most = report.blocks.iter().map(times).fold(0.0, f64::max);
    let page = Page {
        title: format!("Latency of the blocks of {name}"),
        origin,
        how: how.to_owned(),
        cards: Vec::new(),
        heading: "Blocks",
        told: "Time of each block by itself, as it is (grey) and in each of its forms (green), in milliseconds.",
        groups: report.blocks.iter().map(|row| block(row, most)).collect(),
    };
    page.to_string()
}

fn block(row: &BlockProfile, most: f64) -> Group<'_> {
    let own = row.baseline.time_ms();
    let bar = |label: &str, fill, ms: f64| {
        let gain = format!("{} ms, {}×", number(ms), number(own / ms));
        Bar::new(label.to_owned(), fill, ms / most, format!("{} ms", number(ms)), gain)
    };
    let forms = row.forms.iter().filter_map(|(form, variant)| {
        Some(bar(form.name(), "fill-is", variant.as_ref().ok()?.time_ms()))
    });
    let refused = row.forms.iter().filter_map(|(form, variant)| {
        Some(format!("{}: {}", form.name(), variant.as_ref().err()?))
    });
    let model = row.unmeasured.as_ref().map(|it| format!("cost model, not measured: {it}"));
    let refusal = row.block.refusal.as_ref().map(|it| format!("not prunable: {}", it.detail));
    let notes: Vec<String> = refused.chain(model).chain(refusal).collect();
    Group {
        heading: format!("{}\u{a0}{}", row.block.index, row.block.name),
        name: row.block.kind.name(),
        bars: [bar("as it is", "fill-was", own)].into_iter().chain(forms).collect(),
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }
}
