//! Puts fitted operators in the place of branches, and cuts a network between values given by name.

use std::collections::BTreeSet;

use ndarray::{ArrayD, IxDyn};
use updp_ir::{ConvGeometry, IrError, Model, Node, NodeId, ValueId};

use super::geometry::{apply, with_context};
use super::thin::thinned;
use super::{Fitted, Form, Site};
use crate::blocks::ActivationKind;
use crate::error::{Declined, PassError};
use crate::kernel::AffineMap;
use crate::lift::weights;
use crate::options::Options;
use crate::patch::{Operand, Out, Patch};
use crate::pipeline;
use crate::rule::Context;

/// Puts a fitted operator in the place of a branch. The network is not yet merged.
///
/// # Errors
/// P0004 when a weight leaves the range of the dtype, or when a thin form does not fit the network; I0303 when a name of
/// the site does not exist.
pub fn substitute(model: &mut Model, site: &Site, fitted: &Fitted) -> Result<(), PassError> {
    let (patch, changed) = with_context(model, |cx| match fitted {
        Fitted::Drop => Ok((dropped(cx, site)?, Vec::new())),
        Fitted::Maps(maps) => Ok((replaced(cx, site, maps)?, Vec::new())),
        Fitted::Thin { kept, last } => thinned(cx, site, kept, last),
    })?;
    apply(model, patch, &site.name)?;
    // Sizes inside a thin branch change, so the sizes that the file declares no longer hold.
    Ok(model.graph.forget_types(&changed)?)
}

/// Prunes the block of a part (see [`super::part_of`]) at a site of the whole network to a fitted form with placeholder
/// weights, and merges it. The result shows the cost of the form.
///
/// # Errors
/// As [`substitute`] and the pipeline.
pub fn fit_part(part: &mut Model, site: &Site, options: &Options) -> Result<(), PassError> {
    let stand_in = stand_in(site)?;
    substitute(part, site, &stand_in)?;
    pipeline::compile(part, options, &mut |_, _| {})?;
    Ok(())
}

/// Operators of a site's form with placeholder weights.
///
/// # Errors
/// P0004 when the window is not a window of a convolution.
pub fn stand_in(site: &Site) -> Result<Fitted, PassError> {
    let window = &site.window;
    let rank = window.rank();
    let map = |outputs: usize, inputs: usize, window: &ConvGeometry, groups: usize| {
        let dims = [&[outputs, inputs / groups], window.kernel.as_slice()].concat();
        let mut at = 0_u32;
        let weight = ArrayD::from_shape_simple_fn(IxDyn(&dims), || {
            at = at.wrapping_add(7);
            (f64::from(at % 13) - 6.0) / 64.0
        });
        AffineMap::with_geometry(weight, vec![0.01; outputs], window, groups).map_err(|obstacle| {
            refused(site, Declined::new(obstacle.reason(), obstacle.to_string()))
        })
    };
    let (inputs, outputs) = (site.in_channels, site.out_channels);
    let pointwise = ConvGeometry::pointwise(rank);
    Ok(match site.form {
        Form::Drop => Fitted::Drop,
        Form::Thin(_) => {
            let kept = site.thin.map_or(inputs, |thin| thin.kept);
            Fitted::Thin { kept: (0..kept).collect(), last: map(outputs, kept, window, 1)? }
        }
        Form::DepthwisePointwise if window.taps() > 1 => {
            let first = map(inputs, inputs, window, inputs)?;
            Fitted::Maps(vec![first, map(outputs, inputs, &pointwise, 1)?])
        }
        Form::LowRank => {
            let middle = site.rank();
            let first = map(middle, inputs, window, 1)?;
            Fitted::Maps(vec![first, map(outputs, middle, &pointwise, 1)?])
        }
        _ => Fitted::Maps(vec![map(outputs, inputs, window, 1)?]),
    })
}

pub(super) fn find(cx: &Context<'_>, name: &str) -> Result<ValueId, PassError> {
    Ok(cx.graph.find(name).ok_or(IrError::StaleId)?)
}

fn dropped(cx: &Context<'_>, site: &Site) -> Result<Patch, PassError> {
    let mut patch = Patch::new();
    // Without a shortcut, what the block reads takes its place.
    let shortcut = find(cx, site.bypass())?;
    // max(max(x, 0), 0) = max(x, 0), so the end activation is removed too.
    let is_relu = |value: ValueId| {
        cx.graph.producer(value).is_some_and(|(node, _)| cx.graph.node(node).is("Relu"))
    };
    let target = if site.activation == Some(ActivationKind::Relu) && is_relu(shortcut) {
        find(cx, &site.result)?
    } else {
        find(cx, &site.sum)?
    };
    let (node, _) = cx.graph.producer(target).ok_or(IrError::StaleId)?;
    let identity = Node::new("Identity").named(cx.graph.node(node).name());
    patch.node(identity, node, vec![shortcut.into()], Out::Value(target));
    patch.remove(node);
    Ok(patch)
}

