//! Values that are the same on every run.

use crate::graph::Graph;
use crate::id::ValueId;
use crate::proto::tensor_proto::DataLocation;
use crate::tensor::Tensor;

/// The tensor of a constant value: an initializer that cannot be overridden, the result of a
/// `Constant` node in any dense form, or an `Identity` of either. Cheap: bytes are shared.
#[must_use]
pub fn constant(graph: &Graph, value: ValueId) -> Option<Tensor> {
    let mut value = value;
    // A chain of aliases is finite because the graph has no cycle.
    loop {
        if let Some(tensor) = graph.constant_initializer(value) {
            return Some(tensor.clone());
        }
        let (producer, slot) = graph.producer(value)?;
        let node = graph.node(producer);
        if slot != 0 || node.has_reference_attribute() {
            return None;
        }
        if node.is("Constant") {
            return of_constant_node(node);
        }
        if !node.is("Identity") {
            return None;
        }
        value = graph.operand(producer, 0)?;
    }
}

fn of_constant_node(node: &crate::Node) -> Option<Tensor> {
    if let Some(proto) = node.tensor_proto("value") {
        if proto.data_location() == DataLocation::External {
            return None;
        }
        return Tensor::from_proto(proto.clone(), None).ok();
    }
    if let Some(value) = node.float("value_float") {
        return Tensor::from_f32(vec![], &[value]).ok();
    }
    if let Some(values) = node.floats("value_floats") {
        return Tensor::from_f32(vec![values.len()], values).ok();
    }
    if let Some(value) = node.int("value_int") {
        return Tensor::from_i64(vec![], &[value]).ok();
    }
    if let Some(values) = node.ints("value_ints") {
        return Tensor::from_i64(vec![values.len()], values).ok();
    }
    None
}
