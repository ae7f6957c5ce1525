//! The weighted operators that stay, with the places of new weights for them.

use std::collections::{BTreeMap, BTreeSet};

use updp_ir::{IrError, NodeId, ValueId, order};

use super::site::Span;
use super::{Form, Site};
use crate::blocks::{Block, Element};
use crate::kernel::AffineMap;
use crate::lift::Linear;
use crate::rule::Context;

/// A weighted operator that stays, with weights that can be solved for anew.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its site. `shortcut`, `sum` and `activation` are those of the block only for the last layer of its branch.
    pub site: Site,
    /// Its present weights.
    pub map: AffineMap,
}

/// The layers of a block's branch with free weights (one group), in the direction of data flow.
#[must_use]
pub fn layers(cx: &Context<'_>, block: &Block) -> Vec<Layer> {
    let name = |value: ValueId| cx.graph.value(value).name().to_owned();
    let last = block.branch.iter().rposition(|element| element.linear().is_some());
    let mut found = Vec::new();
    for (at, element) in block.branch.iter().enumerate() {
        let Some(layer) = element.linear().and_then(|unit| layer(cx, unit)) else { continue };
        let Layer { mut site, map } = layer;
        site.block = block.index;
        site.name.clone_from(&block.name);
        site.source = name(block.branch_source);
        if Some(at) == last {
            let Ok(span) = Span::between(cx, block, at, at) else { continue };
            let Some(end) = block.branch.last().map(Element::y) else { continue };
            let sum = block.sum();
            site.shortcut = block.shortcut_end().map(name);
            if (site.shortcut.is_none() && end != sum) || span.output != element.y() {
                continue;
            }
            site.end = name(end);
            site.end_axis = span.end_axis;
            site.sum = name(sum);
            site.result = name(block.result);
            site.activation = block.end.as_ref().map(|end| end.kind);
        } else {
            site.activation = block.branch[at + 1].activation().map(|activation| activation.kind);
        }
        found.push(Layer { site, map });
    }
    found
}

/// The weighted operators with free weights that belong to no block, in the direction of data flow: between blocks, in
/// front of the head, and the head. The number says how many of the blocks come before it.
///
/// # Errors
/// I0105 when the graph has a cycle.
pub fn outer_layers(cx: &Context<'_>, blocks: &[&Block]) -> Result<Vec<(usize, Layer)>, IrError> {
    let places: BTreeMap<NodeId, usize> = order::topological(cx.graph)?
        .into_iter()
        .enumerate()
        .map(|(place, node)| (node, place))
        .collect();
    let inside: BTreeSet<NodeId> =
        blocks.iter().flat_map(|block| block.nodes.iter().copied()).collect();
    let place = |value: ValueId| {
        cx.graph.producer(value).and_then(|(node, _)| places.get(&node).copied()).unwrap_or(0)
    };
    let ends: Vec<usize> = blocks.iter().map(|block| place(block.result)).collect();
    let mut found = Vec::new();
    for (node, own) in &places {
        if inside.contains(node) {
            continue;
        }
        let Some(layer) = Linear::at(cx, *node).and_then(|unit| layer(cx, &unit)) else { continue };
        found.push((*own, layer));
    }
    found.sort_by_key(|(place, _)| *place);
    let before = |place: usize| ends.iter().filter(|end| **end < place).count();
    Ok(found.into_iter().map(|(place, layer)| (before(place), layer)).collect())
}

fn layer(cx: &Context<'_>, unit: &Linear) -> Option<Layer> {
    let map = unit.map().filter(|map| map.groups == 1)?;
    let name = |value: ValueId| cx.graph.value(value).name().to_owned();
    let axis = if unit.is_conv() { 1 } else { unit.channel_axis };
    let site = Site {
        block: 0,
        name: name(unit.y),
        form: Form::Conv,
        source: name(unit.x),
        features: name(unit.x),
        output: name(unit.y),
        channel_axis: axis,
        end: name(unit.y),
        end_axis: axis,
        shortcut: None,
        sum: name(unit.y),
        result: name(unit.y),
        activation: None,
        window: map.geometry(),
        in_channels: unit.in_channels,
        out_channels: unit.out_channels,
        thin: None,
    };
    Some(Layer { site, map })
}
