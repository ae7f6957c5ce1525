//! The page docs/operators.md: what is known of each operator, asked of the code that knows it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use updp_autodiff::{GRADIENT_OPERATORS, NO_GRADIENT_OPERATORS};
use updp_ir::infer::{is_evaluated, is_inferred};
use updp_passes::lift::{ChannelAffine, Linear};
use updp_passes::pipeline::phases;
use updp_passes::rewrite::EliminateIdentity;

use super::DeployTarget;
use super::facts::{self, Target};

/// Targets with a table of operators.
const TARGETS: [DeployTarget; 2] = [DeployTarget::Tensorrt, DeployTarget::Migraphx];

/// Operators that no table of a target has: of early versions, and the newest.
const UNLISTED: &[&str] = &["Affine", "Crop", "CumProd"];

const HEAD: &str = "\
# Operators

This page is made from the code. An operator that is not here, or of another domain, stays in the model as it is.

| column | meaning |
|---|---|
| shapes | shapes or types of the results are inferred, so that rules, costs and gradients can be worked out behind the operator |
| constants | the operator is computed exactly when all its operands are constants (`fold-constants`). Weights that are made with other operators are computed by a runtime (`evaluate-constants`) |
| layer | `weighted`: rules fold into it and merge it; blocks are made of it. `affine`: folds into weighted operators where its other operand is constant |
| gradient | [training](train.md): `yes`; `ends`: its results are constant in pieces or no floats, so the gradient is zero there; `–`: refused with T0301 where a gradient has to pass |
| TensorRT, MIGraphX | their documentation: `yes`; `in part`: with conditions, which `--target` checks; `unfinished`; `no`; `–`: not mentioned. [Deploying](deploy.md) names the sources |
| rules | the [rewrite rules](passes.md) that start at the operator. Other rules may take it along, or move across it |

ONNX Runtime has all operators of `ai.onnx`; `--target ort` knows types that its kernels lack. Three rules look at every operator:
`eliminate-dead`, `fold-constants` and `evaluate-constants`.

";

/// Rules that look at every operator; the page says so above the table.
const EVERYWHERE: [&str; 4] =
    ["eliminate-dead", "fold-constants", "evaluate-constants", "eliminate-identity"];

/// The rules that start at an operator, in the order in which they run.
fn rules(op: &str) -> Vec<&'static str> {
    let phases = phases();
    let all = phases.iter().flat_map(|phase| &phase.rules);
    let starts = all.filter(|rule| match rule.name() {
        "eliminate-identity" => EliminateIdentity::operators().contains(&op),
        _ => rule.roots().contains(&op),
    });
    starts.map(|rule| rule.name()).collect()
}

fn gradient(op: &str) -> &'static str {
    match (GRADIENT_OPERATORS.contains(&op), NO_GRADIENT_OPERATORS.contains(&op)) {
        (true, _) => "yes",
        (_, true) => "ends",
        _ => "–",
    }
}

fn layer(op: &str) -> &'static str {
    match (Linear::OPERATORS.contains(&op), ChannelAffine::OPERATORS.contains(&op)) {
        (true, _) => "weighted",
        (_, true) => "affine",
        _ => "",
    }
}

fn documented(target: &Target, op: &str) -> &'static str {
    let is_restricted = || {
        target.restriction.iter().any(|restriction| restriction.ops.iter().any(|name| name == op))
    };
    match target.verdict("", op).map(|(rule, _)| rule) {
        None if is_restricted() => "in part",
        None => "yes",
        Some("unfinished-operator") => "unfinished",
        Some("unlisted-operator") => "–",
        Some(_) => "no",
    }
}

/// Every operator that some part knows.
fn operators() -> BTreeSet<String> {
    let mut all: BTreeSet<String> = [
        GRADIENT_OPERATORS,
        NO_GRADIENT_OPERATORS,
        Linear::OPERATORS,
        ChannelAffine::OPERATORS,
        EliminateIdentity::operators().as_slice(),
        UNLISTED,
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect();
    for phase in phases() {
        all.extend(phase.rules.iter().flat_map(|rule| rule.roots()).map(ToString::to_string));
    }
    for table in TARGETS.into_iter().filter_map(|target| facts::of(target).operators) {
        all.extend([table.supported, table.unsupported, table.unfinished].concat());
    }
    all
}

fn page() -> String {
    let targets = TARGETS.map(facts::of);
    let mut page = HEAD.to_owned();
    let titles = targets.iter().map(|target| target.title.as_str()).collect::<Vec<_>>().join(" | ");
    let _ =
        writeln!(page, "| operator | shapes | constants | layer | gradient | {titles} | rules |");
    let _ = writeln!(page, "|---|---|---|---|---|---|---|---|");
    for op in operators() {
        let mark = |is: bool| if is { "yes" } else { "–" };
        let rules: Vec<String> = rules(&op).iter().map(|name| format!("`{name}`")).collect();
        let [tensorrt, migraphx] = targets.each_ref().map(|target| documented(target, &op));
        let _ = writeln!(
            page,
            "| {op} | {} | {} | {} | {} | {tensorrt} | {migraphx} | {} |",
            mark(is_inferred(&op)),
            mark(is_evaluated(&op)),
            layer(&op),
            gradient(&op),
            rules.join(", "),
        );
    }
    page
}

#[test]
fn the_page_of_operators_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    let page = page();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).expect("docs/operators.md is written");
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/operators.md is out of date: UPDATE_DOCS=1 cargo test -p updp-compile --lib operators_page"
    );
}

#[test]
fn rules_without_operators_to_start_at_are_those_that_the_page_names() {
    let phases = phases();
    let all = phases.iter().flat_map(|phase| &phase.rules);
    let mut found: Vec<&str> =
        all.filter(|rule| rule.roots().is_empty()).map(|rule| rule.name()).collect();
    let mut named = EVERYWHERE;
    found.sort_unstable();
    named.sort_unstable();
    assert_eq!(found, named);
}

/// The words between double quotes that could name an operator.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_alphanumeric())
    };
    text.split('"').skip(1).step_by(2).filter(is_name)
}

#[test]
fn the_page_misses_no_operator_that_shape_inference_knows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ir/src/infer");
    let listed = operators();
    let mut known = BTreeSet::new();
    for below in ["", "rules", "eval"] {
        for entry in fs::read_dir(folder.join(below)).expect("a folder").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(entry.path()).expect("text");
                known.extend(quoted(&text).filter(|op| is_inferred(op)).map(str::to_owned));
            }
        }
    }
    // An operator of ONNX Runtime's optimizer, of another domain.
    known.remove("FusedConv");
    assert!(known.len() > 100, "{known:?}");
    let missing: Vec<_> = known.difference(&listed).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(!is_inferred("NonMaxSuppressionOfMine") && !is_evaluated("Relu"));
}
