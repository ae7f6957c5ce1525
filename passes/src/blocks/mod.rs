//! Finds the blocks of a network: the single-entry single-exit regions that the pruner decides on.
//!
//! The search uses structure only, never names. Every sum of two data values closes a region that opens at
//! the value dominating both (`residual.rs`). Convolutions between these regions form chains and blocks without
//! a shortcut (`chain.rs`). What is left between a fork and a join is a region of no family (`region.rs`). `pipeline::prepare` must prepare the graph first, so that constants are constants
//! and every dialect of a network looks alike.

mod activation;
mod chain;
mod element;
mod flow;
mod names;
mod norm;
mod region;
mod residual;
#[cfg(test)]
mod tests;

pub(crate) use activation::is_nonlinear;
pub use activation::{Activation, ActivationKind};
pub use element::{Closed, Element};
pub use flow::{Flow, is_read_only_by};
pub use norm::{Norm, NormKind};

use std::collections::BTreeSet;

use updp_ir::{IrError, NodeId, ValueId};

use crate::error::{Declined, PassError};
use crate::lift::Linear;
use crate::rule::Context;

/// The family a block belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockKind {
    /// Two k×k convolutions and a shortcut (ResNet-18, ResNet-34, CIFAR ResNets).
    Basic,
    /// 1×1, k×k, 1×1 convolutions and a shortcut, an activation at the end (ResNet-50, RegNet).
    Bottleneck,
    /// 1×1, depthwise, 1×1 convolutions with a linear end, with or without shortcut (MobileNetV2).
    InvertedResidual,
    /// A depthwise convolution, then two pointwise operators and a shortcut (ConvNeXt).
    ConvNext,
    /// Attention half and MLP half of a transformer layer (ViT, DeiT).
    VitLayer,
    /// An MLP with a shortcut that no attention half precedes.
    Mlp,
    /// Attention between tokens with a shortcut. The attention half of a transformer layer is a block of its own beside its
    /// layer; it is fitted, dropped, or loses heads.
    Attention,
    /// Another run of weighted operators with a shortcut.
    Residual,
    /// Convolutions in a row (VGG).
    Chain,
    /// A region of another structure; it is fitted or dropped as a whole.
    Other,
}

impl BlockKind {
    /// Stable kebab-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Bottleneck => "bottleneck",
            Self::InvertedResidual => "inverted-residual",
            Self::ConvNext => "convnext",
            Self::VitLayer => "vit-layer",
            Self::Mlp => "mlp",
            Self::Attention => "attention",
            Self::Residual => "residual",
            Self::Chain => "chain",
            Self::Other => "other",
        }
    }
}

/// The attention half of a transformer layer: `y = x + Attention(Norm(x))`.
#[derive(Clone, Debug)]
pub struct AttentionHalf {
    /// The normalization before the projections to q, k and v.
    pub norm: Norm,
    /// The result of the sum that closes the half.
    pub result: ValueId,
    /// Every node of the half.
    pub nodes: Vec<NodeId>,
}

/// A block: `result = end(branch(source) + shortcut(source))`.
#[derive(Clone, Debug)]
pub struct Block {
    /// The number that `--blocks` takes, from 0: the place among the blocks. Attention halves come behind all others, so
    /// that transformer layers keep their numbers.
    pub index: usize,
    /// The family.
    pub kind: BlockKind,
    /// The name for people: the common path of its parameters, or of its nodes.
    pub name: String,
    /// The value that it reads.
    pub source: ValueId,
    /// The value that it makes, including an activation at its end.
    pub result: ValueId,
    /// The path that is pruned, in the direction of data flow; in a transformer layer, the path of the MLP.
    pub branch: Vec<Element>,
    /// The value that the branch reads: `source`, or the sum of the attention half.
    pub branch_source: ValueId,
    /// The path around the branch; empty = the identity, `None` = there is none.
    pub shortcut: Option<Vec<Element>>,
    /// The activation at the end.
    pub end: Option<Activation>,
    /// The attention half of a transformer layer.
    pub attention: Option<AttentionHalf>,
    /// Whether it is the attention half of a layer that is a block, too.
    pub is_half: bool,
    /// Every node between source and result.
    pub nodes: Vec<NodeId>,
    /// The reason why it cannot be pruned; `None` if it can.
    pub refusal: Option<Declined>,
    /// The reason why exact surgery does not open it: it can be replaced by a fitted operator or dropped, and cannot be
    /// expanded, faded or merged. `None` if exact surgery opens it.
    pub fit_only: Option<Declined>,
}

impl Block {
    /// The error for a block that cannot take the requested form.
    #[must_use]
    pub fn refused(&self, declined: Declined) -> PassError {
        let Declined { reason, detail } = declined;
        PassError::Refused { index: self.index, name: self.name.clone(), reason, detail }
    }

