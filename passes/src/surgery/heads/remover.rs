//! Plans the operators of an attention branch with fewer heads.

use updp_ir::{NodeId, Tensor};

use super::{Edit, Place, integers};
use crate::error::Declined;
use crate::lift::Linear;
use crate::patch::{Operand, Out, Patch};
use crate::rule::Context;
use crate::surgery::slicer::{Slicer, taken};
use crate::surgery::thin::{layout, wrong};

/// Applies edits to a plan.
pub(super) struct Remover<'a> {
    pub(super) cx: &'a Context<'a>,
    pub(super) patch: Patch,
    /// Number of heads.
    pub(super) count: usize,
    /// The heads that stay, ascending.
    pub(super) heads: Vec<usize>,
}

impl Remover<'_> {
    pub(super) fn apply(&mut self, edit: &Edit) -> Result<(), Declined> {
        match edit {
            Edit::Rows { unit, after } => self.rows(unit, *after),
            Edit::Constant { node, slot, place } => self.constant(*node, *slot, *place),
            Edit::Sizes { node, slot, entries } => {
                let sizes = integers(self.cx, *node, *slot).ok_or_else(layout)?;
                self.sizes(*node, *slot, sizes, entries)
            }
            Edit::Dims { node, dims, entry } => self.sizes(*node, 1, dims.clone(), &[*entry]),
            Edit::Part { node, slot, size } => self.part(*node, *slot, *size),
            Edit::Counts { node, names } => self.counts(*node, names),
        }
    }

    /// The entries that stay of a dim of `b·count·after`.
    pub(super) fn entries(&self, dim: usize, after: usize) -> impl Iterator<Item = usize> + '_ {
        let own = (self.heads.len() * after).max(1);
        (0..self.left(dim)).map(move |at| {
            let (block, rest) = (at / own, at % own);
            (block * self.count + self.heads[rest / after]) * after + rest % after
        })
    }

    /// What is left of a dim with heads.
    fn left(&self, dim: usize) -> usize {
        dim / self.count * self.heads.len()
    }

    fn rows(&mut self, unit: &Linear, after: usize) -> Result<(), Declined> {
        let hidden = unit.out_channels;
        let kept: Vec<usize> = self.entries(hidden, after).collect();
        let patch = std::mem::take(&mut self.patch);
        let mut slicer = Slicer { cx: self.cx, patch, hidden, kept: &kept };
        slicer.dense(unit, true, false)?;
        self.patch = slicer.patch;
        Ok(())
    }

    fn constant(&mut self, node: NodeId, slot: usize, place: Place) -> Result<(), Declined> {
        let value = self.cx.graph.operand(node, slot).ok_or_else(layout)?;
        let tensor = self.cx.constant(value).ok_or_else(layout)?;
        let dim = *tensor.dims().get(place.axis).ok_or_else(layout)?;
        let kept: Vec<usize> = self.entries(dim, place.after).collect();
        let name = self.cx.graph.value(value).name().to_owned();
        let operand = self.patch.constant(name, taken(&tensor, place.axis, &kept)?, Some(value));
        self.patch.set_operand(node, slot, operand);
        Ok(())
    }

    /// Gives a node these sizes, of which `entries` shrink.
    fn sizes(
        &mut self,
        node: NodeId,
        slot: usize,
        mut sizes: Vec<i64>,
        entries: &[usize],
    ) -> Result<(), Declined> {
        for entry in entries {
            let size = sizes.get_mut(*entry).ok_or_else(layout)?;
            *size = self.left(usize::try_from(*size).map_err(|_| layout())?) as i64;
        }
        let value = self.cx.graph.operand(node, slot).ok_or_else(layout)?;
        let tensor = Tensor::from_i64(vec![sizes.len()], &sizes);
        let tensor = tensor.map_err(|error| wrong(error.to_string()))?;
        let replaces = self.cx.constant(value).map(|_| value);
        let name = format!("{}.heads", self.cx.graph.value(value).name());
        let operand = self.patch.constant(name, tensor, replaces);
        self.patch.set_operand(node, slot, operand);
        Ok(())
    }

    /// Gives a `Reshape` a `Concat` of its own, in which one size shrinks.
    fn part(&mut self, node: NodeId, slot: usize, size: i64) -> Result<(), Declined> {
        let graph = self.cx.graph;
        let sizes = graph.operand(node, 1).ok_or_else(layout)?;
        let (concat, _) = graph.producer(sizes).ok_or_else(layout)?;
        let size = self.left(usize::try_from(size).map_err(|_| layout())?) as i64;
        let tensor = Tensor::from_i64(vec![1], &[size]);
        let tensor = tensor.map_err(|error| wrong(error.to_string()))?;
        let name = format!("{}.heads", graph.value(sizes).name());
        let mut operands = Vec::new();
        for (at, value) in graph.operands(concat).into_iter().enumerate() {
            operands.push(if at == slot {
                self.patch.constant(format!("{name}.part"), tensor.clone(), None)
            } else {
                Operand::Value(value.ok_or_else(layout)?)
            });
        }
        let copy = graph.node(concat).bare_copy();
        let own = self.patch.node(copy, concat, operands, Out::Fresh(name));
        self.patch.set_operand(node, 1, own);
        Ok(())
    }

    /// Plans a node with another number of heads in its attributes.
    fn counts(&mut self, id: NodeId, names: &[&str]) -> Result<(), Declined> {
        let node = self.cx.graph.node(id);
        let mut copy = node.bare_copy();
        for name in names.iter().filter(|name| node.has(name)) {
            copy = copy.with(name, self.heads.len() as i64);
        }
        let y = self.cx.graph.sole_result(id).ok_or_else(layout)?;
        let operands = self.cx.graph.operands(id).into_iter();
        let operands = operands.map(|value| value.map_or(Operand::Absent, Operand::Value));
        self.patch.node(copy, id, operands.collect(), Out::Value(y));
        self.patch.remove(id);
        Ok(())
    }
}
