//! The front as a table: tab-separated text for people and spreadsheets, JSON for programs.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};
use updp_prune::outcome::{FrontNetwork, NetworkSpeed, Outcome};

/// Name and version of the JSON document.
const SCHEMA: &str = "updp-front/1";

/// The columns of the text.
const COLUMNS: [&str; 13] = [
    "number",
    "speedup",
    "speedup_low",
    "speedup_high",
    "latency_ms",
    "macs_share",
    "kl",
    "agreement",
    "accuracy",
    "images",
    "chosen",
    "beaten",
    "blocks",
];

/// Whether a file with this name takes a table.
#[must_use]
pub fn is_table(path: &Path) -> bool {
    let is = |name: &str| path.extension().is_some_and(|it| it.eq_ignore_ascii_case(name));
    is("tsv") || is("json")
}

/// The table in the format that the name of the file asks for. `input` is the path of the input model.
#[must_use]
pub fn text(path: &Path, input: &Path, outcome: &Outcome) -> String {
    let is_json = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("json"));
    if is_json { format!("{:#}\n", json_table(input, outcome)) } else { tsv(outcome) }
}

/// One line for each network; the first line names the columns, and the second is the input model.
fn tsv(outcome: &Outcome) -> String {
    let mut out = COLUMNS.join("\t");
    let before =
        outcome.speed.as_ref().map_or_else(String::new, |it| format!("{:.4}", it.before_ms));
    let held_out = outcome.held_out_baseline.images;
    let agreement = share(outcome.held_out_baseline.agreement);
    let accuracy = share(outcome.held_out_baseline.accuracy);
    let _ = write!(
        out,
        "\n0\t1.000\t1.000\t1.000\t{before}\t1.0000\t0.000000\t{agreement}\t{accuracy}\t{held_out}\tno\tno\t"
    );
    for network in &outcome.networks {
        let speed = |of: fn(&NetworkSpeed) -> f64, decimals: usize| {
            network.speed.as_ref().map_or_else(String::new, |it| format!("{:.decimals$}", of(it)))
        };
        let yes = |is: bool| if is { "yes" } else { "no" };
        let _ = write!(
            out,
            "\n{}\t{}\t{}\t{}\t{}\t{:.4}\t{:.6}\t{}\t{}\t{}\t{}\t{}\t{}",
            network.number,
            speed(|it| it.speedup, 3),
            speed(|it| it.low, 3),
            speed(|it| it.high, 3),
            speed(|it| it.after_ms, 4),
            network.macs_share,
            network.score.kl,
            share(network.score.agreement),
            share(network.score.accuracy),
            network.score.images,
            yes(network.is_chosen),
            yes(network.is_beaten),
            blocks(network)
        );
    }
    out.push('\n');
    out
}

/// A share with four decimals; empty if it is unknown.
fn share(value: Option<f64>) -> String {
    value.map_or_else(String::new, |it| format!("{it:.4}"))
}

/// The blocks with their forms: `3 conv, 5 thin-4/8`.
#[must_use]
pub fn blocks(network: &FrontNetwork) -> String {
    let each = network.blocks.iter().map(|(at, form)| format!("{at} {form}"));
    each.collect::<Vec<_>>().join(", ")
}

fn json_table(input: &Path, outcome: &Outcome) -> Value {
    json!({
        "schema": SCHEMA,
        "tool": { "name": "updp-compile", "version": env!("CARGO_PKG_VERSION") },
        "input": input.display().to_string(),
        "goal": outcome.goal,
        "metric": outcome.metric,
        "before_ms": outcome.speed.as_ref().map(|it| it.before_ms),
        "baseline": outcome.held_out_baseline,
        "networks": outcome.networks,
    })
}
