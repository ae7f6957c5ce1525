//! `Conv`: y = W ∗ x + b, x [N, I, …], W [O, I/g, k…]; `convolution/` has the forms of x̄ and W̄; b̄ = Σ ȳ over batch
//! and space.

use updp_ir::view;

use super::site::{Cotangent, Site};
use crate::convolution::Geometry;
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let (x, weight) = (site.operand(emit, 0)?, site.operand(emit, 1)?);
    let geometry = geometry(emit, site)?;
    let dy = site.dy(emit)?;
    let mut back = vec![Cotangent::NotDifferentiable; 3];
    if site.wants(0) {
        back[0] = Cotangent::Value(geometry.input_gradient(emit, weight, dy)?);
    }
    if site.wants(1) {
        back[1] = Cotangent::Value(geometry.weight_gradient(emit, x, dy)?);
    }
    if site.wants(2) {
        back[2] = Cotangent::Value(bias_gradient(emit, dy)?);
    }
    Ok(back)
}

/// The sum of [N, C, …] over batch and space: [C].
pub(super) fn bias_gradient(emit: &mut Emit<'_>, dy: updp_ir::ValueId) -> Result<updp_ir::ValueId> {
    let rank = emit.dims(dy)?.len();
    let axes: Vec<usize> = std::iter::once(0).chain(2..rank).collect();
    emit.reduce_sum(dy, &axes, false)
}

fn geometry(emit: &Emit<'_>, site: &Site) -> Result<Geometry> {
    let input = emit.dims(site.operand(emit, 0)?)?;
    let weight = emit.dims(site.operand(emit, 1)?)?;
    let output = emit.dims(site.y(emit)?)?;
    let refuse = || site.refuse(emit, "it is not understood");
    let view = view::Conv::of(emit.graph(), site.node, weight.len()).ok_or_else(refuse)?;
    let (begin, _) = view.resolved_pads(&weight[2..], Some(&input[2..])).ok_or_else(refuse)?;
    Ok(Geometry {
        batch: input[0],
        in_channels: input[1],
        out_channels: output[1],
        group: view.group,
        input: input[2..].to_vec(),
        output: output[2..].to_vec(),
        kernel: weight[2..].to_vec(),
        strides: view.strides,
        dilations: view.dilations,
        begin,
    })
}
