//! Reads a [`Model`] from bytes.

use bytes::Bytes;
use indexmap::IndexMap;
use petgraph::stable_graph::StableDiGraph;
use prost::Message;

use super::unknown::Unknown;
use super::{ExternalRef, MAX_BODY_DEPTH, Model};
use crate::error::IrError;
use crate::graph::Graph;
use crate::id::{NodeId, ValueId};
use crate::names::{NamePool, NodeNames};
use crate::node::{BodySlot, Node};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NEWEST_IR_VERSION, NodeProto, TensorProto,
    ValueInfoProto, tensor_proto::DataLocation,
};
use crate::tensor::Tensor;
use crate::types::TensorType;
use crate::value::Origin;

/// Lends the bytes of external data; the caller opens, range-checks and maps them.
pub type Resolver<'a> = dyn FnMut(&ExternalRef) -> Result<Bytes, IrError> + 'a;

/// The resolver of a model that must hold all its tensors itself.
///
/// # Errors
/// Always I0205: any requested data are missing.
pub fn no_external_data(reference: &ExternalRef) -> Result<Bytes, IrError> {
    Err(IrError::ExternalDataMissing { name: reference.tensor.clone() })
}

impl Model {
    /// Reads a model. Tensor data are slices of `bytes` and of the bytes that `external` lends; nothing is copied.
    ///
    /// # Errors
    /// I00xx when the bytes are not a model of a known IR version, I01xx when the graph is inconsistent,
    /// I02xx when tensor data do not fit.
    pub fn decode(bytes: Bytes, external: &mut Resolver<'_>) -> Result<Self, IrError> {
        if bytes.is_empty() {
            return Err(IrError::Empty);
        }
        let unknown = Unknown::of_model(&bytes);
        let proto = ModelProto::decode(bytes)
            .map_err(|error| IrError::Decode { detail: error.to_string() })?;
        let mut model = Self::from_proto(proto, external)?;
        model.unknown = unknown;
        Ok(model)
    }

    /// Reads a model from its message.
    ///
    /// # Errors
    /// See [`Model::decode`].
    pub fn from_proto(
        mut header: ModelProto,
        external: &mut Resolver<'_>,
    ) -> Result<Self, IrError> {
        let found = header.ir_version();
        if found > NEWEST_IR_VERSION {
            return Err(IrError::NewerIr { found, newest: NEWEST_IR_VERSION });
        }
        let proto = header.graph.take().ok_or(IrError::NoGraph)?;
        let mut reader = Reader {
            external,
            pool: NamePool::default(),
            ir_version: found,
            has_training: !header.training_info.is_empty(),
        };
        for function in &mut header.functions {
            reader.inline_nodes(&mut function.node)?;
        }
        for training in &mut header.training_info {
            for graph in training.initialization.iter_mut().chain(&mut training.algorithm) {
                reader.inline_graph(graph)?;
            }
        }
        let mut graph = reader.graph(proto, 0)?;
        share_constants(&mut graph);
        let model = Self { header, unknown: Unknown::default(), graph };
        model.validate()?;
        Ok(model)
    }
}

struct Reader<'a, 'b> {
    external: &'a mut Resolver<'b>,
    pool: NamePool,
    ir_version: i64,
    has_training: bool,
}

impl Reader<'_, '_> {
    fn graph(&mut self, mut proto: GraphProto, depth: usize) -> Result<Graph, IrError> {
        let nodes = std::mem::take(&mut proto.node);
        let initializers = std::mem::take(&mut proto.initializer);
        let sparse = std::mem::take(&mut proto.sparse_initializer);
        let inputs = std::mem::take(&mut proto.input);
        let outputs = std::mem::take(&mut proto.output);
        let mut graph = Graph {
            vertices: StableDiGraph::with_capacity(nodes.len() * 2 + initializers.len(), 0),
            header: proto,
            inputs: Vec::with_capacity(inputs.len()),
            outputs: Vec::with_capacity(outputs.len()),
            initializers: Vec::with_capacity(initializers.len()),
            lists_initializers: false,
            names: IndexMap::new(),
            pool: self.pool.clone(),
            node_names: NodeNames::default(),
            ir_version: self.ir_version,
            node_count: 0,
            next_serial: 0,
            next_minor: 0,
            edited: false,
        };
        for (slot, info) in inputs.into_iter().enumerate() {
            let id = self.define(
                &mut graph,
                info.name(),
                Origin::Input,
                || format!("input {slot}"),
                slot,
            )?;
            graph.value_mut(id).declared = declared(&info);
            graph.inputs.push((id, info));
        }
        for (slot, proto) in initializers.into_iter().enumerate() {
            let name = proto.name().to_owned();
            let tensor = self.tensor(proto)?;
            let id = self.initializer(&mut graph, &name, slot)?;
            graph.value_mut(id).tensor = Some(tensor);
        }
        for (slot, mut proto) in sparse.into_iter().enumerate() {
            for part in proto.values.iter_mut().chain(&mut proto.indices) {
                self.inline_tensor(part)?;
            }
            let name = proto.values.as_ref().map(|v| v.name().to_owned()).unwrap_or_default();
            let id = self.initializer(&mut graph, &name, slot)?;
            graph.value_mut(id).sparse = Some(Box::new(proto));
        }
        if depth == 0 && self.ir_version < 4 {
            graph.lists_initializers = graph
                .initializers
                .iter()
                .all(|id| graph.inputs.iter().any(|(input, _)| input == id))
                && !graph.inputs.is_empty();
        }
        self.nodes(&mut graph, nodes, depth)?;
        for (slot, info) in outputs.into_iter().enumerate() {
            if info.name().is_empty() {
                return Err(IrError::UnnamedBoundary { slot });
            }
            let id = match graph.find(info.name()) {
                Some(id) => id,
                None if depth > 0 => graph.insert_value(info.name().to_owned(), Origin::Captured),
                None => return Err(IrError::UndefinedOutput { value: info.name().to_owned() }),
            };
            let value = graph.value_mut(id);
            value.output_uses += 1;
            value.declared = value.declared.take().or_else(|| declared(&info));
            graph.outputs.push((id, info));
        }
        annotate(&mut graph);
        Ok(graph)
    }

