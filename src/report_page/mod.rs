//! What pruning found out as a page: one self-contained HTML file with charts, for a desk, a phone, day and night.

pub(crate) mod chart;
mod curves;
mod network;

use std::fmt::{Display, Write};
use std::path::Path;

use updp_passes::Log;
use updp_trainer::outcome::{BlockOutcome, DataOutcome, OfferOutcome, Outcome, Score};

use updp_passes::ModelSummary;
use updp_verify::Verification;

const STYLE: &str = "\
:root{color-scheme:light dark;--back:#fff;--card:#f4f6f8;--text:#1f2933;--dim:#5f6c78;--line:#d5dce2;\
--was:#9db4c0;--is:#2a9d8f;--soft:#d9f0ec;--joint:#c9771a;--bad:#c22f45}\
@media(prefers-color-scheme:dark){:root{--back:#14181c;--card:#1e242a;--text:#e3e8ec;--dim:#98a5b0;\
--line:#36414a;--was:#5b7685;--is:#3fb9a9;--soft:#1c3b38;--joint:#f0b65a;--bad:#ff8391}}\
*{box-sizing:border-box}\
body{font:15px/1.45 system-ui,sans-serif;margin:0;background:var(--back);color:var(--text)}\
main{max-width:1000px;margin:0 auto;padding:20px 16px 48px}\
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:32px 0 8px}\
p{margin:4px 0 8px}ul{margin:4px 0;padding-left:20px}li,dd{overflow-wrap:anywhere}\
.dim{color:var(--dim)}.bad{color:var(--bad)}\
.missed{border:2px solid var(--bad);border-radius:8px;padding:8px 14px;margin:16px 0;color:var(--bad)}\
.missed h2{margin:0}\
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:16px 0}\
.card{background:var(--card);border-radius:8px;padding:10px 14px}\
.card b{display:block;font-size:clamp(1.05rem,4.4vw,1.35rem);font-variant-numeric:tabular-nums}\
.bars{display:grid;grid-template-columns:minmax(90px,32%) 1fr minmax(74px,max-content);gap:4px 10px;align-items:center}\
.bars p{grid-column:1/-1;margin:0}.bars h3{grid-column:1/-1;font-size:.95rem;font-weight:600;margin:8px 0 0;overflow-wrap:anywhere}\
.bars span{overflow-wrap:anywhere;line-height:1.2}.bars i{font-style:normal;text-align:right}\
.bars i,td.n{font-variant-numeric:tabular-nums;white-space:nowrap}\
svg{display:block}svg text{font-size:12px;fill:var(--dim)}svg line{stroke:var(--line)}\
svg .front{stroke:var(--is);stroke-width:2}svg .tie{stroke:var(--joint);stroke-dasharray:3 3}\
svg .curve{fill:none;stroke:var(--is);stroke-width:2;vector-effect:non-scaling-stroke}\
.curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr));gap:8px 20px}\
.curves h3{font-size:.95rem;font-weight:600;margin:8px 0 4px}\
.fill-was{fill:var(--was)}.fill-is{fill:var(--is)}.fill-no{fill:var(--line)}.fill-gain{fill:none;stroke:var(--is)}\
.ring{fill:var(--back);stroke:var(--joint);stroke-width:2}.mark{fill:none;stroke:var(--bad);stroke-width:2.5}\
.key{display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;list-style:none}.key li{display:flex;gap:6px;align-items:center}\
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem}\
th{text-align:left;font-weight:600;color:var(--dim);vertical-align:bottom}\
th,td{padding:4px 8px;vertical-align:top}td.n,th.n{text-align:right}\
table.ops{width:auto}table.ops td,table.ops th{padding:1px 18px 1px 0}\
.map{display:grid;grid-template-columns:max-content 1fr;gap:4px 10px;align-items:center}\
.map div{display:flex;gap:1px;height:30px}\
.map b{font-size:11px;font-weight:600;min-width:0;overflow:hidden;display:flex;align-items:center;justify-content:center;\
background:var(--card);border:1px solid var(--was)}\
.map b.is{background:var(--soft);border-color:var(--is)}\
tbody{border-top:1px solid var(--line)}td.name{min-width:150px;max-width:320px;overflow-wrap:anywhere}\
td.f{white-space:nowrap}tr.chosen td.f{background:var(--soft)}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 14px;margin:4px 0}dt{color:var(--dim)}dd{margin:0}";

/// Whether a report of this name is a page.
#[must_use]
pub fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("html"))
}

/// What a page is about: one run that read a model, pruned it and wrote another.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The model that was read, as it was named, and what it holds.
    pub input: (&'a str, &'a ModelSummary),
    /// The model that was written.
    pub output: (&'a str, &'a ModelSummary),
    /// What merging did and declined.
    pub log: &'a Log,
    /// How the written model compares with the pruned network before merging; `None` where they were not run.
    pub verified: Option<&'a Verification>,
    /// How verifying went, in the word of the JSON report: `passed`, `local`, `unchanged` or `skipped`.
    pub status: &'a str,
    /// What pruning found.
    pub outcome: &'a Outcome,
    /// Gates that were missed, in words; empty = all held.
    pub missed: &'a [String],
}

