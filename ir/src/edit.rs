//! The primitives that change a graph; each keeps the invariants of `validate.rs`. The primitives for its
//! inputs and outputs are in `boundary.rs`.

use petgraph::Direction;
use petgraph::visit::EdgeRef;

use crate::error::IrError;
use crate::graph::{Edge, Graph, Vertex};
use crate::id::{NodeId, ValueId};
use crate::node::Node;
use crate::tensor::Tensor;
use crate::types::TensorType;
use crate::value::{Origin, Value};

/// The place of a result of a new node.
#[derive(Clone, Debug)]
pub enum NewResult {
    /// A value that has lost its producer (see [`Graph::detach`]): the name and the readers stay.
    Existing(ValueId),
    /// A new value, under a fresh name made from this hint.
    Fresh(String),
    /// An omitted optional result.
    Absent,
}

impl Graph {
    /// Adds a constant initializer under a fresh name made from `hint`.
    ///
    /// Below IR version 4 it is also listed as a graph input, because that version requires this of the main
    /// graph.
    pub fn add_initializer(&mut self, hint: &str, tensor: Tensor) -> ValueId {
        let name = self.pool.fresh(hint);
        let info = self
            .lists_initializers
            .then(|| TensorType::fixed(tensor.dtype(), tensor.dims()).to_value_info(&name));
        let id = self.insert_value(name, Origin::Initializer { overridable: false });
        self.value_mut(id).tensor = Some(tensor);
        self.push_initializer(id);
        if let Some(info) = info {
            self.inputs.push((id, info));
        }
        self.edited = true;
        id
    }

    /// Adds `node` at the place of `anchor` (a node that reads or makes the same values). Its name is a hint: if
    /// another node of this graph has it, the node gets a fresh one (see [`Graph::release_name`]).
    ///
    /// # Errors
    /// I0303 for a stale handle, I0103 when an existing result still has a producer.
    pub fn add_node(
        &mut self,
        mut node: Node,
        anchor: NodeId,
        operands: &[Option<ValueId>],
        results: &[NewResult],
    ) -> Result<(NodeId, Vec<Option<ValueId>>), IrError> {
        let position = self.get_node(anchor).ok_or(IrError::StaleId)?.position;
        if operands.iter().flatten().any(|v| self.get_value(*v).is_none()) {
            return Err(IrError::StaleId);
        }
        for result in results {
            if let NewResult::Existing(value) = result {
                self.check_can_be_made(*value, &node)?;
            }
        }
        self.next_minor += 1;
        node.position = (position.0, self.next_minor);
        self.name_node(&mut node);
        let id = self.insert_node(node, operands.len(), results.len());
        for (slot, operand) in operands.iter().enumerate() {
            if let Some(value) = operand {
                self.connect_operand(*value, id, slot);
            }
        }
        let mut made = Vec::with_capacity(results.len());
        for (slot, result) in results.iter().enumerate() {
            let value = match result {
                NewResult::Absent => None,
                NewResult::Existing(value) => Some(*value),
                NewResult::Fresh(hint) => {
                    let name = self.pool.fresh(hint);
                    Some(self.insert_value(name, Origin::Result))
                }
            };
            if let Some(value) = value {
                self.connect_result(id, slot, value);
            }
            made.push(value);
        }
        self.edited = true;
        Ok((id, made))
    }

    /// Gives a new node a name that no other node of this graph has.
    fn name_node(&mut self, node: &mut Node) {
        let is_constant = |name: &str| {
            self.find(name).is_some_and(|value| self.value(value).origin() != Origin::Result)
        };
        let name = self.pool.node(node.name(), &self.node_names, is_constant);
        self.node_names.add(&name);
        if name != node.name() {
            node.proto.name = Some(name);
        }
    }

    /// Takes the name away from a node that the same edit replaces, so that its successor can have it.
    ///
    /// # Errors
    /// I0303 for a stale handle.
    pub fn release_name(&mut self, node: NodeId) -> Result<(), IrError> {
        self.get_node(node).ok_or(IrError::StaleId)?;
        if let Some(Vertex::Node(known)) = self.vertices.node_weight_mut(Self::raw_node(node)) {
            let name = known.proto.name.take().unwrap_or_default();
            self.node_names.remove(&name);
        }
        self.edited = true;
        Ok(())
    }

    fn check_can_be_made(&self, value: ValueId, by: &Node) -> Result<(), IrError> {
        let known = self.get_value(value).ok_or(IrError::StaleId)?;
        match self.producer(value) {
            None if known.origin == Origin::Result => Ok(()),
            other => Err(IrError::DefinedTwice {
                value: known.name.clone(),
                first: other.map_or_else(
                    || format!("{:?}", known.origin),
                    |(node, _)| self.node(node).name().to_owned(),
                ),
                second: by.name().to_owned(),
            }),
        }
    }

