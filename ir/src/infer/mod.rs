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
pub use eval::evaluate;
pub use shapes::Shapes;

#[cfg(test)]
mod tests;
