//! Gradients of convolutions: the geometry, the choice of the form for a layer, and the forms.

mod choice;
mod geometry;
mod input_gradient;
mod weight_gradient;

pub(crate) use geometry::{Geometry, one_hot, positions};
