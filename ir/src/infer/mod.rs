//! Facts that are known without running a model: element types, shapes with symbolic dims, small
//! integer tensors with symbolic entries, and the exact value of constant expressions.
//!
//! Nothing here panics, and no number read from the file decides an allocation. Malformed or unsupported
//! parts simply stay unknown.

mod attributes;
mod entry;
pub mod eval;
mod rules;
mod shapes;

pub use entry::Entry;
pub use eval::{evaluate, is_evaluated};
pub use shapes::Shapes;

/// Whether shapes or dtypes of the results of an operator of the default domain can be inferred.
#[must_use]
pub fn is_inferred(op_type: &str) -> bool {
    rules::has_rule(op_type) || is_evaluated(op_type) || shapes::BRANCHING == op_type
}

#[cfg(test)]
mod tests;
