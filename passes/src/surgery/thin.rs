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

use updp_ir::{NodeId, ValueId};

use super::Site;
use super::gate;
use super::heads::Heads;
use super::slicer::Slicer;
use super::substitute::{find, refused};
use crate::blocks::{Element, Flow};
use crate::error::{Declined, PassError};
use crate::kernel::AffineMap;
use crate::lift::Linear;
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
    widths_of(hidden, if hidden >= WIDE { 8 } else { 4 })
}

/// [`widths`] in multiples of `unit`.
fn widths_of(hidden: usize, unit: usize) -> Vec<(u8, usize)> {
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
}

impl Segment {
    /// The segment at the end of `elements`, which are in the direction of data flow and end in the output.
    ///
    /// # Errors
    /// `grouped`, `norm` or `not-affine` when an element mixes the channels, `no-hidden-channels` when no dense operator
    /// makes them, `layout` when their axis is not known, `read-outside` when another node reads them.
    fn of(cx: &Context<'_>, elements: &[Element], tail: &Tail) -> Result<Self, Declined> {
        let (start, end) = (first_of(&elements[..tail.at])?, tail.at);
        let Element::Linear(first) = &elements[start] else { return Err(no_hidden()) };
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
        if axis != axis_of(&tail.last) || tail.last.in_channels != first.out_channels {
            return Err(layout());
        }
        let segment = Self { first: first.clone(), between };
        segment.check_readers(cx, tail)?;
        Ok(segment)
    }

    /// Whether a gate lies on the hidden channels.
    fn is_gated(&self) -> bool {
        self.between.iter().any(|(element, _)| matches!(element, Element::Closed(_)))
    }

    /// The values whose number of channels changes.
    fn inner(&self, cx: &Context<'_>) -> Vec<ValueId> {
        let between = self.between.iter().flat_map(|(element, _)| element.nodes());
        let nodes = self.first.nodes.iter().copied().chain(between);
        nodes.flat_map(|node| cx.graph.results(node)).flatten().collect()
    }

    /// Checks that nothing else reads a value of the segment, not even its shape.
    fn check_readers(&self, cx: &Context<'_>, tail: &Tail) -> Result<(), Declined> {
        let between = self.between.iter().flat_map(|(element, _)| element.nodes());
        let nodes = self.first.nodes.iter().copied().chain(between).chain(tail.nodes());
        let values = self.inner(cx).into_iter().chain(tail.inner(cx));
        check_readers(cx, values, &nodes.collect())
    }

    /// Plans the segment with the hidden channels `kept`, without its last operator.
    fn plan(&self, cx: &Context<'_>, kept: &[usize]) -> Result<Patch, Declined> {
        let hidden = self.first.out_channels;
        let mut slicer = Slicer { cx, patch: Patch::new(), hidden, kept };
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
        Ok(slicer.patch)
    }
}

