//! Mixes two flows by λ: `(1 − λ)·old + λ·new`.

use updp_ir::{DataType, Dim, Model, Node, NodeId, Tensor, TensorType, ValueId};

use super::expand::LAMBDA_INPUT;
use crate::error::{Declined, PassError};
use crate::lift::weights;
use crate::patch::{Operand, Out, Patch};
use crate::rule::Context;

/// Adds the input λ for this number of blocks.
///
/// # Errors
/// P0009 when the model already has a λ.
pub(super) fn add_lambda(model: &mut Model, blocks: usize) -> Result<ValueId, PassError> {
    if model.graph.find(LAMBDA_INPUT).is_some() {
        return Err(PassError::AlreadyExpanded);
    }
    let ty = TensorType { dtype: DataType::Float, shape: Some(vec![Dim::Known(blocks)]) };
    Ok(model.graph.add_input(LAMBDA_INPUT, &ty))
}

/// The prefix of the names of new nodes: `updp`, with a number if an earlier run left names with this prefix.
pub(super) fn free_prefix(model: &Model) -> String {
    let graph = &model.graph;
    let is_taken = |prefix: &str| {
        let start = format!("{prefix}.");
        let is_node = |node: &NodeId| graph.node(*node).name().starts_with(&start);
        let is_value = |value: ValueId| graph.value(value).name().starts_with(&start);
        graph.nodes().iter().any(is_node) || graph.values().any(is_value)
    };
    let numbered = (2_usize..).map(|number| format!("updp{number}"));
    let mut candidates = std::iter::once("updp".to_owned()).chain(numbered);
    candidates.find(|prefix| !is_taken(prefix)).unwrap_or_default()
}

/// Writes the mixes of one block.
pub(super) struct Mixer {
    /// The prefix of new names.
    pub(super) prefix: String,
    anchor: NodeId,
    /// λ and 1 − λ of the block, `[1]`.
    factors: (Operand, Operand),
    /// Number of mixes written.
    pub(super) mixes: usize,
}

impl Mixer {
    /// The block's own λ: entry `index` of the input, in the type of the block's values.
    pub(super) fn new(
        cx: &Context<'_>,
        patch: &mut Patch,
        lambda: ValueId,
        index: usize,
        dtype: DataType,
        prefix: String,
        anchor: NodeId,
    ) -> Result<Self, Declined> {
        if cx.opset < 7 {
            return Err(Declined::new("opset", "broadcasting needs opset 7"));
        }
        let name = |part: &str| format!("{prefix}.{part}");
        let ints = |values: &[i64]| {
            Tensor::from_i64(vec![values.len()], values)
                .map_err(|e| Declined::new("ir", e.to_string()))
        };
        let index = patch.constant(name("lambda_index"), ints(&[index as i64])?, None);
        let gather = Node::new("Gather").named(&name("lambda")).with("axis", 0_i64);
        let fresh = |part: &str| Out::Fresh(name(part));
        let mut own = patch.node(gather, anchor, vec![lambda.into(), index], fresh("lambda_value"));
        if dtype != DataType::Float {
            let cast =
                Node::new("Cast").named(&name("lambda_cast")).with("to", i64::from(dtype.code()));
            own = patch.node(cast, anchor, vec![own], fresh("lambda_casted"));
        }
        let one = patch.constant(name("one"), weights::stored(dtype, vec![1], &[1.0])?, None);
        let rest = Node::new("Sub").named(&name("lambda_rest"));
        let rest = patch.node(rest, anchor, vec![one, own], fresh("lambda_rest_value"));
        Ok(Self { prefix, anchor, factors: (own, rest), mixes: 0 })
    }

    /// `(1 − λ)·old + λ·new`.
    pub(super) fn mix(
        &mut self,
        cx: &Context<'_>,
        patch: &mut Patch,
        old: Operand,
        new: Operand,
        out: Out,
    ) -> Operand {
        self.mixes += 1;
        let name = format!("{}.mix{}", self.prefix, self.mixes);
        let (own, rest) = self.factors;
        let anchor = match out {
            Out::Value(value) => cx.graph.producer(value).map_or(self.anchor, |(node, _)| node),
            Out::Fresh(_) => self.anchor,
        };
        let mut product = |part: &str, factor: Operand, operand: Operand| {
            let node = Node::new("Mul").named(&format!("{name}.{part}"));
            let out = Out::Fresh(format!("{name}.{part}_result"));
            patch.node(node, anchor, vec![factor, operand], out)
        };
        let old = product("old", rest, old);
        let new = product("new", own, new);
        let sum = Node::new("Add").named(&name);
        patch.node(sum, anchor, vec![old, new], out)
    }
}

/// Plans the producer of a value anew with a fresh result, so that a mix can take over the value.
pub(super) fn taken_over(
    cx: &Context<'_>,
    patch: &mut Patch,
    value: ValueId,
) -> Result<Operand, Declined> {
    let graph = cx.graph;
    let name = graph.value(value).name();
    let stuck = || Declined::new("no-producer", format!("{name:?} has no node of one result"));
    let (node, _) = graph.producer(value).ok_or_else(stuck)?;
    graph.sole_result(node).ok_or_else(stuck)?;
    if graph.node(node).has_bodies() {
        return Err(stuck());
    }
    let operands = graph.operands(node).into_iter().map(Operand::from).collect();
    let copy = graph.node(node).bare_copy();
    let old = patch.node(copy, node, operands, Out::Fresh(format!("{name}_baseline")));
    patch.remove(node);
    Ok(old)
}
