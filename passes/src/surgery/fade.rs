//! Kernels that shrink little by little, `W ⊙ (1 − s·(1 − mask))`; the mask is 1 at the taps that stay
//! ([UPDP] §ResNet34, ConvNeXt).
//!
//! Before: `y = Conv(x, W)`, W `[O, I/g, k…]`. After: `y = Conv(x, W·(1 − s·outside))`, `outside = 1 − mask`
//! `[1, 1, k…]`. s is one graph input, [`SHRINK_INPUT`].
//! The padding is the padding of the shrunk kernel k′ plus `(k − k′)/2·dilation` before and after. So both kernels see
//! the same centre and give the same sizes. At s = 1 the values are the same too, because every other tap is 0.

use updp_ir::{
    ConvGeometry, DataType, Graph, Model, Node, NodeId, Tensor, TensorType, ValueId, view,
};

use super::geometry::{Moved, apply, centre, in_place, kernel_at_once, reshaped};
use super::{Choice, Shrink};
use crate::error::{Declined, PassError};
use crate::lift::{Linear, weights};
use crate::patch::{Operand, Out, Patch};

/// Name of the graph input s, f32 `[]`: 0 = whole kernels, 1 = shrunk ones.
pub const SHRINK_INPUT: &str = "updp_shrink";

/// Moves paddings and strides as [`super::move_geometry`] does, but lets kernels shrink with s instead of at once.
/// Returns the number of these kernels. If there are none, the model gets no input s.
///
/// # Errors
/// As [`super::move_geometry`]; P0009 when the model already has an input s.
pub fn fade_kernels(
    model: &mut Model,
    choices: &[Choice],
    shrink: Shrink,
) -> Result<usize, PassError> {
    if model.graph.find(SHRINK_INPUT).is_some() {
        return Err(PassError::AlreadyExpanded);
    }
    let ty = TensorType::fixed(DataType::Float, &[]);
    let input = model.graph.add_input(SHRINK_INPUT, &ty);
    let mut kernels = 0;
    in_place(model, choices, shrink, |cx, patch, moved| {
        if moved.conv.geometry.kernel == moved.new.kernel {
            return kernel_at_once(cx, patch, moved);
        }
        if cx.opset < 7 {
            return Err(Declined::new("opset", "broadcasting needs opset 7"));
        }
        kernels += 1;
        faded(patch, input, kernels, moved)
    })?;
    if kernels == 0 {
        model.graph.remove_input(input)?;
    }
    Ok(kernels)
}

/// Plans the weight that fades; returns it with the geometry of the whole kernel.
fn faded(
    patch: &mut Patch,
    input: ValueId,
    number: usize,
    moved: &Moved<'_>,
) -> Result<(Operand, ConvGeometry), Declined> {
    let Moved { block, conv, new } = moved;
    let dtype = conv.weight.dtype();
    let name = |part: &str| format!("{SHRINK_INPUT}.block{}.kernel{number}.{part}", block.index);
    let op = |patch: &mut Patch, node: Node, part: &str, operands: Vec<Operand>| {
        let out = Out::Fresh(name(&format!("{part}_value")));
        patch.node(node.named(&name(part)), conv.main(), operands, out)
    };
    let mut s = Operand::Value(input);
    if dtype != DataType::Float {
        let cast = Node::new("Cast").with("to", i64::from(dtype.code()));
        s = op(patch, cast, "cast", vec![s]);
    }
    let dims = [&[1, 1], conv.geometry.kernel.as_slice()].concat();
    let outside = weights::stored(dtype, dims, &outside(&conv.geometry.kernel, &new.kernel))?;
    let outside = patch.constant(name("outside"), outside, None);
    let one = patch.constant(name("one"), weights::stored(dtype, vec![1], &[1.0])?, None);
    let fade = op(patch, Node::new("Mul"), "fade", vec![s, outside]);
    let kept = op(patch, Node::new("Sub"), "kept", vec![one, fade]);
    let weight = Operand::Value(conv.weight_value);
    let weight = op(patch, Node::new("Mul"), "faded", vec![weight, kept]);
    Ok((weight, whole(conv, new)))
}

/// 1 at the taps of a kernel that lie outside its centre, otherwise 0.
fn outside(kernel: &[usize], centre: &[usize]) -> Vec<f64> {
    let taps: usize = kernel.iter().product();
    let is_outside = |tap: usize| {
        let mut rest = tap;
        (0..kernel.len()).rev().any(|axis| {
            let at = rest % kernel[axis];
            rest /= kernel[axis];
            let start = (kernel[axis] - centre[axis]) / 2;
            !(start..start + centre[axis]).contains(&at)
        })
    };
    (0..taps).map(|tap| f64::from(is_outside(tap))).collect()
}

/// The geometry of the whole kernel whose centre is that of `new`.
fn whole(conv: &Linear, new: &ConvGeometry) -> ConvGeometry {
    let wider = |pads: &[usize]| -> Vec<usize> {
        let cut = |axis: usize| {
            (conv.geometry.kernel[axis] - new.kernel[axis]) / 2 * conv.geometry.dilation[axis]
        };
        pads.iter().enumerate().map(|(axis, pad)| pad + cut(axis)).collect()
    };
    ConvGeometry {
        kernel: conv.geometry.kernel.clone(),
        pad_begin: wider(&new.pad_begin),
        pad_end: wider(&new.pad_end),
        ..new.clone()
    }
}

