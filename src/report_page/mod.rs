//! Reports as pages: self-contained HTML files with charts, for wide and narrow screens, in light and dark mode.
//!
//! The code here computes what the pages show; the HTML is in `templates/`, where every value is escaped.

mod axis;
mod benched;
pub(crate) mod chart;
mod compiled;
mod curves;
mod evaluated;
mod filters;
mod network;
mod networks;
mod origin;
mod trained;

use std::path::Path;

use askama::Template;
use updp_passes::Log;
use updp_passes::ModelSummary;
use updp_prune::outcome::{BlockOutcome, CandidateOutcome, Outcome};
use updp_prune::words::counted;
use updp_trainer::evaluator::Score;
use updp_verify::Verification;

pub use benched::{benched, benched_blocks};
pub use compiled::{Compiled, compiled};
pub use evaluated::evaluated;
pub use network::BlockMacs;
pub use origin::{Origin, image_size};
pub use trained::trained;

/// Whether a report with this name is a page.
#[must_use]
pub fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("html"))
}

/// The contents of a page: one run that read a model, pruned it and wrote another.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The model that was read: its name and its summary.
    pub input: (&'a str, &'a ModelSummary),
    /// The model that was written.
    pub output: (&'a str, &'a ModelSummary),
    /// The merges that were made and those that were declined.
    pub log: &'a Log,
    /// The comparison of the written model with the pruned network before merging; `None` if they were not run.
    pub verified: Option<&'a Verification>,
    /// The status of the verification as in the JSON report: `passed`, `local`, `unchanged` or `skipped`.
    pub status: &'a str,
    /// The outcome of pruning.
    pub outcome: &'a Outcome,
    /// Missed gates, in words; empty = all passed.
    pub missed: &'a [String],
    /// Multiply-adds of the pruned blocks before and after.
    pub macs: &'a [BlockMacs],
    /// How the page was made.
    pub origin: &'a Origin,
}

/// What a sentence about a warning begins with.
const WARNING: &str = "WARNING: ";
/// Number of sentences about the choice that are shown at once.
const SENTENCES: usize = 5;

/// The page for one run.
///
/// The page loads nothing from outside. Numbers have three significant digits; a number that is not finite appears as a
/// dash.
#[must_use]
pub fn page(run: &Run<'_>) -> String {
    let outcome = run.outcome;
    let is_warning = |it: &&String| it.starts_with(WARNING);
    let (warnings, explanation): (Vec<&String>, Vec<&String>) =
        outcome.explanation.iter().partition(is_warning);
    let (explanation, more) = explanation.split_at(explanation.len().min(SENTENCES));
    let page = Page {
        title: format!("{} pruned", run.input.0),
        run,
        outcome,
        subject: "The file written and the pruned network before merging",
        origin: run.origin,
        warnings: warnings.iter().map(|it| it.trim_start_matches(WARNING)).collect(),
        explanation,
        more,
        macs: chart::macs(run.macs),
        cards: cards(outcome),
        extent: run.verified.map(network::extent).unwrap_or_default(),
        latency: chart::latency(outcome),
        lanes: network::lanes(outcome),
        degradations: chart::degradations(outcome),
        front: chart::front(outcome),
        networks: networks::networks(outcome),
        trainings: curves::trainings(outcome),
        rows: outcome.blocks.iter().map(|block| BlockProfile { block }).collect(),
        counts: network::counts(run.input.1, run.output.1),
        declined: network::declined(run.log),
    };
    page.to_string()
}

/// The data that `page.html` shows.
#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    title: String,
    run: &'a Run<'a>,
    outcome: &'a Outcome,
    /// The models that were compared.
    subject: &'static str,
    origin: &'a Origin,
    warnings: Vec<&'a str>,
    /// The first sentences about the choice, and the others.
    explanation: &'a [&'a String],
    more: &'a [&'a String],
    macs: Vec<chart::Group<'a>>,
    cards: Vec<Card>,
    /// How much of the network was compared; empty if nothing was.
    extent: String,
    /// `None` if the latency was not measured.
    latency: Option<chart::Group<'a>>,
    lanes: Vec<network::Lane>,
    degradations: Vec<chart::Group<'a>>,
    front: Option<chart::Front>,
    networks: Option<networks::Networks>,
    trainings: Vec<curves::Training>,
    rows: Vec<BlockProfile<'a>>,
    counts: Vec<network::Count<'a>>,
    declined: Vec<String>,
}

/// One figure with its name and a line of explanation.
struct Card {
    title: &'static str,
    value: String,
    detail: String,
}

