//! timm's multi-head self-attention, with scaled dot product attention taken apart.

use updp_ir::{DataType, Dim, Node};

use crate::deit::{Shared, TOKENS, unsqueeze};
use crate::dialect::Dialect;
use crate::net::{Net, Val, at};

/// Size of a head.
const HEAD: usize = 64;

/// Self-attention over tokens `[B, N, D]`.
pub(crate) fn forward(net: &mut Net, x: &Val, path: &str, shared: &mut Shared) -> Val {
    let (width, heads) = (shared.width, shared.width / HEAD);
    let is_dynamo = net.dialect.is_dynamo();
    let sizes = (!is_dynamo).then(|| token_sizes(net, x, path)).flatten();
    let qkv = net.linear(x, &format!("{path}.qkv"), 3 * width, 1.0);
    let dims = net.dims(&[TOKENS, 3, heads, HEAD]);
    let qkv = reshape(net, &qkv, path, dims, sizes.as_ref(), shared);
    let qkv = net.permute(&qkv, path, "permute", &[2, 0, 3, 1, 4]); // [3, B, h, N, d]
    let [query, key, value] = if is_dynamo { slices(net, &qkv) } else { splits(net, &qkv, path) };
    if !is_dynamo {
        // The exporter folds what it computed of shapes here, and spends ids on it.
        net.skip_derived_ids(if net.is_dynamic() { 4 } else { 10 });
    }
    let (query, key) = if is_dynamo {
        let key = dynamo_transposed(net, &key);
        let scale = net.float_vector("", (HEAD as f32).powf(-0.25));
        [query, key]
            .map(|x| net.op(at("", ""), Node::new("Mul"), &[&x.name, &scale], x.dims))
            .into()
    } else {
        legacy_scaled(net, &query, &key, path)
    };
    let logits_dims = net.dims(&[heads, TOKENS, TOKENS]);
    let operands = [query.name.as_str(), &key.name];
    let logits = net.op(at(path, ""), Node::new("MatMul"), &operands, logits_dims.clone());
    let node = Node::new("Softmax").with("axis", -1_i64);
    let weights = net.op(at(path, ""), node, &[&logits.name], logits_dims);
    let (node, dims) = (Node::new("MatMul"), net.dims(&[heads, TOKENS, HEAD]));
    let operands = [weights.name.as_str(), &value.name];
    let x = net.op(at(path, "scaled_dot_product_attention"), node, &operands, dims);
    let x = net.permute(&x, path, "transpose", &[0, 2, 1, 3]); // [B, N, h, d]
    let dims = net.dims(&[TOKENS, width]);
    let x = reshape(net, &x, path, dims, sizes.as_ref(), shared);
    net.linear(&x, &format!("{path}.proj"), width, 0.7)
}

/// B and N as legacy computes them for `reshape(B, N, …)`; `None` where it bakes them into
/// constants.
fn token_sizes(net: &mut Net, x: &Val, path: &str) -> Option<[String; 2]> {
    if net.is_dynamic() {
        return Some([0, 1].map(|axis| {
            let node = Node::new("Shape");
            let shape = net.int_op(at(path, ""), node, &[&x.name], vec![Dim::from(3)]);
            let axis = net.int_scalar(path, axis);
            let node = Node::new("Gather").with("axis", 0_i64);
            net.int_op(at(path, ""), node, &[&shape.name, &axis], Vec::new()).name
        }));
    }
    (net.dialect == Dialect::LegacyPreserve)
        .then(|| [1, TOKENS as i64].map(|size| net.int_scalar(path, size)))
}

