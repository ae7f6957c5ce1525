//! timm DeiT: patch embedding, class token, twelve blocks, readout of the class token.

use updp_ir::{Dim, Node};

use crate::attention;
use crate::dialect::Dialect;
use crate::layers::Conv;
use crate::net::{Net, Val, at};
use crate::weights::Draw;

/// Blocks.
const DEPTH: usize = 12;
/// 14x14 patches of 16x16 pixels.
const PATCHES: usize = 196;
/// Patches and the class token.
pub(crate) const TOKENS: usize = PATCHES + 1;

/// What all blocks share.
pub(crate) struct Shared {
    /// Size of a token.
    pub width: usize,
    /// Legacy's scalar 0 that picks the class token.
    class_index: String,
    /// Unfolded legacy's size scalars: 3, heads, head size, width.
    pub sizes: Vec<(usize, String)>,
}

/// The network with tokens of `width`, a multiple of 64.
pub(crate) fn forward(net: &mut Net, width: usize) -> Val {
    let class_token = net.draw("cls_token", width, Draw::Normal(0.5));
    net.declare("", &["cls_token", "pos_embed"]);
    let input = net.input();
    let batch_size = (net.dialect.is_dynamo() && net.is_dynamic()).then(|| {
        let node = Node::new("Shape").with("end", 1_i64).with("start", 0_i64);
        net.int_op(at("", ""), node, &[&input.name], vec![Dim::from(1)])
    });
    let unfolded = net.dialect == Dialect::LegacyPreserve && !net.is_dynamic();
    // The exporter places the scalar at the first module that uses a 0, and keeps it for all.
    let mut class_index = String::new();
    if unfolded {
        class_index = net.int_scalar("patch_embed.proj", 0);
    }
    let patches = patch_embed(net, &input, width);
    if net.dialect.is_dynamo() {
        class_index = String::new();
    } else if !unfolded {
        class_index = net.int_scalar("", 0);
    }
    let class_token = if net.dialect.is_dynamo() && batch_size.is_none() {
        net.derived_as("expand", &[1, 1, width], class_token)
    } else {
        let token = net.parameter("cls_token", &[1, 1, width], class_token);
        expand(net, &token, &patches, batch_size.as_ref())
    };
    let position = net.drawn("pos_embed", &[1, TOKENS, width], Draw::Normal(0.5));
    let (node, dims) = (Node::new("Concat").with("axis", 1_i64), net.dims(&[TOKENS, width]));
    let x = net.op(at("", "cat"), node, &[&class_token, &patches.name], dims.clone());
    let mut x = net.op(at("", "add"), Node::new("Add"), &[&x.name, &position], dims);
    let mut shared = Shared { width, class_index, sizes: Vec::new() };
    for index in 0..DEPTH {
        x = block(net, &x, &format!("blocks.{index}"), &mut shared);
    }
    x = net.layer_norm(&x, "norm");
    if net.dialect.is_dynamo() {
        shared.class_index = net.int_scalar("", 0);
    }
    let (node, dims) = (Node::new("Gather").with("axis", 1_i64), net.dims(&[width]));
    let x = net.op(at("", "select"), node, &[&x.name, &shared.class_index], dims);
    net.classifier(&x, "head", 2.0)
}

/// `[B, 3, 224, 224]` to `[B, 196, D]`.
fn patch_embed(net: &mut Net, input: &Val, width: usize) -> Val {
    let path = "patch_embed";
    let x = net.conv(input, "patch_embed.proj", &Conv::patches(width, 16));
    let dims = net.dims(&[width, PATCHES]);
    let x = if net.dialect.is_dynamo() {
        let target = [net.batch_in_shape(), width as i64, PATCHES as i64];
        net.reshape(&x, path, &target, dims)
    } else {
        let shape = net.int_op(at(path, ""), Node::new("Shape"), &[&x.name], vec![Dim::from(4)]);
        let [axis, start, end] = [0, 0, 2].map(|value| net.ints(path, &[value]));
        let operands = [shape.name.as_str(), &start, &end, &axis];
        let front = net.int_op(at(path, ""), Node::new("Slice"), &operands, vec![Dim::from(2)]);
        let rest = net.ints(path, &[-1]);
        let node = Node::new("Concat").with("axis", 0_i64);
        let target = net.int_op(at(path, ""), node, &[&front.name, &rest], vec![Dim::from(3)]);
        let node = Node::new("Reshape").with("allowzero", 0_i64);
        net.op(at(path, ""), node, &[&x.name, &target.name], dims)
    };
    net.permute(&x, path, "transpose", &[0, 2, 1])
}

