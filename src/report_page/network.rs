//! The network before and after: its blocks, its operators, how the file written was verified, what was not merged.

use std::fmt::Write;

use updp_passes::Log;
use updp_trainer::outcome::Outcome;

use super::{Run, after_ms, escape, fold, number, percent, put};
use crate::report::{changed_ops, counted, grouped};

/// Whether the written model was run, on how many inputs and how far its outputs are off.
pub(super) fn verification(html: &mut String, run: &Run<'_>) {
    html.push_str("<h2>Verification</h2>\n");
    let Some(verified) = run.verified else {
        html.push_str(match run.status {
            "unchanged" => {
                "<p>Nothing was merged after pruning, so there was nothing to compare.</p>\n"
            }
            _ => "<p>Not verified: <code>--no-verify</code> was given.</p>\n",
        });
        return;
    };
    let how = match verified.parts {
        Some(parts) => format!("{} by itself", counted(parts, "part", "parts")),
        None => format!("{} each", counted(verified.runs, "input", "inputs")),
    };
    put(
        html,
        format_args!(
            "<p>The file written and the pruned network before merging were run on {}, {how}, the runtime's own optimizer \
             off: {}.</p>\n",
            escape(if verified.runtime.is_empty() { "nothing" } else { &verified.runtime }),
            if verified.is_passed() { "equal" } else { "<b class=\"bad\">different</b>" }
        ),
    );
    html.push_str(
        "<div class=\"wide\"><table class=\"ops\"><thead><tr><th>Output</th><th class=\"n\">max|Δ| / max|reference|</th>\
         <th class=\"n\">Limit</th><th class=\"n\">Cosine</th><th class=\"n\">Same top 1</th></tr></thead><tbody>\n",
    );
    for output in &verified.outputs {
        let top1 = output.top1_agreement.map_or("–".to_owned(), percent);
        put(
            html,
            format_args!(
                "<tr><td class=\"name\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{:.6}</td>\
                 <td class=\"n\">{top1}</td></tr>\n",
                escape(&output.name),
                number(output.relative),
                number(output.limit),
                output.cosine
            ),
        );
    }
    html.push_str("</tbody></table></div>\n");
}

/// The blocks along the network, as long as they take; pruned ones in their form.
pub(super) fn map(html: &mut String, outcome: &Outcome) {
    let before: f64 = outcome.blocks.iter().map(|block| block.baseline_ms).sum();
    let after: f64 = outcome.blocks.iter().map(after_ms).sum();
    let longest = before.max(after);
    if !(longest.is_finite() && longest > 0.0) {
        return;
    }
    html.push_str(
        "<h2>Blocks along the network</h2>\n<p class=\"dim\">As long as each takes by itself; green: pruned. Their \
         names are in the table below.</p>\n<div class=\"map\">\n",
    );
    for (label, all, is_after) in [("Before", before, false), ("After", after, true)] {
        let width = 100.0 * all / longest;
        put(html, format_args!("<span>{label}</span><div style=\"width:{width:.2}%\">"));
        for block in &outcome.blocks {
            let form = block.chosen.as_deref().filter(|_| is_after);
            let ms = if is_after { after_ms(block) } else { block.baseline_ms };
            let tip = format!("{} {}: {} ms", block.name, form.unwrap_or("as it is"), number(ms));
            put(
                html,
                format_args!(
                    "<b{} style=\"flex:{:.4} 1 0\" title=\"{}\">{}</b>",
                    if form.is_some() { " class=\"is\"" } else { "" },
                    ms.max(0.0) / longest,
                    escape(&tip),
                    block.index
                ),
            );
        }
        html.push_str("</div>\n");
    }
    html.push_str("</div>\n");
}

/// Counts before and after, of operators those that changed.
pub(super) fn operators(html: &mut String, run: &Run<'_>) {
    let (before, after) = (run.input.1, run.output.1);
    html.push_str(
        "<h2>Network before and after</h2>\n<div class=\"wide\"><table class=\"ops\"><thead><tr><th></th>\
         <th class=\"n\">Before</th><th class=\"n\">After</th></tr></thead><tbody>\n",
    );
    let mut row = |name: &str, was: u64, is: u64| {
        let (name, was, is) = (escape(name), grouped(was), grouped(is));
        let _ = writeln!(
            html,
            "<tr><td>{name}</td><td class=\"n\">{was}</td><td class=\"n\">{is}</td></tr>"
        );
    };
    row("Operators", before.nodes as u64, after.nodes as u64);
    for (name, was, is) in changed_ops(before, after) {
        row(name, was as u64, is as u64);
    }
    row("Parameters", before.parameters as u64, after.parameters as u64);
    row("Multiply-adds", before.macs, after.macs);
    row("Bytes", before.bytes, after.bytes);
    html.push_str("</tbody></table></div>\n");
}

/// Merges that were declined and why, to open.
pub(super) fn declined(html: &mut String, log: &Log) {
    let lines: Vec<String> = log
        .refusals
        .iter()
        .map(|it| {
            let declined = &it.declined;
            format!("{} at {}: {} ({})", it.rule, it.node, declined.reason, declined.detail)
        })
        .collect();
    fold(html, "Merges declined", &lines);
}