    /// Takes a result away from its node. The value keeps its name and readers and waits for a new
    /// producer within the same patch; the node keeps an absent slot.
    ///
    /// # Errors
    /// I0303 for a stale handle, I0304 when the value has no producer.
    pub fn detach(&mut self, value: ValueId) -> Result<(), IrError> {
        self.get_value(value).ok_or(IrError::StaleId)?;
        let edge = self
            .vertices
            .edges_directed(Self::raw_value(value), Direction::Incoming)
            .next()
            .map(|edge| edge.id());
        let Some(edge) = edge else {
            return Err(IrError::NoSlot { node: String::new(), slot: 0 });
        };
        self.vertices.remove_edge(edge);
        self.edited = true;
        Ok(())
    }

    /// Makes `value` the operand of `node` in `slot` (or leaves the slot absent).
    ///
    /// # Errors
    /// I0303 for a stale handle, I0304 when the node has no such slot.
    pub fn set_operand(
        &mut self,
        node: NodeId,
        slot: usize,
        value: Option<ValueId>,
    ) -> Result<(), IrError> {
        let known = self.get_node(node).ok_or(IrError::StaleId)?;
        if slot >= known.operand_slots {
            return Err(IrError::NoSlot { node: known.name().to_owned(), slot });
        }
        if value.is_some_and(|v| self.get_value(v).is_none()) {
            return Err(IrError::StaleId);
        }
        let old = self
            .vertices
            .edges_directed(Self::raw_node(node), Direction::Incoming)
            .find(|edge| *edge.weight() == Edge::In(slot as u32))
            .map(|edge| edge.id());
        if let Some(edge) = old {
            self.vertices.remove_edge(edge);
        }
        if let Some(value) = value {
            self.connect_operand(value, node, slot);
        }
        self.edited = true;
        Ok(())
    }

    /// Makes every node that reads `from` read `to` instead. Captures and graph outputs of `from`
    /// stay as they are; callers decline if there are any.
    ///
    /// # Errors
    /// I0303 for a stale handle.
    pub fn redirect_uses(&mut self, from: ValueId, to: ValueId) -> Result<(), IrError> {
        for user in self.users(from) {
            self.set_operand(user.node, user.slot, Some(to))?;
        }
        Ok(())
    }

    /// Removes a node and its results.
    ///
    /// # Errors
    /// I0303 for a stale handle, I0301 while one of its results is still read.
    pub fn remove_node(&mut self, node: NodeId) -> Result<(), IrError> {
        self.get_node(node).ok_or(IrError::StaleId)?;
        let results: Vec<ValueId> = self.results(node).into_iter().flatten().collect();
        if let Some(value) = results.iter().find(|v| self.is_read(**v)) {
            return Err(IrError::StillRead { value: self.value(*value).name.clone() });
        }
        for value in results {
            self.drop_value(value);
        }
        self.release_name(node)?;
        self.vertices.remove_node(Self::raw_node(node));
        self.node_count -= 1;
        self.edited = true;
        Ok(())
    }

    /// Removes an initializer that nothing reads, and its entry among the inputs if IR version 3
    /// lists it there.
    ///
    /// # Errors
    /// I0303 for a stale handle or another kind of value, I0301 while it is still read or is overridable.
    pub fn remove_initializer(&mut self, value: ValueId) -> Result<(), IrError> {
        let known = self.get_value(value).ok_or(IrError::StaleId)?;
        match known.origin {
            Origin::Initializer { overridable: false } if !self.is_read(value) => {}
            Origin::Initializer { .. } => {
                return Err(IrError::StillRead { value: known.name.clone() });
            }
            _ => return Err(IrError::StaleId),
        }
        if self.lists_initializers {
            self.inputs.retain(|(id, _)| *id != value);
        }
        self.drop_value(value);
        self.edited = true;
        Ok(())
    }

    /// Gives the new initializer `new` the name and the place of `old`, which nothing reads any
    /// more, and removes `old`. The list of inputs of an IR 3 model stays the same.
    ///
    /// # Errors
    /// As [`Graph::remove_initializer`] for `old`.
    pub fn take_over_initializer(&mut self, new: ValueId, old: ValueId) -> Result<(), IrError> {
        let known = self.get_value(old).ok_or(IrError::StaleId)?;
        let tensor =
            self.get_value(new).and_then(|value| value.tensor.as_ref()).ok_or(IrError::StaleId)?;
        let name = known.name.clone();
        let info = TensorType::fixed(tensor.dtype(), tensor.dims()).to_value_info(&name);
        let (old_place, new_place) = (known.place, self.value(new).place);
        if self.lists_initializers {
            self.inputs.retain(|(id, _)| *id != new);
            if let Some(entry) = self.inputs.iter_mut().find(|(id, _)| *id == old) {
                *entry = (new, info);
            }
        }
        self.remove_initializer(old)?;
        // The freed place keeps the stale handle, and readers of the list skip it.
        self.initializers.swap(old_place, new_place);
        self.value_mut(new).place = old_place;
        let fresh = std::mem::replace(&mut self.value_mut(new).name, name.clone());
        self.names.swap_remove(&fresh);
        self.names.insert(name, new);
        Ok(())
    }

