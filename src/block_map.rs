//! The blocks of a model as a page: one self-contained HTML file with bars for the model before and after pruning.

use askama::Template;

use crate::report::grouped;
use crate::report_page::chart::{Bar, Group};
use crate::report_page::number;
use updp_prune::profile::{BlockProfile, Variant};

/// The data that `block_map.html` shows.
#[derive(Template)]
#[template(path = "block_map.html")]
struct BlockMap<'a> {
    title: &'a str,
    /// The source of the times.
    how: &'static str,
    groups: Vec<Group<'a>>,
}

/// The page. The tooltip of a bar has all its numbers.
#[must_use]
pub fn html(title: &str, rows: &[BlockProfile]) -> String {
    let longest = rows.iter().map(|row| row.baseline.time_ms()).fold(0.0, f64::max).max(1e-9);
    let is_measured = rows.iter().any(|row| row.baseline.latency_ms.is_some());
    let how = if is_measured { "measured" } else { "by the cost model" };
    let groups = rows.iter().map(|row| group(row, longest)).collect();
    BlockMap { title, how, groups }.to_string()
}

/// The bars of one block: unchanged, and in its fastest form.
fn group(row: &BlockProfile, longest: f64) -> Group<'_> {
    let block = &row.block;
    let line = |class: &'static str, variant: &Variant, label: &str| {
        let tip = format!(
            "{label}: {:.4} ms, {} MACs, {} layers, {} parameters",
            variant.time_ms(),
            grouped(variant.macs),
            variant.layers,
            grouped(variant.parameters as u64)
        );
        let value = format!("{} ms", number(variant.time_ms()));
        Bar::new(label.to_owned(), class, variant.time_ms() / longest, value, tip)
    };
    let class = if block.refusal.is_some() { "fill-no" } else { "fill-was" };
    let mut bars = vec![line(class, &row.baseline, "as it is")];
    if block.refusal.is_none() {
        bars.extend(row.fastest().map(|(form, variant)| line("fill-is", variant, form.name())));
    }
    Group {
        heading: format!("{}\u{a0}{}", block.index, block.kind.name()),
        name: &block.name,
        bars,
        note: block.refusal.as_ref().map(|refusal| format!("left alone: {}", refusal.detail)),
    }
}
