//! The graph: op and value vertices, each value with at most one producer and a list of uses.
//!
//! This file reads a graph and `edit.rs` changes it; nothing else changes a graph.

use indexmap::IndexMap;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::{EdgeRef, IntoNodeReferences};

use crate::id::{NodeId, ValueId};
use crate::names::{NamePool, NodeNames};
use crate::node::Node;
use crate::proto::{GraphProto, ValueInfoProto};
use crate::tensor::Tensor;
use crate::value::{Origin, Value};

#[derive(Debug)]
pub(crate) enum Vertex {
    Node(Node),
    Value(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    /// Value → node: operand slot.
    In(u32),
    /// Node → value: result slot.
    Out(u32),
    /// Value → node: read inside one of the node's bodies.
    Capture,
}

/// One reading of a value by a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The reading node.
    pub node: NodeId,
    /// Its operand slot.
    pub slot: usize,
}

/// A graph or a body (If branch, Loop or Scan body).
#[derive(Debug)]
pub struct Graph {
    pub(crate) vertices: StableDiGraph<Vertex, Edge>,
    /// The message with nodes, initializers, inputs and outputs emptied; `value_info` stays here.
    pub(crate) header: GraphProto,
    pub(crate) inputs: Vec<(ValueId, ValueInfoProto)>,
    pub(crate) outputs: Vec<(ValueId, ValueInfoProto)>,
    /// Dense then sparse initializers in file order, new ones at the end; readers skip removed ones.
    pub(crate) initializers: Vec<ValueId>,
    /// IR 3 main graph: every initializer is also listed among the inputs.
    pub(crate) lists_initializers: bool,
    pub(crate) names: IndexMap<String, ValueId>,
    pub(crate) pool: NamePool,
    pub(crate) node_names: NodeNames,
    pub(crate) ir_version: i64,
    pub(crate) node_count: usize,
    pub(crate) next_serial: u32,
    pub(crate) next_minor: u32,
    /// Whether any primitive of `edit.rs` has changed this graph or a body in it.
    pub(crate) edited: bool,
}

impl Graph {
    /// The same graph with the same handles; it draws fresh names from `pool`. Tensors are shared.
    pub(crate) fn copy_with(&self, pool: &NamePool) -> Self {
        let vertex = |_, vertex: &Vertex| match vertex {
            Vertex::Node(node) => Vertex::Node(node.copy_with(pool)),
            Vertex::Value(value) => Vertex::Value(value.clone()),
        };
        Self {
            vertices: self.vertices.map(vertex, |_, edge| *edge),
            header: self.header.clone(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            initializers: self.initializers.clone(),
            lists_initializers: self.lists_initializers,
            names: self.names.clone(),
            pool: pool.clone(),
            node_names: self.node_names.clone(),
            ir_version: self.ir_version,
            node_count: self.node_count,
            next_serial: self.next_serial,
            next_minor: self.next_minor,
            edited: self.edited,
        }
    }
}

fn raw(index: u32) -> NodeIndex {
    NodeIndex::new(index as usize)
}

impl Graph {
    /// Graph name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.header.name()
    }

    /// IR version of the model this graph belongs to.
    #[must_use]
    pub fn ir_version(&self) -> i64 {
        self.ir_version
    }

