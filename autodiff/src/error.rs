//! Errors of differentiation and of building training steps.

use updp_ir::{DataType, IrError, Node};

/// Why a graph has no gradient, or a model no training step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum AutodiffError {
    #[error(
        "node {node:?} ({op}) lies between a parameter and the loss, and {op} has no gradient rule"
    )]
    Operator { node: String, op: String },
    #[error("node {node:?} ({op}) has a form without gradient: {detail}")]
    Form { node: String, op: String, detail: String },
    #[error("the shape of {value:?} is {shape}; gradients need every size as a number")]
    OpenShape { value: String, shape: String },
    #[error("the model has opset {found}; gradients are written in operators of opset {needed}")]
    Opset { found: i64, needed: i64 },
    #[error("{value:?} is {found}, where {expected} is needed")]
    Type { value: String, expected: String, found: String },
    #[error("node {node:?} cannot be trained as a BatchNormalization: {detail}")]
    NoBatchNorm { node: String, detail: String },
    #[error("the model has no parameter to train")]
    NoParameter,
    #[error("the loss cannot be made: {detail}")]
    Loss { detail: String },
    #[error("the state {state:?} does not fit the model: {detail}")]
    State { state: String, detail: String },
    #[error("the setting {setting} is {found}, {expected} is needed")]
    Setting { setting: &'static str, found: String, expected: &'static str },
    #[error("{target} does not take node {node:?} ({op}): {detail}")]
    Target { target: &'static str, node: String, op: String, detail: String },
    #[error(transparent)]
    Ir(#[from] IrError),
}

impl AutodiffError {
    /// The stable code shown to users. docs/errors.md lists its cause and cure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Operator { .. } => "T0301",
            Self::Form { .. } => "T0302",
            Self::OpenShape { .. } => "T0303",
            Self::Opset { .. } => "T0304",
            Self::Type { .. } => "T0305",
            Self::NoBatchNorm { .. } => "T0306",
            Self::NoParameter => "T0307",
            Self::Loss { .. } => "T0308",
            Self::State { .. } => "T0309",
            Self::Setting { .. } => "T0310",
            Self::Target { .. } => "T0311",
            Self::Ir(error) => error.code(),
        }
    }

    /// How to solve the error, or `None` when the message says enough.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Operator { .. } | Self::Form { .. } => {
                "freeze the parameters before this node, or fit in closed form (--recover fit)"
                    .into()
            }
            Self::OpenShape { .. } => "fix the sizes of the inputs with --input-shape".into(),
            Self::Opset { .. } => "export the model again, or convert it to a newer opset".into(),
            Self::NoParameter => "the list of frozen parameters may be too long".into(),
            Self::Target { .. } => {
                "export with opset 19 or older, or train on the processor (--device cpu)".into()
            }
            Self::Loss { .. } => "train against the outputs of a teacher instead".into(),
            _ => return None,
        })
    }

    /// T0311 for a node that a target does not support. `None` stands for an empty model.
    pub(crate) fn refused(target: &'static str, node: Option<&Node>, detail: String) -> Self {
        let name = node.map(|node| node.name().to_owned()).unwrap_or_default();
        let op = node.map(|node| node.op_type().to_owned()).unwrap_or_default();
        Self::Target { target, node: name, op, detail }
    }

    /// T0305 for a value that does not have the type that its place needs.
    pub(crate) fn dtype(value: &str, expected: &str, found: Option<DataType>) -> Self {
        let found = found.map_or_else(|| "of unknown type".to_owned(), |dtype| dtype.to_string());
        Self::Type { value: value.to_owned(), expected: expected.to_owned(), found }
    }
}

/// The result type of the functions of this crate.
pub type Result<T, E = AutodiffError> = std::result::Result<T, E>;
