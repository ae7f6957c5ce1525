//! A node: one operator call, kept exactly as it was read.

use crate::attribute::{AttributeValue, to_proto};
use crate::graph::Graph;
use crate::names::NamePool;
use crate::proto::{AttributeProto, NodeProto, StringStringEntryProto, TensorProto};

/// Place of a body among the attributes of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodySlot {
    /// Index into the node's attributes.
    pub attribute: usize,
    /// Index into `graphs`, or `None` for the single graph `g`.
    pub item: Option<usize>,
}

/// One operator call without its operands and results, which are edges of the graph.
///
/// Unknown operators pass through untouched; [`crate::view`] reads known ones.
#[derive(Debug)]
pub struct Node {
    /// The message, with `input`, `output` and the bodies inside its attributes emptied.
    pub(crate) proto: NodeProto,
    pub(crate) bodies: Vec<(BodySlot, Graph)>,
    /// Operand and result slots, including absent ones.
    pub(crate) operand_slots: usize,
    pub(crate) result_slots: usize,
    /// Place in the file; breaks ties in topological order. New nodes inherit the place of their anchor.
    pub(crate) position: (u32, u32),
    pub(crate) serial: u32,
}

impl Node {
    /// The same node; its bodies draw fresh names from `pool`.
    pub(crate) fn copy_with(&self, pool: &NamePool) -> Self {
        let bodies = self.bodies.iter().map(|(slot, body)| (*slot, body.copy_with(pool)));
        Self {
            proto: self.proto.clone(),
            bodies: bodies.collect(),
            operand_slots: self.operand_slots,
            result_slots: self.result_slots,
            position: self.position,
            serial: self.serial,
        }
    }

    /// A node of the default domain without attributes.
    #[must_use]
    pub fn new(op_type: &str) -> Self {
        Self::from_proto(NodeProto { op_type: Some(op_type.to_owned()), ..NodeProto::default() })
    }

    pub(crate) fn from_proto(proto: NodeProto) -> Self {
        Self {
            proto,
            bodies: Vec::new(),
            operand_slots: 0,
            result_slots: 0,
            position: (u32::MAX, 0),
            serial: 0,
        }
    }

    /// The same node under another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.proto.name = Some(name.to_owned());
        self
    }

    /// The same node in another operator domain.
    #[must_use]
    pub fn in_domain(mut self, domain: &str) -> Self {
        self.proto.domain = Some(domain.to_owned());
        self
    }

    /// The same node with one more attribute, or with that attribute replaced.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<AttributeValue>) -> Self {
        let attribute = to_proto(name, value.into());
        match self.proto.attribute.iter_mut().find(|a| a.name() == name) {
            Some(old) => *old = attribute,
            None => self.proto.attribute.push(attribute),
        }
        self
    }

    /// The same node with the `metadata_props` and doc string of `other`, as a merged node keeps them.
    #[must_use]
    pub fn with_metadata_of(mut self, other: &Self) -> Self {
        self.proto.metadata_props.clone_from(&other.proto.metadata_props);
        self.proto.doc_string.clone_from(&other.proto.doc_string);
        self
    }

    /// The same node with `key = value` added to its `metadata_props`. An old value stays in front, separated
    /// by a comma.
    #[must_use]
    pub fn with_provenance(mut self, key: &str, value: &str) -> Self {
        match self.proto.metadata_props.iter_mut().find(|entry| entry.key() == key) {
            Some(entry) => entry.value = Some(format!("{},{value}", entry.value())),
            None => self.proto.metadata_props.push(StringStringEntryProto {
                key: Some(key.to_owned()),
                value: Some(value.to_owned()),
            }),
        }
        self
    }

    /// A copy of this node without operands, results and bodies, and without a place.
    #[must_use]
    pub fn bare_copy(&self) -> Self {
        Self::from_proto(self.proto.clone())
    }

    /// Node name; often empty or not unique.
    #[must_use]
    pub fn name(&self) -> &str {
        self.proto.name()
    }

    /// Operator type, such as `Conv`.
    #[must_use]
    pub fn op_type(&self) -> &str {
        self.proto.op_type()
    }

    /// Operator domain; `ai.onnx` reads as empty.
    #[must_use]
    pub fn domain(&self) -> &str {
        match self.proto.domain() {
            "ai.onnx" => "",
            domain => domain,
        }
    }

    /// Whether this is `op_type` of the default domain.
    #[must_use]
    pub fn is(&self, op_type: &str) -> bool {
        self.op_type() == op_type && self.domain().is_empty()
    }

    /// Names of the attributes in file order.
    pub fn attribute_names(&self) -> impl Iterator<Item = &str> {
        self.proto.attribute.iter().map(AttributeProto::name)
    }

    /// Whether the attribute is present in any form.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// An integer attribute.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name)?.i
    }

    /// A float attribute.
    #[must_use]
    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name)?.f
    }

    /// A UTF-8 string attribute.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attribute(name)?.s.as_ref()?).ok()
    }

    /// An integer list attribute; an empty list reads as present.
    #[must_use]
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        Some(&self.attribute(name)?.ints)
    }

    /// A float list attribute.
    #[must_use]
    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        Some(&self.attribute(name)?.floats)
    }

    /// The message of a tensor attribute.
    #[must_use]
    pub fn tensor_proto(&self, name: &str) -> Option<&TensorProto> {
        self.attribute(name)?.t.as_ref()
    }

    /// Whether an attribute takes its value from the enclosing function (`ref_attr_name`).
    #[must_use]
    pub fn has_reference_attribute(&self) -> bool {
        self.proto.attribute.iter().any(|a| a.ref_attr_name.is_some())
    }

    /// The raw attribute message.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name() == name)
    }

    /// `metadata_props` in file order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.proto.metadata_props.iter().map(|e| (e.key(), e.value()))
    }

    /// Bodies (If branches, Loop and Scan bodies) in attribute order.
    pub fn bodies(&self) -> impl Iterator<Item = &Graph> {
        self.bodies.iter().map(|(_, graph)| graph)
    }

    /// Whether the node has bodies.
    #[must_use]
    pub fn has_bodies(&self) -> bool {
        !self.bodies.is_empty()
    }
}