/// The page about one run.
///
/// Needs nothing from outside. Numbers have three significant digits; one that is not finite shows as a dash.
#[must_use]
pub fn page(run: &Run<'_>) -> String {
    let outcome = run.outcome;
    let mut html = head(&format!("{} pruned", run.input.0));
    put(
        &mut html,
        format_args!(
            "<h1>{}, pruned</h1>\n<p class=\"dim\">Written to {}. Goal: {}.</p>\n",
            escape(run.input.0),
            escape(run.output.0),
            escape(&outcome.goal)
        ),
    );
    missed(&mut html, run.missed);
    cards(&mut html, outcome);
    network::verification(&mut html, run);
    list(&mut html, "How it was chosen", &outcome.explanation);
    chart::latency(&mut html, outcome);
    network::map(&mut html, outcome);
    chart::prices(&mut html, outcome);
    chart::front(&mut html, outcome);
    curves::trainings(&mut html, outcome);
    table(&mut html, outcome);
    network::operators(&mut html, run);
    network::declined(&mut html, run.log);
    data(&mut html, &outcome.data);
    html.push_str(TAIL);
    html
}

/// The start of a page of this title, up to its content; [`TAIL`] is its end.
pub(crate) fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{}</title>\n<style>{STYLE}</style></head><body><main>\n",
        escape(title)
    )
}

/// The end of a page.
pub(crate) const TAIL: &str = "</main></body></html>\n";

/// The text as HTML text or attribute value.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub(crate) fn put(html: &mut String, text: impl Display) {
    let _ = write!(html, "{text}");
}

fn missed(html: &mut String, missed: &[String]) {
    if missed.is_empty() {
        return;
    }
    html.push_str("<section class=\"missed\"><h2>Missed</h2><ul>\n");
    for gate in missed {
        put(html, format_args!("<li>{}</li>\n", escape(gate)));
    }
    html.push_str("</ul></section>\n");
}

fn list(html: &mut String, title: &str, sentences: &[String]) {
    if sentences.is_empty() {
        return;
    }
    put(html, format_args!("<h2>{title}</h2>\n<ul>\n"));
    for sentence in sentences {
        put(html, format_args!("<li>{}</li>\n", escape(sentence)));
    }
    html.push_str("</ul>\n");
}

fn cards(html: &mut String, outcome: &Outcome) {
    let (before, after) = (outcome.before, outcome.after);
    html.push_str("<div class=\"cards\">\n");
    share(html, "Accuracy", before, after, |score| score.accuracy);
    share(html, "Label among the first five", before, after, |score| score.top5);
    share(html, "Agreement with the original", before, after, |score| score.agreement);
    let overlap =
        format!("1 = the same outputs; {} before, {}", number(before.overlap), images(after));
    card(html, "Overlap of the outputs", &number(after.overlap), &overlap);
    if let Some(speed) = &outcome.speed {
        let detail = format!(
            "{} ms → {} ms, batch {}, {}",
            number(speed.before_ms),
            number(speed.after_ms),
            speed.batch,
            escape(&speed.runtime)
        );
        card(html, "Speedup", &format!("×\u{a0}{}", number(speed.speedup)), &detail);
    }
    let pruned = outcome.blocks.iter().filter(|block| block.chosen.is_some()).count();
    let offering = outcome.blocks.iter().filter(|block| !block.offers.is_empty()).count();
    let value = format!("{pruned} of {}", outcome.blocks.len());
    card(html, "Blocks pruned", &value, &format!("{offering} could be"));
    html.push_str("</div>\n");
}

/// A card of a share of the images, in per cent; none when it is unknown afterwards.
fn share(
    html: &mut String,
    title: &str,
    before: Score,
    after: Score,
    of: fn(&Score) -> Option<f64>,
) {
    let Some(now) = of(&after) else { return };
    let mut value = percent(now);
    let mut detail = String::new();
    if let Some(was) = of(&before) {
        value = format!("{} → {value}", number(100.0 * was));
        detail = format!("{} points, ", signed(100.0 * (now - was)));
    }
    let error = 100.0 * (now * (1.0 - now) / after.images.max(1) as f64).sqrt();
    put(&mut detail, format_args!("±\u{a0}{} standard error, {}", number(error), images(after)));
    card(html, title, &value, &detail);
}

fn images(score: Score) -> String {
    format!("{} image{}", score.images, if score.images == 1 { "" } else { "s" })
}

