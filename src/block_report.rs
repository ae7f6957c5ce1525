//! Blocks as tables for people and as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};
use updp_passes::surgery::Form;
use updp_prune::outcome::{BlockOutcome, DataOutcome, Outcome};

use crate::report::grouped;
use crate::report_page::BlockMacs;
use crate::untrusted::on_one_line;
use updp_prune::Pruned;
use updp_prune::profile::{BlockProfile, Variant};
use updp_prune::structure::StatisticsSource;
use updp_prune::words::counted;

/// The blocks of a model: kind, shape, size and fastest form of each.
#[must_use]
pub fn table(rows: &[BlockProfile]) -> String {
    if rows.is_empty() {
        return "  no blocks found".to_owned();
    }
    let name_width = rows.iter().map(|row| row.block.name.len()).max().unwrap_or(0).clamp(4, 40);
    let has_latency = rows.iter().any(|row| row.baseline.latency_ms.is_some());
    let time = if has_latency { "latency, ms" } else { "" };
    let mut out = format!(
        "  {:>3}  {:<17} {:<name_width$}  {:<35} {:<5} {:>9}  {:>17}  {:>8}  {time}",
        "", "kind", "name", "shape", "form", "params", "MACs", "layers"
    );
    for row in rows {
        let block = &row.block;
        let shape = if row.input == row.output {
            row.input.clone()
        } else {
            format!("{} -> {}", row.input, row.output.trim_start_matches(char::is_alphanumeric))
        };
        let best = row.fastest().filter(|_| block.refusal.is_none());
        let pair = |a: String, b: Option<String>| b.map_or(a.clone(), |b| format!("{a} -> {b}"));
        let macs = pair(short(row.baseline.macs), best.map(|(_, v)| short(v.macs)));
        let layers = pair(row.baseline.layers.to_string(), best.map(|(_, v)| v.layers.to_string()));
        let latency = row.baseline.latency_ms.map_or_else(String::new, |ms| {
            let after = best.and_then(|(_, v)| v.latency_ms).map(|ms| format!("{ms:.3}"));
            pair(format!("{ms:.3}"), after)
        });
        let form = best.map_or("-", |(form, _)| form.name());
        let _ = write!(
            out,
            "\n  {:>3}  {:<17} {:<name_width$}  {shape:<35} {form:<5} {:>9}  {macs:>17}  {layers:>8}  {latency}",
            block.index,
            block.kind.name(),
            block.name,
            short(row.baseline.parameters as u64)
        );
        if let Some(refusal) = &block.refusal {
            let _ = write!(out, "  not prunable: {} ({})", refusal.detail, refusal.reason);
        } else if let Some(slower) = row.slower() {
            let _ = write!(out, "  {slower}");
        } else if let Some(fit_only) = block.fit_only.as_ref().filter(|_| best.is_some()) {
            let _ = write!(out, "  only with images ({}): {}", fit_only.detail, offered(row));
        } else if best.is_none() {
            let reason = row.forms.values().find_map(|v| v.as_ref().err());
            let _ = write!(out, "  {}", reason.map_or("does not have this form", String::as_str));
        }
        if let Some(reason) = &row.unmeasured {
            let _ = write!(out, "  not measured: {reason}");
        }
    }
    out
}

/// The forms that a block offers.
fn offered(row: &BlockProfile) -> String {
    let known = row.forms.iter().filter(|(_, variant)| variant.is_ok());
    known.map(|(form, _)| form.name()).collect::<Vec<_>>().join(", ")
}

/// Latencies of every block and of each of its forms, with the gain of each form.
#[must_use]
pub fn latencies(rows: &[BlockProfile]) -> String {
    let mut out = String::from("  block                 baseline, ms   form: ms (gain)");
    for row in rows {
        let ms = row.baseline.time_ms();
        let _ = write!(out, "\n  {:>3} {:<18}{ms:>12.3}  ", row.block.index, row.block.kind.name());
        for (form, variant) in &row.forms {
            let _ = match variant {
                Ok(v) => {
                    write!(out, " {}: {:.3} ({:.2}x)", form.name(), v.time_ms(), ms / v.time_ms())
                }
                Err(reason) => write!(out, " {}: {reason}", form.name()),
            };
        }
        if let Some(refusal) = &row.block.refusal {
            let _ = write!(out, " not prunable: {}", refusal.detail);
        }
        if let Some(reason) = &row.unmeasured {
            let _ = write!(out, " (cost model; it cannot be measured: {reason})");
        }
    }
    out
}

