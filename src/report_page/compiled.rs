//! A compilation as a page: sizes, operators, rewrites, refusals and the verification.

use askama::Template;
use updp_passes::{Log, ModelSummary};
use updp_verify::Verification;

use super::chart::{self, Bar, Group};
use super::{BlockMacs, Card, Origin, filters, network, number};
use crate::report::{by_rule, grouped, phase_times, warnings};

/// What a compilation did.
#[derive(Clone, Copy, Debug)]
pub struct Compiled<'a> {
    /// The model that was read: its name and its summary.
    pub input: (&'a str, &'a ModelSummary),
    /// The model that was written.
    pub output: (&'a str, &'a ModelSummary),
    /// The merges that were made and those that were declined.
    pub log: &'a Log,
    /// The comparison of both models; `None` if they were not run.
    pub verified: Option<&'a Verification>,
    /// The status of the verification as in the JSON report.
    pub status: &'a str,
    /// Whether blocks were pruned without recovering accuracy.
    pub is_pruned: bool,
    /// Missed gates, in words; empty = all passed.
    pub missed: &'a [String],
    /// Passed gates, in words.
    pub held: &'a [String],
    /// Findings of the check for a target.
    pub findings: &'a [String],
    /// Multiply-adds of the pruned blocks before and after.
    pub macs: &'a [BlockMacs],
    /// How the page was made.
    pub origin: &'a Origin,
}

/// The data that `compiled.html` shows.
#[derive(Template)]
#[template(path = "compiled.html")]
struct Page<'a> {
    title: String,
    heading: String,
    run: &'a Compiled<'a>,
    origin: &'a Origin,
    warnings: Vec<String>,
    cards: Vec<Card>,
    subject: &'static str,
    /// How much of the network was compared; empty if nothing was.
    extent: String,
    sizes: Vec<Group<'static>>,
    macs: Vec<Group<'a>>,
    counts: Vec<network::Count<'a>>,
    rules: Vec<Group<'static>>,
    rewrites: Vec<String>,
    declined: Vec<String>,
    times: Vec<Group<'static>>,
}

/// The page for one compilation.
#[must_use]
pub fn compiled(run: &Compiled<'_>) -> String {
    let (before, after) = (run.input.1, run.output.1);
    let rewrites = run.log.rewrites.iter().map(|it| format!("{} at {}", it.rule, it.node));
    let lost = "Blocks were pruned and no accuracy was recovered: the network is not usable, only its structure is";
    let mut warned: Vec<String> = run.is_pruned.then(|| lost.to_owned()).into_iter().collect();
    warned.extend(warnings(run.log));
    let done = if run.is_pruned { "pruned without recovery" } else { "compiled" };
    let page = Page {
        title: format!("{} {done}", run.input.0),
        heading: format!("{}, {done}", run.input.0),
        run,
        origin: run.origin,
        warnings: warned,
        cards: vec![
            card("Operators", before.nodes as u64, after.nodes as u64),
            card("Parameters", before.parameters as u64, after.parameters as u64),
            card("Multiply-adds", before.macs, after.macs),
            card("Bytes", before.bytes, after.bytes),
        ],
        subject: if run.is_pruned {
            "The file written and the pruned network before merging"
        } else {
            "The model that was read and the file written"
        },
        extent: run.verified.map(network::extent).unwrap_or_default(),
        sizes: sizes(before, after),
        macs: chart::macs(run.macs),
        counts: network::counts(before, after),
        rules: rules(run.log),
        rewrites: rewrites.collect(),
        declined: network::declined(run.log),
        times: times(run.log),
    };
    page.to_string()
}

/// A count before and after, and its change in per cent.
fn card(title: &'static str, before: u64, after: u64) -> Card {
    let detail = if before == after {
        "as before".to_owned()
    } else if before == 0 {
        "none before".to_owned()
    } else {
        let change = 100.0 * (after as f64 - before as f64) / before as f64;
        format!("{}\u{a0}%, {} before", super::signed(change), grouped(before))
    };
    Card { title, value: grouped(after), detail }
}

/// Each size before and after, as shares of the larger one.
fn sizes(before: &ModelSummary, after: &ModelSummary) -> Vec<Group<'static>> {
    let all = [
        ("Operators", before.nodes as u64, after.nodes as u64),
        ("Parameters", before.parameters as u64, after.parameters as u64),
        ("Multiply-adds", before.macs, after.macs),
        ("Bytes", before.bytes, after.bytes),
    ];
    let group = |(heading, was, is): (&str, u64, u64)| {
        let most = was.max(is).max(1) as f64;
        let bar = |label: &str, class, count: u64| {
            let text = grouped(count);
            Bar::new(label.to_owned(), class, count as f64 / most, text.clone(), text)
        };
        let bars = vec![bar("Before", "fill-was", was), bar("After", "fill-is", is)];
        Group { heading: heading.to_owned(), name: "", bars, note: None }
    };
    all.into_iter().map(group).collect()
}

/// How often each rule was applied.
fn rules(log: &Log) -> Vec<Group<'static>> {
    let counts = by_rule(log);
    let most = counts.values().copied().max().unwrap_or(1) as f64;
    let bars = counts.into_iter().map(|(rule, count)| {
        let tip = format!("{rule}: {count}");
        Bar::new(rule.to_owned(), "fill-is", count as f64 / most, count.to_string(), tip)
    });
    one_group(bars.collect())
}

/// Time in each phase.
fn times(log: &Log) -> Vec<Group<'static>> {
    let all = phase_times(log);
    let most = all.values().copied().fold(0.0, f64::max).max(1e-9);
    let bars = all.into_iter().map(|(phase, ms)| {
        let text = format!("{} ms", number(ms));
        Bar::new(phase.to_owned(), "fill-was", ms / most, text.clone(), format!("{phase}: {text}"))
    });
    one_group(bars.collect())
}

fn one_group(bars: Vec<Bar>) -> Vec<Group<'static>> {
    let group = Group { heading: String::new(), name: "", bars, note: None };
    if group.bars.is_empty() { Vec::new() } else { vec![group] }
}
