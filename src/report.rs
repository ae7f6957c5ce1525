//! The report of a compilation: a table for people and JSON for programs.

use std::fmt::Write;
use std::path::Path;

use indexmap::IndexMap;
use serde_json::{Value, json};
use updp_ir::Model;
use updp_passes::{Log, ModelSummary};

use updp_verify::{Parts, Verification};

/// The format versions of a model; compiling does not change them.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    ir: i64,
    opset: Option<i64>,
}

impl Versions {
    /// Reads the versions of a model.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        Self { ir: model.ir_version(), opset: model.opset("") }
    }
}

/// A summary as it appears in a report.
fn summary_json(summary: &ModelSummary) -> Value {
    json!({
        "nodes": summary.nodes,
        "ops": summary.ops,
        "parameters": summary.parameters,
        "macs": summary.macs,
        "bytes": summary.bytes,
    })
}

/// Operator types whose count changed, by name, with the counts before and after.
#[must_use]
pub fn changed_ops<'a>(
    before: &'a ModelSummary,
    after: &'a ModelSummary,
) -> Vec<(&'a str, usize, usize)> {
    let mut names: Vec<&String> = before.ops.keys().chain(after.ops.keys()).collect();
    names.sort();
    names.dedup();
    let count = |summary: &ModelSummary, name: &String| summary.ops.get(name).copied().unwrap_or(0);
    let counts = names.into_iter().map(|it| (it.as_str(), count(before, it), count(after, it)));
    counts.filter(|(_, was, is)| was != is).collect()
}

/// The table that compares a model before and after.
#[must_use]
pub fn table(before: &ModelSummary, after: &ModelSummary) -> String {
    let mut out = String::new();
    let mut row = |name: &str, a: String, b: String| {
        let _ = writeln!(out, "  {name:<24}{a:>14}{b:>14}");
    };
    row("", "before".into(), "after".into());
    row("nodes", before.nodes.to_string(), after.nodes.to_string());
    for (name, was, is) in changed_ops(before, after) {
        row(&format!("  {name}"), was.to_string(), is.to_string());
    }
    row("parameters", grouped(before.parameters as u64), grouped(after.parameters as u64));
    row("multiply-adds", grouped(before.macs), grouped(after.macs));
    row("bytes", grouped(before.bytes), grouped(after.bytes));
    out.trim_end().to_owned()
}

/// A number with commas as thousands separators.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How often each rule was applied, in order of first use.
#[must_use]
pub fn by_rule(log: &Log) -> IndexMap<&'static str, usize> {
    let mut counts = IndexMap::new();
    for rewrite in &log.rewrites {
        *counts.entry(rewrite.rule).or_default() += 1;
    }
    counts
}

/// Milliseconds in each phase, over all rounds.
#[must_use]
pub fn phase_times(log: &Log) -> IndexMap<&'static str, f64> {
    log.phase_times.iter().map(|(name, time)| (*name, time.as_secs_f64() * 1e3)).collect()
}

/// Warnings of the rewrites, one for each kind: the first of its kind, and how many others there are.
///
/// A warning is `RULE at NODE: WHAT (NUMBERS): CONSEQUENCE`; warnings of one kind have the same consequence.
#[must_use]
pub fn warnings(log: &Log) -> Vec<String> {
    let mut kinds: IndexMap<&str, (&String, usize)> = IndexMap::new();
    for warning in &log.warnings {
        let kind = warning.rsplit_once(": ").map_or(warning.as_str(), |(_, kind)| kind);
        kinds.entry(kind).or_insert((warning, 0)).1 += 1;
    }
    let words = kinds.into_values().map(|(first, count)| match count {
        1 => first.clone(),
        _ => format!("{first}; and {} more of this kind", count - 1),
    });
    words.collect()
}

/// Refusals as lines.
#[must_use]
pub fn why_not(log: &Log) -> String {
    if log.refusals.is_empty() {
        return "nothing was declined".to_owned();
    }
    let lines: Vec<String> = log
        .refusals
        .iter()
        .map(|r| {
            format!("  {} at {:?}: {} ({})", r.rule, r.node, r.declined.reason, r.declined.detail)
        })
        .collect();
    format!("declined:\n{}", lines.join("\n"))
}