/// The gain from pruning every block that has a faster form, and the command that does it. `None` if no block has one.
#[must_use]
pub fn outlook(model: &str, rows: &[BlockProfile]) -> Option<String> {
    let gains: Vec<&BlockProfile> = rows
        .iter()
        .filter(|row| row.block.refusal.is_none() && row.slower().is_none())
        .filter(|row| row.fastest().is_some())
        .collect();
    if gains.is_empty() {
        return None;
    }
    let saved: u64 = gains
        .iter()
        .filter_map(|row| Some(row.baseline.macs.saturating_sub(row.fastest()?.1.macs)))
        .sum();
    let list: Vec<String> = gains.iter().map(|row| row.block.index.to_string()).collect();
    Some(format!(
        "{} of {} blocks can be pruned, all together saving {} multiply-adds:\n  \
         updp-compile {model} -o pruned.onnx --data IMAGES --prune {}\n  \
         (blocks {}; a folder of images without labels will do, and inspect --latency measures every form)",
        gains.len(),
        rows.len(),
        grouped(saved),
        gains.len().div_ceil(3),
        list.join(",")
    ))
}

/// A number with three significant digits and its SI prefix, for example 1.23M.
fn short(number: u64) -> String {
    let value = number as f64;
    match number {
        0..=9_999 => number.to_string(),
        10_000..=999_999 => format!("{:.1}k", value / 1e3),
        1_000_000..=999_999_999 => format!("{:.2}M", value / 1e6),
        _ => format!("{:.2}G", value / 1e9),
    }
}

/// The blocks as JSON.
#[must_use]
pub fn json(rows: &[BlockProfile]) -> Value {
    let rows = rows.iter().map(|row| {
        let forms: serde_json::Map<String, Value> = row
            .forms
            .iter()
            .map(|(form, known)| {
                let value = match known {
                    Ok(known) => variant(known),
                    Err(reason) => json!({ "refused": reason }),
                };
                (form.name().to_owned(), value)
            })
            .collect();
        let refusal = row.block.refusal.as_ref();
        json!({
            "index": row.block.index,
            "kind": row.block.kind.name(),
            "name": row.block.name,
            "input": row.input,
            "output": row.output,
            "prunable": refusal.is_none(),
            "reason": refusal.map(|r| r.reason),
            "detail": refusal.map(|r| r.detail.clone()),
            "fit_only": row.block.fit_only.as_ref().map(|it| it.detail.clone()),
            "slower": row.slower(),
            "unmeasured": row.unmeasured,
            "baseline": variant(&row.baseline),
            "fastest": row.fastest().map(|(form, _)| form.name()),
            "forms": forms,
        })
    });
    Value::Array(rows.collect())
}

fn variant(known: &Variant) -> Value {
    json!({
        "parameters": known.parameters,
        "macs": known.macs,
        "layers": known.layers,
        "estimate_ms": known.estimate_ms,
        "latency_ms": known.latency_ms,
    })
}

/// The blocks that were pruned, one line for each.
#[must_use]
pub fn chosen(pruned: &Pruned) -> String {
    let mut out = format!("{} of {} blocks:", pruned.chosen.len(), pruned.blocks_found);
    for (row, form) in &pruned.chosen {
        let block = &row.block;
        let _ = write!(
            out,
            "\n  {:>3} {:<18} {:<5}{} {}",
            block.index,
            block.kind.name(),
            form.name(),
            gain(row, *form),
            block.name
        );
        if let Some(reason) = &row.unmeasured {
            let _ = write!(out, " (by the cost model; it cannot be measured: {reason})");
        }
    }
    for reason in &pruned.skipped {
        let _ = write!(out, "\n  left alone: {reason}");
    }
    if pruned.statistics == StatisticsSource::Noise {
        out.push_str(
            "\n  BatchNorms that replace other norms have the statistics of noise; \
             --input-data gives them those of data",
        );
    }
    out
}

