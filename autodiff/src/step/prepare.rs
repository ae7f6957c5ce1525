//! Gives every parameter an initializer of its own, in a deterministic way.
//!
//! Some exporters write equal tensors once, so BatchNormalizations share tensors that training makes different. Some
//! exporters keep weights in `Constant` nodes.

use updp_ir::{IrError, Model, NodeId, Origin, ValueId, view};

/// Turns weights of `Constant` nodes into initializers, and copies parameters and running statistics of
/// BatchNormalizations that are aliases or shared. The function of the model does not change.
pub(super) fn prepare(model: &mut Model) -> Result<(), IrError> {
    for node in model.graph.nodes() {
        own_constant(model, node)?;
    }
    let opset = model.opset("").unwrap_or(0);
    for node in model.graph.nodes() {
        let Some(norm) = view::BatchNorm::of(&model.graph, node, opset) else { continue };
        for (slot, value) in [(1, norm.scale), (2, norm.bias), (3, norm.mean), (4, norm.var)] {
            own_operand(model, node, slot, value)?;
        }
    }
    Ok(())
}

/// The new name starts with the name of the value, so that people recognize it.
fn own_constant(model: &mut Model, node: NodeId) -> Result<(), IrError> {
    let graph = &mut model.graph;
    let Some(value) = graph.sole_result(node).filter(|_| graph.node(node).is("Constant")) else {
        return Ok(());
    };
    let is_kept = graph.value(value).is_output() || graph.is_captured(value);
    let tensor = view::constant(graph, value).filter(|tensor| {
        !is_kept && tensor.dtype().is_foldable_float() && !tensor.dims().is_empty()
    });
    if let Some(tensor) = tensor {
        let name = format!("{}.weight", graph.value(value).name());
        let own = graph.add_initializer(&name, tensor);
        graph.redirect_uses(value, own)?;
        graph.remove_node(node)?;
    }
    Ok(())
}

fn own_operand(
    model: &mut Model,
    node: NodeId,
    slot: usize,
    value: ValueId,
) -> Result<(), IrError> {
    let graph = &mut model.graph;
    let is_own = graph.value(value).origin() == Origin::Initializer { overridable: false }
        && graph.sole_use(value).is_some();
    if let Some(tensor) = view::constant(graph, value).filter(|_| !is_own) {
        let name = format!("{}.own", graph.value(value).name());
        let own = graph.add_initializer(&name, tensor);
        graph.set_operand(node, slot, Some(own))?;
        remove_unread(model, value)?;
    }
    Ok(())
}

/// Removes a constant with its last reader, through its aliases.
fn remove_unread(model: &mut Model, value: ValueId) -> Result<(), IrError> {
    let graph = &mut model.graph;
    if graph.is_read(value) {
        return Ok(());
    }
    let Some((alias, _)) = graph.producer(value) else { return graph.remove_initializer(value) };
    let operands = graph.operands(alias);
    graph.remove_node(alias)?;
    operands.into_iter().flatten().try_for_each(|operand| remove_unread(model, operand))
}