/// A convolution whose kernel fades.
struct Faded {
    conv: view::Conv,
    /// The whole kernel.
    weight: ValueId,
    tensor: Tensor,
    /// The geometry of the shrunk kernel.
    geometry: ConvGeometry,
}

/// Fixes s at 1: every kernel that fades becomes its centre, with the padding that the centre needs. Returns the number
/// of these kernels.
///
/// # Errors
/// P0001 when the graph refuses, which is our bug.
pub(super) fn shrink_faded(model: &mut Model) -> Result<usize, PassError> {
    let Some(input) = model.graph.find(SHRINK_INPUT) else { return Ok(0) };
    let found = find(&model.graph, input);
    for Faded { conv, weight, tensor, geometry } in &found {
        let graph = &model.graph;
        let node = graph.node(conv.node);
        let name = node.name().to_owned();
        let mut patch = Patch::new();
        let hint = format!("{}.shrunk", graph.value(*weight).name());
        let shrunk = patch.constant(hint, centre(tensor, &geometry.kernel), None);
        let mut operands = vec![conv.x.into(), shrunk];
        operands.extend(conv.bias.map(Operand::Value));
        patch.node(reshaped(node, geometry), conv.node, operands, Out::Value(conv.y));
        patch.remove(conv.node);
        apply(model, patch, &name)?;
    }
    Ok(found.len())
}

/// Convolutions with the weight `W·(1 − s·outside)`, as [`fade_kernels`] writes it.
fn find(graph: &Graph, input: ValueId) -> Vec<Faded> {
    let readers = |value: ValueId, op: &'static str| {
        let users = graph.users(value).into_iter().filter(move |user| graph.node(user.node).is(op));
        users.filter_map(|user| Some((user, graph.sole_result(user.node)?)))
    };
    let other = |node: NodeId, slot: usize| graph.operand(node, 1 - slot);
    let cast = readers(input, "Cast").map(|(_, value)| value);
    let mut found = Vec::new();
    for s in std::iter::once(input).chain(cast) {
        for (by, fade) in readers(s, "Mul") {
            let mask = other(by.node, by.slot).and_then(|value| view::constant(graph, value));
            let Some(mask) = mask else { continue };
            for (_, kept) in readers(fade, "Sub").filter(|(by, _)| by.slot == 1) {
                for (by, masked) in readers(kept, "Mul") {
                    let weight = other(by.node, by.slot);
                    let convs = readers(masked, "Conv").filter(|(by, _)| by.slot == 1);
                    found.extend(convs.filter_map(|(by, _)| at(graph, by.node, weight?, &mask)));
                }
            }
        }
    }
    found
}

/// The convolution at a node, from its whole weight and the taps outside the centre that stays.
fn at(graph: &Graph, node: NodeId, weight: ValueId, outside: &Tensor) -> Option<Faded> {
    let tensor = view::constant(graph, weight)?;
    let conv = view::Conv::of(graph, node, tensor.dims().len())?;
    let whole = outside.dims().get(2..)?;
    (tensor.dims().get(2..)? == whole).then_some(())?;
    let taps = outside.to_f64()?;
    let kernel = extent(whole, &taps);
    (self::outside(whole, &kernel) == taps).then_some(())?;
    let less = |pads: &[usize]| -> Option<Vec<usize>> {
        let cut = |axis: usize| (whole[axis] - kernel[axis]) / 2 * conv.dilations[axis];
        pads.iter().enumerate().map(|(axis, pad)| pad.checked_sub(cut(axis))).collect()
    };
    let geometry = ConvGeometry {
        stride: conv.strides.clone(),
        dilation: conv.dilations.clone(),
        pad_begin: less(&conv.pad_begin)?,
        pad_end: less(&conv.pad_end)?,
        kernel,
    };
    Some(Faded { conv, weight, tensor, geometry })
}

/// How far the taps that are 0 reach on each axis.
fn extent(dims: &[usize], taps: &[f64]) -> Vec<usize> {
    let mut apart: usize = dims.iter().product();
    let along = |size: &usize| {
        apart /= size;
        let step = apart;
        let has = |at: &usize| {
            taps.iter().enumerate().any(|(tap, out)| *out == 0.0 && tap / step % size == *at)
        };
        (0..*size).filter(has).count()
    };
    dims.iter().map(along).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taps_outside_are_those_the_centre_lacks() {
        for (dims, centre) in [(&[3][..], &[1][..]), (&[3, 5], &[1, 3]), (&[1, 7], &[1, 3])] {
            assert_eq!(extent(dims, &outside(dims, centre)), centre);
        }
        assert_eq!(outside(&[3], &[1]), [1.0, 0.0, 1.0]);
        let ring = [[1.0; 5], [1.0, 0.0, 0.0, 0.0, 1.0], [1.0; 5]].concat();
        assert_eq!(outside(&[3, 5], &[1, 3]), ring);
        assert_eq!(outside(&[7, 7], &[3, 3]).iter().sum::<f64>(), 40.0);
    }
}
