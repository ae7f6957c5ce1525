//! `GroupNormalization`: x̂ normalized over the channels of a group and space, y = x̂ ⊙ γ + β; γ and β are [C], or
//! [groups] before opset 21. x̄ as in `layer_normalization`, γ̄ = Σ ȳ⊙x̂, β̄ = Σ ȳ.

use super::layer_normalization::Normalized;
use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let groups = site.read(emit).int("num_groups").and_then(|g| usize::try_from(g).ok());
    let Some(groups) = groups.filter(|groups| *groups > 0) else {
        return Err(site.refuse(emit, "num_groups is missing"));
    };
    let scale = if emit.opset() < 21 { Scale::Groups } else { Scale::Channels };
    grouped(emit, site, groups, scale)
}

/// The unit that has one entry of γ and β.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Each channel.
    Channels,
    /// Each group.
    Groups,
}

/// The gradients, with x viewed as [N, G, C/G, space].
pub(super) fn grouped(
    emit: &mut Emit<'_>,
    site: &Site,
    groups: usize,
    per: Scale,
) -> Result<Vec<Cotangent>> {
    let (x, scale) = (site.operand(emit, 0)?, site.operand(emit, 1)?);
    let dims = emit.dims(x)?;
    let epsilon = f64::from(site.read(emit).float("epsilon").unwrap_or(1e-5));
    let space: usize = dims[2..].iter().product();
    let apart = [dims[0], groups, dims[1] / groups, space];
    let factor = match per {
        Scale::Channels => [1, groups, dims[1] / groups, 1],
        Scale::Groups => [1, groups, 1, 1],
    };
    let dy = site.dy(emit)?;
    let dy = emit.reshape(dy, &apart)?;
    let x = emit.reshape(x, &apart)?;
    let normal = Normalized::new(emit, x, &[2, 3], epsilon)?;
    let mut back = vec![Cotangent::NotDifferentiable; 3];
    if site.wants(0) {
        let scale = emit.reshape(scale, &factor)?;
        let g = emit.mul(dy, scale)?;
        let dx = normal.input_gradient(emit, g)?;
        back[0] = Cotangent::Value(emit.reshape(dx, &dims)?);
    }
    let count = factor.iter().product();
    if site.wants(1) {
        let product = emit.mul(dy, normal.value)?;
        let sum = emit.sum_to(product, &factor)?;
        back[1] = Cotangent::Value(emit.reshape(sum, &[count])?);
    }
    if site.wants(2) {
        let sum = emit.sum_to(dy, &factor)?;
        back[2] = Cotangent::Value(emit.reshape(sum, &[count])?);
    }
    Ok(back)
}
