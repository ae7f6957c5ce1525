//! What a compilation did: a table for people, JSON for programs.

use std::fmt::Write;
use std::path::Path;

use indexmap::IndexMap;
use serde_json::{Value, json};
use updp_ir::infer::Shapes;
use updp_ir::{Graph, Model};
use updp_passes::Log;
use updp_passes::surgery::Form;

use crate::prune::{Pruned, StatisticsSource};
use crate::survey::{Row, Variant};
use crate::verify::Verification;

/// Facts about a model.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Nodes of the main graph.
    pub nodes: usize,
    /// Count by operator type.
    pub ops: IndexMap<String, usize>,
    /// Elements of all float initializers.
    pub parameters: usize,
    /// Multiply-adds of Conv, Gemm and MatMul at batch 1; symbolic dims count as 1.
    pub macs: u64,
    /// Bytes of the model and its data files.
    pub bytes: u64,
}

impl Facts {
    /// Counts a model of this size in bytes.
    #[must_use]
    pub fn of(model: &Model, bytes: u64) -> Self {
        let graph = &model.graph;
        let shapes = Shapes::infer(graph, model.opset("").unwrap_or(0));
        let mut facts = Self { nodes: graph.node_count(), bytes, ..Self::default() };
        for id in graph.nodes() {
            *facts.ops.entry(graph.node(id).op_type().to_owned()).or_default() += 1;
            facts.macs += macs(graph, &shapes, id).unwrap_or(0);
        }
        facts.ops.sort_keys();
        for id in graph.initializers() {
            if let Some(tensor) = graph.value(id).tensor()
                && tensor.dtype().is_foldable_float()
            {
                facts.parameters += tensor.len();
            }
        }
        facts
    }

    fn json(&self) -> Value {
        json!({
            "nodes": self.nodes,
            "ops": self.ops,
            "parameters": self.parameters,
            "macs": self.macs,
            "bytes": self.bytes,
        })
    }
}

/// Multiply-adds of one weighted node.
fn macs(graph: &Graph, shapes: &Shapes, id: updp_ir::NodeId) -> Option<u64> {
    let node = graph.node(id);
    // A symbolic dim counts as 1.
    let dims = |value: updp_ir::ValueId| -> Option<Vec<u64>> {
        let shape = shapes.of(value)?.shape.as_ref()?;
        Some(shape.iter().map(|dim| dim.known().unwrap_or(1) as u64).collect())
    };
    let size = |slot: usize| dims(graph.operand(id, slot)?);
    let positions: u64 = dims(graph.result(id, 0)?)?.iter().product();
    let inner: u64 = match node.op_type() {
        "Conv" => size(1)?.get(1..)?.iter().product(),
        "ConvTranspose" => {
            let weight = size(1)?;
            let input: u64 = size(0)?.iter().product();
            return Some(input * weight.get(1..)?.iter().product::<u64>());
        }
        "Gemm" => *size(0)?.get(usize::from(node.int("transA").unwrap_or(0) == 0))?,
        "MatMul" => *size(0)?.last()?,
        _ => return None,
    };
    Some(positions * inner)
}

/// Versions a model is written in; compiling changes neither.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    ir: i64,
    opset: Option<i64>,
}

impl Versions {
    /// Reads them off a model.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        Self { ir: model.ir_version(), opset: model.opset("") }
    }
}

/// The table of a model before and after.
#[must_use]
pub fn table(before: &Facts, after: &Facts) -> String {
    let mut out = String::new();
    let mut row = |name: &str, a: String, b: String| {
        let _ = writeln!(out, "  {name:<24}{a:>14}{b:>14}");
    };
    row("", "before".into(), "after".into());
    row("nodes", before.nodes.to_string(), after.nodes.to_string());
    let mut names: Vec<&String> = before.ops.keys().chain(after.ops.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let count = |facts: &Facts| facts.ops.get(name).copied().unwrap_or(0);
        if count(before) != count(after) {
            row(&format!("  {name}"), count(before).to_string(), count(after).to_string());
        }
    }
    row("parameters", grouped(before.parameters as u64), grouped(after.parameters as u64));
    row("multiply-adds", grouped(before.macs), grouped(after.macs));
    row("bytes", grouped(before.bytes), grouped(after.bytes));
    out.trim_end().to_owned()
}

/// A number with commas between its thousands.
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