    /// Number of nodes, without those of bodies.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.node_count
    }

    /// Graph inputs in order, including overridable initializers (and, below IR 4, all initializers).
    pub fn inputs(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs.iter().map(|(id, _)| *id)
    }

    /// Graph inputs that a caller must feed: those without a default.
    pub fn required_inputs(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs().filter(|id| self.value(*id).origin == Origin::Input)
    }

    /// Graph outputs in order; a value may appear there twice.
    pub fn outputs(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.outputs.iter().map(|(id, _)| *id)
    }

    /// Initializers in file order.
    pub fn initializers(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.initializers.iter().copied().filter(|id| self.get_value(*id).is_some())
    }

    /// Handles of all nodes, by place in the file (not always a topological order).
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<((u32, u32), NodeId)> = self
            .vertices
            .node_references()
            .filter_map(|(index, vertex)| match vertex {
                Vertex::Node(node) => Some((
                    node.position,
                    NodeId { index: index.index() as u32, serial: node.serial },
                )),
                Vertex::Value(_) => None,
            })
            .collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|(_, id)| id).collect()
    }

    /// Handles of all values, in a fixed order without meaning.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.vertices.node_references().filter_map(|(index, vertex)| match vertex {
            Vertex::Value(value) => {
                Some(ValueId { index: index.index() as u32, serial: value.serial })
            }
            Vertex::Node(_) => None,
        })
    }

    /// The node, unless it was removed.
    #[must_use]
    pub fn get_node(&self, id: NodeId) -> Option<&Node> {
        match self.vertices.node_weight(raw(id.index)) {
            Some(Vertex::Node(node)) if node.serial == id.serial => Some(node),
            _ => None,
        }
    }

    /// The value, unless it was removed.
    #[must_use]
    pub fn get_value(&self, id: ValueId) -> Option<&Value> {
        match self.vertices.node_weight(raw(id.index)) {
            Some(Vertex::Value(value)) if value.serial == id.serial => Some(value),
            _ => None,
        }
    }

    /// The node.
    ///
    /// # Panics
    /// If the handle outlived its node: a bug in the caller, see [`Graph::get_node`].
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        self.get_node(id).unwrap_or_else(|| panic!("stale node handle {id:?}"))
    }

    /// The value.
    ///
    /// # Panics
    /// If the handle outlived its value: a bug in the caller, see [`Graph::get_value`].
    #[must_use]
    pub fn value(&self, id: ValueId) -> &Value {
        self.get_value(id).unwrap_or_else(|| panic!("stale value handle {id:?}"))
    }

    /// The value with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.names.get(name).copied()
    }

    /// Operands of a node by slot; `None` for an absent optional operand.
    #[must_use]
    pub fn operands(&self, id: NodeId) -> Vec<Option<ValueId>> {
        let mut slots = vec![None; self.node(id).operand_slots];
        for edge in self.vertices.edges_directed(raw(id.index), Direction::Incoming) {
            if let Edge::In(slot) = edge.weight() {
                slots[*slot as usize] = Some(self.value_id(edge.source()));
            }
        }
        slots
    }

    /// One operand of a node; `None` when absent.
    #[must_use]
    pub fn operand(&self, id: NodeId, slot: usize) -> Option<ValueId> {
        self.vertices
            .edges_directed(raw(id.index), Direction::Incoming)
            .find(|edge| *edge.weight() == Edge::In(slot as u32))
            .map(|edge| self.value_id(edge.source()))
    }

    /// Results of a node by slot; `None` for an absent optional result.
    #[must_use]
    pub fn results(&self, id: NodeId) -> Vec<Option<ValueId>> {
        let mut slots = vec![None; self.node(id).result_slots];
        for edge in self.vertices.edges_directed(raw(id.index), Direction::Outgoing) {
            if let Edge::Out(slot) = edge.weight() {
                slots[*slot as usize] = Some(self.value_id(edge.target()));
            }
        }
        slots
    }

    /// One result of a node; `None` when absent.
    #[must_use]
    pub fn result(&self, id: NodeId, slot: usize) -> Option<ValueId> {
        self.vertices
            .edges_directed(raw(id.index), Direction::Outgoing)
            .find(|edge| *edge.weight() == Edge::Out(slot as u32))
            .map(|edge| self.value_id(edge.target()))
    }

    /// The only result of a node; `None` if there is none or more than one.
    #[must_use]
    pub fn sole_result(&self, id: NodeId) -> Option<ValueId> {
        let mut results = self.results(id).into_iter().flatten();
        let first = results.next()?;
        results.next().is_none().then_some(first)
    }

    /// Values that bodies of this node read from outside.
    #[must_use]
    pub fn captures(&self, id: NodeId) -> Vec<ValueId> {
        let mut values: Vec<ValueId> = self
            .vertices
            .edges_directed(raw(id.index), Direction::Incoming)
            .filter(|edge| *edge.weight() == Edge::Capture)
            .map(|edge| self.value_id(edge.source()))
            .collect();
        values.sort_unstable();
        values
    }

    /// The node and slot that make a value; `None` for inputs, initializers and captured values.
    #[must_use]
    pub fn producer(&self, id: ValueId) -> Option<(NodeId, usize)> {
        let edge = self.vertices.edges_directed(raw(id.index), Direction::Incoming).next()?;
        let Edge::Out(slot) = edge.weight() else { return None };
        Some((self.node_id(edge.source()), *slot as usize))
    }

    /// Readings of a value by nodes of this graph, by place in the file and slot; without captures and
    /// graph outputs.
    #[must_use]
    pub fn users(&self, id: ValueId) -> Vec<Use> {
        let mut users: Vec<((u32, u32), Use)> = self
            .vertices
            .edges_directed(raw(id.index), Direction::Outgoing)
            .filter_map(|edge| match edge.weight() {
                Edge::In(slot) => {
                    let node = self.node_id(edge.target());
                    Some((self.node(node).position, Use { node, slot: *slot as usize }))
                }
                _ => None,
            })
            .collect();
        users.sort_unstable();
        users.into_iter().map(|(_, user)| user).collect()
    }

    /// Whether a body reads the value.
    #[must_use]
    pub fn is_captured(&self, id: ValueId) -> bool {
        self.vertices
            .edges_directed(raw(id.index), Direction::Outgoing)
            .any(|edge| *edge.weight() == Edge::Capture)
    }

    /// Nodes whose bodies read the value.
    #[must_use]
    pub fn capturing_nodes(&self, id: ValueId) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self
            .vertices
            .edges_directed(raw(id.index), Direction::Outgoing)
            .filter(|edge| *edge.weight() == Edge::Capture)
            .map(|edge| self.node_id(edge.target()))
            .collect();
        nodes.sort_unstable();
        nodes
    }

    /// Whether anything reads the value: a node, a body, the graph boundary or an annotation.
    #[must_use]
    pub fn is_read(&self, id: ValueId) -> bool {
        let value = self.value(id);
        value.output_uses > 0
            || value.pinned
            || self.vertices.edges_directed(raw(id.index), Direction::Outgoing).next().is_some()
    }

    /// The only reading of a value; `None` if it is read twice, by a body, at the graph boundary, or not
    /// at all.
    #[must_use]
    pub fn sole_use(&self, id: ValueId) -> Option<Use> {
        let value = self.value(id);
        if value.output_uses > 0 || value.pinned {
            return None;
        }
        let mut edges = self.vertices.edges_directed(raw(id.index), Direction::Outgoing);
        let edge = edges.next()?;
        match (edge.weight(), edges.next()) {
            (Edge::In(slot), None) => {
                Some(Use { node: self.node_id(edge.target()), slot: *slot as usize })
            }
            _ => None,
        }
    }

    /// The tensor of a value that is the same on every run: a constant initializer (also one
    /// captured from outside). Results of `Constant` nodes are read by `view::constant`.
    #[must_use]
    pub fn constant_initializer(&self, id: ValueId) -> Option<&Tensor> {
        let value = self.value(id);
        match value.origin {
            Origin::Initializer { overridable: false } | Origin::Captured => value.tensor.as_ref(),
            _ => None,
        }
    }

    /// Whether any edit changed this graph or one of its bodies since it was read.
    #[must_use]
    pub fn is_edited(&self) -> bool {
        self.edited
    }

    pub(crate) fn bodies_mut(&mut self, id: NodeId) -> Vec<&mut Self> {
        match self.vertices.node_weight_mut(raw(id.index)) {
            Some(Vertex::Node(node)) => node.bodies.iter_mut().map(|(_, body)| body).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn node_id(&self, index: NodeIndex) -> NodeId {
        let serial = match self.vertices.node_weight(index) {
            Some(Vertex::Node(node)) => node.serial,
            _ => u32::MAX,
        };
        NodeId { index: index.index() as u32, serial }
    }

    pub(crate) fn value_id(&self, index: NodeIndex) -> ValueId {
        let serial = match self.vertices.node_weight(index) {
            Some(Vertex::Value(value)) => value.serial,
            _ => u32::MAX,
        };
        ValueId { index: index.index() as u32, serial }
    }

    pub(crate) fn raw_node(id: NodeId) -> NodeIndex {
        raw(id.index)
    }

    pub(crate) fn raw_value(id: ValueId) -> NodeIndex {
        raw(id.index)
    }
}
