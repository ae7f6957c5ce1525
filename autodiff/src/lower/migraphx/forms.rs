//! Rewrites operators that MIGraphX or opset 19 does not have to operators that both have.
//!
//! - `Gelu` → x·½·(1 + erf(x/√2)), or the tanh form if the node asks for the approximation.
//! - `Mish` → x·tanh(softplus x), `Swish` → x·sigmoid(α·x).
//! - `Attention` with four axes → softmax(s·Q·Kᵀ + M)·V.
//! - `GroupNormalization` from opset 21 on, γ and β [C] → x̂ from means over the channels of a group and space, x̂ ⊙ γ
//!   + β.
//! - `ConvTranspose` with `output_padding` p, which MIGraphX fills with zeros → less padding is cut off at the end: e −
//!   min(p, e) in place of e. The rest of p contains only the bias.
//! - `Reshape` to sizes without 0 → the same without `allowzero`.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use updp_ir::{Model, Node, NodeId, ValueId, view};

use crate::emit::Emit;
use crate::error::Result;

/// Rewrites all of them. Returns the number of rewritten nodes.
pub(super) fn rewrite(model: &mut Model) -> Result<usize> {
    let nodes: Vec<NodeId> = model.graph.nodes();
    let is_standard: Vec<bool> =
        nodes.iter().map(|node| model.is_standard(model.graph.node(*node))).collect();
    let mut emit = Emit::new(model)?;
    emit.set_scope("migraphx");
    let mut replaced = 0;
    for (node, _) in nodes.into_iter().zip(is_standard).filter(|(_, is_standard)| *is_standard) {
        let Some(y) = emit.graph().sole_result(node) else { continue };
        emit.set_anchor(node);
        let new = match emit.graph().node(node).op_type() {
            "Gelu" => gelu(&mut emit, node)?,
            "Mish" => mish(&mut emit, node)?,
            "Swish" => swish(&mut emit, node)?,
            "Attention" => attention(&mut emit, node)?,
            "GroupNormalization" if emit.opset() >= 21 => group_normalization(&mut emit, node)?,
            "ConvTranspose" => conv_transpose(&mut emit, node)?,
            "Reshape" => reshape(&mut emit, node)?,
            _ => None,
        };
        if let Some(new) = new {
            emit.replace(node, y, new)?;
            replaced += 1;
        }
    }
    Ok(replaced)
}

fn operand(emit: &Emit<'_>, node: NodeId, slot: usize) -> Option<ValueId> {
    emit.graph().operand(node, slot)
}

fn gelu(emit: &mut Emit<'_>, node: NodeId) -> Result<Option<ValueId>> {
    let Some(x) = operand(emit, node, 0) else { return Ok(None) };
    let share = match emit.graph().node(node).string("approximate") {
        None | Some("none") => {
            let inner = emit.scale(x, FRAC_1_SQRT_2)?;
            emit.call("Erf", &[inner])?
        }
        Some("tanh") => {
            // √(2/π)·(x + 0.044715·x³)
            let root = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
            let square = emit.mul(x, x)?;
            let cubic = emit.scale(square, 0.044_715 * root)?;
            let factor = emit.shift(cubic, root)?;
            let inner = emit.mul(x, factor)?;
            emit.call("Tanh", &[inner])?
        }
        Some(_) => return Ok(None),
    };
    let sum = emit.shift(share, 1.0)?;
    let half = emit.scale(x, 0.5)?;
    Ok(Some(emit.mul(half, sum)?))
}

fn mish(emit: &mut Emit<'_>, node: NodeId) -> Result<Option<ValueId>> {
    let Some(x) = operand(emit, node, 0) else { return Ok(None) };
    let softplus = emit.call("Softplus", &[x])?;
    let share = emit.call("Tanh", &[softplus])?;
    Ok(Some(emit.mul(x, share)?))
}

fn swish(emit: &mut Emit<'_>, node: NodeId) -> Result<Option<ValueId>> {
    let Some(x) = operand(emit, node, 0) else { return Ok(None) };
    let alpha = f64::from(emit.graph().node(node).float("alpha").unwrap_or(1.0));
    let inner = emit.scale(x, alpha)?;
    let share = emit.call("Sigmoid", &[inner])?;
    Ok(Some(emit.mul(x, share)?))
}

/// The form without cache, cap and causal mask. `None` for other forms.
fn attention(emit: &mut Emit<'_>, node: NodeId) -> Result<Option<ValueId>> {
    let operands = emit.graph().operands(node);
    let [Some(q), Some(k), Some(v), ref rest @ ..] = operands[..] else { return Ok(None) };
    let mask = rest.first().copied().flatten();
    let mut heads = Vec::new();
    for value in [q, k, v] {
        let dims = emit.dims(value)?;
        if dims.len() != 4 {
            return Ok(None);
        }
        heads.push(dims[1]);
    }
    let read = emit.graph().node(node);
    let is_plain = read.int("is_causal").unwrap_or(0) == 0
        && read.float("softcap").unwrap_or(0.0) == 0.0
        && rest.iter().skip(1).all(Option::is_none)
        && heads.iter().all(|count| *count == heads[0]);
    if !is_plain {
        return Ok(None);
    }
    if let Some(mask) = mask
        && !emit.dtype(mask)?.is_foldable_float()
    {
        return Ok(None);
    }
    let scale = read.float("scale").filter(|scale| *scale != 0.0);
    let width = *emit.dims(q)?.last().unwrap_or(&1);
    let scale = scale.map_or_else(|| 1.0 / (width as f64).sqrt(), f64::from);
    let turned = emit.transpose_last(k)?;
    let scores = emit.matmul(q, turned)?;
    let mut scores = emit.scale(scores, scale)?;
    if let Some(mask) = mask {
        scores = emit.add(scores, mask)?;
    }
    let weights = emit.node(Node::new("Softmax").with("axis", -1_i64), &[Some(scores)])?;
    Ok(Some(emit.matmul(weights, v)?))
}

