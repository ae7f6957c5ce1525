//! Kernels, paddings and strides of a pruned block, so that its convolutions compose exactly.
//!
//! Kernels: every k×k convolution except the last keeps only its centre tap; a depthwise 7×7 keeps its centre 3×3
//! (L16; [UPDP] §ResNet34, ConvNeXt). Strides move to the last k×k convolution if one follows (L6b). Paddings
//! add up in the first convolution, weighted by the strides between (L6): `P₁ + s₁·P₂ + s₁s₂·P₃ + …`.
//! The block keeps its output size. Its function changes on the border. It changes everywhere if a kernel shrinks
//! or a stride moves over a k×k convolution.

use updp_ir::{ConvGeometry, Model, Node, Tensor, ValueId};

use super::{Choice, Form};
use crate::blocks::{Block, BlockKind};
use crate::error::{Declined, PassError};
use crate::kernel::padding_moved_to_first;
use crate::lift::Linear;
use crate::patch::{Operand, Out, Patch};
use crate::rule::Context;

/// Whether kernels shrink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrink {
    /// As the block's family requires.
    Auto,
    /// Never; the merged kernel is the larger one.
    None,
}

/// A larger depthwise kernel shrinks to kernel 3.
const SHRUNK_DEPTHWISE: usize = 3;

/// The geometry of each convolution of a block's branch in this form, in the direction of data flow.
///
/// # Errors
/// `padding` when a shrunk kernel would need a negative padding, `output-size` when the moved branch would
/// give another size than the block.
pub fn moved(block: &Block, form: Form, shrink: Shrink) -> Result<Vec<ConvGeometry>, Declined> {
    let convs: Vec<&Linear> = block.linears().filter(|unit| unit.is_conv()).collect();
    let shrinks = shrink == Shrink::Auto
        && !(block.kind == BlockKind::ConvNext && form != Form::Conv)
        && form != Form::Norm;
    let kernels = kernels(block, &convs, shrinks);
    let rank = convs.first().map_or(0, |conv| conv.geometry.rank());
    let is_larger = |kernel: &[usize]| kernel.iter().any(|k| *k > 1);
    let last_larger = kernels.iter().rposition(|kernel| is_larger(kernel));
    let mut strides: Vec<Vec<usize>> =
        convs.iter().map(|conv| conv.geometry.stride.clone()).collect();
    if let Some(last) = last_larger {
        for at in 0..last {
            let own = std::mem::replace(&mut strides[at], vec![1; rank]);
            for (to, from) in strides[last].iter_mut().zip(own) {
                *to *= from;
            }
        }
    }
    let side = |pads: &dyn Fn(&Linear) -> Vec<usize>| -> Result<Vec<usize>, Declined> {
        // A smaller kernel takes the same padding off both sides; the sum must not fall below zero.
        let mut taken = vec![0; rank];
        let mut step = vec![1; rank];
        for (at, conv) in convs.iter().enumerate() {
            for axis in 0..rank {
                let cut = (conv.geometry.kernel[axis] - kernels[at][axis]) / 2
                    * conv.geometry.dilation[axis];
                taken[axis] += step[axis] * cut;
                step[axis] *= strides[at][axis];
            }
        }
        let own: Vec<Vec<usize>> = convs.iter().map(|conv| pads(conv)).collect();
        let paddings: Vec<&[usize]> = own.iter().map(Vec::as_slice).collect();
        let steps: Vec<&[usize]> = strides.iter().map(Vec::as_slice).collect();
        let total = padding_moved_to_first(&paddings, &steps);
        let left = total.iter().zip(&taken).map(|(total, taken)| total.checked_sub(*taken));
        left.collect::<Option<Vec<usize>>>().ok_or_else(|| {
            let detail = "a kernel without padding of its own cannot shrink".to_owned();
            Declined::new("padding", detail)
        })
    };
    let (begin, end) =
        (side(&|c| c.geometry.pad_begin.clone())?, side(&|c| c.geometry.pad_end.clone())?);
    let geometry: Vec<ConvGeometry> = convs
        .iter()
        .enumerate()
        .map(|(at, conv)| ConvGeometry {
            kernel: kernels[at].clone(),
            stride: strides[at].clone(),
            dilation: conv.geometry.dilation.clone(),
            pad_begin: if at == 0 { begin.clone() } else { vec![0; rank] },
            pad_end: if at == 0 { end.clone() } else { vec![0; rank] },
        })
        .collect();
    check_sizes(&convs, &geometry)?;
    Ok(geometry)
}

