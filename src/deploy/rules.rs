//! Finds the places where a model violates a restriction.

use updp_ir::infer::Shapes;
use updp_ir::{Dim, Graph, Model, NodeId, Origin, TensorType, ValueId, view};
use updp_passes::describe;

use super::facts::{Condition, Restriction};

/// The graph and every body in it, with the known types of their values.
pub(super) struct Sites<'a>(Vec<(&'a Graph, Shapes)>);

impl<'a> Sites<'a> {
    /// All graphs of a model except those of its functions.
    pub fn of(model: &'a Model) -> Self {
        fn add<'a>(graph: &'a Graph, opset: i64, sites: &mut Vec<(&'a Graph, Shapes)>) {
            sites.push((graph, Shapes::infer(graph, opset)));
            for id in graph.nodes() {
                graph.node(id).bodies().for_each(|body| add(body, opset, sites));
            }
        }
        let mut sites = Vec::new();
        add(&model.graph, model.opset("").unwrap_or(0), &mut sites);
        Self(sites)
    }
}

/// The places where a restriction is violated.
pub(super) fn violations(restriction: &Restriction, sites: &Sites<'_>) -> Vec<String> {
    match &restriction.condition {
        Condition::OpenBatch => open_dims(sites.0[0].0, |axis| axis == 0),
        Condition::DynamicDim => open_dims(sites.0[0].0, |axis| axis > 0),
        Condition::Dtype { dtypes } => values(sites, |dtype| dtypes.iter().any(|d| d == dtype)),
        Condition::OnlyDtypes { dtypes } => {
            values(sites, |dtype| dtypes.iter().all(|d| d != dtype))
        }
        condition => {
            let mut places = Vec::new();
            for (graph, shapes) in &sites.0 {
                let nodes = graph.nodes().into_iter();
                let meant =
                    nodes.filter(|n| restriction.ops.iter().any(|op| graph.node(*n).is(op)));
                let broken = meant.filter(|node| is_violated(condition, graph, shapes, *node));
                places.extend(broken.map(|node| describe(graph, node)));
            }
            places
        }
    }
}

/// Inputs, initializers and results whose type satisfies `is_meant`.
fn values(sites: &Sites<'_>, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for (graph, shapes) in &sites.0 {
        let results = graph.nodes().into_iter().flat_map(|node| graph.results(node)).flatten();
        let values: Vec<ValueId> =
            graph.required_inputs().chain(graph.initializers()).chain(results).collect();
        for value in values {
            let stored = graph.value(value).tensor().map(updp_ir::Tensor::dtype);
            let dtype = stored.or_else(|| shapes.dtype(value));
            if dtype.is_some_and(|dtype| is_meant(&dtype.to_string())) {
                places.push(graph.value(value).name().to_owned());
            }
        }
    }
    places
}

/// Whether a node violates a condition. Unknown properties violate none.
fn is_violated(condition: &Condition, graph: &Graph, shapes: &Shapes, node: NodeId) -> bool {
    let known = graph.node(node);
    let operand = |slot: usize| graph.operand(node, slot);
    let rank = |slot| operand(slot).and_then(|v| shapes.of(v)).and_then(TensorType::rank);
    match condition {
        Condition::AttributeValue { attribute, only } => {
            let list = known.ints(attribute).unwrap_or_default();
            known.int(attribute).is_some_and(|value| value != *only)
                || list.iter().any(|value| value != only)
        }
        Condition::AttributeText { attribute, texts } => {
            known.string(attribute).is_some_and(|text| !texts.iter().any(|allowed| allowed == text))
        }
        Condition::SpatialRank { ranks } => {
            rank(0).is_some_and(|rank| !ranks.contains(&rank.saturating_sub(2)))
        }
        Condition::OperandRank { slots, ranks } => {
            slots.iter().any(|slot| rank(*slot).is_some_and(|rank| !ranks.contains(&rank)))
        }
        Condition::FirstResultOnly => {
            let others = graph.results(node).into_iter().skip(1).flatten();
            others.into_iter().any(|result| graph.is_read(result))
        }
        Condition::ConstantOperand { slots } => slots.iter().any(|slot| {
            operand(*slot).is_some_and(|value| {
                // The surrounding graph knows whether a captured value is constant.
                graph.value(value).origin() != Origin::Captured
                    && view::constant(graph, value).is_none()
                    && shapes.constant(graph, value).is_none()
            })
        }),
        Condition::ZeroOperand { slots } => slots.iter().any(|slot| {
            let constant = operand(*slot).and_then(|value| view::constant(graph, value));
            let values = constant.and_then(|tensor| tensor.to_f64());
            values.is_some_and(|values| values.iter().any(|value| *value != 0.0))
        }),
        Condition::AutoPad => {
            known.string("auto_pad").is_some_and(|mode| !matches!(mode, "" | "NOTSET"))
        }
        Condition::OperandDtype { dtypes } => operand(0)
            .and_then(|value| shapes.dtype(value))
            .is_some_and(|dtype| dtypes.contains(&dtype.to_string())),
        Condition::Absent { .. } => true,
        Condition::Dtype { .. }
        | Condition::OnlyDtypes { .. }
        | Condition::OpenBatch
        | Condition::DynamicDim => false,
    }
}

/// Open dims of inputs on the axes that satisfy `is_meant`, as `name[axis]`.
fn open_dims(graph: &Graph, is_meant: impl Fn(usize) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for input in graph.required_inputs() {
        let value = graph.value(input);
        let dims = value.declared().and_then(|ty| ty.shape.as_ref());
        for (axis, dim) in dims.into_iter().flatten().enumerate() {
            if is_meant(axis) && !matches!(dim, Dim::Known(_)) {
                places.push(format!("{}[{axis}]", value.name()));
            }
        }
    }
    places
}
