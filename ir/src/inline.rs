//! Puts the nodes of a body in place of the node that has it.

use std::collections::BTreeMap;

use crate::edit::NewResult;
use crate::error::IrError;
use crate::graph::{Graph, Vertex};
use crate::id::{NodeId, ValueId};
use crate::node::Node;
use crate::order;
use crate::value::Origin;

impl Graph {
    /// Whether [`Self::inline_body`] can put body number `body` of `node` in its place: the body has no inputs, no
    /// sparse initializers, no annotations and no bodies inside it, and as many outputs as the node has results.
    #[must_use]
    pub fn can_inline_body(&self, node: NodeId, body: usize) -> bool {
        let Some(inner) = self.get_node(node).and_then(|node| node.bodies().nth(body)) else {
            return false;
        };
        let is_plain = |id: ValueId| {
            let value = inner.value(id);
            let is_readable = match value.origin() {
                Origin::Initializer { overridable } => !overridable && value.tensor().is_some(),
                Origin::Result | Origin::Captured => true,
                Origin::Input => false,
            };
            is_readable && !value.is_pinned()
        };
        inner.inputs().next().is_none()
            && inner.outputs().count() == self.results(node).len()
            && inner.values().all(is_plain)
            && inner.nodes().iter().all(|node| !inner.node(*node).has_bodies())
    }

    /// Puts the nodes of body number `body` of `node` in place of the node, and gives the new nodes in order. The
    /// results keep their names; values of the body get fresh names made from their own.
    ///
    /// # Errors
    /// I0303 for a stale handle or a body that [`Self::can_inline_body`] refuses, I0105 for a cycle in the body.
    pub fn inline_body(&mut self, node: NodeId, body: usize) -> Result<Vec<NodeId>, IrError> {
        if !self.can_inline_body(node, body) {
            return Err(IrError::StaleId);
        }
        let Some(Vertex::Node(weight)) = self.vertices.node_weight_mut(Self::raw_node(node)) else {
            return Err(IrError::StaleId);
        };
        let (_, inner) = std::mem::take(&mut weight.bodies).swap_remove(body);
        let order = order::topological(&inner)?;
        let mut results: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        let mut copies = Vec::new();
        for (value, result) in inner.outputs().zip(self.results(node)) {
            let Some(result) = result else { continue };
            self.detach(result)?;
            if inner.value(value).origin() == Origin::Result && !results.contains_key(&value) {
                results.insert(value, result);
            } else {
                copies.push((value, result));
            }
        }
        let mut outer = self.outer_values(&inner)?;
        let mut made = Vec::with_capacity(order.len() + copies.len());
        for id in order {
            let operands: Vec<Option<ValueId>> = inner
                .operands(id)
                .into_iter()
                .map(|slot| slot.and_then(|value| outer.get(&value).copied()))
                .collect();
            let slots = inner.results(id);
            let new: Vec<NewResult> = slots
                .iter()
                .map(|slot| match slot {
                    None => NewResult::Absent,
                    Some(value) => results.get(value).map_or_else(
                        || NewResult::Fresh(inner.value(*value).name().to_owned()),
                        |result| NewResult::Existing(*result),
                    ),
                })
                .collect();
            let (copy, values) =
                self.add_node(inner.node(id).bare_copy(), node, &operands, &new)?;
            let pairs = slots.into_iter().zip(values);
            outer.extend(pairs.filter_map(|(old, new)| Some((old?, new?))));
            made.push(copy);
        }
        for (value, result) in copies {
            let operand = [outer.get(&value).copied()];
            let new = [NewResult::Existing(result)];
            made.push(self.add_node(Node::new("Identity"), node, &operand, &new)?.0);
        }
        self.remove_node(node)?;
        Ok(made)
    }

    /// The values of this graph that the captured values and initializers of `inner` become.
    fn outer_values(&mut self, inner: &Self) -> Result<BTreeMap<ValueId, ValueId>, IrError> {
        let mut outer = BTreeMap::new();
        for id in inner.initializers().collect::<Vec<_>>() {
            let value = inner.value(id);
            if let Some(tensor) = value.tensor() {
                outer.insert(id, self.add_initializer(value.name(), tensor.clone()));
            }
        }
        for id in inner.values() {
            let value = inner.value(id);
            if value.origin() == Origin::Captured {
                outer.insert(id, self.find(value.name()).ok_or(IrError::StaleId)?);
            }
        }
        Ok(outer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataType, Dim, Model, ModelBuilder, Tensor};

    /// `If(c) { Relu(x) and x } else { … }` as a model of two outputs.
    fn model() -> Model {
        let dims = [Dim::from(2)];
        let branch = |op: &str| {
            let mut body = ModelBuilder::new(17);
            let one = Tensor::from_f32(vec![2], &[1.0, 2.0]).expect("fits");
            body.initializer("k", &one);
            body.node(Node::new(op), &["x"], &["r"]);
            body.node(Node::new("Add").named("sum"), &["r", "k"], &["s"]);
            body.node(Node::new("Identity"), &["x"], &["same"]);
            body.output("s", DataType::Float, Some(&dims));
            body.output("same", DataType::Float, Some(&dims));
            body
        };
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &dims);
        builder.initializer("c", &Tensor::from_i64(vec![], &[1]).expect("fits"));
        builder.node(Node::new("Cast").with("to", 9_i64), &["c"], &["cond"]);
        let node = Node::new("If").named("choice");
        let bodies = vec![("then_branch", branch("Relu")), ("else_branch", branch("Neg"))];
        builder.node_with_bodies(node, bodies, &["cond"], &["y", "z"]);
        builder.output("y", DataType::Float, Some(&dims));
        builder.output("z", DataType::Float, Some(&dims));
        builder.build().expect("well formed")
    }

    #[test]
    fn the_nodes_of_the_body_take_the_place_of_the_node() {
        for (body, op) in [(0, "Relu"), (1, "Neg")] {
            let mut model = model();
            let graph = &mut model.graph;
            let choice = *graph.nodes().iter().find(|n| graph.node(**n).is("If")).expect("there");
            assert!(graph.can_inline_body(choice, body));
            assert!(!graph.can_inline_body(choice, 2));
            let made = graph.inline_body(choice, body).expect("inlined");
            let ops: Vec<&str> = made.iter().map(|node| graph.node(*node).op_type()).collect();
            assert_eq!(ops.iter().filter(|own| **own == op).count(), 1, "{ops:?}");
            assert_eq!(ops.len(), 3);
            model.validate().expect("valid");
            let outputs: Vec<&str> =
                model.graph.outputs().map(|id| model.graph.value(id).name()).collect();
            assert_eq!(outputs, ["y", "z"]);
        }
    }
}
