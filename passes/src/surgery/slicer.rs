//! Operators that lose channels: their weights, constants and sizes without the entries of the others.

use updp_ir::{NodeId, Tensor, ValueId};

use super::gate::{self, Edit};
use super::thin::layout;
use crate::blocks::Closed;
use crate::error::Declined;
use crate::lift::{ChannelAffine, Form as Layout, Linear};
use crate::patch::{Operand, Out, Patch};
use crate::rule::Context;

/// Plans operators with fewer channels.
pub(super) struct Slicer<'a> {
    pub(super) cx: &'a Context<'a>,
    pub(super) patch: Patch,
    /// Number of channels of all values, on their axis.
    pub(super) hidden: usize,
    /// The channels that stay, ascending.
    pub(super) kept: &'a [usize],
}

impl Slicer<'_> {
    /// A constant with the kept channels of axis `axis`.
    fn sliced(&mut self, value: ValueId, axis: usize) -> Result<Operand, Declined> {
        let unknown = || Declined::new("not-constant", "a weight is not constant");
        let tensor = self.cx.constant(value).ok_or_else(unknown)?;
        let name = self.cx.graph.value(value).name().to_owned();
        Ok(self.patch.constant(name, taken(&tensor, axis, self.kept)?, Some(value)))
    }

    /// The axis of a constant that holds the channels of an operand of rank `rank` on axis `axis`; `None` if one number
    /// serves all channels.
    pub(super) fn axis_in(
        &self,
        value: ValueId,
        rank: usize,
        axis: usize,
    ) -> Result<Option<usize>, Declined> {
        let tensor = self.cx.constant(value).ok_or_else(layout)?;
        let missing = rank.checked_sub(tensor.dims().len()).ok_or_else(layout)?;
        let Some(own) = axis.checked_sub(missing) else { return Ok(None) };
        match tensor.dims()[own] {
            1 => Ok(None),
            dim if dim == self.hidden => Ok(Some(own)),
            _ => Err(layout()),
        }
    }

    /// Gives a node the kept channels of one of its constants.
    pub(super) fn narrow(
        &mut self,
        node: NodeId,
        value: ValueId,
        axis: usize,
    ) -> Result<(), Declined> {
        let operand = self.sliced(value, axis)?;
        self.set(node, value, operand);
        Ok(())
    }

    /// Gives a node `operand` wherever it reads `value`.
    fn set(&mut self, node: NodeId, value: ValueId, operand: Operand) {
        for (slot, own) in self.cx.graph.operands(node).into_iter().enumerate() {
            if own == Some(value) {
                self.patch.set_operand(node, slot, operand);
            }
        }
    }

    /// The operators of a gate with fewer channels.
    pub(super) fn gate(&mut self, gate: &Closed) -> Result<(), Declined> {
        for edit in gate::edits(self.cx, gate, self.hidden)? {
            match edit {
                Edit::Linear { unit, rows, columns } => self.dense(&unit, rows, columns)?,
                Edit::Affine(affine) => self.affine(&affine, 1)?,
                Edit::Slopes(node) => self.slopes(node, 1)?,
                Edit::Dims { node, place } => {
                    let dims = self.cx.graph.operand(node, 1).ok_or_else(layout)?;
                    let tensor = self.cx.constant(dims).ok_or_else(layout)?;
                    let mut numbers = tensor.to_i64().ok_or_else(layout)?;
                    numbers[place] = self.kept.len() as i64;
                    let tensor = Tensor::from_i64(vec![numbers.len()], &numbers)
                        .map_err(|error| Declined::new("malformed-weight", error.to_string()))?;
                    let name = self.cx.graph.value(dims).name().to_owned();
                    let operand = self.patch.constant(name, tensor, Some(dims));
                    self.patch.set_operand(node, 1, operand);
                }
            }
        }
        Ok(())
    }

    /// A dense operator without the rows or columns of the other channels.
    pub(super) fn dense(
        &mut self,
        unit: &Linear,
        rows: bool,
        columns: bool,
    ) -> Result<(), Declined> {
        let (row_axis, column_axis) = match unit.form {
            Layout::Conv | Layout::Gemm { trans_b: true } => (0, 1),
            Layout::Gemm { trans_b: false } | Layout::MatMul { .. } => (1, 0),
            Layout::ConvTranspose => return Err(layout()),
        };
        let value = unit.weight_value;
        let mut weight = self.cx.constant(value).ok_or_else(layout)?;
        for (axis, is_cut) in [(row_axis, rows), (column_axis, columns)] {
            if is_cut {
                weight = taken(&weight, axis, self.kept)?;
            }
        }
        let name = self.cx.graph.value(value).name().to_owned();
        let operand = self.patch.constant(name, weight, Some(value));
        self.set(unit.main(), value, operand);
        let Some(bias) = unit.bias_value.filter(|_| rows) else { return Ok(()) };
        let dims = self.cx.constant(bias).ok_or_else(layout)?.dims().to_vec();
        let node = *unit.nodes.last().ok_or_else(layout)?;
        // One number may be the bias of all channels.
        match dims.last() {
            Some(last) if *last == self.hidden => self.narrow(node, bias, dims.len() - 1),
            _ => Ok(()),
        }
    }

    /// The filters of a depthwise convolution.
    pub(super) fn depthwise(&mut self, unit: &Linear) -> Result<(), Declined> {
        let mut operands = vec![Operand::Value(unit.x), self.sliced(unit.weight_value, 0)?];
        if let Some(bias) = unit.bias_value {
            operands.push(self.sliced(bias, 0)?);
        }
        let node = self.cx.graph.node(unit.main()).bare_copy();
        let node = node.with("group", self.kept.len() as i64);
        self.patch.node(node, unit.main(), operands, Out::Value(unit.y));
        self.patch.remove(unit.main());
        Ok(())
    }

    /// The factors and summands of an affine.
    pub(super) fn affine(&mut self, affine: &ChannelAffine, axis: usize) -> Result<(), Declined> {
        let operands: Vec<ValueId> =
            self.cx.graph.operands(affine.node).into_iter().flatten().collect();
        let rank = self.cx.rank(affine.x);
        for value in operands.into_iter().filter(|value| *value != affine.x) {
            let own = if affine.is_batch_norm {
                Some(0)
            } else {
                match affine.axis {
                    None => None,
                    Some(_) => self.axis_in(value, rank.ok_or_else(layout)?, axis)?,
                }
            };
            if let Some(own) = own {
                self.narrow(affine.node, value, own)?;
            }
        }
        Ok(())
    }

    /// The slopes of a `PRelu`; other activations have one constant for all channels.
    pub(super) fn slopes(&mut self, node: NodeId, axis: usize) -> Result<(), Declined> {
        if !self.cx.graph.node(node).is("PRelu") {
            return Ok(());
        }
        let (x, slope) = (self.cx.graph.operand(node, 0), self.cx.graph.operand(node, 1));
        let (x, slope) = (x.ok_or_else(layout)?, slope.ok_or_else(layout)?);
        let dims = self.cx.constant(slope).ok_or_else(layout)?.dims().to_vec();
        // Below opset 7, a vector holds one slope for each channel.
        let own = if self.cx.opset < 7 {
            (dims == [self.hidden]).then_some(0)
        } else {
            self.axis_in(slope, self.cx.rank(x).ok_or_else(layout)?, axis)?
        };
        own.map_or(Ok(()), |own| self.narrow(node, slope, own))
    }
}

/// The entries `kept` of one axis of a tensor, copied byte by byte.
pub(super) fn taken(tensor: &Tensor, axis: usize, kept: &[usize]) -> Result<Tensor, Declined> {
    let dims = tensor.dims();
    let size = *dims.get(axis).ok_or_else(layout)?;
    let outer: usize = dims[..axis].iter().product();
    let chunk = tensor.bytes().len().checked_div(outer * size).ok_or_else(layout)?;
    let mut bytes = Vec::with_capacity(outer * kept.len() * chunk);
    for row in 0..outer {
        for entry in kept {
            let from = (row * size + entry) * chunk;
            bytes.extend_from_slice(tensor.bytes().get(from..from + chunk).ok_or_else(layout)?);
        }
    }
    let mut dims = dims.to_vec();
    dims[axis] = kept.len();
    Tensor::new(tensor.dtype(), dims, bytes.into())
        .map_err(|error| Declined::new("malformed-weight", error.to_string()))
}
