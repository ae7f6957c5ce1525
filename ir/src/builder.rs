//! Builds models by name, for generators and tests.

use crate::attribute::AttributeValue;
use crate::codec::{Model, no_external_data};
use crate::dtype::DataType;
use crate::error::IrError;
use crate::node::Node;
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    attribute_proto::AttributeType,
};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

/// The IR version that came with an opset of the default domain.
fn ir_version_of(opset: i64) -> i64 {
    match opset {
        ..=8 => 3,
        9 => 4,
        10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        _ => 12,
    }
}

/// Collects the parts of a model; [`ModelBuilder::build`] checks them.
#[derive(Clone, Debug)]
pub struct ModelBuilder {
    model: ModelProto,
    graph: GraphProto,
}

impl ModelBuilder {
    /// An empty model with this opset of the default domain and the IR version of that time.
    #[must_use]
    pub fn new(opset: i64) -> Self {
        let model = ModelProto {
            ir_version: Some(ir_version_of(opset)),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(opset),
            }],
            ..ModelProto::default()
        };
        Self { model, graph: GraphProto { name: Some("graph".into()), ..GraphProto::default() } }
    }

    /// Sets the IR version.
    pub fn ir_version(&mut self, version: i64) -> &mut Self {
        self.model.ir_version = Some(version);
        self
    }

    /// Sets producer name and version.
    pub fn producer(&mut self, name: &str, version: &str) -> &mut Self {
        self.model.producer_name = Some(name.to_owned());
        self.model.producer_version = Some(version.to_owned());
        self
    }

    /// Sets the graph name.
    pub fn graph_name(&mut self, name: &str) -> &mut Self {
        self.graph.name = Some(name.to_owned());
        self
    }

    /// Adds an opset import.
    pub fn opset(&mut self, domain: &str, version: i64) -> &mut Self {
        self.model
            .opset_import
            .push(OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) });
        self
    }

    /// Adds a model `metadata_props` entry.
    pub fn metadata(&mut self, key: &str, value: &str) -> &mut Self {
        self.model.metadata_props.push(StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        });
        self
    }

    /// Adds a graph input. A dim is a number or, as text, a symbol.
    pub fn input(&mut self, name: &str, dtype: DataType, dims: &[Dim]) -> &mut Self {
        let ty = TensorType { dtype, shape: Some(dims.to_vec()) };
        self.graph.input.push(ty.to_value_info(name));
        self
    }

    /// Adds a graph output; `dims` is `None` if the shape is left open.
    pub fn output(&mut self, name: &str, dtype: DataType, dims: Option<&[Dim]>) -> &mut Self {
        let ty = TensorType { dtype, shape: dims.map(<[Dim]>::to_vec) };
        self.graph.output.push(ty.to_value_info(name));
        self
    }

    /// Adds a `value_info` entry.
    pub fn value_info(&mut self, name: &str, dtype: DataType, dims: &[Dim]) -> &mut Self {
        let ty = TensorType { dtype, shape: Some(dims.to_vec()) };
        self.graph.value_info.push(ty.to_value_info(name));
        self
    }

    /// Adds an initializer.
    pub fn initializer(&mut self, name: &str, tensor: &Tensor) -> &mut Self {
        let mut proto = tensor.proto().clone();
        proto.name = Some(name.to_owned());
        self.graph.initializer.push(proto);
        self
    }

    /// Adds a node; an empty operand or result name means an absent one.
    pub fn node(&mut self, node: Node, operands: &[&str], results: &[&str]) -> &mut Self {
        let mut proto: NodeProto = node.proto;
        proto.input = operands.iter().map(ToString::to_string).collect();
        proto.output = results.iter().map(ToString::to_string).collect();
        self.graph.node.push(proto);
        self
    }

    /// Adds a `Constant` node of a tensor.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> &mut Self {
        let node = Node::new("Constant").with("value", AttributeValue::Tensor(tensor));
        self.node(node, &[], &[name])
    }

    /// Adds a node with bodies (`If`, `Loop`, `Scan`); each body is another builder's graph.
    pub fn node_with_bodies(
        &mut self,
        node: Node,
        bodies: Vec<(&str, Self)>,
        operands: &[&str],
        results: &[&str],
    ) -> &mut Self {
        self.node(node, operands, results);
        if let Some(proto) = self.graph.node.last_mut() {
            for (name, body) in bodies {
                proto.attribute.push(AttributeProto {
                    name: Some(name.to_owned()),
                    r#type: Some(AttributeType::Graph as i32),
                    g: Some(body.graph),
                    ..AttributeProto::default()
                });
            }
        }
        self
    }

    /// Adds a local function; its body takes another builder's nodes, and its inputs and outputs by name.
    pub fn function(&mut self, domain: &str, name: &str, body: Self) -> &mut Self {
        let names = |infos: Vec<crate::proto::ValueInfoProto>| {
            infos.into_iter().filter_map(|info| info.name).collect()
        };
        self.model.functions.push(crate::proto::FunctionProto {
            name: Some(name.to_owned()),
            domain: Some(domain.to_owned()),
            input: names(body.graph.input),
            output: names(body.graph.output),
            node: body.graph.node,
            opset_import: body.model.opset_import,
            ..crate::proto::FunctionProto::default()
        });
        self
    }

    /// The message as it stands, for tests with malformed models.
    #[must_use]
    pub fn proto(&self) -> ModelProto {
        ModelProto { graph: Some(self.graph.clone()), ..self.model.clone() }
    }

    /// The model.
    ///
    /// # Errors
    /// See [`Model::from_proto`].
    pub fn build(&self) -> Result<Model, IrError> {
        Model::from_proto(self.proto(), &mut no_external_data)
    }
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Self::Known(size)
    }
}

impl From<&str> for Dim {
    fn from(symbol: &str) -> Self {
        Self::Symbol(symbol.into())
    }
}
