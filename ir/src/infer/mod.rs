//! What can be known without running a model: element types, shapes with symbolic dims, small
//! integer tensors with symbolic entries, and the exact value of constant expressions.
//!
//! Nothing here panics or allocates by a number read from the file: what is malformed or not
//! understood is simply not known.

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