/// Multiply-adds of the pruned blocks before and after; a block of an unknown form is left out.
#[must_use]
pub fn macs(pruned: &Pruned) -> Vec<BlockMacs> {
    let known = pruned.chosen.iter().filter_map(|(row, form)| {
        Some(BlockMacs {
            index: row.block.index,
            name: row.block.name.clone(),
            before: row.baseline.macs,
            after: row.variant(*form)?.macs,
        })
    });
    known.collect()
}

/// Latency of a block unchanged and in this form; empty if they were not measured.
fn gain(row: &BlockProfile, form: Form) -> String {
    let Some(variant) = row.variant(form) else { return String::new() };
    let (Some(before), Some(after)) = (row.baseline.latency_ms, variant.latency_ms) else {
        return String::new();
    };
    format!(" {before:>8.3} -> {after:>8.3} ms")
}

/// The pruned blocks as the JSON report shows them.
#[must_use]
pub fn pruning(pruned: &Pruned) -> Value {
    let blocks: Vec<Value> = pruned
        .chosen
        .iter()
        .map(|(row, form)| {
            json!({
                "index": row.block.index,
                "kind": row.block.kind.name(),
                "name": row.block.name,
                "form": form.name(),
                "baseline": variant(&row.baseline),
                "pruned": row.variant(*form).map(variant),
            })
        })
        .collect();
    let recovery = if pruned.outcome.is_some() { "fit" } else { "none" };
    let mut report = json!({
        "recovery": recovery,
        "usable": pruned.outcome.is_some(),
        "blocks_found": pruned.blocks_found,
        "statistics": pruned.statistics.name(),
        "blocks": blocks,
        "left_alone": pruned.skipped,
    });
    if let Some(outcome) = &pruned.outcome {
        report["fit"] = json!(outcome);
    }
    report
}

/// The outcome of pruning with data as text: scores and speed before and after, and the degradation of every candidate.
#[must_use]
pub fn fitted(outcome: &Outcome) -> String {
    let chosen = outcome.blocks.iter().filter(|block| block.chosen.is_some()).count();
    let mut out =
        format!("{chosen} of {} blocks pruned (goal: {})", outcome.blocks.len(), outcome.goal);
    let data = &outcome.data;
    let _ = write!(
        out,
        "\n  fitted with {} images, chosen by {} held out",
        data.calibration, data.held_out
    );
    if let Some(score) = outcome.input.as_ref().and_then(|input| input.score.as_ref()) {
        let _ = write!(out, "\n  input model  {score}");
    }
    scores(&mut out, outcome);
    trainings(&mut out, outcome);
    if let Some(speed) = &outcome.speed {
        let _ = write!(
            out,
            "\n  latency  {:.3} -> {:.3} ms, {:.2} times as fast ({:.2}-{:.2}), {}, at batch {} on {}",
            speed.before_ms,
            speed.after_ms,
            speed.speedup,
            speed.low,
            speed.high,
            if speed.threads == 1 {
                "one thread".to_owned()
            } else {
                format!("{} threads", speed.threads)
            },
            speed.batch,
            speed.runtime
        );
    }
    outputs(&mut out, outcome);
    images(&mut out, data);
    candidates(&mut out, &outcome.blocks);
    networks(&mut out, outcome);
    for sentence in &outcome.explanation {
        let _ = write!(out, "\n  {sentence}");
    }
    out
}

/// Accuracy before and after, and how close the result is to the input model.
fn scores(out: &mut String, outcome: &Outcome) {
    let per_cent = |share: f64| format!("{:.2} %", 100.0 * share);
    let images = outcome.after.images;
    let on = if outcome.data.validation > 0 { "of --val" } else { "held out" };
    if let (Some(before), Some(after)) = (outcome.before.accuracy, outcome.after.accuracy) {
        let (before, after) = (per_cent(before), per_cent(after));
        let _ = write!(out, "\n  accuracy  {before} -> {after} on {images} images {on}");
    }
    if let (Some(before), Some(after)) = (outcome.before.top5, outcome.after.top5) {
        let (before, after) = (per_cent(before), per_cent(after));
        let _ = write!(out, "\n  top-5     {before} -> {after}");
    }
    if let Some(agreement) = outcome.after.agreement {
        let agreement = per_cent(agreement);
        let _ =
            write!(out, "\n  agreement with the input model  {agreement} on {images} images {on}");
    } else {
        let overlap = outcome.after.overlap;
        let _ = write!(out, "\n  cosine to the input model  {overlap:.4} on {images} images {on}");
    }
}