fn replaced(cx: &Context<'_>, site: &Site, maps: &[AffineMap]) -> Result<Patch, PassError> {
    let mut patch = Patch::new();
    let output = find(cx, &site.output)?;
    let (producer, _) = cx.graph.producer(output).ok_or(IrError::StaleId)?;
    operators(cx, &mut patch, site, maps, producer, &Out::Value(output))?;
    patch.remove(producer);
    Ok(patch)
}

/// Plans the operators of a site one after the other; the last one makes `last`.
pub(super) fn operators(
    cx: &Context<'_>,
    patch: &mut Patch,
    site: &Site,
    maps: &[AffineMap],
    producer: NodeId,
    last: &Out,
) -> Result<Operand, PassError> {
    let features = find(cx, &site.features)?;
    let dtype = cx.shapes.dtype(features).ok_or(IrError::StaleId)?;
    // A Gemm takes matrices only, and broadcasts its bias from opset 7 on.
    let is_matrix = cx.shapes.rank(features) == Some(2) && cx.opset >= 7;
    let mut x: Operand = features.into();
    for (at, map) in maps.iter().enumerate() {
        let name = format!("{}.fitted{at}", site.output);
        let out =
            if at + 1 == maps.len() { last.clone() } else { Out::Fresh(format!("{name}_result")) };
        let store = |dims: Vec<usize>, values: &[f64]| {
            weights::stored(dtype, dims, values).map_err(|declined| refused(site, declined))
        };
        x = if site.window.kernel.is_empty() {
            let (outputs, inputs) = (map.out_channels(), map.in_channels());
            let flat = map.weight.view().into_shape_with_order((outputs, inputs));
            let flat = flat.expect("a fully connected map has two axes");
            let values: Vec<f64> = flat.t().iter().copied().collect();
            let weight = patch.constant(
                format!("{name}.weight"),
                store(vec![inputs, outputs], &values)?,
                None,
            );
            let bias =
                patch.constant(format!("{name}.bias"), store(vec![outputs], &map.bias)?, None);
            if is_matrix {
                let gemm = Node::new("Gemm").named(&name);
                patch.node(gemm, producer, vec![x, weight, bias], out)
            } else {
                let product = Out::Fresh(format!("{name}_product"));
                let mat_mul = Node::new("MatMul").named(&name);
                let product = patch.node(mat_mul, producer, vec![x, weight], product);
                let add = Node::new("Add").named(&format!("{name}.add"));
                patch.node(add, producer, vec![product, bias], out)
            }
        } else {
            super::plan_conv(patch, producer, dtype, &name, x, map, out)
                .map_err(|declined| refused(site, declined))?
        };
    }
    Ok(x)
}

pub(super) fn refused(site: &Site, declined: Declined) -> PassError {
    let Declined { reason, detail } = declined;
    PassError::Refused { index: site.block, name: site.name.clone(), reason, detail }
}

/// The part of a network that makes the values with these names from other values (from the graph inputs if
/// `inputs` is empty).
///
/// # Errors
/// I0303 when a name does not exist or a type is not known; the refusals of cutting.
pub fn part_between(model: &Model, inputs: &[&str], outputs: &[&str]) -> Result<Model, PassError> {
    with_context(model, |cx| {
        let ids = |names: &[&str]| -> Result<Vec<ValueId>, PassError> {
            names.iter().map(|name| find(cx, name)).collect()
        };
        let outputs = ids(outputs)?;
        let inputs: Vec<ValueId> =
            if inputs.is_empty() { cx.graph.required_inputs().collect() } else { ids(inputs)? };
        Ok(model.extract(cx.shapes, &inputs, &outputs)?)
    })
}

/// The values from which everything behind is computed once the values `done` and everything before them are known. Among
/// them are the outputs that are known by then.
///
/// # Errors
/// I0303 when a name does not exist.
pub fn frontier(model: &Model, done: &[&str], outputs: &[&str]) -> Result<Vec<String>, PassError> {
    let graph = &model.graph;
    let find = |name: &&str| graph.find(name).ok_or(IrError::StaleId);
    let mut open = done.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let outputs = outputs.iter().map(find).collect::<Result<BTreeSet<_>, _>>()?;
    let mut nodes = BTreeSet::new();
    while let Some(value) = open.pop() {
        if let Some((node, _)) = graph.producer(value)
            && nodes.insert(node)
        {
            open.extend(graph.operands(node).into_iter().flatten());
            open.extend(graph.captures(node));
        }
    }
    let is_read_behind = |value: ValueId| {
        let users = graph.users(value).into_iter().map(|user| user.node);
        users.chain(graph.capturing_nodes(value)).any(|node| !nodes.contains(&node))
    };
    let results = nodes.iter().flat_map(|node| graph.results(*node)).flatten();
    let values = graph.required_inputs().chain(results);
    let found = values.filter(|value| outputs.contains(value) || is_read_behind(*value));
    Ok(found.map(|value| graph.value(value).name().to_owned()).collect())
}
