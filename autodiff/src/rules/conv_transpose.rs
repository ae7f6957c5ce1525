//! `ConvTranspose`: the adjoint of a convolution c with W [I, O/g, k…] from y's space to x's;
//! x̄ = c(ȳ), W̄ is the weight gradient of c for the input ȳ and the cotangent x, b̄ = Σ ȳ.

use super::conv::bias_gradient;
use super::site::{Cotangent, Site};
use crate::convolution::Geometry;
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let (x, weight) = (site.operand(emit, 0)?, site.operand(emit, 1)?);
    let adjoint = adjoint(emit, site)?;
    let dy = site.dy(emit)?;
    let mut back = vec![Cotangent::NotDifferentiable; 3];
    if site.wants(0) {
        back[0] = Cotangent::Value(adjoint.forward(emit, dy, weight)?);
    }
    if site.wants(1) {
        back[1] = Cotangent::Value(adjoint.weight_gradient(emit, dy, x)?);
    }
    if site.wants(2) {
        back[2] = Cotangent::Value(bias_gradient(emit, dy)?);
    }
    Ok(back)
}

/// The convolution whose adjoint this node is. It reads the space of y and writes the space of x.
fn adjoint(emit: &Emit<'_>, site: &Site) -> Result<Geometry> {
    let x = emit.dims(site.operand(emit, 0)?)?;
    let weight = emit.dims(site.operand(emit, 1)?)?;
    let y = emit.dims(site.y(emit)?)?;
    let node = site.read(emit);
    let list = |name: &str, default: usize| {
        node.ints(name).filter(|list| !list.is_empty()).map_or_else(
            || vec![default; x.len() - 2],
            |list| list.iter().map(|v| *v as usize).collect::<Vec<usize>>(),
        )
    };
    let (strides, dilations) = (list("strides", 1), list("dilations", 1));
    let extra = list("output_padding", 0);
    let is_explicit = matches!(node.string("auto_pad"), None | Some("NOTSET" | ""))
        && node.ints("output_shape").is_none_or(<[i64]>::is_empty);
    let begin = if is_explicit {
        list("pads", 0)[..x.len() - 2].to_vec()
    } else {
        let is_upper = node.string("auto_pad") == Some("SAME_UPPER");
        (0..x.len() - 2)
            .map(|a| {
                let whole = (x[a + 2] - 1) * strides[a] + extra[a];
                let whole = whole + (weight[a + 2] - 1) * dilations[a] + 1;
                let total = whole.saturating_sub(y[a + 2]);
                if is_upper { total / 2 } else { total - total / 2 }
            })
            .collect()
    };
    let begin = if node.string("auto_pad") == Some("VALID") { vec![0; begin.len()] } else { begin };
    Ok(Geometry {
        batch: x[0],
        in_channels: y[1],
        out_channels: x[1],
        group: node.int("group").unwrap_or(1).max(1) as usize,
        input: y[2..].to_vec(),
        output: x[2..].to_vec(),
        kernel: weight[2..].to_vec(),
        strides,
        dilations,
        begin,
    })
}
