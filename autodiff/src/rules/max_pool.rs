//! `MaxPool`: y = max of a window; ȳ goes to the first position of the window that equals y.
//!
//! The rule uses masks instead of the operator's `Indices`, because not every provider returns `Indices`. For each
//! position of the window, the rule compares the strided slice of x with y. One transposed convolution with a one-hot
//! kernel puts the shares back.

use updp_ir::ValueId;

use super::average_pool::PoolWindow;
use super::site::{Cotangent, Site, first};
use crate::convolution::{Geometry, one_hot};
use crate::emit::Emit;
use crate::error::Result;

/// A number below every number that a network computes.
const LOWEST: f64 = -3.4e38;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let (x, y) = (site.operand(emit, 0)?, site.y(emit)?);
    let dims = emit.dims(x)?;
    let geometry = PoolWindow::of(emit, site)?.geometry;
    let dy = site.dy(emit)?;
    let mut flat = vec![geometry.batch, 1];
    flat.extend(&geometry.output);
    let mut input = vec![geometry.batch, 1];
    input.extend(&geometry.input);
    let (x, y) = (emit.reshape(x, &input)?, emit.reshape(y, &flat)?);
    let mut rest = emit.reshape(dy, &flat)?;
    let padded = padded(emit, &geometry, x)?;
    let positions = geometry.positions();
    let mut shares = Vec::with_capacity(positions.len());
    for (at, position) in positions.iter().enumerate() {
        if at + 1 == positions.len() {
            shares.push(rest);
            break;
        }
        let seen = seen(emit, &geometry, padded, position)?;
        let is_chosen = emit.mask("Equal", seen, y)?;
        let share = emit.mul(rest, is_chosen)?;
        rest = emit.sub(rest, share)?;
        shares.push(share);
    }
    let shares = emit.concat(&shares, 1)?;
    let dtype = emit.dtype(x)?;
    let kernel = one_hot(&geometry.kernel);
    let mut kernel_dims = vec![positions.len(), 1];
    kernel_dims.extend(&geometry.kernel);
    let weight = emit.floats(dtype, &kernel_dims, &kernel)?;
    let scatter = Geometry { out_channels: positions.len(), ..geometry };
    let dx = scatter.input_gradient(emit, weight, shares)?;
    Ok(first(emit.reshape(dx, &dims)?))
}

/// x with the surroundings that a window reaches.
fn padded(emit: &mut Emit<'_>, geometry: &Geometry, x: ValueId) -> Result<ValueId> {
    let mut begin = vec![0, 0];
    begin.extend(geometry.begin.iter().map(|pad| *pad as i64));
    let mut end = vec![0, 0];
    end.extend(geometry.end());
    emit.pad(x, &begin, &end, LOWEST)
}

/// The entries that all windows see at one of their positions.
fn seen(
    emit: &mut Emit<'_>,
    geometry: &Geometry,
    padded: ValueId,
    position: &[usize],
) -> Result<ValueId> {
    let space = geometry.kernel.len();
    let axes: Vec<usize> = (2..2 + space).collect();
    let start: Vec<usize> = (0..space).map(|a| position[a] * geometry.dilations[a]).collect();
    let end: Vec<usize> =
        (0..space).map(|a| start[a] + (geometry.output[a] - 1) * geometry.strides[a] + 1).collect();
    emit.slice(padded, &axes, &start, &end, &geometry.strides)
}