    /// Runs `edit` on each body of `node` (If branches, Loop and Scan bodies), then renews the
    /// captures of the node.
    ///
    /// # Errors
    /// The first error of `edit`; I0303 for a stale handle.
    pub fn edit_bodies<E: From<IrError>>(
        &mut self,
        node: NodeId,
        mut edit: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.get_node(node).ok_or(IrError::StaleId)?;
        let Some(Vertex::Node(weight)) = self.vertices.node_weight_mut(Self::raw_node(node)) else {
            return Err(IrError::StaleId.into());
        };
        let mut bodies = std::mem::take(&mut weight.bodies);
        let mut outcome = Ok(());
        for (_, body) in &mut bodies {
            outcome = edit(body);
            if outcome.is_err() {
                break;
            }
        }
        let edited = bodies.iter().any(|(_, body)| body.edited);
        let read: Vec<String> = bodies.iter().flat_map(|(_, body)| body.captured_names()).collect();
        if let Some(Vertex::Node(weight)) = self.vertices.node_weight_mut(Self::raw_node(node)) {
            weight.bodies = bodies;
        }
        if edited {
            self.edited = true;
            for value in self.captures(node) {
                if !read.contains(&self.value(value).name) {
                    self.remove_capture(value, node);
                }
            }
        }
        outcome
    }

    fn remove_capture(&mut self, value: ValueId, node: NodeId) {
        let edge = self
            .vertices
            .edges_directed(Self::raw_node(node), Direction::Incoming)
            .find(|e| *e.weight() == Edge::Capture && e.source() == Self::raw_value(value))
            .map(|edge| edge.id());
        if let Some(edge) = edge {
            self.vertices.remove_edge(edge);
        }
        if self.value(value).origin == Origin::Captured && !self.is_read(value) {
            self.drop_value(value);
        }
    }

    /// Names of outer values that this body still reads.
    pub(crate) fn captured_names(&self) -> Vec<String> {
        self.values()
            .filter(|id| self.value(*id).origin == Origin::Captured && self.is_read(*id))
            .map(|id| self.value(id).name.clone())
            .collect()
    }

    pub(crate) fn insert_node(
        &mut self,
        mut node: Node,
        operands: usize,
        results: usize,
    ) -> NodeId {
        node.serial = self.next_serial;
        node.operand_slots = operands;
        node.result_slots = results;
        let serial = node.serial;
        self.next_serial += 1;
        self.node_count += 1;
        let index = self.vertices.add_node(Vertex::Node(node));
        NodeId { index: index.index() as u32, serial }
    }

    pub(crate) fn insert_value(&mut self, name: String, origin: Origin) -> ValueId {
        let serial = self.next_serial;
        self.next_serial += 1;
        let value = Value {
            name: name.clone(),
            origin,
            tensor: None,
            sparse: None,
            declared: None,
            output_uses: 0,
            pinned: false,
            place: 0,
            serial,
        };
        let index = self.vertices.add_node(Vertex::Value(value));
        let id = ValueId { index: index.index() as u32, serial };
        self.names.insert(name, id);
        id
    }

    pub(crate) fn push_initializer(&mut self, id: ValueId) {
        self.value_mut(id).place = self.initializers.len();
        self.initializers.push(id);
    }

    pub(crate) fn value_mut(&mut self, id: ValueId) -> &mut Value {
        match self.vertices.node_weight_mut(Self::raw_value(id)) {
            Some(Vertex::Value(value)) if value.serial == id.serial => value,
            _ => panic!("stale value handle {id:?}"),
        }
    }

    pub(crate) fn connect_operand(&mut self, value: ValueId, node: NodeId, slot: usize) {
        self.vertices.add_edge(Self::raw_value(value), Self::raw_node(node), Edge::In(slot as u32));
    }

    pub(crate) fn connect_capture(&mut self, value: ValueId, node: NodeId) {
        self.vertices.add_edge(Self::raw_value(value), Self::raw_node(node), Edge::Capture);
    }

    pub(crate) fn connect_result(&mut self, node: NodeId, slot: usize, value: ValueId) {
        self.vertices.add_edge(
            Self::raw_node(node),
            Self::raw_value(value),
            Edge::Out(slot as u32),
        );
    }

    /// Removes the vertex; its name stays taken, so no later value can be mistaken for it.
    pub(crate) fn drop_value(&mut self, id: ValueId) {
        let name = std::mem::take(&mut self.value_mut(id).name);
        self.names.swap_remove(&name);
        self.vertices.remove_node(Self::raw_value(id));
    }
}
