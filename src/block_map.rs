//! The blocks of a model as a page: one self-contained HTML file of bars, before and after pruning.

use crate::report::grouped;
use crate::report_page::chart::bar;
use crate::report_page::{TAIL, escape, head, number, put};
use crate::survey::{Row, Variant};

/// The page. Every number of a bar is in its tooltip as well.
#[must_use]
pub fn html(title: &str, rows: &[Row]) -> String {
    let longest = rows.iter().map(|row| row.baseline.time_ms()).fold(0.0, f64::max).max(1e-9);
    let is_measured = rows.iter().any(|row| row.baseline.latency_ms.is_some());
    let how = if is_measured { "measured" } else { "by the cost model" };
    let mut html = head(title);
    put(
        &mut html,
        format_args!(
            "<h1>{}</h1>\n<p class=\"dim\">{} blocks. Grey-blue: as it is; green: its fastest pruned form; grey: cannot \
             be pruned. Bars show time, {how}.</p>\n<div class=\"bars\">\n",
            escape(title),
            rows.len()
        ),
    );
    for row in rows {
        draw(&mut html, row, longest);
    }
    html.push_str("</div>\n");
    html.push_str(TAIL);
    html
}

fn draw(html: &mut String, row: &Row, longest: f64) {
    let block = &row.block;
    put(
        html,
        format_args!(
            "<h3>{}\u{a0}{} <span class=\"dim\">{}</span></h3>\n",
            block.index,
            block.kind.name(),
            escape(&block.name)
        ),
    );
    let mut line = |class: &str, variant: &Variant, label: &str| {
        let tip = format!(
            "{label}: {:.4} ms, {} MACs, {} layers, {} parameters",
            variant.time_ms(),
            grouped(variant.macs),
            variant.layers,
            grouped(variant.parameters as u64)
        );
        let value = format!("{} ms", number(variant.time_ms()));
        bar(html, label, class, variant.time_ms() / longest, &value, &tip);
    };
    let class = if block.refusal.is_some() { "fill-no" } else { "fill-was" };
    line(class, &row.baseline, "as it is");
    match (&block.refusal, row.fastest()) {
        (Some(refusal), _) => {
            put(
                html,
                format_args!("<p class=\"dim\">left alone: {}</p>\n", escape(&refusal.detail)),
            );
        }
        (None, Some((form, variant))) => line("fill-is", variant, form.name()),
        (None, None) => {}
    }
}