    /// The weighted operators of the branch.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.branch.iter().filter_map(Element::linear)
    }

    /// Its output before the activation at the end.
    #[must_use]
    pub fn sum(&self) -> ValueId {
        self.end.as_ref().map_or(self.result, |end| end.x)
    }

    /// The value that is added to the branch: the end of the shortcut; `None` if there is none.
    #[must_use]
    pub fn shortcut_end(&self) -> Option<ValueId> {
        let elements = self.shortcut.as_ref()?;
        Some(elements.last().map_or(self.branch_source, Element::y))
    }

    /// Whether the shortcut is the identity.
    #[must_use]
    pub fn has_identity_shortcut(&self) -> bool {
        self.shortcut.as_ref().is_some_and(Vec::is_empty)
    }

    /// Number of weighted operators, including those of the shortcut and the attention half.
    #[must_use]
    pub fn layers(&self, cx: &Context<'_>) -> usize {
        let is_layer = |node: &&NodeId| {
            matches!(cx.graph.node(**node).op_type(), "Conv" | "Gemm" | "MatMul" | "ConvTranspose")
        };
        self.nodes.iter().filter(is_layer).count()
    }
}

/// Finds every block of the graph, in the order of the data flow. An attention half stands before its layer.
///
/// # Errors
/// I0105 when the graph has a cycle.
pub fn find(cx: &Context<'_>) -> Result<Vec<Block>, IrError> {
    let flow = Flow::of(cx)?;
    let mut blocks = residual::find(cx, &flow);
    let claimed = |blocks: &[Block]| -> BTreeSet<NodeId> {
        blocks.iter().flat_map(|block| block.nodes.iter().copied()).collect()
    };
    blocks.extend(chain::find(cx, &flow, &claimed(&blocks)));
    blocks.extend(region::find(cx, &flow, &claimed(&blocks)));
    blocks.extend(chain::find_over_pools(cx, &flow, &claimed(&blocks)));
    blocks.sort_by_key(|block| block.nodes.iter().map(|node| flow.place(*node)).max());
    let (halves, whole): (Vec<&mut Block>, Vec<&mut Block>) =
        blocks.iter_mut().partition(|block| block.is_half);
    for (index, block) in whole.into_iter().chain(halves).enumerate() {
        block.index = index;
    }
    for block in &mut blocks {
        if block.refusal.is_none() {
            block.refusal = refusal(cx, &flow, block);
        }
        if block.fit_only.is_none() {
            block.fit_only = fit_only(cx, block);
        }
        as_one(cx, block);
        block.name = names::of(cx, block);
    }
    Ok(blocks)
}

/// Makes both ways of a block one, if the shortcut has weighted operators behind something that is not linear: then there
/// is no shortcut that costs little, and the block is replaced with it.
fn as_one(cx: &Context<'_>, block: &mut Block) {
    let nonlinear = block.shortcut.iter().flatten().any(|element| !element.is_affine());
    let mut nodes = block.shortcut.iter().flatten().flat_map(Element::nodes);
    if !nonlinear || !nodes.any(|node| region::is_weighted(cx, node)) {
        return;
    }
    let of_end = block.end.as_ref().map_or(&[][..], |end| &end.nodes);
    let nodes = block.nodes.iter().copied().filter(|node| !of_end.contains(node)).collect();
    let what = "two ways with weighted operators".to_owned();
    let (x, y) = (block.source, block.sum());
    block.branch = vec![Element::Closed(Closed { x, y, nodes, what, is_gate: false })];
    (block.kind, block.shortcut) = (BlockKind::Other, None);
}

/// The reason why a block cannot be pruned.
fn refusal(cx: &Context<'_>, flow: &Flow, block: &Block) -> Option<Declined> {
    let ends = [block.source, block.result];
    if let Some(value) = ends.into_iter().find(|value| cx.shapes.of(*value).is_none()) {
        let name = cx.graph.value(value).name();
        return Some(Declined::new("unknown-type", format!("the type of {name:?} is not known")));
    }
    if let Some(value) = flow.leak(cx, &block.nodes, block.result) {
        let name = cx.graph.value(value).name();
        return Some(Declined::new("read-outside", format!("{name:?} is read outside the block")));
    }
    let mut dtypes = block.linears().map(Linear::dtype);
    let first = dtypes.next()?;
    let other = dtypes.find(|dtype| *dtype != first)?;
    Some(Declined::new("dtype", format!("its weights are {first} and {other}")))
}

/// The reason why exact surgery does not open a block.
fn fit_only(cx: &Context<'_>, block: &Block) -> Option<Declined> {
    let closed = block.branch.iter().find_map(|element| match element {
        Element::Closed(closed) => Some(closed),
        _ => None,
    });
    if let Some(closed) = closed {
        return Some(Declined::new("not-affine", format!("it holds {}", closed.what)));
    }
    let shortcut = block.shortcut.iter().flatten().find(|element| !element.is_affine());
    if let Some(element) = shortcut {
        let name = cx.graph.value(element.y()).name();
        return Some(Declined::new("shortcut", format!("the shortcut is not linear at {name:?}")));
    }
    let is_nonlinear =
        |element: &Element| matches!(element, Element::Activation(_) | Element::Norm(_));
    if !block.branch.iter().any(is_nonlinear) {
        let detail = "nothing in it is nonlinear: exact compilation decides whether it is merged";
        return Some(Declined::new("already-linear", detail));
    }
    None
}
