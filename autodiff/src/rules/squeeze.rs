//! `Squeeze`: x̄ is ȳ under the dims of x.

pub(super) use super::reshape::vjp;
