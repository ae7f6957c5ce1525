//! The blocks of a model as a page: one self-contained HTML file with an SVG, before and after pruning.

use std::fmt::Write;

use crate::report::grouped;
use crate::survey::{Row, Variant};

/// Height of one block's bars, in pixels.
const BAR: usize = 14;
/// Height of one block's line.
const LINE: usize = 44;
/// Width of the longest bar.
const WIDTH: f64 = 520.0;
/// Where the bars start.
const LEFT: usize = 330;

/// The page. Every number of a bar is in its tooltip as well.
#[must_use]
pub fn html(title: &str, rows: &[Row]) -> String {
    let longest = rows.iter().map(|row| row.baseline.time_ms()).fold(0.0, f64::max).max(1e-9);
    let is_measured = rows.iter().any(|row| row.baseline.latency_ms.is_some());
    let height = rows.len() * LINE + 30;
    let mut svg = String::new();
    for (at, row) in rows.iter().enumerate() {
        draw(&mut svg, at * LINE + 20, row, longest);
    }
    let how = if is_measured { "measured" } else { "by the cost model" };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>body{{font:14px system-ui,sans-serif;margin:24px;color:#222}}\
         svg text{{font:12px system-ui,sans-serif;fill:#222}}.dim{{fill:#777!important}}\
         .was{{fill:#9db4c0}}.is{{fill:#2a9d8f}}.no{{fill:#d9d9d9}}</style></head><body>\n\
         <h1>{title}</h1>\n<p>{} blocks. Grey-blue: as it is; green: its fastest pruned form. \
         Bars show time, {how}.</p>\n\
         <svg width=\"{}\" height=\"{height}\" role=\"img\" aria-label=\"block map\">\n{svg}</svg>\n\
         </body></html>\n",
        rows.len(),
        LEFT + WIDTH as usize + 200,
        title = escape(title),
    )
}

fn draw(svg: &mut String, top: usize, row: &Row, longest: f64) {
    let block = &row.block;
    let _ = writeln!(
        svg,
        "<text x=\"0\" y=\"{}\">{} {}</text><text class=\"dim\" x=\"0\" y=\"{}\">{}</text>",
        top + 11,
        block.index,
        block.kind.name(),
        top + 27,
        escape(&block.name)
    );
    let class = if block.refusal.is_some() { "no" } else { "was" };
    bar(svg, top, class, &row.baseline, longest, "as it is");
    match (&block.refusal, row.fastest()) {
        (Some(refusal), _) => {
            let y = top + BAR + 13;
            let text = escape(&refusal.detail);
            let _ = writeln!(
                svg,
                "<text class=\"dim\" x=\"{LEFT}\" y=\"{y}\">left alone: {text}</text>"
            );
        }
        (None, Some((form, variant))) => {
            bar(svg, top + BAR + 2, "is", variant, longest, form.name());
        }
        (None, None) => {}
    }
}

fn bar(svg: &mut String, y: usize, class: &str, variant: &Variant, longest: f64, label: &str) {
    let width = (variant.time_ms() / longest * WIDTH).max(1.0);
    let tip = format!(
        "{label}: {:.4} ms, {} MACs, {} layers, {} parameters",
        variant.time_ms(),
        grouped(variant.macs),
        variant.layers,
        grouped(variant.parameters as u64)
    );
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\">\
         <title>{}</title></rect><text x=\"{:.1}\" y=\"{}\">{} {:.3} ms</text>",
        escape(&tip),
        LEFT as f64 + width + 6.0,
        y + 11,
        escape(label),
        variant.time_ms()
    );
}

/// The text as HTML text or attribute value.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
