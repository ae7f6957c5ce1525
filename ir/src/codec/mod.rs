//! Converts between ONNX files and graphs.
//!
//! A model without edits is written back field by field, exactly as it was read.

mod decode;
mod encode;
mod external;
mod extract;
mod unknown;

pub use decode::no_external_data;
pub use encode::{DataPlacement, Encoded};
pub use external::ExternalRef;

use crate::error::IrError;
use crate::graph::Graph;
use crate::node::Node;
use crate::proto::ModelProto;

/// Deepest nesting of bodies that the reader accepts.
pub const MAX_BODY_DEPTH: usize = 32;

/// A model: its graph and everything around it.
#[derive(Debug)]
pub struct Model {
    /// The message with its graph taken out; functions, metadata and training information stay.
    pub(crate) header: ModelProto,
    /// Fields of the file that our schema does not know.
    pub(crate) unknown: unknown::Unknown,
    /// The main graph.
    pub graph: Graph,
}

/// Handles stay valid for the copy, and the copy shares the tensors.
impl Clone for Model {
    fn clone(&self) -> Self {
        let graph = self.graph.copy_with(&self.graph.pool.detached());
        Self { header: self.header.clone(), unknown: self.unknown.clone(), graph }
    }
}

impl Model {
    /// IR version of the file.
    #[must_use]
    pub fn ir_version(&self) -> i64 {
        self.header.ir_version()
    }

    /// Version of an opset domain (`""` is `ai.onnx`); `None` if it is not imported.
    #[must_use]
    pub fn opset(&self, domain: &str) -> Option<i64> {
        let plain = |d: &str| if d == "ai.onnx" { String::new() } else { d.to_owned() };
        self.header
            .opset_import
            .iter()
            .find(|import| plain(import.domain()) == plain(domain))
            .map(crate::proto::OperatorSetIdProto::version)
    }

    /// Every opset import as domain (empty for `ai.onnx`) and version, in file order.
    pub fn opsets(&self) -> impl Iterator<Item = (&str, i64)> {
        self.header.opset_import.iter().map(|import| (import.domain(), import.version()))
    }

    /// Imports an opset domain, unless it is already imported.
    pub fn import_opset(&mut self, domain: &str, version: i64) {
        if self.opset(domain).is_none() {
            self.header.opset_import.push(crate::proto::OperatorSetIdProto {
                domain: Some(domain.to_owned()),
                version: Some(version),
            });
        }
    }

    /// Changes the version of an imported domain; the caller has checked that every node means the same in it.
    pub fn set_opset(&mut self, domain: &str, version: i64) {
        let plain = |d: &str| if d == "ai.onnx" { String::new() } else { d.to_owned() };
        for import in &mut self.header.opset_import {
            if plain(import.domain()) == plain(domain) {
                import.version = Some(version);
            }
        }
    }

    /// Producer name and version as written.
    #[must_use]
    pub fn producer(&self) -> (&str, &str) {
        (self.header.producer_name(), self.header.producer_version())
    }

    /// Number of local functions.
    #[must_use]
    pub fn function_count(&self) -> usize {
        self.header.functions.len()
    }

    /// Domain and name of each local function.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.header.functions.iter().map(|function| (function.domain(), function.name()))
    }

    /// Model `metadata_props` in file order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.header.metadata_props.iter().map(|entry| (entry.key(), entry.value()))
    }

    /// Whether `node` is of the default domain and the model does not define a function with that
    /// name there. Its operator then has the meaning of the ONNX specification.
    #[must_use]
    pub fn is_standard(&self, node: &Node) -> bool {
        node.domain().is_empty()
            && !self.functions().any(|(domain, name)| {
                (domain.is_empty() || domain == "ai.onnx") && name == node.op_type()
            })
    }

    /// Checks every invariant that the other crates rely on; see `validate.rs`.
    ///
    /// # Errors
    /// The first broken invariant.
    pub fn validate(&self) -> Result<(), IrError> {
        crate::validate::model(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataType, Dim, ModelBuilder, Node, Tensor};

    fn model_with_body() -> Model {
        let two = [Dim::from(2)];
        let branch = || {
            let mut body = ModelBuilder::new(17);
            body.node(Node::new("Relu"), &["x"], &["inner"]);
            body.output("inner", DataType::Float, Some(&two));
            body
        };
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &two).input("is_on", DataType::Bool, &[]);
        builder.initializer("w", &Tensor::from_f32(vec![2], &[1.0, 2.0]).unwrap());
        builder.node(Node::new("Mul"), &["x", "w"], &["scaled"]);
        let bodies = vec![("then_branch", branch()), ("else_branch", branch())];
        builder.node_with_bodies(Node::new("If"), bodies, &["is_on"], &["chosen"]);
        builder.node(Node::new("Add"), &["scaled", "chosen"], &["y"]);
        builder.output("y", DataType::Float, None);
        builder.build().unwrap()
    }

    #[test]
    fn a_copy_has_the_same_handles_and_its_changes_stay_its_own() {
        let model = model_with_body();
        let bytes = |model: &Model| model.encode(&DataPlacement::Inline).unwrap().model_to_bytes();
        let before = bytes(&model);
        let mut copy = model.clone();
        assert_eq!(bytes(&copy), before);
        let weight = model.graph.find("w").unwrap();
        assert_eq!(copy.graph.value(weight).name(), "w");
        let shared = |model: &Model| model.graph.value(weight).tensor().unwrap().bytes().as_ptr();
        assert_eq!(shared(&model), shared(&copy));
        let fresh = |model: &mut Model| {
            let id = model.graph.add_initializer("w", Tensor::from_f32(vec![1], &[3.0]).unwrap());
            model.graph.value(id).name().to_owned()
        };
        assert_eq!(fresh(&mut copy), "w_1");
        assert_eq!(bytes(&model), before);
        let mut model = model;
        assert_eq!(fresh(&mut model), "w_1");
    }
}
