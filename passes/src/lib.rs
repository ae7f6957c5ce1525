//! Meaning-preserving rewrites of ONNX graphs: the affine algebra of weighted operators, the rules
//! built on it, and the driver that runs them to a fixpoint.

pub mod blocks;
pub mod cost;
mod driver;
mod error;
mod evaluator;
pub mod kernel;
mod left;
pub mod lift;
mod options;
mod patch;
pub mod pipeline;
pub mod rewrite;
mod rule;
mod summary;
pub mod surgery;

pub use driver::{Log, Observer, PROVENANCE_KEY, Phase, Refusal, Rewrite, run};
pub use error::{Declined, PassError, Stop};
pub use evaluator::{ConstantEvaluator, Evaluator};
pub use options::Options;
pub use patch::{Applied, Operand, Out, Patch};
pub use rule::{AnyRule, Context, Outcome, Rule, describe};
pub use summary::ModelSummary;
