//! Properties of a model that a test checks without running it.

use std::collections::BTreeMap;

use updp_ir::{Graph, Model, Origin, ValueId};

/// Operator types of the main graph, in file order.
#[must_use]
pub fn ops(graph: &Graph) -> Vec<&str> {
    graph.nodes().into_iter().map(|node| graph.node(node).op_type()).collect()
}

/// Number of nodes of each operator type in the graph, including bodies.
#[must_use]
pub fn op_counts(graph: &Graph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    count(graph, &mut counts);
    counts
}

fn count(graph: &Graph, counts: &mut BTreeMap<String, usize>) {
    for node in graph.nodes() {
        *counts.entry(graph.node(node).op_type().to_owned()).or_insert(0) += 1;
        for body in graph.node(node).bodies() {
            count(body, counts);
        }
    }
}

/// Number of nodes, including bodies.
#[must_use]
pub fn node_total(graph: &Graph) -> usize {
    op_counts(graph).values().sum()
}

/// The properties that a caller of the model relies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Every graph input that a caller can feed, in order, as `name: dtype[dims]`. Below IR 4 this leaves
    /// out the initializers, which are listed among the inputs there but are constants.
    pub inputs: Vec<String>,
    /// Every graph output, in order.
    pub outputs: Vec<String>,
    /// Opset imports, in order.
    pub opsets: Vec<(String, i64)>,
    /// IR version.
    pub ir_version: i64,
}

fn can_be_fed(model: &Model, id: ValueId) -> bool {
    model.ir_version() >= 4 || model.graph.value(id).origin() == Origin::Input
}

/// The signature of a model.
#[must_use]
pub fn signature(model: &Model) -> Signature {
    let graph = &model.graph;
    let text = |id: ValueId| {
        let value = graph.value(id);
        let declared = value.declared().map_or_else(|| "?".to_owned(), ToString::to_string);
        format!("{}: {declared}", value.name())
    };
    Signature {
        inputs: graph.inputs().filter(|id| can_be_fed(model, *id)).map(text).collect(),
        outputs: graph.outputs().map(text).collect(),
        opsets: model.opsets().map(|(domain, version)| (domain.to_owned(), version)).collect(),
        ir_version: model.ir_version(),
    }
}