    /// Adds nodes: all results first, because nodes in a file need not be in topological order.
    fn nodes(
        &mut self,
        graph: &mut Graph,
        nodes: Vec<NodeProto>,
        depth: usize,
    ) -> Result<(), IrError> {
        let mut pending = Vec::with_capacity(nodes.len());
        for (position, mut proto) in nodes.into_iter().enumerate() {
            let operands = std::mem::take(&mut proto.input);
            let results = std::mem::take(&mut proto.output);
            let bodies = self.bodies(&mut proto, depth)?;
            self.pool.note_node(proto.name());
            if graph.node_names.add(proto.name()) > 1 {
                graph.node_names.repeated.insert(proto.name().to_owned());
            }
            let mut node = Node::from_proto(proto);
            node.position = (position as u32, 0);
            node.bodies = bodies;
            let id = graph.insert_node(node, operands.len(), results.len());
            for (slot, name) in results.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                let value = self.define(
                    graph,
                    name,
                    Origin::Result,
                    || format!("result {slot} of node {position}"),
                    slot,
                )?;
                graph.connect_result(id, slot, value);
            }
            pending.push((id, operands));
        }
        for (id, operands) in pending {
            for (slot, name) in operands.into_iter().enumerate().filter(|(_, n)| !n.is_empty()) {
                let value = match graph.find(&name) {
                    Some(value) => value,
                    None if depth > 0 => graph.insert_value(name, Origin::Captured),
                    None => {
                        let node = graph.node(id);
                        return Err(IrError::UndefinedValue {
                            node: node.name().to_owned(),
                            op: node.op_type().to_owned(),
                            slot,
                            value: name,
                        });
                    }
                };
                graph.connect_operand(value, id, slot);
            }
            capture(graph, id, depth)?;
        }
        Ok(())
    }

    fn bodies(
        &mut self,
        node: &mut NodeProto,
        depth: usize,
    ) -> Result<Vec<(BodySlot, Graph)>, IrError> {
        let mut bodies = Vec::new();
        for (attribute, proto) in node.attribute.iter_mut().enumerate() {
            self.inline_attribute(proto)?;
            if (proto.g.is_some() || !proto.graphs.is_empty()) && depth >= MAX_BODY_DEPTH {
                let node = node.name().to_owned();
                return Err(IrError::TooDeep { node, limit: MAX_BODY_DEPTH });
            }
            if let Some(body) = proto.g.take() {
                bodies.push((BodySlot { attribute, item: None }, self.graph(body, depth + 1)?));
            }
            for (item, body) in std::mem::take(&mut proto.graphs).into_iter().enumerate() {
                let slot = BodySlot { attribute, item: Some(item) };
                bodies.push((slot, self.graph(body, depth + 1)?));
            }
        }
        Ok(bodies)
    }

    fn define(
        &mut self,
        graph: &mut Graph,
        name: &str,
        origin: Origin,
        what: impl Fn() -> String,
        slot: usize,
    ) -> Result<ValueId, IrError> {
        if name.is_empty() {
            return Err(IrError::UnnamedBoundary { slot });
        }
        if let Some(first) = graph.find(name) {
            let first = match graph.producer(first) {
                Some((node, _)) => format!("node {:?}", graph.node(node).name()),
                None => format!("{:?}", graph.value(first).origin).to_lowercase(),
            };
            return Err(IrError::DefinedTwice { value: name.to_owned(), first, second: what() });
        }
        self.pool.take(name);
        Ok(graph.insert_value(name.to_owned(), origin))
    }

    fn initializer(
        &mut self,
        graph: &mut Graph,
        name: &str,
        slot: usize,
    ) -> Result<ValueId, IrError> {
        let listed = graph.find(name).filter(|id| graph.value(*id).origin == Origin::Input);
        let overridable = self.has_training || (listed.is_some() && self.ir_version >= 4);
        let origin = Origin::Initializer { overridable };
        let id = match listed {
            Some(id) => {
                graph.value_mut(id).origin = origin;
                id
            }
            None => self.define(graph, name, origin, || format!("initializer {slot}"), slot)?,
        };
        graph.push_initializer(id);
        Ok(id)
    }

    fn tensor(&mut self, proto: TensorProto) -> Result<Tensor, IrError> {
        let external = self.external_bytes(&proto)?;
        Tensor::from_proto(proto, external)
    }

    fn external_bytes(&mut self, proto: &TensorProto) -> Result<Option<Bytes>, IrError> {
        if proto.data_location() != DataLocation::External {
            return Ok(None);
        }
        let reference = ExternalRef::of(proto)?;
        let bytes = (self.external)(&reference)?;
        let elements: Option<usize> =
            proto.dims.iter().try_fold(1_usize, |n, d| n.checked_mul(usize::try_from(*d).ok()?));
        let needed = elements
            .and_then(|n| crate::DataType::from_code(proto.data_type()).byte_len(n))
            .filter(|needed| reference.length.is_none() && *needed < bytes.len());
        Ok(Some(needed.map_or(bytes.clone(), |needed| bytes.slice(..needed))))
    }

    /// Gives a tensor outside the initializers its bytes, so that the model can move elsewhere.
    fn inline_tensor(&mut self, proto: &mut TensorProto) -> Result<(), IrError> {
        if let Some(bytes) = self.external_bytes(proto)? {
            proto.raw_data = Some(bytes);
            proto.external_data.clear();
            proto.data_location = None;
        }
        Ok(())
    }

    fn inline_attribute(&mut self, proto: &mut AttributeProto) -> Result<(), IrError> {
        for tensor in proto.t.iter_mut().chain(&mut proto.tensors) {
            self.inline_tensor(tensor)?;
        }
        for sparse in proto.sparse_tensor.iter_mut().chain(&mut proto.sparse_tensors) {
            for part in sparse.values.iter_mut().chain(&mut sparse.indices) {
                self.inline_tensor(part)?;
            }
        }
        Ok(())
    }

    fn inline_nodes(&mut self, nodes: &mut [NodeProto]) -> Result<(), IrError> {
        for attribute in nodes.iter_mut().flat_map(|node| &mut node.attribute) {
            self.inline_attribute(attribute)?;
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                self.inline_graph(graph)?;
            }
        }
        Ok(())
    }

    fn inline_graph(&mut self, graph: &mut GraphProto) -> Result<(), IrError> {
        for tensor in &mut graph.initializer {
            self.inline_tensor(tensor)?;
        }
        self.inline_nodes(&mut graph.node)
    }
}

