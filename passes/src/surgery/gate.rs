//! Gates over hidden channels: `y = x · g(mean(x))`, where g is made of weighted operators over the channels.
//!
//! A gate with fewer channels reads and makes only those that stay: the operators that read the means lose columns,
//! those that make the factors lose rows, and everything by channel loses its constants of the others. The channels
//! inside g that neither the means nor the factors have stay.

use std::collections::BTreeSet;

use updp_ir::view::Binary;
use updp_ir::{Dim, NodeId, ValueId};

use crate::blocks::Closed;
use crate::error::Declined;
use crate::lift::{ChannelAffine, Linear};
use crate::rule::Context;

/// What changes in a gate.
#[derive(Debug)]
pub(super) enum Edit {
    /// A weighted operator loses rows, columns or both.
    Linear { unit: Box<Linear>, rows: bool, columns: bool },
    /// A scale and shift loses the constants of channels.
    Affine(ChannelAffine),
    /// A `PRelu` loses slopes.
    Slopes(NodeId),
    /// The dims of a `Reshape`, whose entry at this place is the number of channels.
    Dims { node: NodeId, place: usize },
}

/// The edits of a gate on `hidden` channels, which lie on axis 1.
///
/// # Errors
/// `not-affine` for an operator that is not followed, `layout` when the channels are not on axis 1, `grouped`.
pub(super) fn edits(cx: &Context<'_>, gate: &Closed, hidden: usize) -> Result<Vec<Edit>, Declined> {
    let walk = Walk { cx, gate, hidden };
    let wanted = walk.wanted()?;
    let channels: BTreeSet<ValueId> = wanted.union(&walk.read()).copied().collect();
    let mut edits = Vec::new();
    let mut done: BTreeSet<NodeId> = BTreeSet::new();
    for node in &gate.nodes {
        if done.contains(node) {
            continue;
        }
        if let Some(unit) = Linear::at(cx, *node) {
            done.extend(unit.nodes.iter().copied());
            let (rows, columns) = (channels.contains(&unit.y), channels.contains(&unit.x));
            if (rows || columns) && unit.groups != 1 {
                return Err(Declined::new("grouped", "a gate has an operator with groups"));
            }
            if rows || columns {
                edits.push(Edit::Linear { unit: Box::new(unit), rows, columns });
            }
            continue;
        }
        let has_channels = cx.graph.sole_result(*node).is_some_and(|y| channels.contains(&y));
        if has_channels {
            edits.extend(walk.edit(*node)?);
        }
    }
    Ok(edits)
}

struct Walk<'a> {
    cx: &'a Context<'a>,
    gate: &'a Closed,
    hidden: usize,
}

