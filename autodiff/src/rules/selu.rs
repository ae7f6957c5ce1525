//! `Selu`: y = γ·x for x > 0, else γα·(eˣ − 1); x̄ = ȳ ⊙ (γ·[x > 0] + [x ≤ 0] ⊙ (y + γα)).

use super::elu::exponential;
use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let node = site.read(emit);
    let alpha = f64::from(node.float("alpha").unwrap_or(1.673_263_2));
    let gamma = f64::from(node.float("gamma").unwrap_or(1.050_701));
    exponential(emit, site, gamma, gamma * alpha)
}
