//! ONNX models as a petgraph graph: protobuf codec, value-centric graph API, typed operator views,
//! shape inference, validation and a text form.
//!
//! No other crate uses prost and petgraph. This crate opens no files: callers pass bytes (usually a
//! mapped file) and lend a resolver for external data.

pub mod attribute;
mod attributes;
mod boundary;
pub mod builder;
pub mod codec;
pub mod dtype;
mod edit;
pub mod error;
mod geometry;
mod graph;
mod id;
pub mod infer;
mod inline;
mod names;
mod node;
pub mod order;
pub mod proto;
mod tensor;
pub mod text;
mod types;
pub mod validate;
mod value;
pub mod view;

pub use attribute::AttributeValue;
pub use builder::ModelBuilder;
pub use codec::{DataPlacement, Encoded, ExternalRef, Model, no_external_data};
pub use dtype::DataType;
pub use edit::NewResult;
pub use error::IrError;
pub use geometry::{AutoPad, ConvAxis, ConvGeometry};
pub use graph::{Graph, Use};
pub use id::{NodeId, ValueId};
pub use node::Node;
pub use tensor::Tensor;
pub use types::{Dim, TensorType};
pub use value::{Origin, Value};