/// Reshape to `dims`, batch and tokens first, with the target in the form of the dialect.
fn reshape(
    net: &mut Net,
    x: &Val,
    path: &str,
    dims: Vec<Dim>,
    token_sizes: Option<&[String; 2]>,
    shared: &mut Shared,
) -> Val {
    let rest: Vec<usize> = dims[2..].iter().filter_map(Dim::known).collect();
    let Some(token_sizes) = token_sizes else {
        let mut target = vec![net.batch_in_shape(), TOKENS as i64];
        target.extend(rest.iter().map(|size| *size as i64));
        return net.reshape(x, path, &target, dims);
    };
    let unfolded = net.dialect == Dialect::LegacyPreserve;
    let mut parts = token_sizes.to_vec();
    if unfolded {
        parts.extend(rest.iter().map(|size| size_scalar(net, path, *size, shared)));
        parts = parts.iter().map(|part| unsqueeze(net, path, part)).collect();
    } else {
        parts = parts.iter().map(|part| unsqueeze(net, path, part)).collect();
        parts.extend(rest.iter().map(|size| net.ints(path, &[*size as i64])));
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let node = Node::new("Concat").with("axis", 0_i64);
    let target = net.int_op(at(path, ""), node, &parts, vec![Dim::from(parts.len())]);
    let node = Node::new("Reshape").with("allowzero", 0_i64);
    net.op(at(path, ""), node, &[&x.name, &target.name], dims)
}

/// A size that unfolded legacy keeps as one scalar for the whole network.
fn size_scalar(net: &mut Net, path: &str, size: usize, shared: &mut Shared) -> String {
    if let Some((_, name)) = shared.sizes.iter().find(|(known, _)| *known == size) {
        return name.clone();
    }
    let name = net.int_scalar(path, size as i64);
    shared.sizes.push((size, name.clone()));
    name
}

/// `[3, B, h, N, d]` without its first dim.
fn part_dims(qkv: &Val) -> Vec<Dim> {
    qkv.dims[1..].to_vec()
}

fn splits(net: &mut Net, qkv: &Val, path: &str) -> [Val; 3] {
    let sizes = net.ints(path, &[1, 1, 1]);
    let node = Node::new("Split").with("axis", 0_i64);
    let operands = [qkv.name.as_str(), &sizes];
    let dims: Vec<Dim> = std::iter::once(Dim::from(1)).chain(part_dims(qkv)).collect();
    let parts = net.legacy_split(path, node, &operands, &dims, 3);
    [0, 1, 2].map(|slot| {
        let axis = net.ints(path, &[0]);
        let operands = [parts[slot].name.as_str(), &axis];
        net.op(at(path, ""), Node::new("Squeeze"), &operands, part_dims(qkv))
    })
}

fn slices(net: &mut Net, qkv: &Val) -> [Val; 3] {
    let unbind = net.fresh("unbind");
    [0_i64, 1, 2].map(|slot| {
        let [axis, start, end] = [0, slot, slot + 1].map(|value| net.ints("", &[value]));
        let operands = [qkv.name.as_str(), &start, &end, &axis];
        let dims: Vec<Dim> = std::iter::once(Dim::from(1)).chain(part_dims(qkv)).collect();
        let slice = net.op(at("", ""), Node::new("Slice"), &operands, dims);
        let node = Node::new("Squeeze").named(&format!("node_{unbind}__{slot}"));
        let result = Val { name: net.fresh("getitem"), dims: part_dims(qkv) };
        net.named_op(node, &[&slice.name, &axis], result)
    })
}

/// Scales q and kᵀ by `(1 / √d)^½` each, computed from the shape of q.
fn legacy_scaled(net: &mut Net, query: &Val, key: &Val, path: &str) -> (Val, Val) {
    let one = || vec![Dim::from(1)];
    let to_float = || Node::new("Cast").with("to", i64::from(DataType::Float.code()));
    let shape = net.int_op(at(path, ""), Node::new("Shape"), &[&query.name], vec![Dim::from(4)]);
    let [start, end] = [-1, i64::MAX].map(|value| net.ints(path, &[value]));
    let operands = [shape.name.as_str(), &start, &end];
    let size = net.int_op(at(path, ""), Node::new("Slice"), &operands, one());
    let size = net.op(at(path, ""), to_float(), &[&size.name], one());
    let root = net.op(at(path, ""), Node::new("Sqrt"), &[&size.name], one());
    let numerator = net.float_vector(path, 1.0);
    let scale = net.op(at(path, ""), Node::new("Div"), &[&numerator, &root.name], one());
    let scale = net.op(at(path, ""), to_float(), &[&scale.name], one());
    let key = net.permute(key, path, "", &[0, 1, 3, 2]); // [B, h, d, N]
    let mut scaled = |x: &Val| {
        let root = net.op(at(path, ""), Node::new("Sqrt"), &[&scale.name], one());
        let operands = [x.name.as_str(), &root.name];
        net.op(at(path, ""), Node::new("Mul"), &operands, x.dims.clone())
    };
    (scaled(query), scaled(&key))
}

/// `[B, h, N, d]` to `[B, h, d, N]` through three dims, as dynamo has it.
fn dynamo_transposed(net: &mut Net, key: &Val) -> Val {
    let heads = key.size(1);
    let (flat, back) = if net.is_dynamic() {
        dynamic_key_shapes(net, key)
    } else {
        let flat = net.ints("", &[-1, TOKENS as i64, HEAD as i64]);
        (flat, net.ints("", &[1, heads as i64, HEAD as i64, TOKENS as i64]))
    };
    let merged = key.dims[0].known().map_or(Dim::Unknown, |batch| Dim::from(batch * heads));
    let node = || Node::new("Reshape").with("allowzero", 0_i64);
    let dims = vec![merged, Dim::from(TOKENS), Dim::from(HEAD)];
    let x = net.op(at("", ""), node(), &[&key.name, &flat], dims);
    let x = net.permute(&x, "", "", &[0, 2, 1]); // [B·h, d, N]
    let dims = net.dims(&[heads, HEAD, TOKENS]);
    net.op(at("", ""), node(), &[&x.name, &back], dims)
}

/// `[-1, N, d]` and `[B, h, d, N]` from the shape of the key.
fn dynamic_key_shapes(net: &mut Net, key: &Val) -> (String, String) {
    let node = Node::new("Shape").with("start", 0_i64);
    let shape = net.int_op(at("", ""), node, &[&key.name], vec![Dim::from(4)]);
    let mut slice = |start: i64, end: i64, size: usize| {
        let [start, end] = [start, end].map(|value| net.ints("", &[value]));
        let operands = [shape.name.as_str(), &start, &end];
        net.int_op(at("", ""), Node::new("Slice"), &operands, vec![Dim::from(size)]).name
    };
    let (size, tokens) = (slice(-1, i64::MAX, 1), slice(-2, -1, 1));
    let front = slice(i64::MIN, -2, 2);
    let open = net.ints("", &[-1]);
    let mut concat = |parts: [&str; 3], size: usize| {
        let node = Node::new("Concat").with("axis", 0_i64);
        net.int_op(at("", ""), node, &parts, vec![Dim::from(size)]).name
    };
    (concat([&open, &tokens, &size], 3), concat([&front, &size, &tokens], 4))
}
