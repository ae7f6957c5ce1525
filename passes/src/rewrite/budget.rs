//! The limit in bytes on a border map.

use crate::error::Declined;
use crate::kernel::AffineMap;
use crate::rule::Context;

/// Bytes one border map may take: the larger of the fixed budget and the share of the model.
#[must_use]
pub fn limit(cx: &Context<'_>) -> usize {
    let share = cx.options.model_bytes as f64 * cx.options.border_share;
    cx.options.border_bytes.max(share as usize)
}

/// Checks the border map of a planned operator.
///
/// # Errors
/// `border-too-large`.
pub fn check(cx: &Context<'_>, map: &AffineMap, element_bytes: usize) -> Result<(), Declined> {
    map.check_border_bytes(element_bytes, limit(cx))
        .map_err(|obstacle| Declined::new(obstacle.reason(), obstacle.to_string()))
}
