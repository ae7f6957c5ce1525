//! Thin forms: a block keeps some of its hidden channels, and its last operator is solved for anew.
//!
//! The hidden channels lie between the last two dense operators of a branch. `first` makes them, `last` reads them, and
//! every element between works on each channel alone:
//! `y = last(g(first(x)))`, `g(h)_c = g_c(h_c)`.
//! A thin block keeps the channels K: the rows K of `first`, the constants `g_c` for c in K, and a new `last` that reads
//! these channels only. Values outside the segment keep their shapes. If `last` gives every other channel the weight 0,
//! the block without these channels computes the same function, unless a gate lies between: the gate then no longer sees
//! the means of the other channels.

use std::collections::BTreeSet;

use updp_ir::{NodeId, Tensor, ValueId};

use super::Site;
use super::gate::{self, Edit};
use super::substitute::{find, refused};
use crate::blocks::{Closed, Element, Flow};
use crate::error::{Declined, PassError};
use crate::kernel::AffineMap;
use crate::lift::{ChannelAffine, Form as Layout, Linear};
use crate::patch::{Operand, Out, Patch};
use crate::rule::Context;

/// Most elements from the first operator of a segment to its output.
const MAX_ELEMENTS: usize = 64;
/// From this number of hidden channels on, a thin form keeps a multiple of 8; below, a multiple of 4.
const WIDE: usize = 32;

/// The eighths that `hidden` channels can be thinned to, the widest first, each with the number of channels that stay:
/// `max(1, round(hidden·e/8/unit))·unit`, unit 8 or 4. Where several eighths keep the same number, the nearest one
/// stands for it.
#[must_use]
pub(super) fn widths(hidden: usize) -> Vec<(u8, usize)> {
    let unit = if hidden >= WIDE { 8 } else { 4 };
    let kept = |eighths: u8| {
        let exact = hidden * usize::from(eighths);
        ((exact + 4 * unit) / (8 * unit)).max(1) * unit
    };
    let distance = |eighths: u8| (hidden * usize::from(eighths)).abs_diff(8 * kept(eighths));
    let is_nearest = |own: u8| {
        let mut rivals = (1..=7_u8).filter(|other| *other != own && kept(*other) == kept(own));
        rivals.all(|other| (distance(own), other) < (distance(other), own))
    };
    let all = (1..=7_u8).rev().filter(|eighths| kept(*eighths) < hidden);
    all.filter(|eighths| is_nearest(*eighths)).map(|eighths| (eighths, kept(eighths))).collect()
}

/// The operators around the hidden channels of a branch.
pub(super) struct Segment {
    /// The dense operator that makes the hidden channels.
    first: Linear,
    /// The elements between, each with the axis of the channels of its operand.
    between: Vec<(Element, usize)>,
    /// The dense operator that reads the hidden channels.
    pub(super) last: Linear,
    /// Affines and transpositions from the last operator to the output.
    after: Vec<Element>,
}

impl Segment {
    /// The segment at the end of `elements`, which are in the direction of data flow and end in the output.
    ///
    /// # Errors
    /// `grouped`, `norm` or `not-affine` when an element mixes the channels, `no-hidden-channels` when no dense operator
    /// makes them, `layout` when their axis is not known, `read-outside` when another node reads them.
    pub(super) fn of(cx: &Context<'_>, elements: &[Element]) -> Result<Self, Declined> {
        let (start, end) = ends(elements)?;
        let (Element::Linear(first), Element::Linear(last)) = (&elements[start], &elements[end])
        else {
            return Err(no_hidden());
        };
        let mut axis = axis_of(first);
        let mut between = Vec::new();
        for element in &elements[start + 1..end] {
            if let Element::Closed(gate) = element {
                let edits = gate::edits(cx, gate, first.out_channels);
                edits.and_then(|edits| if axis == 1 { Ok(edits) } else { Err(layout()) })?;
            }
            between.push((element.clone(), axis));
            axis = axis_after(element, axis).ok_or_else(layout)?;
        }
        if axis != axis_of(last) || last.in_channels != first.out_channels {
            return Err(layout());
        }
        let after = elements[end + 1..].to_vec();
        let segment = Self { first: first.clone(), between, last: last.clone(), after };
        segment.check_readers(cx)?;
        segment.map().ok_or_else(layout)?;
        Ok(segment)
    }

    /// Whether a gate lies on the hidden channels.
    pub(super) fn is_gated(&self) -> bool {
        self.between.iter().any(|(element, _)| matches!(element, Element::Closed(_)))
    }

    /// Number of hidden channels.
    pub(super) fn hidden(&self) -> usize {
        self.last.in_channels
    }

