//! Moves a per-channel scale and shift out from between two Transposes that undo each other.
//!
//! Before: `y = P⁻¹(a ⊙ P(x) + c)`, where P is a Transpose
//! After:  `y = a ⊙ x + c`, where a and c lie along the axis of x that P moves to their axis
//!
//! x has any rank; a, c are `[C]` stored as [C, 1, …], or single numbers. There is no Mul if a = 1, and no
//! Add if nothing is added; a zero that is added stays. A BatchNormalization acts on axis 1 of P(x), whatever the lengths of the axes.
//!
//! 1. `read-twice`: nothing else reads the values between the Transposes.
//! 2. `not-inverse`: the second Transpose undoes the first.
//! 3. `old-opset`: Mul and Add broadcast as needed here from opset 7 on.
//! 4. `overflow`: no number leaves the range of the dtype.
//!
//! Source: papers.md L8. Measure: two Transposes fewer, at most one other node more.

use updp_ir::view::Transpose;
use updp_ir::{NodeId, ValueId};

use super::composite::Composite;
use super::merge_transposes::composed;
use crate::error::{Declined, Stop};
use crate::lift::ChannelAffine;
use crate::patch::{Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct SwapTransposeAffine;

/// Two Transposes and the affines between them.
#[derive(Debug)]
pub struct Match {
    above: Transpose,
    affines: Vec<ChannelAffine>,
    /// The effect of the affines, along an axis of the value above both Transposes.
    composite: Composite,
    below: Transpose,
    /// A value between the two that another node reads too.
    shared: Option<ValueId>,
}

impl Rule for SwapTransposeAffine {
    type Match = Match;
    const NAME: &'static str = "swap-transpose-affine";
    const SUMMARY: &'static str = "turns BatchNormalization, Mul, Add, Sub, Div between two inverse Transposes into Mul and Add";
    const ROOTS: &'static [&'static str] = &["Transpose"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let x = cx.graph.operand(root, 0)?;
        let above = Transpose::of(cx.graph, root, cx.rank(x))?;
        let mut affines: Vec<ChannelAffine> = Vec::new();
        let mut composite: Option<Composite> = None;
        let mut value = above.y;
        let mut shared = None;
        loop {
            if cx.graph.sole_use(value).is_none() {
                shared = Some(value);
            }
            let user = cx.graph.users(value).into_iter().next()?.node;
            if let Some(affine) = ChannelAffine::at(cx, user).filter(|affine| affine.x == value) {
                composite = Some(match composite {
                    None => Composite::of(&affine),
                    Some(before) => before.then(&affine)?,
                });
                value = affine.y;
                affines.push(affine);
                continue;
            }
            let mut composite = composite.filter(|composite| !composite.is_identity())?;
            let below = Transpose::of(cx.graph, user, Some(above.perm.len()))?;
            if let Some(axis) = composite.axis {
                composite.axis = Some(*above.perm.get(axis)?);
            }
            return Some(Match { above, affines, composite, below, shared });
        }
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        matched.check(cx)?;
        let Match { above, affines, composite, below, .. } = matched;
        let mut patch = Patch::new();
        if let (Some(first), Some(last)) = (affines.first(), affines.last()) {
            let x = above.x.into();
            composite.emit(cx, &mut patch, x, first, last, Out::Value(below.y))?;
        }
        patch.remove_all([above.node, below.node]);
        patch.remove_all(affines.iter().map(|affine| affine.node));
        Ok(patch)
    }
}

impl Match {
    /// Checks preconditions 1 to 3.
    fn check(&self, cx: &Context<'_>) -> Result<(), Declined> {
        if let Some(shared) = self.shared {
            let name = cx.graph.value(shared).name();
            return Err(Declined::new("read-twice", format!("{name:?} is read elsewhere too")));
        }
        let perm = composed(&self.above.perm, &self.below.perm);
        if !perm.is_some_and(|perm| perm.iter().copied().eq(0..perm.len())) {
            let (first, second) = (&self.above.perm, &self.below.perm);
            let detail = format!("{second:?} does not undo {first:?}");
            return Err(Declined::new("not-inverse", detail));
        }
        if cx.opset < 7 {
            let detail = format!("opset {} broadcasts by attribute", cx.opset);
            return Err(Declined::new("old-opset", detail));
        }
        Ok(())
    }
}
