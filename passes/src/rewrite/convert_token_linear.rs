//! Turns a MatMul on channel-last images between two Transposes into a 1×1 Conv.
//!
//! Before: `y = P⁻¹(P(x)·W + b)`, where P is the Transpose of [N, I, H, W] to [N, H, W, I]
//! After:  `y = Conv(x; Wᵀ [O, I, 1, 1], b [O])`
//!
//! W [I, O]. No weight changes its value.
//!
//! 1. `read-twice`: nothing else reads the values between the Transposes.
//! 2. `rank`: the data have rank 4; on tokens [N, D, L] a MatMul is as good as a Conv.
//! 3. `dtype`: f32 or f16; no CPU runtime has a Conv for f64, and older opsets have none for bf16.
//!
//! Source: papers.md L8. Measure: two Transposes fewer.

use updp_ir::view::Transpose;
use updp_ir::{DataType, Node, NodeId, Tensor};

use super::merge_transposes::composed;
use crate::error::{Declined, Stop};
use crate::lift::{Form, Linear, weights};
use crate::patch::{Operand, Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct ConvertTokenLinear;

/// The MatMul and the Transposes around it.
#[derive(Debug)]
pub struct Match {
    above: Transpose,
    unit: Linear,
    below: Transpose,
}

impl Rule for ConvertTokenLinear {
    type Match = Match;
    const NAME: &'static str = "convert-token-linear";
    const SUMMARY: &'static str = "turns MatMul between channel-last Transposes into a 1x1 Conv";
    const ROOTS: &'static [&'static str] = &["MatMul"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let unit = Linear::at(cx, root)?;
        let (producer, _) = cx.graph.producer(unit.x)?;
        let x = cx.graph.operand(producer, 0)?;
        let above = Transpose::of(cx.graph, producer, cx.rank(x))?;
        let rank = above.perm.len();
        if rank < 3 || above.perm.last() != Some(&1) {
            return None;
        }
        let below = cx.graph.users(unit.y).into_iter().find_map(|user| {
            let below = Transpose::of(cx.graph, user.node, Some(rank))?;
            composed(&above.perm, &below.perm)?.into_iter().eq(0..rank).then_some(below)
        })?;
        Some(Match { above, unit, below })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        matched.check(cx)?;
        let Match { above, unit, below } = matched;
        let mut patch = Patch::new();
        let old = cx.graph.node(unit.main());
        let weight = channel_first(&unit.weight)?;
        let hint = format!("{}.weight", old.name());
        let weight = patch.constant(hint, weight, Some(unit.weight_value));
        let mut operands = vec![above.x.into(), weight];
        if let Some(bias) = bias(cx, &mut patch, &unit)? {
            operands.push(bias);
        }
        let conv = Node::new("Conv")
            .named(old.name())
            .with_metadata_of(old)
            .with("dilations", vec![1, 1])
            .with("group", 1)
            .with("kernel_shape", vec![1, 1])
            .with("pads", vec![0; 4])
            .with("strides", vec![1, 1]);
        patch.node(conv, unit.main(), operands, Out::Value(below.y));
        patch.remove_all([above.node, below.node]);
        patch.remove_all(unit.nodes);
        Ok(patch)
    }
}

impl Match {
    /// Checks the numbered preconditions.
    fn check(&self, cx: &Context<'_>) -> Result<(), Declined> {
        let Self { above, unit, .. } = self;
        for value in [unit.x, unit.y] {
            if cx.graph.sole_use(value).is_none() {
                let name = cx.graph.value(value).name();
                return Err(Declined::new("read-twice", format!("{name:?} is read elsewhere too")));
            }
        }
        let rank = above.perm.len();
        if rank != 4 {
            return Err(Declined::new("rank", format!("rank {rank} is not that of images")));
        }
        if !matches!(unit.dtype(), DataType::Float | DataType::Float16) {
            let detail = format!("runtimes have no Conv of {}", unit.dtype());
            return Err(Declined::new("dtype", detail));
        }
        Ok(())
    }
}

/// The bias as Conv needs it, `[O]`; the stored constant if it already has this form.
fn bias(cx: &Context<'_>, patch: &mut Patch, unit: &Linear) -> Result<Option<Operand>, Declined> {
    let (Some(bias), Some(value), Form::MatMul { .. }) = (&unit.bias, unit.bias_value, &unit.form)
    else {
        return Ok(None);
    };
    let stored = cx.constant(value);
    if stored.is_some_and(|t| t.dims() == [unit.out_channels] && t.dtype() == unit.dtype()) {
        return Ok(Some(value.into()));
    }
    let tensor = weights::stored(unit.dtype(), vec![bias.len()], bias)?;
    let hint = format!("{}.bias", cx.graph.node(unit.main()).name());
    Ok(Some(patch.constant(hint, tensor, Some(value))))
}

/// [I, O] as [O, I, 1, 1], element by element.
fn channel_first(weight: &Tensor) -> Result<Tensor, Stop> {
    let (inputs, outputs) = (weight.dims()[0], weight.dims()[1]);
    let bytes = weight.bytes();
    let width = bytes.len() / weight.len().max(1);
    let mut transposed = Vec::with_capacity(bytes.len());
    for output in 0..outputs {
        for input in 0..inputs {
            let start = (input * outputs + output) * width;
            transposed.extend_from_slice(&bytes[start..start + width]);
        }
    }
    Ok(Tensor::new(weight.dtype(), vec![outputs, inputs, 1, 1], transposed.into())?)
}
