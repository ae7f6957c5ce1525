//! Replaces nodes whose results are the same on every run with constants.
//!
//! Before: `y = f(c₁, c₂, …)`, or shape arithmetic that the inferred shapes decide
//! After:  readers of `y` read an initializer
//!
//! 1. `boundary`: no result is a graph output, read inside a body or named by an annotation.
//! 2. `grows`: the constant is small, or takes no more bytes than the constants that it removes.
//!
//! Evaluation is exact: it uses only operators that every runtime rounds alike (`updp_ir::infer::eval`).
//! Measure: one node fewer.

use updp_ir::infer::evaluate;
use updp_ir::{NodeId, Tensor, ValueId};

use crate::error::{Declined, Stop};
use crate::patch::Patch;
use crate::rule::{Context, Rule};

/// Constants up to this size may replace the node that makes them.
const SMALL_BYTES: usize = 1024;

/// See the module documentation.
#[derive(Debug)]
pub struct FoldConstants;

/// A node and the constants it makes.
#[derive(Debug)]
pub struct Match {
    node: NodeId,
    results: Vec<(ValueId, Tensor)>,
}

impl Rule for FoldConstants {
    type Match = Match;
    const NAME: &'static str = "fold-constants";
    const SUMMARY: &'static str = "computes shape arithmetic and other constant expressions";
    const ROOTS: &'static [&'static str] = &[];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let node = cx.graph.get_node(root)?;
        if node.is("Constant") || node.is("Identity") || node.has_bodies() {
            return None;
        }
        let results: Vec<ValueId> = cx.graph.results(root).into_iter().flatten().collect();
        if results.is_empty() || results.iter().any(|value| !is_replaceable(cx, *value)) {
            return None;
        }
        let tensors = by_value(cx, root).or_else(|| by_shape(cx, &results))?;
        if tensors.len() < results.len() {
            return None;
        }
        Some(Match { node: root, results: results.into_iter().zip(tensors).collect() })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        check_size(cx, &matched)?;
        let mut patch = Patch::new();
        for (value, tensor) in matched.results {
            let constant = patch.constant(cx.graph.value(value).name(), tensor, None);
            patch.redirect(value, constant);
        }
        patch.remove(matched.node);
        Ok(patch)
    }
}

/// Declines a constant that takes more bytes than the constants that become unused.
fn check_size(cx: &Context<'_>, matched: &Match) -> Result<(), Declined> {
    let made: usize = matched.results.iter().map(|(_, tensor)| tensor.bytes().len()).sum();
    let freed: usize = cx
        .graph
        .operands(matched.node)
        .into_iter()
        .flatten()
        .filter(|value| cx.graph.sole_use(*value).is_some())
        .filter_map(|value| cx.constant(value))
        .map(|tensor| tensor.bytes().len())
        .sum();
    if made <= freed.max(SMALL_BYTES) {
        return Ok(());
    }
    Err(Declined::new("grows", format!("the constant takes {made} bytes, {freed} would go")))
}

fn is_replaceable(cx: &Context<'_>, value: ValueId) -> bool {
    let known = cx.graph.value(value);
    !known.is_output() && !known.is_pinned() && !cx.graph.is_captured(value)
}

/// Results of a node whose operands are all constants.
fn by_value(cx: &Context<'_>, root: NodeId) -> Option<Vec<Tensor>> {
    let operands = cx.graph.operands(root);
    if operands.iter().all(Option::is_none) {
        return None;
    }
    let mut tensors = Vec::with_capacity(operands.len());
    for operand in &operands {
        tensors.push(match operand {
            None => None,
            Some(value) => Some(cx.constant(*value)?),
        });
    }
    let given: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
    let budget: usize = tensors.iter().flatten().map(|t| t.bytes().len()).sum();
    evaluate(cx.graph.node(root), cx.opset, &given, budget.max(SMALL_BYTES))
}

/// Results that the inferred shapes decide, such as `Shape` of a value with fixed dims.
fn by_shape(cx: &Context<'_>, results: &[ValueId]) -> Option<Vec<Tensor>> {
    results.iter().map(|value| cx.shapes.constant(cx.graph, *value)).collect()
}