/// A verification as lines.
#[must_use]
pub fn verification(result: &Verification) -> String {
    if let Some(parts) = result.parts {
        return format!(
            "equal part by part: no runtime here runs the whole model; {parts} parts run by \
             themselves in {}, worst max|Δ|/max|ref| {:.2e}",
            if parts == 0 { "nothing" } else { &result.runtime },
            result.worst()
        );
    }
    let mut out = format!(
        "{}: {} inputs in {}, worst max|Δ|/max|ref| {:.2e}",
        match result.proves_nothing() {
            _ if !result.is_passed() => "DIFFERENT",
            Some(_) => "PROVES NOTHING",
            None => "equal",
        },
        result.runs,
        result.runtime,
        result.worst()
    );
    for output in &result.outputs {
        let top1 = output
            .top1_agreement
            .map_or_else(String::new, |v| format!(", top-1 agreement {:.2} %", v * 100.0));
        let _ = write!(
            out,
            "\n  {:<24} max {:.2e}, rms {:.2e}, cosine {:.9}{top1}",
            output.name, output.relative, output.rms, output.cosine
        );
        if let Some(why) = output.silence {
            let _ = write!(out, "\n    warning: {why}, so this output proves nothing");
        }
        if output.undecided > 0 {
            let _ = write!(
                out,
                "\n    {} integers differ where the original does not decide: they change with its inputs' fifth digit",
                output.undecided
            );
        }
        if let Some(noise) = output.noise {
            let _ = write!(
                out,
                "\n    above the limit {:e}; the original itself differs by {noise:.2e} when its inputs change by 1e-6",
                output.limit
            );
        }
        if let Some(failure) = &output.failure {
            let _ = write!(out, "\n    {failure} (limit {:e})", output.limit);
        }
    }
    if let Some(local) = &result.local {
        let _ = write!(out, "\n  {}", parts(local));
    }
    for name in &result.random {
        let _ = write!(
            out,
            "\n  {name:<24} not compared: the original itself gives other values each time"
        );
    }
    if let Some((a, b)) = result.top1 {
        let _ = write!(out, "\n  top-1 on the labels: {:.2} % and {:.2} %", a * 100.0, b * 100.0);
    }
    out
}

/// The comparison of the changed parts as a line.
fn parts(local: &Parts) -> String {
    let mut out = format!(
        "{} changed parts equal on the values that the original has there, worst channel {:.2e}",
        local.equal, local.worst
    );
    if local.noisy > 0 {
        let _ = write!(out, ", {} of them within their rounding", local.noisy);
    }
    if local.left_out > 0 {
        let _ = write!(out, "; {} not compared by themselves", local.left_out);
    }
    if let Some(fault) = &local.fault {
        let _ = write!(out, "\n    {fault}");
    }
    out
}

/// The JSON report, schema `updp-report/2` (docs/report.md).
#[must_use]
pub fn json(
    versions: &Versions,
    input: (&Path, &ModelSummary),
    output: (&Path, &ModelSummary),
    log: &Log,
    verified: Option<&Verification>,
    status: &str,
) -> Value {
    let facts = |path: &Path, facts: &ModelSummary| {
        let mut value = summary_json(facts);
        value["path"] = json!(path.display().to_string());
        value["ir_version"] = json!(versions.ir);
        value["opset"] = json!(versions.opset);
        value
    };
    json!({
        "schema": "updp-report/2",
        "tool": { "name": "updp-compile", "version": env!("CARGO_PKG_VERSION") },
        "input": facts(input.0, input.1),
        "output": facts(output.0, output.1),
        "rewrites_by_rule": by_rule(log),
        "rewrites": log
            .rewrites
            .iter()
            .map(|r| json!({ "rule": r.rule, "node": r.node }))
            .collect::<Vec<_>>(),
        "refusals": log
            .refusals
            .iter()
            .map(|r| json!({
                "rule": r.rule, "node": r.node,
                "reason": r.declined.reason, "detail": r.declined.detail,
            }))
            .collect::<Vec<_>>(),
        "warnings": log.warnings,
        "verification": {
            "status": status,
            "runtime": verified.map(|v| v.runtime.clone()),
            "runs": verified.map_or(0, |v| v.runs),
            "parts": verified.and_then(|v| v.parts),
            "changed_parts": verified.map_or(Value::Null, changed_parts),
            "outputs": verified.map_or_else(Vec::new, outputs),
            "random_outputs": verified.map_or_else(Vec::new, |v| v.random.clone()),
        },
        "times_ms": phase_times(log),
    })
}

/// The compared outputs, as they appear in reports.
fn outputs(verified: &Verification) -> Vec<Value> {
    let outputs = verified.outputs.iter().map(|output| {
        json!({
            "name": output.name, "relative": output.relative, "rms": output.rms,
            "cosine": output.cosine, "top1_agreement": output.top1_agreement,
            "limit": output.limit, "undecided": output.undecided, "noise": output.noise,
            "telling": output.silence.is_none(),
        })
    });
    outputs.collect()
}

/// The changed parts that were run by themselves; null where there were none.
fn changed_parts(verified: &Verification) -> Value {
    let parts = verified.local.as_ref().map(|parts| {
        json!({
            "equal": parts.equal, "left_out": parts.left_out, "noisy": parts.noisy,
            "worst": parts.worst,
        })
    });
    parts.unwrap_or(Value::Null)
}

/// The comparison of two models, schema `updp-verify/1`.
#[must_use]
pub fn comparison(reference: &Path, model: &Path, result: &Verification) -> Value {
    json!({
        "schema": "updp-verify/1",
        "reference": reference.display().to_string(),
        "model": model.display().to_string(),
        "is_equal": result.is_passed(),
        "proves_nothing": result.proves_nothing(),
        "failure": result.failure(),
        "runtime": result.runtime,
        "runs": result.runs,
        "outputs": outputs(result),
        "random_outputs": result.random,
        "top1": result.top1.map(|(reference, model)| [reference, model]),
    })
}