fn declared(info: &ValueInfoProto) -> Option<TensorType> {
    TensorType::from_proto(info.r#type.as_ref()?)
}

/// Connects the values that the bodies of `id` capture; passes on the values that the next outer graph defines.
fn capture(graph: &mut Graph, id: NodeId, depth: usize) -> Result<(), IrError> {
    let mut names: Vec<String> = graph.node(id).bodies().flat_map(Graph::captured_names).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let value = match graph.find(&name) {
            Some(value) => value,
            None if depth > 0 => graph.insert_value(name, Origin::Captured),
            None => {
                let node = graph.node(id);
                return Err(IrError::UndefinedValue {
                    node: node.name().to_owned(),
                    op: node.op_type().to_owned(),
                    slot: node.operand_slots,
                    value: name,
                });
            }
        };
        graph.connect_capture(value, id);
    }
    Ok(())
}

/// Declared types from `value_info`, and pins from quantization annotations.
fn annotate(graph: &mut Graph) {
    let infos = std::mem::take(&mut graph.header.value_info);
    for info in &infos {
        if let Some(id) = graph.find(info.name()) {
            let value = graph.value_mut(id);
            value.declared = value.declared.take().or_else(|| declared(info));
        }
    }
    graph.header.value_info = infos;
    let pinned: Vec<ValueId> = graph
        .header
        .quantization_annotation
        .iter()
        .flat_map(|annotation| {
            let parts = annotation
                .quant_parameter_tensor_names
                .iter()
                .map(crate::proto::StringStringEntryProto::value);
            std::iter::once(annotation.tensor_name()).chain(parts)
        })
        .filter_map(|name| graph.find(name))
        .collect();
    for id in pinned {
        graph.value_mut(id).pinned = true;
    }
}

/// Lends constant outer initializers to the bodies that capture them.
fn share_constants(graph: &mut Graph) {
    for id in graph.nodes() {
        if !graph.node(id).has_bodies() {
            continue;
        }
        let constants: Vec<(String, Tensor)> = graph
            .captures(id)
            .into_iter()
            .filter_map(|value| {
                let tensor = graph.constant_initializer(value)?.clone();
                Some((graph.value(value).name.clone(), tensor))
            })
            .collect();
        for body in graph.bodies_mut(id) {
            for (name, tensor) in &constants {
                if let Some(value) = body.find(name)
                    && body.value(value).origin == Origin::Captured
                {
                    body.value_mut(value).tensor = Some(tensor.clone());
                }
            }
            share_constants(body);
        }
    }
}
