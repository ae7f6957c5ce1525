//! Reverse-mode differentiation of ONNX graphs, and training steps as plain ONNX models.
//!
//! [`backward`] writes the gradients of chosen values into their graph, as standard operators that every runtime has.
//! [`train_form`] makes BatchNormalizations use the statistics of the batch. [`TrainingStep`] combines forward pass,
//! loss, gradients and optimizer in one model that maps parameters to better parameters. This crate does not run
//! models.
//!
//! Every size in a differentiated graph is a number, so a training step has a fixed batch size. Callers bind the batch
//! size first ([`updp_ir::Graph::set_input_dims`]).
//!
//! ```
//! use updp_autodiff::backward;
//! use updp_ir::{DataType, ModelBuilder, Node, TensorType};
//!
//! let mut builder = ModelBuilder::new(17);
//! builder.input("x", DataType::Float, &[2.into(), 3.into()]);
//! builder.node(Node::new("Tanh"), &["x"], &["y"]);
//! builder.output("y", DataType::Float, None);
//! let mut model = builder.build()?;
//! let (x, y) = (model.graph.find("x").unwrap(), model.graph.find("y").unwrap());
//! let ty = TensorType::fixed(DataType::Float, &[2, 3]);
//! let dy = model.graph.add_input("dy", &ty);
//! let gradients = backward(&mut model, &[(y, dy)], &[x])?;
//! model.graph.add_output(gradients[0].unwrap(), &ty)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alternative;
mod composite;
mod convolution;
mod driver;
mod emit;
mod emit_ops;
mod error;
mod lower;
mod rules;
pub mod step;
mod train_form;

pub use alternative::OPERATORS;
pub use driver::{backward, backward_through};
pub use emit::OLDEST_OPSET;
pub use error::{AutodiffError, Result};
pub use lower::{Precision, Target, check, lower, set_precision};
pub use rules::{GRADIENT_OPERATORS, NO_GRADIENT_OPERATORS, has_gradient};
pub use step::{StepNames, StepSpec, TrainingStep};
pub use train_form::{BatchStatistics, TrainForm, train_form};