/// The texts are HTML.
fn card(html: &mut String, title: &str, value: &str, detail: &str) {
    put(
        html,
        format_args!(
            "<div class=\"card\">{title}<b>{value}</b><span class=\"dim\">{detail}</span></div>\n"
        ),
    );
}

fn table(html: &mut String, outcome: &Outcome) {
    html.push_str("<h2>Blocks</h2>\n");
    if outcome.blocks.is_empty() {
        html.push_str("<p>The model has no blocks.</p>\n");
        return;
    }
    put(
        html,
        format_args!(
            "<p class=\"dim\">Price: points of {} lost when only this block is pruned. Error: share of the block's \
             output variance that its form misses.</p>\n",
            escape(&outcome.metric)
        ),
    );
    html.push_str(
        "<div class=\"wide\"><table><thead><tr><th class=\"n\">#</th><th>Block</th>\
         <th class=\"n\">As it is, ms</th><th>Form</th><th class=\"n\">ms</th><th class=\"n\">Price</th>\
         <th class=\"n\">Error</th></tr></thead>\n",
    );
    for block in &outcome.blocks {
        rows(html, block);
    }
    html.push_str("</table></div>\n");
}

fn rows(html: &mut String, block: &BlockOutcome) {
    let lines = block.offers.len() + usize::from(block.reason.is_some() || block.offers.is_empty());
    put(
        html,
        format_args!(
            "<tbody><tr{}><td class=\"n\" rowspan=\"{lines}\">{}</td><td class=\"name\" rowspan=\"{lines}\">{}<br />\
             <span class=\"dim\">{}{}</span></td><td class=\"n\" rowspan=\"{lines}\">{}</td>",
            row_class(block, 0),
            block.index,
            escape(&block.name),
            escape(&block.kind),
            if block.chosen.is_none() { ", stays" } else { "" },
            number(block.baseline_ms)
        ),
    );
    for (at, offer) in block.offers.iter().enumerate() {
        if at > 0 {
            put(html, format_args!("</tr><tr{}>", row_class(block, at)));
        }
        let mark = if is_chosen(block, offer) { "✓ " } else { "" };
        put(
            html,
            format_args!(
                "<td class=\"f\">{mark}{}</td><td class=\"f n\">{}</td><td class=\"f n\">{}</td>\
                 <td class=\"f n\">{}</td>",
                escape(&offer.form),
                number(offer.latency_ms),
                number(offer.price),
                number(offer.output_error)
            ),
        );
    }
    if lines > block.offers.len() {
        let open = if block.offers.is_empty() { "" } else { "</tr><tr>" };
        let reason = block.reason.as_deref().unwrap_or("offers nothing");
        put(html, format_args!("{open}<td class=\"dim\" colspan=\"4\">{}</td>", escape(reason)));
    }
    html.push_str("</tr></tbody>\n");
}

fn row_class(block: &BlockOutcome, at: usize) -> &'static str {
    let is_it = block.offers.get(at).is_some_and(|offer| is_chosen(block, offer));
    if is_it { " class=\"chosen\"" } else { "" }
}

/// The form that a block was pruned to.
fn chosen(block: &BlockOutcome) -> Option<&OfferOutcome> {
    block.offers.iter().find(|offer| is_chosen(block, offer))
}

/// What a block takes in the form that it was pruned to, or as it is.
fn after_ms(block: &BlockOutcome) -> f64 {
    chosen(block).map_or(block.baseline_ms, |offer| offer.latency_ms)
}

fn is_chosen(block: &BlockOutcome, offer: &OfferOutcome) -> bool {
    block.chosen.as_ref() == Some(&offer.form)
}

fn data(html: &mut String, data: &DataOutcome) {
    let validation = match data.validation {
        0 => "the held-out images".to_owned(),
        count => count.to_string(),
    };
    put(
        html,
        format_args!(
            "<h2>Data</h2>\n<dl><dt>Calibration</dt><dd>{}</dd><dt>Held out</dt><dd>{}</dd>\
             <dt>Validation</dt><dd>{validation}</dd><dt>Classes</dt><dd>{}</dd></dl>\n",
            data.calibration,
            data.held_out,
            match data.classes.len() {
                0 => "no labels".to_owned(),
                count => format!("{count}, in the order of the output"),
            }
        ),
    );
    fold(html, "Class order", &data.classes);
    fold(html, "Files that could not be read", &data.skipped);
}

/// A list to open, numbered from 0; nothing when it is empty.
fn fold(html: &mut String, title: &str, entries: &[String]) {
    if entries.is_empty() {
        return;
    }
    put(
        html,
        format_args!("<details><summary>{title} ({})</summary><ol start=\"0\">\n", entries.len()),
    );
    for entry in entries {
        put(html, format_args!("<li>{}</li>\n", escape(entry)));
    }
    html.push_str("</ol></details>\n");
}

/// Three significant digits; a dash when it is not finite.
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
