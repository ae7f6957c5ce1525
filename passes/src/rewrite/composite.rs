//! Combines per-channel affines in a row into one, for the rules that merge or move them.

use updp_ir::{Node, ValueId};

use crate::error::Declined;
use crate::lift::{ChannelAffine, is_no_summand, spread, summands, weights};
use crate::patch::{Operand, Out, Patch};
use crate::rule::Context;

/// `y = scale·x + shift` along one axis, or with one number for all elements.
#[derive(Clone, Debug)]
pub(super) struct Composite {
    /// The axis of the channels; `None` if one number serves every element.
    pub(super) axis: Option<usize>,
    /// Factors: one, or one per channel.
    pub(super) scale: Vec<f64>,
    /// Summands: the same number as factors; −0 = none (see [`is_no_summand`]).
    pub(super) shift: Vec<f64>,
}

impl Composite {
    /// One affine.
    pub(super) fn of(affine: &ChannelAffine) -> Self {
        let ChannelAffine { axis, scale, shift, .. } = affine;
        Self { axis: *axis, scale: scale.clone(), shift: shift.clone() }
    }

    /// This affine, then `next`; `None` if the two vary along different axes.
    pub(super) fn then(&self, next: &ChannelAffine) -> Option<Self> {
        let channels = self.scale.len().max(next.scale.len());
        let axis = match (self.axis, next.axis) {
            (Some(first), Some(second)) if first != second => return None,
            (first, second) => first.or(second),
        };
        let (scale, shift) =
            (spread(self.axis, &self.scale, channels)?, spread(self.axis, &self.shift, channels)?);
        let next_scale = spread(next.axis, &next.scale, channels)?;
        let next_shift = spread(next.axis, &next.shift, channels)?;
        let shift = shift.iter().zip(&next_scale).zip(&next_shift).map(|((c, a), d)| {
            match (is_no_summand(*c), is_no_summand(*d)) {
                (true, _) => *d,
                // A zero that was added stays a zero that is added: it turns −0 into +0.
                (false, true) => a * c + 0.0,
                (false, false) => a * c + d,
            }
        });
        let scale = scale.iter().zip(&next_scale).map(|(first, second)| first * second);
        Some(Self { axis, scale: scale.collect(), shift: shift.collect() })
    }

    /// Factors and summands for `channels` channels; `None` if their number differs.
    pub(super) fn for_channels(&self, channels: usize) -> Option<(Vec<f64>, Vec<f64>)> {
        Some((
            spread(self.axis, &self.scale, channels)?,
            summands(self.axis, &self.shift, channels)?,
        ))
    }

    /// Whether every summand is zero. An operator that sums products does not see the sign of a zero.
    pub(super) fn is_pure_scale(&self) -> bool {
        self.shift.iter().all(|c| *c == 0.0)
    }

    /// Whether nothing is added, not even a zero.
    fn has_no_summand(&self) -> bool {
        self.shift.iter().all(|c| is_no_summand(*c))
    }

    fn has_scale(&self, value: f64) -> bool {
        self.scale.iter().all(|a| *a == value)
    }

    /// Whether nothing changes.
    pub(super) fn is_identity(&self) -> bool {
        self.has_scale(1.0) && self.has_no_summand()
    }

    /// Number of elementwise nodes it takes: one for an Add, a Mul or a Sub; otherwise Mul and Add.
    pub(super) fn node_count(&self) -> usize {
        if self.has_scale(1.0) || self.has_scale(-1.0) || self.has_no_summand() { 1 } else { 2 }
    }

    /// Plans it as Add, Mul, Sub, or Mul and Add, with constants that have the dtype of the data and
    /// broadcast along the axis. The nodes take names, place and constants of `first` and
    /// `last`, the first and the last of the replaced affines.
    ///
    /// # Errors
    /// `dtype` when the element type of the data is not known, `rank` when the rank is not known,
    /// `overflow` when a number leaves its range.
    pub(super) fn emit(
        &self,
        cx: &Context<'_>,
        patch: &mut Patch,
        x: Operand,
        first: &ChannelAffine,
        last: &ChannelAffine,
        out: Out,
    ) -> Result<Operand, Declined> {
        let ty = cx.shapes.of(first.x).filter(|ty| ty.dtype.is_foldable_float());
        let ty = ty.ok_or_else(|| Declined::new("dtype", "the element type is not known"))?;
        let dims = match (self.axis, ty.rank()) {
            (None, _) => vec![],
            (Some(axis), Some(rank)) if axis < rank => {
                let mut dims = vec![1; rank - axis];
                dims[0] = self.scale.len();
                dims
            }
            _ => return Err(Declined::new("rank", "the rank of the data is not known")),
        };
        let stored = |values: &[f64]| weights::stored(ty.dtype, dims.clone(), values);
        let node = |op_type: &str, of: &ChannelAffine| {
            let old = cx.graph.node(of.node);
            Node::new(op_type).named(old.name()).with_metadata_of(old)
        };
        let name = |of: &ChannelAffine| {
            let name = cx.graph.node(of.node).name();
            if name.is_empty() { cx.graph.value(of.y).name() } else { name }.to_owned()
        };
        let is_product = self.has_no_summand();
        if is_product || self.node_count() == 2 {
            let hint = format!("{}.scale", name(first));
            let scale = patch.constant(hint, stored(&self.scale)?, parameter(cx, first));
            if is_product {
                return Ok(patch.node(node("Mul", last), last.node, vec![x, scale], out));
            }
            let hint = format!("{}_scaled", cx.graph.value(last.y).name());
            let scaled = Out::Fresh(hint);
            let mut product = node("Mul", first);
            if first.node == last.node {
                product = product.named(&format!("{}.scale_mul", name(first)));
            }
            let product = patch.node(product, first.node, vec![x, scale], scaled);
            let hint = format!("{}.shift", name(last));
            let shift = patch.constant(hint, stored(&self.shift)?, None);
            return Ok(patch.node(node("Add", last), last.node, vec![product, shift], out));
        }
        let hint = format!("{}.shift", name(last));
        let shift = patch.constant(hint, stored(&self.shift)?, parameter(cx, last));
        if self.has_scale(1.0) {
            Ok(patch.node(node("Add", last), last.node, vec![x, shift], out))
        } else {
            Ok(patch.node(node("Sub", last), last.node, vec![shift, x], out))
        }
    }
}

/// The constant of an affine that passes its name to its successor.
fn parameter(cx: &Context<'_>, affine: &ChannelAffine) -> Option<ValueId> {
    cx.graph.operands(affine.node).into_iter().flatten().find(|value| *value != affine.x)
}
