//! Merges two per-channel scales and shifts in a row into one.
//!
//! Before: `y = a₂ ⊙ (a₁ ⊙ x + c₁) + c₂`
//! After:  `y = a ⊙ x + c`, `a = a₂ ⊙ a₁`, `c = a₂ ⊙ c₁ + c₂`
//!
//! x has any rank; a, c are `[C]` along one axis, or single numbers. If one of the two is a
//! BatchNormalization, the result is one too, on axis 1. Otherwise the result is one Add, Mul or Sub; two
//! affines that need both a factor and a summand stay. The BatchNormalization keeps its `epsilon` and has
//! mean 0, variance `v = round(1 − ε)` and `γ = a·√(v + ε)`: the root is 1 at run time, so only γ and β round.
//!
//! 1. `read-twice`: nothing else reads the value between the two.
//! 2. `overflow`: no number leaves the range of its dtype.
//!
//! Source: papers.md L7, L8. Measure: one affine node fewer.

use updp_ir::NodeId;
use updp_ir::view::BatchNorm;

use super::composite::Composite;
use crate::error::{Declined, PassError, Stop};
use crate::lift::{ChannelAffine, weights};
use crate::patch::{Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct MergeAffinePair;

/// Two affines in the direction of data flow, and their combined effect.
#[derive(Debug)]
pub struct Match {
    first: ChannelAffine,
    second: ChannelAffine,
    composite: Composite,
}

impl Match {
    /// The BatchNormalization to keep; that of the root if both are BatchNormalizations.
    fn batch_norm(&self) -> Option<NodeId> {
        [&self.second, &self.first].into_iter().find(|a| a.is_batch_norm).map(|a| a.node)
    }
}

impl Rule for MergeAffinePair {
    type Match = Match;
    const NAME: &'static str = "merge-affine-pair";
    const SUMMARY: &'static str =
        "merges two BatchNormalization, Mul, Add, Sub or Div in a row into one";
    const ROOTS: &'static [&'static str] = ChannelAffine::OPERATORS;

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let second = ChannelAffine::at(cx, root)?;
        let (producer, _) = cx.graph.producer(second.x)?;
        let first = ChannelAffine::at(cx, producer)?;
        let composite = Composite::of(&first).then(&second)?;
        let matched = Match { first, second, composite };
        let fits = match matched.batch_norm() {
            Some(_) => true,
            None => matched.composite.node_count() <= 1,
        };
        fits.then_some(matched)
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let between = matched.second.x;
        if cx.graph.sole_use(between).is_none() {
            let name = cx.graph.value(between).name();
            let detail = format!("{name:?} is read elsewhere too");
            return Err(Declined::new("read-twice", detail).into());
        }
        let mut patch = Patch::new();
        if let Some(kept) = matched.batch_norm() {
            plan_batch_norm(cx, &mut patch, &matched, kept)?;
        } else {
            let Match { first, second, composite } = &matched;
            let out = Out::Value(second.y);
            composite.emit(cx, &mut patch, first.x.into(), first, second, out)?;
        }
        patch.remove_all([matched.first.node, matched.second.node]);
        Ok(patch)
    }
}

fn plan_batch_norm(
    cx: &Context<'_>,
    patch: &mut Patch,
    matched: &Match,
    kept: NodeId,
) -> Result<(), Stop> {
    let malformed = || Stop::from(PassError::from(updp_ir::IrError::StaleId));
    let view = BatchNorm::of(cx.graph, kept, cx.opset).ok_or_else(malformed)?;
    let dtype_of = |value| cx.constant(value).map(|t| t.dtype()).ok_or_else(malformed);
    let channels = matched.composite.scale.len();
    let ideal = vec![(1.0 - view.epsilon).max(0.0); channels];
    let variance = weights::stored(dtype_of(view.var)?, vec![channels], &ideal)?;
    let root = variance.to_f64().ok_or_else(malformed)?.into_iter().map(|v| v + view.epsilon);
    let gamma: Vec<f64> =
        matched.composite.scale.iter().zip(root).map(|(a, power)| a * power.sqrt()).collect();
    let gamma = weights::stored(dtype_of(view.scale)?, vec![channels], &gamma)?;
    let beta = weights::stored(dtype_of(view.bias)?, vec![channels], &matched.composite.shift)?;
    let mean = weights::stored(dtype_of(view.mean)?, vec![channels], &vec![0.0; channels])?;
    let node = cx.graph.node(kept);
    let mut operands = vec![matched.first.x.into()];
    for (part, tensor, old) in [
        ("scale", gamma, view.scale),
        ("bias", beta, view.bias),
        ("mean", mean, view.mean),
        ("var", variance, view.var),
    ] {
        operands.push(patch.constant(format!("{}.{part}", node.name()), tensor, Some(old)));
    }
    let out = Out::Value(matched.second.y);
    patch.node(node.bare_copy(), matched.second.node, operands, out);
    Ok(())
}