/// The class token once for each image: `expand(B, -1, -1)`.
fn expand(net: &mut Net, token: &str, patches: &Val, batch_size: Option<&Val>) -> String {
    let width = patches.size(2);
    let dims = net.dims(&[1, width]);
    if let Some(batch_size) = batch_size {
        let one = net.ints("", &[1]);
        let node = Node::new("Concat").with("axis", 0_i64);
        let operands = [batch_size.name.as_str(), &one, &one];
        let target = net.int_op(at("", ""), node, &operands, vec![Dim::from(3)]);
        return net.op(at("", "expand"), Node::new("Expand"), &[token, &target.name], dims).name;
    }
    let three = || vec![Dim::from(3)];
    let (target, rank) = expand_target(net, patches);
    let node = Node::new("ConstantOfShape").with("value", one_element_tensor());
    let ones = net.int_op(at("", ""), node, &[&rank], three());
    let minus_one = net.int_scalar("", -1);
    let negative = net.int_op(at("", ""), Node::new("Mul"), &[&ones.name, &minus_one], three());
    let is_open = net.int_op(at("", ""), Node::new("Equal"), &[&target, &negative.name], three());
    let operands = [is_open.name.as_str(), &ones.name, &target];
    let target = net.int_op(at("", ""), Node::new("Where"), &operands, three());
    net.op(at("", "expand"), Node::new("Expand"), &[token, &target.name], dims).name
}

/// `[B, -1, -1]` and its length as legacy computes them, both one-dimensional.
fn expand_target(net: &mut Net, patches: &Val) -> (String, String) {
    let unfolded = net.dialect == Dialect::LegacyPreserve;
    if !unfolded && !net.is_dynamic() {
        return (net.ints("", &[1, -1, -1]), net.ints("", &[3]));
    }
    let one = || vec![Dim::from(1)];
    let batch = if net.is_dynamic() {
        let shape = net.int_op(at("", ""), Node::new("Shape"), &[&patches.name], one());
        let zero = net.int_scalar("", 0);
        let node = Node::new("Gather").with("axis", 0_i64);
        net.int_op(at("", ""), node, &[&shape.name, &zero], Vec::new()).name
    } else {
        net.int_scalar("", 1)
    };
    let mut parts = Vec::new();
    if unfolded {
        let open = net.int_scalar("", -1);
        for scalar in [&batch, &open, &open] {
            parts.push(unsqueeze(net, "", scalar));
        }
    } else {
        let axis = net.ints("", &[0]);
        let batch = net.int_op(at("", ""), Node::new("Unsqueeze"), &[&batch, &axis], one());
        parts.extend([batch.name, net.ints("", &[-1]), net.ints("", &[-1])]);
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let node = Node::new("Concat").with("axis", 0_i64);
    let target = net.int_op(at("", ""), node, &parts, vec![Dim::from(3)]);
    let flat = net.ints("", &[-1]);
    let node = Node::new("Reshape").with("allowzero", 0_i64);
    let target = net.int_op(at("", ""), node, &[&target.name, &flat], vec![Dim::from(3)]);
    let rank = net.int_op(at("", ""), Node::new("Shape"), &[&target.name], one());
    (target.name, rank.name)
}

/// A legacy scalar as a vector of one.
pub(crate) fn unsqueeze(net: &mut Net, path: &str, scalar: &str) -> String {
    let axis = net.unsqueeze_axis();
    let operands = [scalar, &axis];
    net.int_op(at(path, ""), Node::new("Unsqueeze"), &operands, vec![Dim::from(1)]).name
}

/// `int64[1] {1}`, the fill of a `ConstantOfShape`.
fn one_element_tensor() -> updp_ir::Tensor {
    updp_ir::Tensor::from_i64(vec![1], &[1]).expect("one value for one element")
}

fn block(net: &mut Net, x: &Val, path: &str, shared: &mut Shared) -> Val {
    let part = |name: &str| format!("{path}.{name}");
    let normed = net.layer_norm(x, &part("norm1"));
    let branch = attention::forward(net, &normed, &part("attn"), shared);
    let x = net.add(x, &branch, path);
    let mut branch = net.layer_norm(&x, &part("norm2"));
    branch = net.linear(&branch, &part("mlp.fc1"), 4 * shared.width, 1.0);
    branch = net.gelu(&branch, &part("mlp.act"));
    branch = net.linear(&branch, &part("mlp.fc2"), shared.width, 0.7);
    net.add(&x, &branch, path)
}
