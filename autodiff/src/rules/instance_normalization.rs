//! `InstanceNormalization`: x̂ normalized over space for each image and channel, y = x̂ ⊙ γ + β, γ, β [C]. The
//! gradients are the same as for a group normalization with one channel per group.

use super::group_normalization::{Scale, grouped};
use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let channels = emit.dims(site.operand(emit, 0)?)?[1];
    grouped(emit, site, channels, Scale::Channels)
}