fn group_normalization(emit: &mut Emit<'_>, node: NodeId) -> Result<Option<ValueId>> {
    let operands = emit.graph().operands(node);
    let [Some(x), Some(scale), Some(shift)] = operands[..] else { return Ok(None) };
    let read = emit.graph().node(node);
    let epsilon = f64::from(read.float("epsilon").unwrap_or(1e-5));
    let groups = read.int("num_groups").and_then(|groups| usize::try_from(groups).ok());
    let dims = emit.dims(x)?;
    let Some(groups) = groups.filter(|groups| *groups > 0 && dims.len() > 2) else {
        return Ok(None);
    };
    let space: usize = dims[2..].iter().product();
    let grouped = emit.reshape(x, &[dims[0], groups, dims[1] / groups * space])?;
    let mean = emit.reduce("ReduceMean", grouped, &[2], true)?;
    let centred = emit.sub(grouped, mean)?;
    let square = emit.mul(centred, centred)?;
    let variance = emit.reduce("ReduceMean", square, &[2], true)?;
    let shifted = emit.shift(variance, epsilon)?;
    let deviation = emit.call("Sqrt", &[shifted])?;
    let normal = emit.div(centred, deviation)?;
    let normal = emit.reshape(normal, &dims)?;
    let mut channels = vec![1; dims.len()];
    channels[1] = dims[1];
    let scale = emit.reshape(scale, &channels)?;
    let shift = emit.reshape(shift, &channels)?;
    let scaled = emit.mul(normal, scale)?;
    Ok(Some(emit.add(scaled, shift)?))
}

/// `None` if there is no `output_padding`, or if the paddings are not clear.
fn conv_transpose(emit: &mut Emit<'_>, node: NodeId) -> Result<Option<ValueId>> {
    let Some(conv) = view::ConvTranspose::of(emit.graph(), node) else { return Ok(None) };
    let read = emit.graph().node(node);
    let sizes = |name: &str| -> Option<Vec<i64>> { read.ints(name).map(<[i64]>::to_vec) };
    let Some(more) = sizes("output_padding").filter(|more| more.iter().any(|p| *p != 0)) else {
        return Ok(None);
    };
    let pads = sizes("pads").unwrap_or_else(|| vec![0; 2 * more.len()]);
    let is_plain = !read.has("output_shape")
        && matches!(read.string("auto_pad"), None | Some("NOTSET"))
        && pads.len() == 2 * more.len();
    if !is_plain {
        return Ok(None);
    }
    let (begin, end) = pads.split_at(more.len());
    let kept: Vec<i64> = more.iter().zip(end).map(|(more, end)| *more.min(end)).collect();
    let new_end = end.iter().zip(&kept).map(|(end, kept)| end - kept);
    let new_pads: Vec<i64> = begin.iter().copied().chain(new_end).collect();
    let copy = read.bare_copy().with("pads", new_pads).with("output_padding", vec![0; more.len()]);
    let rest: Vec<i64> = more.iter().zip(&kept).map(|(more, kept)| more - kept).collect();
    if rest.iter().all(|rest| *rest == 0) {
        return Ok(Some(emit.node(copy, &[Some(conv.x), Some(conv.weight), conv.bias])?));
    }
    let wide = emit.node(copy, &[Some(conv.x), Some(conv.weight)])?;
    let end: Vec<i64> = [0, 0].into_iter().chain(rest).collect();
    let padded = emit.pad(wide, &vec![0; end.len()], &end, 0.0)?;
    let Some(bias) = conv.bias else { return Ok(Some(padded)) };
    let mut channels = vec![1; end.len()];
    channels[1] = emit.dims(bias)?.iter().product();
    let bias = emit.reshape(bias, &channels)?;
    Ok(Some(emit.add(padded, bias)?))
}

fn reshape(emit: &mut Emit<'_>, node: NodeId) -> Result<Option<ValueId>> {
    let read = emit.graph().node(node);
    if read.int("allowzero").unwrap_or(0) == 0 {
        return Ok(None);
    }
    let (Some(x), Some(target)) = (operand(emit, node, 0), operand(emit, node, 1)) else {
        return Ok(None);
    };
    let has_zero = |list: Vec<i64>| list.contains(&0);
    if emit.constant_of(target).and_then(|target| target.to_i64()).is_none_or(has_zero) {
        return Ok(None);
    }
    let copy = read.bare_copy().with("allowzero", 0_i64);
    Ok(Some(emit.node(copy, &[Some(x), Some(target)])?))
}