/// How the supernet and the result were trained; empty if they were not trained.
fn trainings(out: &mut String, outcome: &Outcome) {
    if let Some(supernet) = &outcome.supernet {
        let epochs = counted(supernet.epochs, "epoch", "epochs");
        let start = supernet.start.as_ref().map_or_else(String::new, |start| {
            format!("; the weights of the result start from the {start}")
        });
        let _ = write!(
            out,
            "\n  supernet of {} blocks trained {epochs} with {} images, {} steps{start}",
            supernet.blocks.len(),
            supernet.images,
            supernet.steps
        );
    }
    if let Some(training) = &outcome.training {
        let (before, after) = (training.before.to_string(), training.after.to_string());
        let (method, epochs) = (&training.method, counted(training.epochs, "epoch", "epochs"));
        let _ = write!(
            out,
            "\n  trained ({method}) {epochs} with {} images, {} steps; before: {before}; after: {after}",
            training.images, training.steps
        );
    }
}

/// The sets that were fitted and measured; nothing if there are fewer than two.
fn networks(out: &mut String, outcome: &Outcome) {
    let measured = outcome.networks.iter().filter_map(|network| Some((network, network.speed?)));
    let measured: Vec<_> = measured.collect();
    if measured.len() < 2 {
        return;
    }
    out.push_str(
        "\n  fitted networks: times as fast, multiply-adds left, degradation (KL, nats) and answers on held-out images; * = chosen",
    );
    for (network, speed) in measured {
        let mark = if network.is_chosen { "*" } else { " " };
        let score = &network.score;
        let _ = write!(
            out,
            "\n  {mark}{:>2}  {:.2} ({:.2}-{:.2})  {:>3.0} %  {:.4}  ",
            network.number,
            speed.speedup,
            speed.low,
            speed.high,
            100.0 * network.macs_share,
            score.kl
        );
        let _ = match (score.accuracy, score.agreement) {
            (Some(accuracy), _) => write!(out, "accuracy {:.1} %", 100.0 * accuracy),
            (None, Some(agreement)) => write!(out, "agreement {:.1} %", 100.0 * agreement),
            (None, None) => write!(out, "cosine {:.4}", score.overlap),
        };
        let _ = write!(out, "  {}", counted(network.blocks.len(), "block", "blocks"));
        if network.is_beaten {
            out.push_str(", beaten by another");
        }
    }
}

/// The degradation of each output, if several count.
fn outputs(out: &mut String, outcome: &Outcome) {
    if outcome.outputs.len() < 2 {
        return;
    }
    out.push_str("\n  degradation of each output (KL, nats), with its weight:");
    for output in &outcome.outputs {
        let (name, lost, weight) = (&output.name, output.degradation, output.weight);
        let _ = write!(out, "\n    {name} {lost:.4} ({weight:.2})");
    }
}

/// The images that cannot be read, and the classes.
fn images(out: &mut String, data: &DataOutcome) {
    if !data.skipped.is_empty() {
        let _ = write!(out, "\n  {} images cannot be read:", data.skipped.len());
        for skipped in data.skipped.iter().take(5) {
            let _ = write!(out, "\n    {}", on_one_line(skipped));
        }
    }
    if !data.classes.is_empty() {
        let few: Vec<&str> = data.classes.iter().take(10).map(String::as_str).collect();
        let more = if data.classes.len() > few.len() { ", …" } else { "" };
        let _ = write!(out, "\n  classes in the order of the output: {}{more}", few.join(", "));
    }
}

/// One line for every block, with its candidates.
fn candidates(out: &mut String, blocks: &[BlockOutcome]) {
    out.push_str("\n  block: ms as it is; form: degradation (KL, nats) alone, ms; * = chosen");
    for block in blocks {
        let _ =
            write!(out, "\n  {:>3} {:<18} {:>8.3} ms ", block.index, block.kind, block.baseline_ms);
        for candidate in &block.candidates {
            let form = &candidate.form;
            let mark = if block.chosen.as_ref() == Some(form) { "*" } else { " " };
            let (lost, ms) = (candidate.degradation, candidate.latency_ms);
            let _ = write!(out, " {mark}{form} {lost:.4}, {ms:.3}");
        }
        if let Some(reason) = &block.reason {
            let _ = write!(out, "  {reason}");
        }
    }
}
