//! The order of the rules: one list, with a reason for each constraint.

use updp_ir::Model;

use crate::driver::{self, Log, Observer, Phase};
use crate::error::PassError;
use crate::left;
use crate::options::Options;
use crate::rewrite;
use crate::rule::AnyRule;

/// All phases in order. Each runs to its own fixpoint; the list repeats until nothing changes.
#[must_use]
pub fn phases() -> Vec<Phase> {
    vec![
        // Nodes that change nothing, are constant or are unread go first. Later rules then see operators
        // next to each other and constants as constants.
        Phase {
            name: "clean",
            rules: vec![
                boxed(rewrite::EliminateDead),
                boxed(rewrite::FoldConstants),
                boxed(rewrite::EvaluateConstants),
                boxed(rewrite::ChooseBranch),
                boxed(rewrite::EliminateIdentity),
                boxed(rewrite::MergeReshapes),
                boxed(rewrite::DropEmptyOperands),
            ],
        },
        // Affines fold into the operators that make their operand before any merge. Every merge then sees
        // final weights, and the cost guard sees final operators. Transposes are merged first, so that the
        // layout search passes through as few of them as possible.
        Phase {
            name: "fold",
            rules: vec![
                boxed(rewrite::MergeTransposes),
                boxed(rewrite::WriteSumAsProduct),
                boxed(rewrite::FoldChannelAffine),
                boxed(rewrite::FoldThroughConcat),
            ],
        },
        // Affines that could not fold backward are merged before they fold forward: two affines before a
        // padded Conv would leave two border maps. Border maps that merges left in a row are added up here, in
        // the next round.
        Phase {
            name: "affine",
            rules: vec![
                boxed(rewrite::SwapTransposeAffine),
                boxed(rewrite::MergeAffinePair),
                boxed(rewrite::MergeConstantAdds),
            ],
        },
        // Forward folds follow backward folds, because a border map behind a Conv stops a later backward
        // fold. A Pad is fused into its Conv only once nothing stands between them. So Pad-BN-Conv folds
        // the BN into an unpadded Conv, which needs no border map.
        Phase {
            name: "forward",
            rules: vec![boxed(rewrite::FoldIntoConsumer), boxed(rewrite::FusePad)],
        },
        // Biases and affines are final here; the new 1x1 Conv may merge with its neighbours next.
        Phase { name: "tokens", rules: vec![boxed(rewrite::ConvertTokenLinear)] },
        // Branches merge before chains. A chain may end in a branch of a sum, and a merge there is often
        // granted only together with the sum (1x1-AvgPool of DBB).
        Phase {
            name: "merge",
            rules: vec![
                boxed(rewrite::MergeParallel),
                boxed(rewrite::MergeChain),
                boxed(rewrite::FoldSpaceToDepth),
            ],
        },
        // What no other rule takes up any more is written in fewer nodes, and what is left of shape arithmetic is shared: a node that two paths read could not fold on either.
        Phase {
            name: "shapes",
            rules: vec![
                boxed(rewrite::WriteMatMulAsGemm),
                boxed(rewrite::BypassExpand),
                boxed(rewrite::CopyReshapeDims),
                boxed(rewrite::ShareEqualNodes),
            ],
        },
    ]
}

/// The phases that make every dialect of a network look alike and keep its layers apart. Surgery and the
/// search for blocks start from their result. Nothing folds forward and no run is merged, so that every
/// normalization and activation stays whole.
#[must_use]
pub fn preparing_phases() -> Vec<Phase> {
    let mut phases = phases();
    phases.retain(|phase| matches!(phase.name, "clean" | "fold"));
    phases.push(Phase { name: "pads", rules: vec![boxed(rewrite::FusePad)] });
    phases.push(Phase { name: "branches", rules: vec![boxed(rewrite::MergeParallel)] });
    phases
}

/// Prepares a model for [`crate::blocks::find`].
///
/// # Errors
/// See [`driver::run`].
pub fn prepare(model: &mut Model) -> Result<Log, PassError> {
    driver::run(model, &preparing_phases(), &Options::default(), &mut |_, _| {})
}

fn boxed(rule: impl AnyRule + 'static) -> Box<dyn AnyRule> {
    Box::new(rule)
}

/// Name and summary of every rule, in the order of the phases.
#[must_use]
pub fn rule_names() -> Vec<(&'static str, &'static str)> {
    phases()
        .iter()
        .flat_map(|phase| phase.rules.iter().map(|rule| (rule.name(), rule.summary())))
        .collect()
}

/// Runs the whole pipeline on a model. The log names a reason for every BatchNormalization, every affine beside
/// a weighted operator and every two weighted operators in a row that are left.
///
/// # Errors
/// P0003 if a rule name does not exist; otherwise see [`driver::run`].
pub fn compile(
    model: &mut Model,
    options: &Options,
    observer: &mut Observer<'_>,
) -> Result<Log, PassError> {
    let names = rule_names();
    for name in options.skip.iter().chain(&options.only) {
        if !names.iter().any(|(known, _)| known == name) {
            return Err(PassError::UnknownRule { name: name.clone() });
        }
    }
    let mut log = driver::run(model, &phases(), options, observer)?;
    left::explain(model, options, &mut log);
    Ok(log)
}
