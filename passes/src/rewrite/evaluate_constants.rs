//! Lets a runtime compute what is the same on every run.
//!
//! Before: `y = f(c₁, c₂, …)`, where `f` is a group of nodes that read constants only
//! After:  readers of `y` read an initializer
//!
//! Weight normalization and standardization, products of weights (LoRA), Einsum of weights and scales such as
//! `(v + ε)^−½` are such groups. `fold-constants` computes operators that every runtime rounds alike; this rule
//! runs the rest once, in the runtime that also verifies the result. Without a runtime it does nothing.
//!
//! The group is at most [`MAX_NODES`] nodes of the default domain without bodies. Left out are operators that draw
//! numbers, and those that hold a quantization (`DequantizeLinear` and its like): computing them would give up
//! the small weights.
//!
//! A result that is a graph output, read inside a body or named by an annotation stays (no match).
//!
//! 1. `grows`: the constants take at most 1 KiB or as much as the constants that they free, or the model stays
//!    within the budget for border maps (1 MiB or 5 % in total).
//! 2. `no-runtime`: a runtime computes the group.
//!
//! Source: papers.md L8. Measure: nodes that read constants only.

use std::collections::BTreeSet;

use updp_ir::{DataType, ModelBuilder, NodeId, Tensor, ValueId};

use super::budget;
use crate::error::{Declined, Stop};
use crate::patch::Patch;
use crate::rule::{Context, Rule};

/// Largest number of nodes in one group.
const MAX_NODES: usize = 32;
/// Constants up to this size may replace the nodes that make them.
const SMALL_BYTES: usize = 1024;
/// Largest constant that is computed.
const MAX_BYTES: usize = 1 << 28;

/// Operators that are not computed: they draw numbers, keep a quantization, or give no tensors.
const LEFT_OUT: &[&str] = &[
    "Bernoulli",
    "Constant",
    "DequantizeLinear",
    "Dropout",
    "DynamicQuantizeLinear",
    "Identity",
    "Multinomial",
    "Optional",
    "OptionalGetElement",
    "OptionalHasElement",
    "QuantizeLinear",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "RegexFullMatch",
    "StringConcat",
    "StringNormalizer",
    "StringSplit",
    "TfIdfVectorizer",
];

/// See the module documentation.
#[derive(Debug)]
pub struct EvaluateConstants;

/// A group of nodes that read constants only.
#[derive(Debug)]
pub struct Match {
    root: NodeId,
    group: Group,
    results: Vec<ValueId>,
}

impl Rule for EvaluateConstants {
    type Match = Match;
    const NAME: &'static str = "evaluate-constants";
    const SUMMARY: &'static str =
        "lets the runtime compute weights that are made of constants (weight norm, LoRA, Einsum)";
    const ROOTS: &'static [&'static str] = &[];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        cx.options.evaluator.as_ref()?;
        let group = Group::ending_in(cx, root)?;
        let results: Vec<ValueId> = cx.graph.results(root).into_iter().flatten().collect();
        let is_kept = |value: &ValueId| {
            let known = cx.graph.value(*value);
            known.is_output() || known.is_pinned() || cx.graph.is_captured(*value)
        };
        let is_inner = |value: &ValueId| {
            let users = cx.graph.users(*value);
            !users.is_empty() && users.iter().all(|user| Group::ending_in(cx, user.node).is_some())
        };
        // The group of a reader holds this one.
        let is_any_kept = results.iter().any(is_kept);
        if results.is_empty() || is_any_kept || results.iter().all(is_inner) {
            return None;
        }
        Some(Match { root, group, results })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let known = |value: &ValueId| {
            let dims = cx.shapes.known_dims(*value)?;
            let bits = cx.shapes.dtype(*value)?.bits()?;
            dims.iter().try_fold(bits.div_ceil(8), |bytes, dim| bytes.checked_mul(*dim))
        };
        if let Some(sizes) = matched.results.iter().map(known).collect::<Option<Vec<_>>>() {
            matched.check_size(cx, sizes.into_iter().fold(0, usize::saturating_add))?;
        }
        let tensors = matched.evaluated(cx)?;
        matched.check_size(cx, tensors.iter().map(|tensor| tensor.bytes().len()).sum())?;
        let mut patch = Patch::new();
        for (value, tensor) in matched.results.into_iter().zip(tensors) {
            let constant = patch.constant(cx.graph.value(value).name(), tensor, None);
            patch.redirect(value, constant);
        }
        patch.remove(matched.root);
        Ok(patch)
    }
}

/// Nodes in the direction of data flow, and the constants that they read.
#[derive(Debug, Default)]
struct Group {
    nodes: Vec<NodeId>,
    constants: BTreeSet<ValueId>,
}

