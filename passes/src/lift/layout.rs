//! Transposes between a per-channel affine and the weighted operator it folds into.

use updp_ir::view::Transpose;
use updp_ir::{NodeId, ValueId};

use crate::rule::Context;

/// A run of Transposes without other readers, and the channel axis on its far side.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The Transposes in the direction of data flow.
    pub nodes: Vec<NodeId>,
    /// The value at the far side.
    pub value: ValueId,
    /// The axis there that carries the channels; `None` if one number serves every element.
    pub axis: Option<usize>,
}

/// Follows `value` up through Transposes that nothing else reads. `value` itself must have only one
/// use. Without a Transpose the layout is `value` itself.
#[must_use]
pub fn layouts_above(cx: &Context<'_>, value: ValueId, axis: Option<usize>) -> Option<Layout> {
    let mut layout = Layout { nodes: vec![], value, axis };
    loop {
        cx.graph.sole_use(layout.value)?;
        let Some((producer, _)) = cx.graph.producer(layout.value) else { return Some(layout) };
        let Some(transpose) = transpose(cx, producer) else { return Some(layout) };
        layout.axis = match layout.axis {
            None => None,
            Some(axis) => Some(*transpose.perm.get(axis)?),
        };
        layout.nodes.insert(0, producer);
        layout.value = transpose.x;
    }
}

/// Follows `value` down through Transposes, as long as each result has only one use; `value` itself
/// must have only one use.
#[must_use]
pub fn layouts_below(cx: &Context<'_>, value: ValueId, axis: Option<usize>) -> Option<Layout> {
    let mut layout = Layout { nodes: vec![], value, axis };
    loop {
        let user = cx.graph.sole_use(layout.value)?;
        let Some(transpose) = transpose(cx, user.node) else { return Some(layout) };
        layout.axis = match layout.axis {
            None => None,
            Some(axis) => Some(transpose.result_axis(axis)?),
        };
        layout.nodes.push(user.node);
        layout.value = transpose.y;
    }
}

fn transpose(cx: &Context<'_>, node: NodeId) -> Option<Transpose> {
    if !cx.graph.node(node).is("Transpose") {
        return None;
    }
    let rank = cx.rank(cx.graph.operand(node, 0)?);
    Transpose::of(cx.graph, node, rank)
}
