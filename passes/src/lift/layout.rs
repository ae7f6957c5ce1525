//! The nodes between a per-channel affine and the weighted operator it folds into.

use updp_ir::{NodeId, ValueId};

use super::carrier::{Carrier, Demand};
use crate::error::Declined;
use crate::rule::Context;

/// A run of carriers without other readers, and the channel axis on its far side.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The carriers in the direction of data flow.
    pub nodes: Vec<NodeId>,
    /// The value at the far side.
    pub value: ValueId,
    /// The axis there that carries the channels; `None` if one number serves every element.
    pub axis: Option<usize>,
    /// What the carriers ask of the affine.
    pub demands: Vec<(NodeId, Demand)>,
}

impl Layout {
    fn at(value: ValueId, axis: Option<usize>) -> Self {
        Self { nodes: vec![], value, axis, demands: vec![] }
    }

    /// The run that begins with `first` and goes down as [`layouts_below`] does.
    #[must_use]
    pub fn from(cx: &Context<'_>, first: &Carrier) -> Option<Self> {
        let mut layout = layouts_below(cx, first.y, first.axis)?;
        layout.nodes.insert(0, first.node);
        layout.demand(first);
        Some(layout)
    }

    /// Checks what the carriers ask of an affine with these factors and summands.
    ///
    /// # Errors
    /// `negative-scale` when a pooled maximum would become a minimum, `padded-mean` when zeros of the padding
    /// count in a mean.
    pub fn check(&self, cx: &Context<'_>, scale: &[f64], shift: &[f64]) -> Result<(), Declined> {
        for (node, demand) in &self.demands {
            let name = || cx.describe(*node);
            if *demand == Demand::PositiveScale && scale.iter().any(|a| *a <= 0.0) {
                let detail = format!("{:?} takes a maximum, and a factor is not positive", name());
                return Err(Declined::new("negative-scale", detail));
            }
            if *demand == Demand::NoShift && shift.iter().any(|c| *c != 0.0) {
                let detail = format!("zeros around the image count in the mean of {:?}", name());
                return Err(Declined::new("padded-mean", detail));
            }
        }
        Ok(())
    }

    fn demand(&mut self, carrier: &Carrier) {
        if carrier.demand != Demand::Nothing {
            self.demands.push((carrier.node, carrier.demand));
        }
    }
}

/// Follows `value` up through carriers that nothing else reads. `value` itself must have only one
/// use. Without a carrier the layout is `value` itself.
#[must_use]
pub fn layouts_above(cx: &Context<'_>, value: ValueId, axis: Option<usize>) -> Option<Layout> {
    let mut layout = Layout::at(value, axis);
    loop {
        cx.graph.sole_use(layout.value)?;
        let Some((producer, _)) = cx.graph.producer(layout.value) else { return Some(layout) };
        let Some(carrier) = Carrier::above(cx, producer, layout.axis) else { return Some(layout) };
        layout.demand(&carrier);
        layout.axis = carrier.axis;
        layout.nodes.insert(0, producer);
        layout.value = carrier.x;
    }
}

/// Follows `value` down through carriers, as long as each result has only one use; `value` itself
/// must have only one use.
#[must_use]
pub fn layouts_below(cx: &Context<'_>, value: ValueId, axis: Option<usize>) -> Option<Layout> {
    let mut layout = Layout::at(value, axis);
    loop {
        let user = cx.graph.sole_use(layout.value)?;
        let carrier = Carrier::below(cx, user.node, layout.axis).filter(|c| c.x == layout.value);
        let Some(carrier) = carrier else { return Some(layout) };
        layout.demand(&carrier);
        layout.axis = carrier.axis;
        layout.nodes.push(user.node);
        layout.value = carrier.y;
    }
}