    /// The last operator with the affines that follow it; `None` if these do not lie on its channels.
    pub(super) fn map(&self) -> Option<AffineMap> {
        let mut map = self.last.map()?;
        let mut axis = axis_of(&self.last);
        for element in &self.after {
            if let Element::Affine(affine) = element {
                affine.axis.is_none_or(|own| own == axis).then_some(())?;
                let (scale, shift) = affine.for_channels(map.out_channels())?;
                for (mut row, factor) in map.weight.outer_iter_mut().zip(&scale) {
                    row.mapv_inplace(|weight| weight * factor);
                }
                for (bias, (scale, shift)) in map.bias.iter_mut().zip(scale.iter().zip(shift)) {
                    *bias = scale * *bias + shift;
                }
            }
            axis = axis_after(element, axis)?;
        }
        Some(map)
    }

    /// The values whose number of channels changes.
    fn inner(&self, cx: &Context<'_>) -> Vec<ValueId> {
        let between = self.between.iter().flat_map(|(element, _)| element.nodes());
        let nodes = self.first.nodes.iter().copied().chain(between);
        nodes.flat_map(|node| cx.graph.results(node)).flatten().collect()
    }

    /// Checks that nothing else reads a value of the segment, not even its shape.
    fn check_readers(&self, cx: &Context<'_>) -> Result<(), Declined> {
        let after = self.after.iter().flat_map(Element::nodes);
        let last: Vec<NodeId> = self.last.nodes.iter().copied().chain(after).collect();
        let between = self.between.iter().flat_map(|(element, _)| element.nodes());
        let inside: BTreeSet<NodeId> =
            self.first.nodes.iter().chain(&last).copied().chain(between).collect();
        let output = self.output();
        let made = last.iter().flat_map(|node| cx.graph.results(*node)).flatten();
        let inner = self.inner(cx).into_iter().chain(made.filter(|value| *value != output));
        for value in inner {
            let is_closed = !cx.graph.outputs().any(|output| output == value)
                && !cx.graph.is_captured(value)
                && cx.graph.users(value).iter().all(|user| inside.contains(&user.node));
            if !is_closed {
                let name = cx.graph.value(value).name();
                let detail = format!("{name:?}, which has the hidden channels, is read elsewhere");
                return Err(Declined::new("read-outside", detail));
            }
        }
        Ok(())
    }

    /// The value that the last operator and the affines after it make.
    fn output(&self) -> ValueId {
        self.after.last().map_or(self.last.y, Element::y)
    }

    /// Plans the segment with the hidden channels `kept` and the last operator `map`.
    fn plan(&self, cx: &Context<'_>, kept: &[usize], map: &AffineMap) -> Result<Patch, Declined> {
        self.check(kept, map)?;
        let mut slicer = Slicer { cx, patch: Patch::new(), hidden: self.hidden(), kept };
        slicer.dense(&self.first, true, false)?;
        for (element, axis) in &self.between {
            match element {
                Element::Linear(unit) => slicer.depthwise(unit)?,
                Element::Affine(affine) => slicer.affine(affine, *axis)?,
                Element::Activation(activation) => {
                    for node in &activation.nodes {
                        slicer.slopes(*node, *axis)?;
                    }
                }
                Element::Closed(gate) => slicer.gate(gate)?,
                _ => {}
            }
        }
        let mut patch = slicer.patch;
        let x = Operand::Value(self.last.x);
        self.last.emit_map(cx, &mut patch, x, map, Out::Value(self.output()))?;
        patch.remove_all(self.last.nodes.iter().copied());
        patch.remove_all(self.after.iter().flat_map(Element::nodes));
        Ok(patch)
    }

    /// Checks the channels and the operator that a caller gives.
    fn check(&self, kept: &[usize], map: &AffineMap) -> Result<(), Declined> {
        let wrong = |detail: String| Err(Declined::new("thin", detail));
        let is_ascending = kept.windows(2).all(|pair| pair[0] < pair[1]);
        if !is_ascending || kept.last().is_none_or(|last| *last >= self.hidden()) {
            let detail = "the channels that stay are not ascending numbers of its hidden channels";
            return wrong(detail.to_owned());
        }
        let (wanted, given) = (self.last.out_channels, map.out_channels());
        if map.groups != 1 || map.in_channels() != kept.len() || given != wanted {
            let inputs = map.in_channels();
            let expected = format!("{} to {wanted} channels", kept.len());
            return wrong(format!("its last operator maps {inputs} to {given}, not {expected}"));
        }
        if map.border.is_some() || map.geometry() != self.last.geometry {
            return wrong("its last operator has another window".to_owned());
        }
        Ok(())
    }
}