/// Kernels after the shrinking; even kernels stay.
fn kernels(block: &Block, convs: &[&Linear], shrinks: bool) -> Vec<Vec<usize>> {
    let mut kernels: Vec<Vec<usize>> =
        convs.iter().map(|conv| conv.geometry.kernel.clone()).collect();
    if !shrinks {
        return kernels;
    }
    let last = convs.iter().rposition(|conv| conv.geometry.kernel.iter().any(|k| *k > 1));
    for (at, conv) in convs.iter().enumerate() {
        if conv.geometry.kernel.iter().any(|k| k % 2 == 0) {
            continue;
        }
        if Some(at) != last {
            kernels[at].fill(1);
        } else if block.kind == BlockKind::ConvNext && conv.is_depthwise() {
            kernels[at].iter_mut().for_each(|k| *k = (*k).min(SHRUNK_DEPTHWISE));
        }
    }
    kernels
}

/// Checks that the moved branch gives the same sizes as the block for every input.
fn check_sizes(convs: &[&Linear], geometry: &[ConvGeometry]) -> Result<(), Declined> {
    let rank = convs.first().map_or(0, |conv| conv.geometry.rank());
    for axis in 0..rank {
        for input in 1..=96_usize {
            let before = convs
                .iter()
                .try_fold(input, |size, conv| conv.geometry.axis(axis).output_size(size));
            let after =
                geometry.iter().try_fold(input, |size, new| new.axis(axis).output_size(size));
            if before.is_some() && before != after {
                let detail = format!(
                    "an input of {input} would give {} instead of {}",
                    after.unwrap_or(0),
                    before.unwrap_or(0)
                );
                return Err(Declined::new("output-size", detail));
            }
        }
    }
    Ok(())
}

/// Moves paddings and strides and shrinks kernels of the chosen blocks whose form works in place.
///
/// # Errors
/// P0004 with the block whose geometry cannot move; an error of the graph primitives is our bug.
pub fn move_geometry(
    model: &mut Model,
    choices: &[Choice],
    shrink: Shrink,
) -> Result<(), PassError> {
    in_place(model, choices, shrink, kernel_at_once)
}

/// A convolution of a block, with its new geometry.
pub(super) struct Moved<'a> {
    pub(super) block: &'a Block,
    pub(super) conv: &'a Linear,
    pub(super) new: &'a ConvGeometry,
}

/// Gives the convolutions of the chosen blocks a new weight and geometry, if the form of the block works in place.
/// `kernel` plans both from the geometry that the move asks for.
pub(super) fn in_place<F>(
    model: &mut Model,
    choices: &[Choice],
    shrink: Shrink,
    mut kernel: F,
) -> Result<(), PassError>
where
    F: FnMut(&Context<'_>, &mut Patch, &Moved<'_>) -> Result<(Operand, ConvGeometry), Declined>,
{
    for choice in choices {
        let block = &choice.block;
        if !choice.form.is_in_place(block.kind) {
            continue;
        }
        let patch = with_context(model, |cx| {
            let geometry = moved(block, choice.form, shrink)?;
            let mut patch = Patch::new();
            let convs = block.linears().filter(|unit| unit.is_conv());
            for (conv, new) in convs.zip(&geometry) {
                let (weight, new) = kernel(cx, &mut patch, &Moved { block, conv, new })?;
                replace(cx, &mut patch, conv, &new, weight);
            }
            Ok(patch)
        });
        let patch = patch.map_err(|declined| block.refused(declined))?;
        // Sizes inside the branch change, so the sizes that the file declares no longer hold.
        let inner: Vec<ValueId> = block
            .nodes
            .iter()
            .filter(|node| model.graph.get_node(**node).is_some())
            .flat_map(|node| model.graph.results(*node))
            .flatten()
            .filter(|value| *value != block.result)
            .collect();
        apply(model, patch, &block.name)?;
        model.graph.forget_types(&inner)?;
    }
    Ok(())
}

