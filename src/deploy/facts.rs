//! The facts of `targets.toml` as types.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::DeployTarget;
use super::Severity;

const FACTS: &str = include_str!("targets.toml");

/// The documented facts about one target.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    /// Its name, with the release that the facts describe.
    pub title: String,
    /// Supported opsets of `ai.onnx`.
    pub opset: Option<Versions>,
    /// Supported IR versions.
    pub ir: Option<Versions>,
    /// Supported operators of `ai.onnx`; `None` if the target promises all of them.
    pub operators: Option<Operators>,
    /// Support for operators of other domains.
    pub domains: Domains,
    /// Support for calls of local functions.
    pub functions: Option<Fact>,
    /// Support for tensors in a file beside the model.
    pub data_file: Option<Fact>,
    #[serde(default)]
    pub restriction: Vec<Restriction>,
}

/// A range of versions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Versions {
    pub min: Option<i64>,
    pub max: i64,
    /// Severity of a newer version; an older version is an error.
    pub above: Severity,
    #[serde(default)]
    pub below_cure: String,
    pub above_cure: String,
    pub source: String,
}

impl Versions {
    /// The lowest version; 0 if none is documented.
    pub fn min(&self) -> i64 {
        self.min.unwrap_or(0)
    }
}

/// A fact that holds for every node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fact {
    pub severity: Severity,
    pub text: String,
    pub cure: String,
    pub source: String,
}

/// The operator table of a target.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Operators {
    pub supported: Vec<String>,
    pub unsupported: Vec<String>,
    #[serde(default)]
    pub unfinished: Vec<String>,
    /// The fact for each operator in `unsupported`.
    pub refusal: Fact,
    /// The fact for each operator in `unfinished`.
    pub progress: Option<Fact>,
    /// The fact for an operator that is not in the table.
    pub unlisted: Fact,
}

/// The support of a target for operators of other domains.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Domains {
    /// Domains whose operators are all supported.
    #[serde(default)]
    pub known: Vec<String>,
    /// Supported operators of `com.microsoft`.
    #[serde(default)]
    pub contrib: Vec<String>,
    /// The fact for every other operator.
    pub foreign: Fact,
}

/// A condition on some operators or values.
#[derive(Debug, Deserialize)]
pub(super) struct Restriction {
    #[serde(flatten)]
    pub condition: Condition,
    #[serde(default)]
    pub ops: Vec<String>,
    pub severity: Severity,
    pub cure: String,
    pub source: String,
}

/// The kinds of conditions.
#[derive(Debug, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
pub(super) enum Condition {
    /// If the integer attribute is given, it has this value; in a list, every entry has it.
    AttributeValue { attribute: String, only: i64 },
    /// If the text attribute is given, it is one of these texts.
    AttributeText { attribute: String, texts: Vec<String> },
    /// Operand 0 has one of these numbers of dims after batch and channels.
    SpatialRank { ranks: Vec<usize> },
    /// The operands have one of these numbers of dims.
    OperandRank { slots: Vec<usize>, ranks: Vec<usize> },
    /// Results other than the first are not read.
    FirstResultOnly,
    /// Operands are constants.
    ConstantOperand { slots: Vec<usize> },
    /// Operands are zeros if they are constants.
    ZeroOperand { slots: Vec<usize> },
    /// `auto_pad` is NOTSET.
    AutoPad,
    /// The operators do not occur; `name` is the name of the rule.
    Absent { name: String, text: String },
    /// The type of operand 0 is none of these types.
    OperandDtype { dtypes: Vec<String> },
    /// No value is of one of these types.
    Dtype { dtypes: Vec<String> },
    /// Every value is of one of these types.
    OnlyDtypes { dtypes: Vec<String> },
    /// The batch dim of an input (axis 0) is a number.
    OpenBatch,
    /// Every other dim of an input is a number.
    DynamicDim,
}

/// The facts about one target.
///
/// # Panics
/// Never: a test reads all facts.
pub(super) fn of(target: DeployTarget) -> Target {
    let mut all: BTreeMap<String, Target> =
        toml::from_str(FACTS).expect("the built-in facts are well formed: a test reads them");
    all.remove(target.key()).expect("every target has its facts: a test reads them")
}

