//! Filters of the templates: `{{ value|number }}`.

#![expect(
    clippy::inline_always,
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "the macro `filter_fn` writes these, and asks for a result"
)]

use askama::{PrimitiveType, Values};

/// Three significant digits; see [`super::number`].
#[askama::filter_fn]
pub(crate) fn number(
    value: impl PrimitiveType<Value = f64>,
    _: &dyn Values,
) -> askama::Result<String> {
    Ok(super::number(value.get()))
}

/// A degradation in nats.
#[askama::filter_fn]
pub(crate) fn nats(
    value: impl PrimitiveType<Value = f64>,
    _: &dyn Values,
) -> askama::Result<String> {
    Ok(super::nats(value.get()))
}

/// A share in per cent.
#[askama::filter_fn]
pub(crate) fn percent(
    value: impl PrimitiveType<Value = f64>,
    _: &dyn Values,
) -> askama::Result<String> {
    Ok(super::percent(value.get()))
}
