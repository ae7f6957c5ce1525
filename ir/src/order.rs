//! Topological order; the place in the file breaks ties.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::error::IrError;
use crate::graph::Graph;
use crate::id::NodeId;

/// Nodes in topological order (operands and captures before readers); the order is the same on every run.
///
/// # Errors
/// I0105 with the nodes that form a cycle.
pub fn topological(graph: &Graph) -> Result<Vec<NodeId>, IrError> {
    let nodes = graph.nodes();
    let mut waits: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut ready = BinaryHeap::new();
    for id in &nodes {
        let reads = graph.operands(*id).into_iter().flatten().chain(graph.captures(*id));
        let count = reads.filter(|value| graph.producer(*value).is_some()).count();
        if count == 0 {
            ready.push(Reverse((graph.node(*id).position, *id)));
        }
        waits.insert(*id, count);
    }
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse((_, id))) = ready.pop() {
        order.push(id);
        for value in graph.results(id).into_iter().flatten() {
            let readers = graph.users(value).into_iter().map(|user| user.node);
            for reader in readers.chain(graph.capturing_nodes(value)) {
                if let Some(count) = waits.get_mut(&reader) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(Reverse((graph.node(reader).position, reader)));
                    }
                }
            }
        }
    }
    if order.len() == nodes.len() {
        return Ok(order);
    }
    let stuck = waits.iter().filter(|(_, count)| **count > 0).take(8);
    Err(IrError::Cycle { nodes: stuck.map(|(id, _)| graph.node(*id).name().to_owned()).collect() })
}
