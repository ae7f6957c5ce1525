//! Edits that change the function of a network. Only pruning calls them; later steps recover the accuracy.
//!
//! [`expand`] gives every chosen block a second, linear flow beside its own and mixes the two by λ. [`blend`] does the
//! same with fitted operators.
//! [`move_geometry`] moves paddings and strides and shrinks kernels, so that the second flow is one
//! operator. [`fade_kernels`] does the same, but lets kernels shrink little by little. [`settle`] fixes λ at 1 and
//! drops everything that no longer counts; [`subnet`] fixes λ block by block. The pipeline of exact rules then
//! merges the rest.

mod blend;
mod expand;
mod fade;
mod form;
mod gate;
#[cfg(test)]
mod gate_tests;
mod geometry;
mod heads;
mod layers;
mod low_rank;
mod mix;
mod opaque;
#[cfg(test)]
mod opaque_tests;
mod open_batch;
mod reach;
mod settle;
mod site;
mod slicer;
mod statistics;
mod substitute;
#[cfg(test)]
mod tests;
mod thin;

pub use blend::blend;
pub use expand::{Expansion, InsertedNorm, LAMBDA_INPUT, expand};
pub use fade::{SHRINK_INPUT, fade_kernels};
pub use form::{Form, forms};
pub use geometry::{Shrink, move_geometry, moved, with_context};
pub use layers::{Layer, layers, outer_layers};
pub use open_batch::{computed_from, data_inputs, open_batch};
pub use settle::{
    drop_baseline, entries as lambda_entries, fix_lambda, fix_shrink, settle, subnet,
};
pub use site::{Fitted, Site, Thin, site, sites};
pub use statistics::{Statistics, calibration_model, set_statistics};
pub use substitute::{fit_part, frontier, part_between, stand_in, substitute};
pub use thin::thin_map;

use updp_ir::{DataType, Model, Node, NodeId};

use crate::blocks::{self, Block};
use crate::error::{Declined, PassError};
use crate::kernel::AffineMap;
use crate::lift::weights;
use crate::options::Options;
use crate::patch::{Operand, Out, Patch};
use crate::pipeline;

/// A block with the form that it is pruned to.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The block.
    pub block: Block,
    /// Its pruned form.
    pub form: Form,
}

/// The blocks of a prepared model.
///
/// # Errors
/// I0105 when the graph has a cycle.
pub fn blocks_of(model: &Model) -> Result<Vec<Block>, PassError> {
    Ok(with_context(model, blocks::find)?)
}

/// One block of a prepared model as a model of its own, from its source to its result.
///
/// # Errors
/// The errors of cutting out the part.
pub fn part_of(model: &Model, block: &Block) -> Result<Model, PassError> {
    with_context(model, |cx| Ok(model.extract(cx.shapes, &[block.source], &[block.result])?))
}

/// Prunes `choices` of a prepared model up to the settled network, which is not yet merged.
///
/// # Errors
/// As [`move_geometry`], [`expand`] and [`settle`].
pub fn prune(model: &mut Model, choices: &[Choice], shrink: Shrink) -> Result<(), PassError> {
    move_geometry(model, choices, shrink)?;
    expand(model, choices, shrink)?;
    settle(model)?;
    Ok(())
}

/// Prunes the only block of a part (see [`part_of`]) to `form` and merges it.
///
/// # Errors
/// P0004 when the block does not offer the form; otherwise as [`prune`] and the pipeline.
pub fn prune_part(
    part: &mut Model,
    form: Form,
    shrink: Shrink,
    options: &Options,
) -> Result<(), PassError> {
    let block = only_block(part)?;
    if !forms(&block).contains(&form) {
        let detail = format!("it has no form {:?}", form.name());
        return Err(block.refused(Declined::new("no-such-form", detail)));
    }
    prune(part, &[Choice { block, form }], shrink)?;
    pipeline::compile(part, options, &mut |_, _| {})?;
    Ok(())
}

/// The block at the end of a part.
fn only_block(part: &Model) -> Result<Block, PassError> {
    let result = part.graph.outputs().next();
    let block = blocks_of(part)?.into_iter().find(|block| Some(block.result) == result);
    block.ok_or(PassError::NoBlock)
}

/// Plans a Conv with the weights of a map; a bias of zeros is left out.
fn plan_conv(
    patch: &mut Patch,
    anchor: NodeId,
    dtype: DataType,
    name: &str,
    x: Operand,
    map: &AffineMap,
    out: Out,
) -> Result<Operand, Declined> {
    let values: Vec<f64> = map.weight.iter().copied().collect();
    let weight = weights::stored(dtype, map.weight.shape().to_vec(), &values)?;
    let mut operands = vec![x, patch.constant(format!("{name}.weight"), weight, None)];
    if map.bias.iter().any(|b| *b != 0.0) {
        let bias = weights::stored(dtype, vec![map.bias.len()], &map.bias)?;
        operands.push(patch.constant(format!("{name}.bias"), bias, None));
    }
    let pads = map.geometry().pads();
    let conv = Node::new("Conv")
        .named(name)
        .with("dilations", map.dilation.as_slice())
        .with("group", map.groups as i64)
        .with("kernel_shape", map.kernel_size())
        .with("pads", pads.as_slice())
        .with("strides", map.stride.as_slice());
    Ok(patch.node(conv, anchor, operands, out))
}
