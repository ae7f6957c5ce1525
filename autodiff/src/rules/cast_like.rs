//! `CastLike` between floats: x̄ is ȳ in the type of x.

pub(super) use super::cast::vjp;