impl Group {
    /// The group that makes the results of `root`; `None` if they depend on more than constants.
    fn ending_in(cx: &Context<'_>, root: NodeId) -> Option<Self> {
        let mut group = Self::default();
        group.add(cx, root, 0)?;
        (!group.constants.is_empty()).then_some(group)
    }

    /// The element type of the floats that go into the group, if it is one. The runtime refuses a wrong guess.
    fn dtype(&self, cx: &Context<'_>) -> Option<DataType> {
        let tensors = self.constants.iter().filter_map(|value| cx.constant(*value));
        let mut floats = tensors.map(|t| t.dtype()).filter(|dtype| dtype.is_foldable_float());
        let first = floats.next()?;
        floats.all(|other| other == first).then_some(first)
    }

    fn add(&mut self, cx: &Context<'_>, node: NodeId, depth: usize) -> Option<()> {
        if self.nodes.contains(&node) {
            return Some(());
        }
        let known = cx.graph.get_node(node)?;
        let is_computed = known.domain().is_empty()
            && !known.has_bodies()
            && !known.has_reference_attribute()
            && !known.op_type().starts_with("Sequence")
            && !LEFT_OUT.contains(&known.op_type());
        let operands = cx.graph.operands(node);
        if !is_computed || depth >= MAX_NODES || operands.iter().all(Option::is_none) {
            return None;
        }
        // Data come first by custom, so a node that reads data is told after few steps.
        for value in operands.into_iter().flatten() {
            if cx.constant(value).is_some() {
                self.constants.insert(value);
                continue;
            }
            let (above, _) = cx.graph.producer(value)?;
            self.add(cx, above, depth + 1)?;
        }
        self.nodes.push(node);
        (self.nodes.len() <= MAX_NODES).then_some(())
    }
}

impl Match {
    /// Declines constants of `made` bytes that are too large.
    fn check_size(&self, cx: &Context<'_>, made: usize) -> Result<(), Declined> {
        let inside = |value: &ValueId| {
            let is_free = !cx.graph.value(*value).is_output() && !cx.graph.is_captured(*value);
            is_free && cx.graph.users(*value).iter().all(|u| self.group.nodes.contains(&u.node))
        };
        let freed: usize = self
            .group
            .constants
            .iter()
            .filter(|value| inside(value))
            .filter_map(|value| cx.constant(*value))
            .map(|tensor| tensor.bytes().len())
            .sum();
        if made <= MAX_BYTES && made <= freed.max(SMALL_BYTES).max(spare_bytes(cx)) {
            return Ok(());
        }
        Err(Declined::new("grows", format!("the constants take {made} bytes, {freed} would go")))
    }

    fn evaluated(&self, cx: &Context<'_>) -> Result<Vec<Tensor>, Declined> {
        let refused = |detail: String| Declined::new("no-runtime", detail);
        let mut builder = ModelBuilder::new(cx.opset);
        builder.graph_name("constants");
        let name = |value: ValueId| cx.graph.value(value).name();
        for value in &self.group.constants {
            if let Some(tensor) = cx.constant(*value) {
                builder.initializer(name(*value), &tensor);
            }
        }
        for node in &self.group.nodes {
            let names = |slots: Vec<Option<ValueId>>| -> Vec<&str> {
                slots.into_iter().map(|slot| slot.map_or("", name)).collect()
            };
            let (operands, results) =
                (names(cx.graph.operands(*node)), names(cx.graph.results(*node)));
            builder.node(cx.graph.node(*node).bare_copy(), &operands, &results);
        }
        for value in &self.results {
            let dtype = cx.shapes.dtype(*value).or_else(|| self.group.dtype(cx));
            let dtype = dtype.ok_or_else(|| {
                refused(format!("the element type of {:?} is not known", name(*value)))
            })?;
            builder.output(name(*value), dtype, None);
        }
        let model = builder.build().map_err(|error| refused(error.to_string()))?;
        let evaluator = cx.options.evaluator.as_ref();
        let evaluator = evaluator.ok_or_else(|| refused("there is none".to_owned()))?;
        let tensors = evaluator.evaluate(&model).map_err(refused)?;
        let is_plain = |tensor: &Tensor| {
            let dtype = tensor.dtype();
            dtype.is_foldable_float() || dtype.is_integer() || dtype == DataType::Bool
        };
        if tensors.len() != self.results.len() || !tensors.iter().all(is_plain) {
            return Err(refused("its results are no plain numbers".to_owned()));
        }
        Ok(tensors)
    }
}

/// Bytes that all constants together may still grow by.
fn spare_bytes(cx: &Context<'_>) -> usize {
    if cx.options.model_bytes == 0 {
        return 0;
    }
    let initializers = cx.graph.initializers();
    let tensors = initializers.filter_map(|value| cx.graph.value(value).tensor());
    let now: usize = tensors.map(|tensor| tensor.bytes().len()).sum();
    (cx.options.model_bytes.saturating_add(budget::limit(cx))).saturating_sub(now)
}
