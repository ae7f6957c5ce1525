//! Checks a model against the documentation of a deployment target. The target itself need not be installed.
//!
//! All facts are in `targets.toml`, each with its source. `facts.rs` reads them, `rules.rs` checks the conditions, and
//! this file collects the findings.

mod facts;
#[cfg(test)]
mod operators_page;
mod rules;

use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};
use updp_ir::{Graph, Model};
use updp_passes::describe;

use facts::{Fact, Target, Versions};

/// Severity of a finding.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For information.
    Note,
    /// It works at a cost or under a condition.
    Warning,
    /// The target refuses the model.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One property of the model that the target does not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// Stable kebab-case name of the rule.
    pub rule: String,
    /// The affected nodes or values; only the first few are named.
    pub places: Vec<String>,
    /// The number of affected places.
    pub count: usize,
    /// The problem.
    pub what: String,
    /// The remedy.
    pub cure: String,
    /// The source that documents the fact.
    pub source: String,
}

/// Largest number of places that one finding names.
const SHOWN_PLACES: usize = 4;

/// A runtime that models can be checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeployTarget {
    /// ONNX Runtime
    Ort,
    /// NVIDIA TensorRT
    Tensorrt,
    /// AMD MIGraphX
    Migraphx,
}

impl DeployTarget {
    /// Its key in the facts.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Ort => "ort",
            Self::Tensorrt => "tensorrt",
            Self::Migraphx => "migraphx",
        }
    }
}

/// A node with its operator, from the graph, a body or a local function.
struct Operator {
    place: String,
    domain: String,
    op_type: String,
}

/// Finds the properties of a model that a target does not accept, the most severe first. `has_data_file` tells whether
/// tensors of the model are in files beside it.
#[must_use]
pub fn check(model: &Model, has_data_file: bool, target: DeployTarget) -> Vec<Finding> {
    let target = facts::of(target);
    let operators = operators(model);
    let functions: Vec<(&str, &str)> = model.functions().collect();
    let mut found = Findings::default();
    found.versions("opset", model.opset("").unwrap_or(0), target.opset.as_ref(), &target);
    found.versions("ir-version", model.ir_version(), target.ir.as_ref(), &target);
    found.operators(&operators, &functions, &target);
    let calls = operators
        .iter()
        .filter(|node| functions.contains(&(node.domain.as_str(), node.op_type.as_str())));
    if let Some(fact) = &target.functions {
        found.add(fact, "function", calls.map(|node| node.place.clone()).collect());
    }
    if let Some(fact) = target.data_file.as_ref().filter(|_| has_data_file) {
        found.add(fact, "external-data", vec!["the model".into()]);
    }
    let sites = rules::Sites::of(model);
    for restriction in &target.restriction {
        let places = rules::violations(restriction, &sites);
        found.push(Finding {
            severity: restriction.severity,
            rule: restriction.rule_name().to_owned(),
            count: places.len(),
            places,
            what: restriction.what(&target.title),
            cure: restriction.cure.clone(),
            source: restriction.source.clone(),
        });
    }
    found.0.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found.0
}

/// Every node of the model.
fn operators(model: &Model) -> Vec<Operator> {
    let mut all = Vec::new();
    collect(&model.graph, &mut all);
    if model.function_count() > 0
        && let Ok(proto) = model.to_proto()
    {
        for function in &proto.functions {
            all.extend(function.node.iter().map(|node| Operator {
                place: format!("function {}", function.name()),
                domain: facts::plain(node.domain()).to_owned(),
                op_type: node.op_type().to_owned(),
            }));
        }
    }
    all
}

fn collect(graph: &Graph, all: &mut Vec<Operator>) {
    for id in graph.nodes() {
        let node = graph.node(id);
        all.push(Operator {
            place: describe(graph, id),
            domain: facts::plain(node.domain()).to_owned(),
            op_type: node.op_type().to_owned(),
        });
        node.bodies().for_each(|body| collect(body, all));
    }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding unless its count is 0.
    fn push(&mut self, mut finding: Finding) {
        finding.places.truncate(SHOWN_PLACES);
        if finding.count > 0 {
            self.0.push(finding);
        }
    }

    fn add(&mut self, fact: &Fact, rule: &str, places: Vec<String>) {
        self.push(Finding {
            severity: fact.severity,
            rule: rule.to_owned(),
            count: places.len(),
            places,
            what: fact.text.clone(),
            cure: fact.cure.clone(),
            source: fact.source.clone(),
        });
    }

    /// Compares a version with the documented range.
    fn versions(&mut self, rule: &str, found: i64, range: Option<&Versions>, target: &Target) {
        let Some(range) = range else { return };
        let title = &target.title;
        let (severity, what, cure) = if range.min.is_some_and(|min| found < min) {
            let what = format!("the model is of {rule} {found}, {title} starts at {}", range.min());
            (Severity::Error, what, &range.below_cure)
        } else if found > range.max {
            let what = format!("the model is of {rule} {found}, {title} documents {}", range.max);
            (range.above, what, &range.above_cure)
        } else {
            return;
        };
        self.push(Finding {
            severity,
            rule: rule.to_owned(),
            places: vec![],
            count: 1,
            what,
            cure: cure.clone(),
            source: range.source.clone(),
        });
    }

    /// Adds a finding for each operator that the target does not have, has not finished, or does not mention.
    fn operators(&mut self, all: &[Operator], functions: &[(&str, &str)], target: &Target) {
        let mut known: Vec<(&str, &str)> = Vec::new();
        for node in all {
            let (domain, op) = (node.domain.as_str(), node.op_type.as_str());
            if known.contains(&(domain, op)) || functions.contains(&(domain, op)) {
                continue;
            }
            known.push((domain, op));
            let Some((rule, fact)) = target.verdict(domain, op) else { continue };
            let same = all.iter().filter(|other| other.domain == domain && other.op_type == op);
            let places = same.map(|node| node.place.clone()).collect();
            let name = if domain.is_empty() { op.to_owned() } else { format!("{domain}.{op}") };
            let text = format!("{name}: {}", fact.text);
            self.add(&Fact { text, ..fact.clone() }, rule, places);
        }
    }
}

/// The findings as lines.
#[must_use]
pub fn table(target: DeployTarget, findings: &[Finding]) -> String {
    let title = facts::of(target).title;
    if findings.is_empty() {
        return format!("{title}: nothing found that it does not take");
    }
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| {
            let Finding { severity, rule, what, cure, source, count, places } = finding;
            let more = if *count > places.len() { ", …" } else { "" };
            let places = if places.is_empty() {
                String::new()
            } else {
                format!(" at {}{more} ({count})", places.join(", "))
            };
            format!("  {severity}[{rule}]{places}: {what}; {cure} [{source}]")
        })
        .collect();
    format!("{title}:\n{}", lines.join("\n"))
}

/// The findings as JSON.
#[must_use]
pub fn json(target: DeployTarget, findings: &[Finding]) -> Value {
    let list: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "severity": finding.severity.to_string(),
                "rule": finding.rule,
                "places": finding.places,
                "count": finding.count,
                "what": finding.what,
                "cure": finding.cure,
                "source": finding.source,
            })
        })
        .collect();
    json!({ "target": target.key(), "findings": list })
}
