//! Blends fitted operators in for branches, little by little: `(1 − λ)·branch + λ·fitted`.
//!
//! At λ = 0 the network equals the original network. At λ = 1 it equals the network that [`super::substitute`]
//! makes; [`super::settle`] fixes λ there. A dropped branch has no fitted part to mix with:
//! `(1 − λ)·(branch + shortcut) + λ·shortcut`.

use updp_ir::{IrError, Model, ValueId};

use super::geometry::{apply, with_context};
use super::mix::{Mixer, add_lambda, free_prefix, taken_over};
use super::substitute::{find, operators, refused};
use super::{Fitted, Site};
use crate::error::{Declined, PassError};
use crate::patch::{Out, Patch};
use crate::rule::Context;

/// Mixes fitted operators into a network that has the names of the network they were fitted in. The entries of λ are in
/// the given order.
///
/// # Errors
/// P0004 when a weight leaves the range of the dtype or a branch cannot be mixed, P0009 when the model already has a λ,
/// I0303 when a name of a site does not exist.
pub fn blend(model: &mut Model, fits: &[(&Site, &Fitted)]) -> Result<(), PassError> {
    if fits.is_empty() {
        return Ok(());
    }
    let prefix = free_prefix(model);
    let lambda = add_lambda(model, fits.len())?;
    for (at, (site, fitted)) in fits.iter().enumerate() {
        let prefix = format!("{prefix}.block{}", site.block);
        let patch = with_context(model, |cx| plan(cx, site, fitted, lambda, at, prefix))?;
        apply(model, patch, &site.name)?;
    }
    Ok(())
}

fn plan(
    cx: &Context<'_>,
    site: &Site,
    fitted: &Fitted,
    lambda: ValueId,
    index: usize,
    prefix: String,
) -> Result<Patch, PassError> {
    let mut patch = Patch::new();
    let target = find(cx, if *fitted == Fitted::Drop { &site.sum } else { &site.output })?;
    let (producer, _) = cx.graph.producer(target).ok_or(IrError::StaleId)?;
    let dtype = cx.shapes.dtype(target).ok_or(IrError::StaleId)?;
    let refuse = |declined| refused(site, declined);
    let mut mixer =
        Mixer::new(cx, &mut patch, lambda, index, dtype, prefix, producer).map_err(refuse)?;
    let new = match fitted {
        Fitted::Maps(maps) => {
            let out = Out::Fresh(format!("{}.fitted", site.output));
            operators(cx, &mut patch, site, maps, producer, &out)?
        }
        Fitted::Thin { .. } => {
            let detail = "a thin form cannot be blended in: its hidden channels leave at once";
            return Err(refuse(Declined::new("thin", detail)));
        }
        Fitted::Drop => find(cx, site.bypass())?.into(),
    };
    let old = taken_over(cx, &mut patch, target).map_err(refuse)?;
    mixer.mix(cx, &mut patch, old, new, Out::Value(target));
    Ok(patch)
}
