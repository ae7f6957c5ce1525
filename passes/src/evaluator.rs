//! How rules run constant expressions that they cannot compute themselves.

use std::fmt;
use std::sync::Arc;

use updp_ir::{Model, Tensor};

/// Runs models without inputs. This crate knows no runtime; a caller that has one gives it to the rules.
pub trait ConstantEvaluator: Send + Sync {
    /// The outputs of a model without inputs, in the order of the graph.
    ///
    /// # Errors
    /// Why no runtime computes them, as the end of a sentence.
    fn evaluate(&self, model: &Model) -> Result<Vec<Tensor>, String>;
}

/// A shared [`ConstantEvaluator`].
#[derive(Clone)]
pub struct Evaluator(Arc<dyn ConstantEvaluator>);

impl Evaluator {
    /// Shares an evaluator.
    pub fn new(evaluator: impl ConstantEvaluator + 'static) -> Self {
        Self(Arc::new(evaluator))
    }

    /// See [`ConstantEvaluator::evaluate`].
    ///
    /// # Errors
    /// See [`ConstantEvaluator::evaluate`].
    pub fn evaluate(&self, model: &Model) -> Result<Vec<Tensor>, String> {
        self.0.evaluate(model)
    }
}

impl fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Evaluator")
    }
}