/// The kernel that the move asks for: the weight itself, or its centre.
#[expect(clippy::unnecessary_wraps, reason = "other plans can refuse")]
pub(super) fn kernel_at_once(
    cx: &Context<'_>,
    patch: &mut Patch,
    Moved { conv, new, .. }: &Moved<'_>,
) -> Result<(Operand, ConvGeometry), Declined> {
    let weight = if conv.geometry.kernel == new.kernel {
        Operand::Value(conv.weight_value)
    } else {
        let name = format!("{}.shrunk", cx.graph.value(conv.weight_value).name());
        patch.constant(name, centre(&conv.weight, &new.kernel), None)
    };
    Ok((weight, (*new).clone()))
}

/// Calls `look` with fresh shapes of the model.
pub fn with_context<T>(model: &Model, look: impl FnOnce(&Context<'_>) -> T) -> T {
    let opset = model.opset("").unwrap_or(0);
    let shapes = updp_ir::infer::Shapes::infer(&model.graph, opset);
    let options = crate::Options::default();
    look(&Context { graph: &model.graph, shapes: &shapes, opset, options: &options })
}

/// Applies a surgery patch to the block with this name.
pub(super) fn apply(model: &mut Model, patch: Patch, block: &str) -> Result<(), PassError> {
    patch.apply(&mut model.graph).map(|_| ()).map_err(|source| PassError::Apply {
        rule: "surgery",
        node: block.to_owned(),
        source,
    })
}

/// Plans a convolution anew with another weight and geometry, unless both stay the same.
fn replace(
    cx: &Context<'_>,
    patch: &mut Patch,
    conv: &Linear,
    new: &ConvGeometry,
    weight: Operand,
) {
    let is_same = weight == Operand::Value(conv.weight_value) && conv.geometry == *new;
    if is_same {
        return;
    }
    let mut operands = vec![Operand::Value(conv.x), weight];
    operands.extend(conv.bias_value.map(Operand::Value));
    let node = reshaped(cx.graph.node(conv.main()), new);
    patch.node(node, conv.main(), operands, Out::Value(conv.y));
    patch.remove(conv.main());
}

/// A copy of a convolution's node with this geometry.
pub(super) fn reshaped(old: &Node, new: &ConvGeometry) -> Node {
    let pads = new.pads();
    let node = old
        .bare_copy()
        .with("kernel_shape", new.kernel.as_slice())
        .with("strides", new.stride.as_slice())
        .with("pads", pads.as_slice());
    if node.has("auto_pad") { node.with("auto_pad", "NOTSET") } else { node }
}

/// The centre taps of a kernel `W [O, I/g, k…]`, copied byte by byte.
pub(super) fn centre(weight: &Tensor, kernel: &[usize]) -> Tensor {
    let dims = weight.dims();
    let spatial = &dims[2..];
    let width = weight.bytes().len() / weight.len().max(1);
    let start: Vec<usize> = spatial.iter().zip(kernel).map(|(old, new)| (old - new) / 2).collect();
    let taps: usize = kernel.iter().product();
    let old_taps: usize = spatial.iter().product();
    let mut bytes = Vec::with_capacity(dims[0] * dims[1] * taps * width);
    for filter in 0..dims[0] * dims[1] {
        for tap in 0..taps {
            let mut rest = tap;
            let mut at = 0;
            let mut scale = 1;
            for axis in (0..kernel.len()).rev() {
                at += (rest % kernel[axis] + start[axis]) * scale;
                rest /= kernel[axis];
                scale *= spatial[axis];
            }
            let from = (filter * old_taps + at) * width;
            bytes.extend_from_slice(&weight.bytes()[from..from + width]);
        }
    }
    let new_dims = [&dims[..2], kernel].concat();
    Tensor::new(weight.dtype(), new_dims, bytes.into())
        .expect("as many bytes as the smaller kernel has elements")
}
