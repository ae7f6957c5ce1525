//! Errors of the IR: messages for a malformed or unsupported model, with stable `I` codes.

use crate::dtype::DataType;

/// A model that cannot be read, or an edit that would break the graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum IrError {
    #[error("the file is not an ONNX model: {detail}")]
    Decode { detail: String },
    #[error("the model has no graph")]
    NoGraph,
    #[error("the model is written in IR version {found}, this build knows up to {newest}")]
    NewerIr { found: i64, newest: i64 },
    #[error("the file is empty")]
    Empty,
    #[error("the model imports no opset of the default domain, but node {node:?} ({op}) needs one")]
    NoOpset { node: String, op: String },
    #[error("the model would take {bytes} bytes, above the 2 GB limit of one protobuf file")]
    TooLargeForOneFile { bytes: u64 },

    #[error("operand {slot} of node {node:?} ({op}) reads {value:?}, which nothing defines")]
    UndefinedValue { node: String, op: String, slot: usize, value: String },
    #[error("value {value:?} is defined twice: by {first} and by {second}")]
    DefinedTwice { value: String, first: String, second: String },
    #[error("graph output {value:?} is defined by nothing")]
    UndefinedOutput { value: String },
    #[error("the nodes {nodes:?} depend on each other in a cycle")]
    Cycle { nodes: Vec<String> },
    #[error("graph input or output {slot} has no name")]
    UnnamedBoundary { slot: usize },
    #[error("bodies are nested deeper than {limit} levels at node {node:?}")]
    TooDeep { node: String, limit: usize },
    #[error("node {node:?} has no operator type")]
    NoOpType { node: String },
    #[error("attribute {attribute:?} appears twice on node {node:?}")]
    AttributeTwice { node: String, attribute: String },
    #[error("attribute {attribute:?} of node {node:?} ({op}) is not usable: {detail}")]
    BadAttribute { node: String, op: String, attribute: String, detail: String },
    #[error("result {slot} of node {node:?} ({op}) has no name: {detail}")]
    UnnamedResult { node: String, op: String, slot: usize, detail: String },
    #[error("the element type of value {value:?} is not known, so nothing can be cut out there")]
    UnknownType { value: String },

    #[error("tensor {name:?} has a negative dim {dim}")]
    BadTensorDims { name: String, dim: i64 },
    #[error("tensor {name:?} has more elements than memory can address")]
    TensorTooLarge { name: String },
    #[error("tensor {name:?} needs {expected} bytes or elements, found {found}")]
    TensorLength { name: String, expected: usize, found: usize },
    #[error("dtype {dtype} where {wanted} is needed")]
    UnsupportedDtype { dtype: DataType, wanted: &'static str },
    #[error("tensor {name:?} keeps its data in another file, which was not given")]
    ExternalDataMissing { name: String },
    #[error(
        "tensor {name:?} names the external file {location:?}, which leaves the model's folder"
    )]
    ExternalPathEscapes { name: String, location: String },
    #[error("external data of tensor {name:?} is not usable: {detail}")]
    ExternalData { name: String, detail: String },

    #[error("value {value:?} is still read and cannot be removed")]
    StillRead { value: String },
    #[error("the name {name:?} is already taken")]
    NameTaken { name: String },
    #[error("an id outlived the vertex it named")]
    StaleId,
    #[error("node {node:?} has no result slot {slot}")]
    NoSlot { node: String, slot: usize },
    #[error("two nodes would be written under the name {node:?}")]
    NodeNameTwice { node: String },
    #[error("invariant {number} of the graph does not hold: {detail}")]
    Broken { number: u8, detail: String },
}

impl IrError {
    /// The stable code shown to users; docs/errors.md gives cause and cure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Decode { .. } => "I0001",
            Self::NoGraph => "I0002",
            Self::NewerIr { .. } => "I0003",
            Self::Empty => "I0004",
            Self::NoOpset { .. } => "I0005",
            Self::TooLargeForOneFile { .. } => "I0006",
            Self::UndefinedValue { .. } => "I0102",
            Self::DefinedTwice { .. } => "I0103",
            Self::UndefinedOutput { .. } => "I0104",
            Self::Cycle { .. } => "I0105",
            Self::UnnamedBoundary { .. } => "I0106",
            Self::TooDeep { .. } => "I0107",
            Self::NoOpType { .. } => "I0108",
            Self::AttributeTwice { .. } => "I0109",
            Self::BadAttribute { .. } => "I0110",
            Self::UnnamedResult { .. } => "I0111",
            Self::UnknownType { .. } => "I0112",
            Self::BadTensorDims { .. } | Self::TensorTooLarge { .. } => "I0201",
            Self::TensorLength { .. } => "I0203",
            Self::UnsupportedDtype { .. } => "I0204",
            Self::ExternalDataMissing { .. } => "I0205",
            Self::ExternalPathEscapes { .. } => "I0206",
            Self::ExternalData { .. } => "I0207",
            Self::StillRead { .. } => "I0301",
            Self::NameTaken { .. } => "I0302",
            Self::StaleId => "I0303",
            Self::NoSlot { .. } => "I0304",
            Self::Broken { .. } => "I0305",
            Self::NodeNameTwice { .. } => "I0306",
        }
    }

    /// Whether the model is at fault (exit 3), not this program (exit 1).
    #[must_use]
    pub fn is_bad_model(&self) -> bool {
        !self.code().starts_with("I03")
    }
}