/// How often each rule fired, in order of first use.
#[must_use]
pub fn by_rule(log: &Log) -> IndexMap<&'static str, usize> {
    let mut counts = IndexMap::new();
    for rewrite in &log.rewrites {
        *counts.entry(rewrite.rule).or_default() += 1;
    }
    counts
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
        if result.is_passed() { "equal" } else { "DIFFERENT" },
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
        if !output.is_telling {
            out.push_str("\n    the reference is zero or not finite everywhere: this says nothing");
        }
        if output.undecided > 0 {
            let _ = write!(
                out,
                "\n    {} integers differ where the original does not decide: they change with its inputs' fifth digit",
                output.undecided
            );
        }
        if let Some(failure) = &output.failure {
            let _ = write!(out, "\n    {failure} (limit {:e})", output.limit);
        }
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

/// The blocks of a model: what each is, what it could become.
#[must_use]
pub fn blocks(rows: &[Row]) -> String {
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
        } else if best.is_none() {
            let reason = row.forms.values().find_map(|v| v.as_ref().err());
            let _ = write!(out, "  {}", reason.map_or("does not offer this form", String::as_str));
        }
        if let Some(reason) = &row.unmeasured {
            let _ = write!(out, "  not measured: {reason}");
        }
    }
    out
}

/// Latencies of every block and each of its forms, with the gain of each form.
#[must_use]
pub fn latencies(rows: &[Row]) -> String {
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

/// What pruning everything that gains would do, and the command for it.
#[must_use]
pub fn outlook(model: &str, rows: &[Row]) -> Option<String> {
    let gains: Vec<&Row> = rows
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
         updp-compile {model} -o pruned.onnx --blocks {} --recover none",
        gains.len(),
        rows.len(),
        grouped(saved),
        list.join(",")
    ))
}

/// A number to three digits with its unit: 1.23M.
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
pub fn blocks_json(rows: &[Row]) -> Value {
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

/// The blocks that were pruned, a line each.
#[must_use]
pub fn chosen(pruned: &Pruned) -> String {
    let mut out = format!("{} of {} blocks:", pruned.chosen.len(), pruned.found);
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
    if pruned.statistics == StatisticsSource::Noise {
        out.push_str(
            "\n  BatchNorms in place of other norms have the statistics of noise; \
             --input-data gives those of data",
        );
    }
    out
}

/// Latency of a block as it was and in this form.
fn gain(row: &Row, form: Form) -> String {
    let Some(Ok(variant)) = row.forms.get(&form) else { return String::new() };
    let (Some(before), Some(after)) = (row.baseline.latency_ms, variant.latency_ms) else {
        return String::new();
    };
    format!(" {before:>8.3} -> {after:>8.3} ms")
}

/// The part of the JSON report on pruned blocks.
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
                "pruned": row.forms.get(form).and_then(|v| v.as_ref().ok()).map(variant),
            })
        })
        .collect();
    json!({
        "recovery": "none",
        "usable": false,
        "blocks_found": pruned.found,
        "statistics": pruned.statistics.name(),
        "blocks": blocks,
    })
}

/// The JSON report, schema `updp-report/1` (docs/report.md).
#[must_use]
pub fn json(
    versions: Versions,
    input: (&Path, &Facts),
    output: (&Path, &Facts),
    log: &Log,
    verified: Option<&Verification>,
    status: &str,
) -> Value {
    let facts = |path: &Path, facts: &Facts| {
        let mut value = facts.json();
        value["path"] = json!(path.display().to_string());
        value["ir_version"] = json!(versions.ir);
        value["opset"] = json!(versions.opset);
        value
    };
    let outputs: Vec<Value> = verified
        .iter()
        .flat_map(|v| &v.outputs)
        .map(|o| {
            json!({
                "name": o.name, "relative": o.relative, "rms": o.rms, "cosine": o.cosine,
                "top1_agreement": o.top1_agreement, "limit": o.limit, "undecided": o.undecided,
                "telling": o.is_telling,
            })
        })
        .collect();
    let times: IndexMap<&str, f64> =
        log.phase_times.iter().map(|(name, time)| (*name, time.as_secs_f64() * 1e3)).collect();
    json!({
        "schema": "updp-report/1",
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
            "outputs": outputs,
            "random_outputs": verified.map_or_else(Vec::new, |v| v.random.clone()),
        },
        "times_ms": times,
    })
}
