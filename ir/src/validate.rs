//! Invariants of a graph that every other module relies on. They are checked after reading and after edits.
//!
//! 1. Every operand and every graph output is defined by an input, an initializer, a node or, in a
//!    body, an enclosing graph.
//! 2. A value has at most one producer, and only values of origin `Result` have one.
//! 3. The graph has no cycle.
//! 4. Every node has an operator type, and no attribute appears twice.
//! 5. Every node of the default domain belongs to an imported opset.
//! 6. Every name leads to its value.
//! 7. Attributes that size windows and move axes have values that the specification allows, and results that every
//!    runtime needs have names (see `attributes.rs`). Runtimes crash or hang on other values.
//! 8. No two nodes of a graph have the same name, except where the file itself repeats a name.

use indexmap::IndexSet;

use crate::attributes;
use crate::codec::Model;
use crate::error::IrError;
use crate::graph::Graph;
use crate::order;
use crate::value::Origin;

/// Checks a model; see the module documentation.
pub(crate) fn model(model: &Model) -> Result<(), IrError> {
    let has_opset = model.opset("").is_some();
    graph(&model.graph, has_opset)?;
    attributes::check(model, &model.graph)
}

/// Checks a graph and its bodies.
///
/// # Errors
/// The first broken invariant.
pub fn graph(graph: &Graph, has_opset: bool) -> Result<(), IrError> {
    let mut names = IndexSet::new();
    for id in graph.nodes() {
        node(graph, id, has_opset)?;
        let name = graph.node(id).name();
        if !name.is_empty() && !names.insert(name) && !graph.node_names.repeated.contains(name) {
            return Err(IrError::NodeNameTwice { node: name.to_owned() });
        }
    }
    for id in graph.values() {
        let value = graph.value(id);
        let made = graph.producer(id).is_some();
        if made != (value.origin() == Origin::Result) {
            return Err(IrError::Broken {
                number: 2,
                detail: format!(
                    "value {:?} ({:?}) has producer: {made}",
                    value.name(),
                    value.origin()
                ),
            });
        }
        if graph.find(value.name()) != Some(id) {
            return Err(IrError::Broken {
                number: 6,
                detail: format!("the name {:?} leads elsewhere", value.name()),
            });
        }
    }
    order::topological(graph).map(|_| ())
}

fn node(graph: &Graph, id: crate::NodeId, has_opset: bool) -> Result<(), IrError> {
    let node = graph.node(id);
    if node.op_type().is_empty() {
        return Err(IrError::NoOpType { node: node.name().to_owned() });
    }
    if node.domain().is_empty() && !has_opset {
        return Err(IrError::NoOpset {
            node: node.name().to_owned(),
            op: node.op_type().to_owned(),
        });
    }
    let mut seen = IndexSet::new();
    if let Some(twice) = node.attribute_names().find(|name| !seen.insert(*name)) {
        return Err(IrError::AttributeTwice {
            node: node.name().to_owned(),
            attribute: twice.to_owned(),
        });
    }
    for body in node.bodies() {
        self::graph(body, has_opset)?;
    }
    Ok(())
}
