//! Checks a model against what a deployment target documents, without the target being there.
//!
//! All facts are in `targets.toml`, each with its source; this file knows only kinds of conditions.

use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};
use updp_ir::infer::Shapes;
use updp_ir::{Dim, Graph, Model, NodeId, ValueId, view};
use updp_passes::describe;

use crate::cli::TargetChoice;

const FACTS: &str = include_str!("targets.toml");

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// It works at a cost, or under a condition.
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

/// One thing the target does not take as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Stable kebab-case name of the rule.
    pub rule: String,
    /// The nodes or values, the first few by name.
    pub places: Vec<String>,
    /// How many there are.
    pub count: usize,
    /// What was found.
    pub what: String,
    /// What to do.
    pub cure: String,
    /// Where the fact is documented.
    pub source: String,
}

/// Places named in one finding.
const SHOWN_PLACES: usize = 4;

#[derive(Debug, Deserialize)]
struct Target {
    title: String,
    opset_min: i64,
    opset_max: Option<i64>,
    opset_source: String,
    unsupported: Vec<String>,
    unsupported_source: String,
    #[serde(default)]
    restriction: Vec<Restriction>,
}

#[derive(Debug, Deserialize)]
struct Restriction {
    #[serde(flatten)]
    condition: Condition,
    #[serde(default)]
    ops: Vec<String>,
    severity: Severity,
    cure: String,
    source: String,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
enum Condition {
    AttributeValue { attribute: String, only: i64 },
    AttributeText { attribute: String, texts: Vec<String> },
    SpatialRank { ranks: Vec<usize> },
    OperandRank { slots: Vec<usize>, ranks: Vec<usize> },
    FirstResultOnly,
    ConstantOperand { slots: Vec<usize> },
    ZeroOperand { slots: Vec<usize> },
    AutoPad,
    Dtype { dtypes: Vec<String> },
    DynamicDim,
}

impl Condition {
    fn name(&self) -> &'static str {
        match self {
            Self::AttributeValue { .. } | Self::AttributeText { .. } => "attribute",
            Self::SpatialRank { .. } | Self::OperandRank { .. } => "rank",
            Self::FirstResultOnly => "second-result",
            Self::ConstantOperand { .. } => "variable-operand",
            Self::ZeroOperand { .. } => "zero-point",
            Self::AutoPad => "auto-pad",
            Self::Dtype { .. } => "dtype",
            Self::DynamicDim => "dynamic-dim",
        }
    }
}

/// The facts about one target.
fn facts(target: TargetChoice) -> Target {
    let mut all: std::collections::BTreeMap<String, Target> =
        toml::from_str(FACTS).expect("the built-in facts are well formed: a test reads them");
    all.remove(target.key()).expect("every target has its facts: a test reads them")
}