impl Walk<'_> {
    /// The values that must have the hidden channels because the result has them.
    fn wanted(&self) -> Result<BTreeSet<ValueId>, Declined> {
        let mut wanted = BTreeSet::from([self.gate.y]);
        for node in self.gate.nodes.iter().rev() {
            let made = self.cx.graph.results(*node).into_iter().flatten();
            if !made.into_iter().any(|value| wanted.contains(&value)) {
                continue;
            }
            if let Some(unit) =
                Linear::producing(self.cx, self.cx.graph.sole_result(*node).ok_or_else(layout)?)
            {
                // The rest of the operator, such as the product before its bias, changes with it.
                wanted
                    .extend(unit.nodes.iter().filter_map(|node| self.cx.graph.sole_result(*node)));
                continue;
            }
            if Linear::at(self.cx, *node).is_some() {
                continue;
            }
            for value in self.data(*node) {
                match self.cx.shapes.dims(value).and_then(|dims| dims.get(1)) {
                    Some(Dim::Known(1)) => {}
                    Some(Dim::Known(channels)) if *channels == self.hidden => {
                        wanted.insert(value);
                    }
                    _ => return Err(layout()),
                }
            }
        }
        Ok(wanted)
    }

    /// The values that have the hidden channels because they are made of what the gate reads, channel by channel.
    fn read(&self) -> BTreeSet<ValueId> {
        let mut read = BTreeSet::from([self.gate.x]);
        for node in &self.gate.nodes {
            let is_linear = Linear::at(self.cx, *node).is_some()
                || self
                    .cx
                    .graph
                    .sole_result(*node)
                    .is_some_and(|y| Linear::producing(self.cx, y).is_some());
            if !is_linear && self.data(*node).iter().any(|value| read.contains(value)) {
                read.extend(self.cx.graph.sole_result(*node));
            }
        }
        read
    }

    /// Operands that the gate computes or reads.
    fn data(&self, node: NodeId) -> Vec<ValueId> {
        let is_own = |value: &ValueId| {
            *value == self.gate.x
                || self
                    .cx
                    .graph
                    .producer(*value)
                    .is_some_and(|(by, _)| self.gate.nodes.contains(&by))
        };
        self.cx.graph.operands(node).into_iter().flatten().filter(is_own).collect()
    }

    /// What changes in a node without weights whose result has the hidden channels.
    fn edit(&self, node: NodeId) -> Result<Option<Edit>, Declined> {
        let (graph, known) = (self.cx.graph, self.cx.graph.node(node));
        let unknown = || {
            let detail = format!("a gate holds {}, which is not followed", known.op_type());
            Declined::new("not-affine", detail)
        };
        let is_first = |axes: &[i64]| axes.contains(&1);
        match known.op_type() {
            "PRelu" => Ok(Some(Edit::Slopes(node))),
            "ReduceMean" | "ReduceMax" => {
                let axes = match graph.operand(node, 1) {
                    Some(axes) => self.cx.constant(axes).and_then(|axes| axes.to_i64()),
                    None => known.ints("axes").map(<[i64]>::to_vec),
                };
                let axes = axes.filter(|axes| !is_first(axes)).ok_or_else(layout)?;
                let rank =
                    self.cx.rank(graph.operand(node, 0).ok_or_else(layout)?).ok_or_else(layout)?;
                let is_spatial = |axis: &i64| *axis > 1 || *axis + (rank as i64) > 1 && *axis < 0;
                if axes.iter().all(is_spatial) { Ok(None) } else { Err(layout()) }
            }
            "Reshape" => self.dims(node).map(Some).or_else(|declined| {
                // Dims that copy the channels, or leave them over, hold for any number.
                let dims = graph.operand(node, 1).and_then(|dims| self.cx.constant(dims)?.to_i64());
                let is_free = dims.is_some_and(|dims| matches!(dims.get(1), Some(0 | -1)));
                if is_free { Ok(None) } else { Err(declined) }
            }),
            "Flatten" if known.int("axis").unwrap_or(1) == 1 => Ok(None),
            "GlobalAveragePool" | "GlobalMaxPool" | "AveragePool" | "MaxPool" | "Squeeze"
            | "Unsqueeze" | "Identity" | "Dropout" | "Cast" | "Relu" | "Clip" | "LeakyRelu"
            | "Elu" | "Sigmoid" | "HardSigmoid" | "HardSwish" | "Tanh" | "Gelu" | "Mish"
            | "Swish" | "Softplus" | "Sqrt" | "Abs" | "Neg" | "Exp" | "Erf" => Ok(None),
            _ => match ChannelAffine::at(self.cx, node) {
                Some(affine) => Ok(Some(Edit::Affine(affine))),
                None if self.is_by_element(node) => Ok(None),
                None => Err(unknown()),
            },
        }
    }

    /// Whether a node works on each element alone, with scalars as its only constants.
    fn is_by_element(&self, node: NodeId) -> bool {
        let graph = self.cx.graph;
        let is_known = Binary::of(graph, node, self.cx.opset).is_some()
            || matches!(graph.node(node).op_type(), "Min" | "Max" | "Pow");
        let constants = graph.operands(node).into_iter().flatten();
        is_known
            && constants.filter_map(|value| self.cx.constant(value)).all(|tensor| tensor.len() == 1)
    }

    /// The dim of a `Reshape` that is the number of hidden channels.
    fn dims(&self, node: NodeId) -> Result<Edit, Declined> {
        let dims = self.cx.graph.operand(node, 1).and_then(|dims| self.cx.constant(dims)?.to_i64());
        let dims = dims.ok_or_else(layout)?;
        let mut own = dims.iter().enumerate().filter(|(_, dim)| **dim == self.hidden as i64);
        match (own.next(), own.next()) {
            (Some((place, _)), None) => Ok(Edit::Dims { node, place }),
            _ => Err(layout()),
        }
    }
}

fn layout() -> Declined {
    Declined::new("layout", "the channels of its gate do not lie on one known axis")
}
