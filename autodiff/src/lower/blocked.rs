//! Rewrites `Conv` with weights that change from run to run to a `Conv` in blocks of channels, in ONNX Runtime's
//! `com.microsoft.nchwc`.
//!
//! Before: y = Conv(x [N, C, H, W], W [O, C/g, kh, kw], b). After: `ReorderInput`(x), the weight reordered by Reshape
//! and Transpose (it keeps its dims), Conv of the blocked domain, `ReorderOutput`. With blocks of B channels:
//! - one group, B divides C and O: W as [O/B, C/B, kh, kw, B of C, B of O];
//! - one group, C < B, B divides O: x unchanged, W as [O/B, C, kh, kw, B];
//! - one channel per group, B divides C = O: W as [C/B, 1, kh, kw, B].

use updp_ir::infer::Shapes;
use updp_ir::{DataType, Graph, IrError, Model, NewResult, Node, NodeId, Tensor, ValueId, view};

use crate::error::Result;

pub(super) const DOMAIN: &str = "com.microsoft.nchwc";

/// The kind of blocked convolution.
enum Form {
    Dense,
    FewChannels,
    Depthwise,
}

/// A convolution that has a blocked form.
struct Site {
    node: NodeId,
    conv: view::Conv,
    /// Dims of the weight.
    weight: Vec<usize>,
    form: Form,
}

/// Replaces every `Conv` of f32 whose weight is not constant and whose channels fill blocks.
pub(super) fn lower(model: &mut Model, block: usize) -> Result<usize> {
    let shapes = Shapes::infer(&model.graph, model.opset("").unwrap_or(0));
    let nodes = model.graph.nodes().into_iter();
    let sites: Vec<Site> = nodes.filter_map(|id| find(model, &shapes, id, block)).collect();
    for site in &sites {
        rewrite(&mut model.graph, site, block)?;
    }
    if !sites.is_empty() {
        model.import_opset(DOMAIN, 1);
    }
    Ok(sites.len())
}

fn find(model: &Model, shapes: &Shapes, id: NodeId, block: usize) -> Option<Site> {
    let graph = &model.graph;
    let conv = view::Conv::of(graph, id, 4)?;
    let weight = shapes.known_dims(conv.weight).filter(|dims| dims.len() == 4)?;
    let channels = shapes.known_dims(conv.x)?[1];
    let is_float = shapes.dtype(conv.x) == Some(DataType::Float);
    let is_constant = view::constant(graph, conv.weight).is_some();
    if !model.is_standard(graph.node(id)) || !is_float || is_constant {
        return None;
    }
    let fills = |channels: usize| channels > 0 && channels.is_multiple_of(block);
    let form = if !fills(weight[0]) {
        return None;
    } else if conv.group == 1 && fills(channels) {
        Form::Dense
    } else if conv.group == 1 && channels < block {
        Form::FewChannels
    } else if conv.group == channels && weight[0] == channels && weight[1] == 1 {
        Form::Depthwise
    } else {
        return None;
    };
    Some(Site { node: id, conv, weight, form })
}

fn rewrite(graph: &mut Graph, site: &Site, block: usize) -> Result<()> {
    let Site { node, conv, weight, form } = site;
    let [o, i, h, w] = [weight[0], weight[1], weight[2], weight[3]];
    let (apart, perm) = match form {
        Form::Dense => (vec![o / block, block, i / block, block, h, w], vec![0_i64, 2, 4, 5, 3, 1]),
        Form::FewChannels | Form::Depthwise => {
            (vec![o / block, block, i, h, w], vec![0, 2, 3, 4, 1])
        }
    };
    let apart = integers(graph, &apart)?;
    let kernel = add(graph, *node, Node::new("Reshape"), &[Some(conv.weight), Some(apart)])?;
    let swap = Node::new("Transpose").with("perm", perm);
    let kernel = add(graph, *node, swap, &[Some(kernel)])?;
    let dims = integers(graph, weight)?;
    let kernel = add(graph, *node, Node::new("Reshape"), &[Some(kernel), Some(dims)])?;
    let mut x = conv.x;
    if !matches!(form, Form::FewChannels) {
        x = add(graph, *node, Node::new("ReorderInput").in_domain(DOMAIN), &[Some(x)])?;
    }
    let blocked = graph.node(*node).bare_copy().in_domain(DOMAIN);
    graph.release_name(*node)?;
    let y = add(graph, *node, blocked, &[Some(x), Some(kernel), conv.bias])?;
    graph.detach(conv.y)?;
    let back = Node::new("ReorderOutput").in_domain(DOMAIN).with("channels", o as i64);
    graph.add_node(back, *node, &[Some(y)], &[NewResult::Existing(conv.y)])?;
    graph.remove_node(*node)?;
    Ok(())
}

/// Adds a node with one result at the place of `anchor`.
fn add(
    graph: &mut Graph,
    anchor: NodeId,
    node: Node,
    operands: &[Option<ValueId>],
) -> Result<ValueId> {
    let name = format!("blocked.{}", node.op_type().to_lowercase());
    let operands = operands
        .split_last()
        .map_or(operands, |(last, rest)| if last.is_none() { rest } else { operands });
    let result = [NewResult::Fresh(name)];
    let (_, made) = graph.add_node(node, anchor, operands, &result)?;
    Ok(made.into_iter().flatten().next().ok_or(IrError::StaleId)?)
}

fn integers(graph: &mut Graph, list: &[usize]) -> Result<ValueId> {
    let list: Vec<i64> = list.iter().map(|size| *size as i64).collect();
    Ok(graph.add_initializer("blocked.dims", Tensor::from_i64(vec![list.len()], &list)?))
}