impl TargetChoice {
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

/// What stands between a model and a target, the worst first.
#[must_use]
pub fn check(model: &Model, target: TargetChoice) -> Vec<Finding> {
    let facts = facts(target);
    let opset = model.opset("").unwrap_or(0);
    let shapes = Shapes::infer(&model.graph, opset);
    let graph = &model.graph;
    let mut findings = Vec::new();
    let below = opset < facts.opset_min;
    if below || facts.opset_max.is_some_and(|max| opset > max) {
        let range = facts.opset_max.map_or_else(
            || format!("{} and above", facts.opset_min),
            |max| format!("{} to {max}", facts.opset_min),
        );
        // A newer opset works as long as no operator of it is new; an older one is refused.
        findings.push(Finding {
            severity: if below { Severity::Error } else { Severity::Warning },
            rule: "opset".into(),
            places: vec![],
            count: 1,
            what: format!("the model is of opset {opset}, {} takes {range}", facts.title),
            cure: "export the model with an opset in that range".into(),
            source: facts.opset_source.clone(),
        });
    }
    let nodes = graph.nodes();
    let named = |nodes: Vec<NodeId>| -> (Vec<String>, usize) {
        let count = nodes.len();
        (nodes.into_iter().take(SHOWN_PLACES).map(|node| describe(graph, node)).collect(), count)
    };
    let mut add = |(places, count): (Vec<String>, usize), finding: Finding| {
        if count > 0 {
            findings.push(Finding { places, count, ..finding });
        }
    };
    let template = |severity, rule: &str, what: String, cure: &str, source: &str| Finding {
        severity,
        rule: rule.to_owned(),
        places: vec![],
        count: 0,
        what,
        cure: cure.to_owned(),
        source: source.to_owned(),
    };
    for op in &facts.unsupported {
        let of_op = nodes.iter().copied().filter(|node| graph.node(*node).is(op)).collect();
        let what = format!("{} does not take the operator {op}", facts.title);
        let cure = "replace the operator, or leave this part to ONNX Runtime";
        add(
            named(of_op),
            template(Severity::Error, "operator", what, cure, &facts.unsupported_source),
        );
    }
    let foreign =
        nodes.iter().copied().filter(|node| !graph.node(*node).domain().is_empty()).collect();
    if target != TargetChoice::Ort {
        let what = "the operator is of another domain than ai.onnx".to_owned();
        let cure = "a plugin of the target has to provide it";
        add(
            named(foreign),
            template(Severity::Error, "domain", what, cure, &facts.unsupported_source),
        );
        let padded: Vec<NodeId> =
            nodes.iter().copied().filter(|n| has_auto_pad(graph, *n)).collect();
        let what = "the padding is left to auto_pad".to_owned();
        let cure = "export with explicit pads";
        let source = "ONNX Conv-1: explicit padding is encouraged, auto_pad is for legacy uses";
        add(named(padded), template(Severity::Note, "auto-pad", what, cure, source));
    }
    for restriction in &facts.restriction {
        let found = restriction.violations(graph, &shapes, &nodes);
        let what = restriction.what(&facts.title);
        let Restriction { condition, severity, cure, source, .. } = restriction;
        let count = found.len();
        let places = found.into_iter().take(SHOWN_PLACES).collect();
        add((places, count), template(*severity, condition.name(), what, cure, source));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn has_auto_pad(graph: &Graph, node: NodeId) -> bool {
    graph.node(node).string("auto_pad").is_some_and(|mode| !matches!(mode, "" | "NOTSET"))
}

impl Restriction {
    fn what(&self, title: &str) -> String {
        match &self.condition {
            Condition::AttributeValue { attribute, only } => {
                format!("{title} takes {attribute} only where it is {only}")
            }
            Condition::AttributeText { attribute, texts } => {
                format!("{title} takes {attribute} only as {}", texts.join(" or "))
            }
            Condition::SpatialRank { ranks } => {
                format!("{title} takes this operator only with {ranks:?} spatial dims")
            }
            Condition::OperandRank { ranks, .. } => {
                format!("{title} takes these operands only with {ranks:?} dims")
            }
            Condition::FirstResultOnly => format!("{title} gives only the first result"),
            Condition::ConstantOperand { .. } => format!("{title} wants this operand constant"),
            Condition::ZeroOperand { .. } => format!("{title} wants a zero point of 0"),
            Condition::AutoPad => format!("{title} does not take auto_pad here"),
            Condition::Dtype { dtypes } => format!("values are of {}", dtypes.join(", ")),
            Condition::DynamicDim => "a dim besides the batch, or the batch, is open".to_owned(),
        }
    }

    /// The places where the restriction is not kept.
    fn violations(&self, graph: &Graph, shapes: &Shapes, nodes: &[NodeId]) -> Vec<String> {
        match &self.condition {
            Condition::Dtype { dtypes } => {
                let is_meant = |value: &ValueId| {
                    shapes.dtype(*value).is_some_and(|dtype| dtypes.contains(&dtype.to_string()))
                };
                let made = nodes.iter().flat_map(|node| graph.results(*node)).flatten();
                let values = graph.required_inputs().chain(made).filter(is_meant);
                values.map(|value| graph.value(value).name().to_owned()).collect()
            }
            Condition::DynamicDim => open_dims(graph),
            _ => nodes
                .iter()
                .copied()
                .filter(|node| self.ops.iter().any(|op| graph.node(*node).is(op)))
                .filter(|node| self.is_violated(graph, shapes, *node))
                .map(|node| describe(graph, node))
                .collect(),
        }
    }

    fn is_violated(&self, graph: &Graph, shapes: &Shapes, node: NodeId) -> bool {
        let known = graph.node(node);
        let rank = |slot: usize| {
            graph.operand(node, slot).and_then(|v| shapes.of(v)).and_then(updp_ir::TensorType::rank)
        };
        match &self.condition {
            Condition::AttributeValue { attribute, only } => {
                let list = known.ints(attribute).unwrap_or_default();
                known.int(attribute).is_some_and(|value| value != *only)
                    || list.iter().any(|value| value != only)
            }
            Condition::AttributeText { attribute, texts } => known
                .string(attribute)
                .is_some_and(|text| !texts.iter().any(|allowed| allowed == text)),
            Condition::SpatialRank { ranks } => {
                rank(0).is_some_and(|rank| !ranks.contains(&rank.saturating_sub(2)))
            }
            Condition::OperandRank { slots, ranks } => {
                slots.iter().any(|slot| rank(*slot).is_some_and(|rank| !ranks.contains(&rank)))
            }
            Condition::FirstResultOnly => {
                let others = graph.results(node).into_iter().skip(1).flatten();
                others.into_iter().any(|result| graph.is_read(result))
            }
            Condition::ConstantOperand { slots } => slots.iter().any(|slot| {
                graph.operand(node, *slot).is_some_and(|value| {
                    view::constant(graph, value).is_none()
                        && shapes.constant(graph, value).is_none()
                })
            }),
            Condition::ZeroOperand { slots } => slots.iter().any(|slot| {
                let constant = graph.operand(node, *slot).and_then(|v| view::constant(graph, v));
                let values = constant.and_then(|tensor| tensor.to_i64());
                values.is_some_and(|values| values.iter().any(|value| *value != 0))
            }),
            Condition::AutoPad => has_auto_pad(graph, node),
            Condition::Dtype { .. } | Condition::DynamicDim => false,
        }
    }
}

/// Inputs with open dims, `name[axis]`.
fn open_dims(graph: &Graph) -> Vec<String> {
    let mut places = Vec::new();
    for input in graph.required_inputs() {
        let value = graph.value(input);
        let dims = value.declared().and_then(|ty| ty.shape.as_ref());
        for (axis, dim) in dims.into_iter().flatten().enumerate() {
            if !matches!(dim, Dim::Known(_)) {
                places.push(format!("{}[{axis}]", value.name()));
            }
        }
    }
    places
}

/// The findings as lines.
#[must_use]
pub fn table(target: TargetChoice, findings: &[Finding]) -> String {
    let title = facts(target).title;
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
pub fn json(target: TargetChoice, findings: &[Finding]) -> Value {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_facts_and_every_fact_its_source() {
        for target in [TargetChoice::Ort, TargetChoice::Tensorrt, TargetChoice::Migraphx] {
            let facts = facts(target);
            assert!(!facts.title.is_empty());
            assert!(!facts.opset_source.is_empty() && !facts.unsupported_source.is_empty());
            for restriction in &facts.restriction {
                assert!(!restriction.source.is_empty() && !restriction.cure.is_empty());
                let is_general = matches!(
                    restriction.condition,
                    Condition::Dtype { .. } | Condition::DynamicDim
                );
                assert_eq!(restriction.ops.is_empty(), is_general, "{restriction:?}");
            }
            let mut sorted = facts.unsupported.clone();
            sorted.sort();
            assert_eq!(sorted, facts.unsupported, "in alphabetical order");
        }
    }
}