/// The shares of two scores, and how close the outputs are.
fn score_cards(before: Score, after: Score) -> Vec<Card> {
    let mut cards: Vec<Card> = [
        share("Accuracy", before, after, |score| score.accuracy),
        share("Label among the first five", before, after, |score| score.top5),
        share("Agreement with the original", before, after, |score| score.agreement),
    ]
    .into_iter()
    .flatten()
    .collect();
    cards.push(Card {
        title: "Overlap of the outputs",
        value: number(after.overlap),
        detail: format!(
            "1 = the same outputs; {} before, {}",
            number(before.overlap),
            images(after)
        ),
    });
    cards
}

fn cards(outcome: &Outcome) -> Vec<Card> {
    let mut cards = score_cards(outcome.before, outcome.after);
    cards.extend(outcome.speed.as_ref().map(|speed| Card {
        title: "Speedup",
        value: format!("×\u{a0}{}", number(speed.speedup)),
        detail: format!(
            "{} ms → {} ms, batch {}, {}",
            number(speed.before_ms),
            number(speed.after_ms),
            speed.batch,
            speed.runtime
        ),
    }));
    let pruned = outcome.blocks.iter().filter(|block| block.chosen.is_some()).count();
    let prunable = outcome.blocks.iter().filter(|block| !block.candidates.is_empty()).count();
    cards.push(Card {
        title: "Blocks pruned",
        value: format!("{pruned} of {}", outcome.blocks.len()),
        detail: format!("{prunable} could be"),
    });
    cards
}

/// A card for a share of the images, in per cent; `None` if the share of the result is unknown.
fn share(
    title: &'static str,
    before: Score,
    after: Score,
    of: fn(&Score) -> Option<f64>,
) -> Option<Card> {
    let now = of(&after)?;
    let error = 100.0 * (now * (1.0 - now) / after.images.max(1) as f64).sqrt();
    let error = format!("±\u{a0}{} standard error, {}", number(error), images(after));
    let (value, detail) = match of(&before) {
        Some(was) => (
            format!("{} → {}", number(100.0 * was), percent(now)),
            format!("{} points, {error}", signed(100.0 * (now - was))),
        ),
        None => (percent(now), error),
    };
    Some(Card { title, value, detail })
}

fn images(score: Score) -> String {
    counted(score.images, "image", "images")
}

/// A block in the table: one line for each candidate, and one for the note.
struct BlockProfile<'a> {
    block: &'a BlockOutcome,
}

impl BlockProfile<'_> {
    /// Number of table lines for the block.
    fn lines(&self) -> usize {
        self.block.candidates.len() + usize::from(self.note().is_some())
    }

    /// The candidates, each with a flag that tells whether the block was pruned to it.
    fn candidates(&self) -> impl Iterator<Item = (&CandidateOutcome, bool)> {
        self.block.candidates.iter().map(|it| (it, is_chosen(self.block, it)))
    }

    /// Whether the block was pruned to its first candidate.
    fn is_first_chosen(&self) -> bool {
        self.candidates().next().is_some_and(|(_, is_chosen)| is_chosen)
    }

    /// Why the block has no candidates, or why it was not pruned.
    fn note(&self) -> Option<&str> {
        let without = self.block.candidates.is_empty().then_some("has no candidates");
        self.block.reason.as_deref().or(without)
    }
}

/// The form that a block was pruned to.
fn chosen(block: &BlockOutcome) -> Option<&CandidateOutcome> {
    block.candidates.iter().find(|candidate| is_chosen(block, candidate))
}

/// Latency of a block in the form that it was pruned to, or unchanged.
fn after_ms(block: &BlockOutcome) -> f64 {
    chosen(block).map_or(block.baseline_ms, |candidate| candidate.latency_ms)
}

fn is_chosen(block: &BlockOutcome, candidate: &CandidateOutcome) -> bool {
    block.chosen.as_ref() == Some(&candidate.form)
}

/// A degradation in nats with four decimals; a number that is not finite becomes a dash.
pub(crate) fn nats(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}").replace('-', "−") } else { number(value) }
}

/// Three significant digits; a dash if the number is not finite.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.abs() < 1e-4 {
        return format!("{value:.2e}").replace('-', "−");
    }
    let decimals = (2 - value.abs().log10().floor() as i64).max(0) as usize;
    format!("{value:.decimals$}").replace('-', "−")
}

fn percent(share: f64) -> String {
    format!("{}\u{a0}%", number(100.0 * share))
}

fn signed(value: f64) -> String {
    if value > 0.0 { format!("+{}", number(value)) } else { number(value) }
}

#[cfg(test)]
mod tests;