/// Checks that only `inside` reads these values.
///
/// # Errors
/// `read-outside`.
pub(super) fn check_readers(
    cx: &Context<'_>,
    values: impl IntoIterator<Item = ValueId>,
    inside: &BTreeSet<NodeId>,
) -> Result<(), Declined> {
    for value in values {
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

/// The end of a branch: the last weighted operator, and the affines and transpositions behind it.
pub(super) struct Tail {
    /// Place of the last operator among the elements of the branch.
    at: usize,
    /// The dense operator that reads the hidden channels.
    pub(super) last: Linear,
    /// Affines and transpositions from the last operator to the output.
    after: Vec<Element>,
}

impl Tail {
    /// The end of `elements`, which are in the direction of data flow and end in the output.
    ///
    /// # Errors
    /// `no-weights`, `not-affine` when something else follows the last operator, `grouped`, `layout`.
    fn of(elements: &[Element]) -> Result<Self, Declined> {
        let at = elements.iter().rposition(|element| element.linear().is_some());
        let at = at.ok_or_else(|| Declined::new("no-weights", "it has no weighted operator"))?;
        let is_linear = |e: &Element| matches!(e, Element::Affine(_) | Element::Transpose(_));
        if !elements[at + 1..].iter().all(is_linear) {
            let detail = "its branch goes on after its last weighted operator";
            return Err(Declined::new("not-affine", detail));
        }
        let Some(last) = elements[at].linear().filter(|unit| unit.groups == 1) else {
            return Err(Declined::new("grouped", "its last weighted operator has groups"));
        };
        let tail = Self { at, last: last.clone(), after: elements[at + 1..].to_vec() };
        tail.map().ok_or_else(layout)?;
        Ok(tail)
    }

    /// Number of hidden channels.
    fn hidden(&self) -> usize {
        self.last.in_channels
    }

    /// The last operator with the affines that follow it; `None` if these do not lie on its channels.
    fn map(&self) -> Option<AffineMap> {
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

    /// Its nodes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.last.nodes.iter().copied().chain(self.after.iter().flat_map(Element::nodes))
    }

    /// The values between its nodes.
    pub(super) fn inner(&self, cx: &Context<'_>) -> Vec<ValueId> {
        let output = self.output();
        let made = self.nodes().flat_map(|node| cx.graph.results(node)).flatten();
        made.filter(|value| *value != output).collect()
    }

    /// The value that the last operator and the affines after it make.
    fn output(&self) -> ValueId {
        self.after.last().map_or(self.last.y, Element::y)
    }

    /// Plans the operator `map` in its place.
    fn plan(&self, cx: &Context<'_>, patch: &mut Patch, map: &AffineMap) -> Result<(), Declined> {
        let x = Operand::Value(self.last.x);
        self.last.emit_map(cx, patch, x, map, Out::Value(self.output()))?;
        patch.remove_all(self.nodes());
        Ok(())
    }

    /// Checks the channels and the operator that a caller gives.
    fn check(&self, kept: &[usize], map: &AffineMap) -> Result<(), Declined> {
        let is_ascending = kept.windows(2).all(|pair| pair[0] < pair[1]);
        if !is_ascending || kept.last().is_none_or(|last| *last >= self.hidden()) {
            let detail = "the channels that stay are not ascending numbers of its hidden channels";
            return Err(wrong(detail));
        }
        let (wanted, given) = (self.last.out_channels, map.out_channels());
        if map.groups != 1 || map.in_channels() != kept.len() || given != wanted {
            let inputs = map.in_channels();
            let expected = format!("{} to {wanted} channels", kept.len());
            return Err(wrong(format!(
                "its last operator maps {inputs} to {given}, not {expected}"
            )));
        }
        if map.border.is_some() || map.geometry() != self.last.geometry {
            return Err(wrong("its last operator has another window"));
        }
        Ok(())
    }
}

/// The error for channels or an operator that do not fit.
pub(super) fn wrong(detail: impl Into<String>) -> Declined {
    Declined::new("thin", detail)
}

/// The hidden channels of a branch, and the operator that reads them.
pub(super) struct Hidden {
    tail: Tail,
    kind: Kind,
}

/// How hidden channels leave.
enum Kind {
    /// One at a time: channels between two dense operators.
    Channels(Box<Segment>),
    /// Head by head: channels of attention heads.
    Heads(Heads),
}

impl Hidden {
    /// The hidden channels at the end of `elements`, which are in the direction of data flow and end in the output.
    ///
    /// # Errors
    /// The errors of [`Tail::of`] and [`Segment::of`], or of [`Heads::of`] if the last operator reads attention heads.
    pub(super) fn of(cx: &Context<'_>, elements: &[Element]) -> Result<Self, Declined> {
        let tail = Tail::of(elements)?;
        let kind = match Segment::of(cx, elements, &tail) {
            Ok(segment) => Kind::Channels(Box::new(segment)),
            Err(declined) => Kind::Heads(Heads::of(cx, &tail)?.ok_or(declined)?),
        };
        Ok(Self { tail, kind })
    }

    /// The dense operator that reads the hidden channels.
    pub(super) fn last(&self) -> &Linear {
        &self.tail.last
    }

    /// Number of hidden channels that leave together: 1, or the channels of a head.
    pub(super) fn group(&self) -> usize {
        match &self.kind {
            Kind::Channels(_) => 1,
            Kind::Heads(heads) => heads.size(),
        }
    }

    /// The eighths that the hidden channels can be thinned to, the widest first, each with the number of channels that
    /// stay.
    pub(super) fn widths(&self) -> Vec<(u8, usize)> {
        match &self.kind {
            Kind::Channels(_) => widths(self.tail.hidden()),
            Kind::Heads(heads) => widths_of(self.tail.hidden(), heads.size()),
        }
    }

    /// Whether a gate lies on the hidden channels.
    pub(super) fn is_gated(&self) -> bool {
        matches!(&self.kind, Kind::Channels(segment) if segment.is_gated())
    }

    /// The values whose number of channels changes.
    fn inner(&self, cx: &Context<'_>) -> Vec<ValueId> {
        match &self.kind {
            Kind::Channels(segment) => segment.inner(cx),
            Kind::Heads(heads) => heads.inner(cx),
        }
    }

    /// Plans the branch with the hidden channels `kept` and the last operator `map`.
    fn plan(&self, cx: &Context<'_>, kept: &[usize], map: &AffineMap) -> Result<Patch, Declined> {
        self.tail.check(kept, map)?;
        let mut patch = match &self.kind {
            Kind::Channels(segment) => segment.plan(cx, kept),
            Kind::Heads(heads) => heads.plan(cx, kept),
        }?;
        self.tail.plan(cx, &mut patch, map)?;
        Ok(patch)
    }
}

/// The place of the dense operator that makes the hidden channels, among the elements before the last operator.
fn first_of(elements: &[Element]) -> Result<usize, Declined> {
    for (at, element) in elements.iter().enumerate().rev() {
        let between = "lies before its last weighted operator";
        match element {
            Element::Linear(unit) if unit.groups == 1 => return Ok(at),
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

pub(super) fn layout() -> Declined {
    Declined::new("layout", "its hidden channels do not lie on one known axis")
}

/// Whether a convolution has one filter for each channel.
fn is_depthwise(unit: &Linear) -> bool {
    unit.is_conv() && unit.groups == unit.in_channels && unit.groups == unit.out_channels
}

/// The axis of the channels of an operator's operand and result.
pub(super) fn axis_of(unit: &Linear) -> usize {
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

/// The present last operator of a thin site, with the affines that follow it up to the site's output: `[O, hidden, k…]`.
/// `None` if the network has no such segment at the site's values.
#[must_use]
pub fn thin_map(cx: &Context<'_>, site: &Site) -> Option<AffineMap> {
    located(cx, site).ok()?.tail.map()
}

/// The hidden channels between values given by name.
fn located(cx: &Context<'_>, site: &Site) -> Result<Hidden, PassError> {
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
    let hidden = Hidden::of(cx, &elements).map_err(|declined| refused(site, declined))?;
    if hidden.last().x == features { Ok(hidden) } else { Err(refused(site, no_hidden())) }
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
    let hidden = located(cx, site)?;
    let patch = hidden.plan(cx, kept, last).map_err(|declined| refused(site, declined))?;
    Ok((patch, hidden.inner(cx)))
}