/// Replaces the name `ai.onnx` of the default domain by the empty name.
pub(super) fn plain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl Target {
    /// The rule that an operator breaks, with its fact.
    pub fn verdict(&self, domain: &str, op: &str) -> Option<(&'static str, &Fact)> {
        let has = |list: &[String]| list.iter().any(|name| name == op);
        if !domain.is_empty() {
            let is_known = self.domains.known.iter().any(|name| name == domain)
                || domain == "com.microsoft" && has(&self.domains.contrib);
            return (!is_known).then_some(("domain", &self.domains.foreign));
        }
        let table = self.operators.as_ref()?;
        if has(&table.unsupported) {
            Some(("operator", &table.refusal))
        } else if has(&table.unfinished) {
            table.progress.as_ref().map(|fact| ("unfinished-operator", fact))
        } else if has(&table.supported) {
            None
        } else {
            Some(("unlisted-operator", &table.unlisted))
        }
    }
}

impl Restriction {
    /// The stable name that users see.
    pub fn rule_name(&self) -> &str {
        match &self.condition {
            Condition::AttributeValue { .. } | Condition::AttributeText { .. } => "attribute",
            Condition::SpatialRank { .. } | Condition::OperandRank { .. } => "rank",
            Condition::FirstResultOnly => "second-result",
            Condition::ConstantOperand { .. } => "variable-operand",
            Condition::ZeroOperand { .. } => "zero-point",
            Condition::AutoPad => "auto-pad",
            Condition::Absent { name, .. } => name,
            Condition::OperandDtype { .. }
            | Condition::Dtype { .. }
            | Condition::OnlyDtypes { .. } => "dtype",
            Condition::OpenBatch => "open-batch",
            Condition::DynamicDim => "dynamic-dim",
        }
    }

    /// The problem if the restriction is violated.
    pub fn what(&self, title: &str) -> String {
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
            Condition::AutoPad => "the padding is left to auto_pad".to_owned(),
            Condition::Absent { text, .. } => text.clone(),
            Condition::OperandDtype { dtypes } => {
                format!("{title} has no such operator for {}", dtypes.join(", "))
            }
            Condition::Dtype { dtypes } => format!("values are of {}", dtypes.join(", ")),
            Condition::OnlyDtypes { .. } => format!("{title} does not list this type of values"),
            Condition::OpenBatch => "the batch is open".to_owned(),
            Condition::DynamicDim => "a dim besides the batch is open".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: [DeployTarget; 3] =
        [DeployTarget::Ort, DeployTarget::Tensorrt, DeployTarget::Migraphx];

    #[track_caller]
    fn is_whole(fact: &Fact) {
        assert!(!fact.text.is_empty() && !fact.cure.is_empty() && !fact.source.is_empty());
    }

    #[test]
    fn every_target_has_facts_and_every_fact_its_source() {
        for target in TARGETS {
            let facts = of(target);
            assert!(!facts.title.is_empty());
            for versions in facts.opset.iter().chain(&facts.ir) {
                assert!(!versions.source.is_empty() && !versions.above_cure.is_empty());
                assert!(versions.min.is_none() || !versions.below_cure.is_empty());
            }
            is_whole(&facts.domains.foreign);
            facts.functions.iter().chain(&facts.data_file).for_each(is_whole);
            for restriction in &facts.restriction {
                assert!(!restriction.source.is_empty() && !restriction.cure.is_empty());
                let is_general = matches!(
                    restriction.condition,
                    Condition::Dtype { .. }
                        | Condition::OnlyDtypes { .. }
                        | Condition::OpenBatch
                        | Condition::DynamicDim
                );
                assert_eq!(restriction.ops.is_empty(), is_general, "{restriction:?}");
            }
        }
    }

    #[test]
    fn operator_tables_are_sorted_and_say_one_thing_of_an_operator() {
        for table in TARGETS.into_iter().filter_map(|target| of(target).operators) {
            is_whole(&table.refusal);
            is_whole(&table.unlisted);
            table.progress.iter().for_each(is_whole);
            assert_eq!(table.unfinished.is_empty(), table.progress.is_none());
            let mut all: Vec<&String> = Vec::new();
            for list in [&table.supported, &table.unsupported, &table.unfinished] {
                assert!(list.is_sorted(), "in alphabetical order");
                all.extend(list);
            }
            let count = all.len();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count, "an operator stands in two lists, or twice in one");
        }
    }

    /// A misspelled operator would make a rule that never applies.
    #[test]
    fn restrictions_name_operators_of_the_table() {
        for target in TARGETS {
            let facts = of(target);
            let Some(table) = &facts.operators else { continue };
            for op in facts.restriction.iter().flat_map(|restriction| &restriction.ops) {
                let lists = [&table.supported, &table.unfinished];
                assert!(lists.iter().any(|list| list.contains(op)), "{target:?}: {op}");
            }
        }
    }
}