/// The places of the first and of the last operator of the segment at the end of a branch.
fn ends(elements: &[Element]) -> Result<(usize, usize), Declined> {
    let last = elements.iter().rposition(|element| element.linear().is_some());
    let last = last.ok_or_else(|| Declined::new("no-weights", "it has no weighted operator"))?;
    let is_linear = |e: &Element| matches!(e, Element::Affine(_) | Element::Transpose(_));
    if !elements[last + 1..].iter().all(is_linear) {
        let detail = "its branch goes on after its last weighted operator";
        return Err(Declined::new("not-affine", detail));
    }
    if elements[last].linear().is_some_and(|unit| unit.groups != 1) {
        return Err(Declined::new("grouped", "its last weighted operator has groups"));
    }
    for (at, element) in elements[..last].iter().enumerate().rev() {
        let between = "lies before its last weighted operator";
        match element {
            Element::Linear(unit) if unit.groups == 1 => return Ok((at, last)),
            Element::Linear(unit) if is_depthwise(unit) => {}
            Element::Linear(_) => {
                let detail = format!("a convolution with groups of channels {between}");
                return Err(Declined::new("grouped", detail));
            }
            Element::Affine(_) | Element::Activation(_) | Element::Transpose(_) => {}
            Element::Norm(norm) => {
                return Err(Declined::new("norm", format!("{} {between}", norm.kind.name())));
            }
            Element::Closed(closed) if closed.is_gate => {}
            Element::Closed(closed) => {
                return Err(Declined::new("not-affine", format!("{} {between}", closed.what)));
            }
            Element::Pool(_) | Element::Slice(_) | Element::Pad(_) => {
                let detail = format!("a pool, a slice or a padding {between}");
                return Err(Declined::new("not-affine", detail));
            }
        }
    }
    Err(no_hidden())
}

fn no_hidden() -> Declined {
    let detail = "no dense operator of its branch makes the channels that its last one reads";
    Declined::new("no-hidden-channels", detail)
}

fn layout() -> Declined {
    Declined::new("layout", "its hidden channels do not lie on one known axis")
}

/// Whether a convolution has one filter for each channel.
fn is_depthwise(unit: &Linear) -> bool {
    unit.is_conv() && unit.groups == unit.in_channels && unit.groups == unit.out_channels
}

/// The axis of the channels of an operator's operand and result.
fn axis_of(unit: &Linear) -> usize {
    if unit.is_conv() { 1 } else { unit.channel_axis }
}

/// The axis of the channels behind an element; `None` if the element expects them elsewhere.
fn axis_after(element: &Element, axis: usize) -> Option<usize> {
    match element {
        Element::Transpose(transpose) => transpose.perm.iter().position(|from| *from == axis),
        Element::Linear(unit) => (axis_of(unit) == axis).then_some(axis),
        Element::Affine(affine) if affine.is_batch_norm => (axis == 1).then_some(axis),
        _ => Some(axis),
    }
}

/// Plans operators of a segment with fewer channels.
struct Slicer<'a> {
    cx: &'a Context<'a>,
    patch: Patch,
    hidden: usize,
    kept: &'a [usize],
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
    fn axis_in(&self, value: ValueId, rank: usize, axis: usize) -> Result<Option<usize>, Declined> {
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
    fn narrow(&mut self, node: NodeId, value: ValueId, axis: usize) -> Result<(), Declined> {
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
    fn gate(&mut self, gate: &Closed) -> Result<(), Declined> {
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
    fn dense(&mut self, unit: &Linear, rows: bool, columns: bool) -> Result<(), Declined> {
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
    fn depthwise(&mut self, unit: &Linear) -> Result<(), Declined> {
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
    fn affine(&mut self, affine: &ChannelAffine, axis: usize) -> Result<(), Declined> {
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
    fn slopes(&mut self, node: NodeId, axis: usize) -> Result<(), Declined> {
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
fn taken(tensor: &Tensor, axis: usize, kept: &[usize]) -> Result<Tensor, Declined> {
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

/// The present last operator of a thin site, with the affines that follow it up to the site's output: `[O, hidden, k…]`.
/// `None` if the network has no such segment at the site's values.
#[must_use]
pub fn thin_map(cx: &Context<'_>, site: &Site) -> Option<AffineMap> {
    located(cx, site).ok()?.map()
}

/// The segment between values given by name.
fn located(cx: &Context<'_>, site: &Site) -> Result<Segment, PassError> {
    let (features, output) = (find(cx, &site.features)?, find(cx, &site.output)?);
    let flow = Flow::of(cx)?;
    let mut elements = Vec::new();
    let (mut at, mut is_past_last) = (output, false);
    while elements.len() < MAX_ELEMENTS {
        let Some(element) = Element::ending_in(cx, &flow, at) else { break };
        at = element.x();
        let is_dense = element.linear().is_some_and(|unit| unit.groups == 1);
        elements.push(element);
        if is_dense && is_past_last {
            break;
        }
        is_past_last |= at == features;
    }
    elements.reverse();
    let segment = Segment::of(cx, &elements).map_err(|declined| refused(site, declined))?;
    if segment.last.x == features { Ok(segment) } else { Err(refused(site, no_hidden())) }
}

/// Plans a thin form. Returns the values whose types no longer hold, too.
///
/// # Errors
/// P0004 when the network has no such segment at the site's values, when `kept` are no ascending hidden channels, when
/// `last` has other channels or another window, or when a weight leaves the range of the dtype.
pub(super) fn thinned(
    cx: &Context<'_>,
    site: &Site,
    kept: &[usize],
    last: &AffineMap,
) -> Result<(Patch, Vec<ValueId>), PassError> {
    let segment = located(cx, site)?;
    let patch = segment.plan(cx, kept, last).map_err(|declined| refused(site, declined))?;
    Ok((patch, segment.inner(cx)))
}
