//! A value: one name, with the file's declarations about it.

use crate::proto::SparseTensorProto;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The origin of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A graph input without a default.
    Input,
    /// An initializer; constant unless `overridable`.
    Initializer {
        /// Whether a caller may feed another tensor: it is also a graph input (IR 4 and above), or
        /// the model carries training information that updates it.
        overridable: bool,
    },
    /// The result of a node.
    Result,
    /// Defined in an enclosing graph and read inside this body.
    Captured,
}

/// One name of a graph.
#[derive(Clone, Debug)]
pub struct Value {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) tensor: Option<Tensor>,
    pub(crate) sparse: Option<Box<SparseTensorProto>>,
    pub(crate) declared: Option<TensorType>,
    /// How many times the value appears in the list of graph outputs.
    pub(crate) output_uses: u32,
    /// Named outside the nodes (by quantization annotations): never removed or renamed.
    pub(crate) pinned: bool,
    /// Index in the graph's list of initializers; meaningless for other values.
    pub(crate) place: usize,
    pub(crate) serial: u32,
}

impl Value {
    /// The name, never empty.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The origin of the value.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The type that the file declares; `None` if it declares none, or not a tensor type.
    #[must_use]
    pub fn declared(&self) -> Option<&TensorType> {
        self.declared.as_ref()
    }

    /// The initializer's tensor, overridable or not. For a captured value it is the tensor of the outer
    /// initializer, if that is a constant.
    #[must_use]
    pub fn tensor(&self) -> Option<&Tensor> {
        self.tensor.as_ref()
    }

    /// Whether something outside the nodes (a quantization annotation) names the value.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// Whether the value is a graph output.
    #[must_use]
    pub fn is_output(&self) -> bool {
        self.output_uses > 0
    }
}
