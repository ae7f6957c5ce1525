//! `LayerNormalization`: x̂ = (x − mean)·r, r = 1/√(var + ε) over the axes from `axis` on, y = x̂ ⊙ γ + β;
//! x̄ = r·(g − mean g − x̂ ⊙ mean(g⊙x̂)) with g = ȳ ⊙ γ, γ̄ = Σ ȳ⊙x̂, β̄ = Σ ȳ.

use updp_ir::{Node, ValueId};

use super::site::{Cotangent, Site, axis_of};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    if site.cotangents.iter().skip(1).any(Option::is_some) {
        return Err(site.refuse(emit, "its mean or deviation is read"));
    }
    let (x, scale) = (site.operand(emit, 0)?, site.operand(emit, 1)?);
    let rank = emit.dims(x)?.len();
    let node = site.read(emit);
    let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
    let axis = axis_of(node.int("axis").unwrap_or(-1), rank);
    let axes: Vec<usize> = (axis..rank).collect();
    let dy = site.dy(emit)?;
    let mut back = vec![Cotangent::NotDifferentiable; 3];
    if site.wants(0) || site.wants(1) {
        let normal = Normalized::new(emit, x, &axes, epsilon)?;
        if site.wants(0) {
            let g = emit.mul(dy, scale)?;
            back[0] = Cotangent::Value(normal.input_gradient(emit, g)?);
        }
        if site.wants(1) {
            back[1] = Cotangent::Value(emit.mul(dy, normal.value)?);
        }
    }
    back[2] = Cotangent::Value(dy);
    if axis + 1 == rank && rank > 1 && (0..3).all(|slot| site.wants(slot)) {
        at_once(emit, site, &mut back, epsilon)?;
    }
    Ok(back)
}

/// Sums γ̄ and β̄ here, not in the driver, and records that one operator computes all three cotangents.
fn at_once(emit: &mut Emit<'_>, site: &Site, back: &mut [Cotangent], epsilon: f64) -> Result<()> {
    let (x, scale, bias) = (site.operand(emit, 0)?, site.operand(emit, 1)?, site.operand(emit, 2)?);
    let dims = emit.dims(scale)?;
    if dims.len() != 1 || emit.dims(bias)? != dims {
        return Ok(());
    }
    let dy = site.dy(emit)?;
    let mut made = Vec::with_capacity(3);
    for (slot, cotangent) in back.iter_mut().enumerate() {
        if let Cotangent::Value(value) = cotangent {
            if slot > 0 {
                *value = emit.sum_to(*value, &dims)?;
            }
            made.push(*value);
        }
    }
    let node = Node::new("LayerNormGradient").with("epsilon", epsilon as f32);
    emit.record_fused_alternative(node, &[x, scale, dy], &made)
}

/// x̂ of a value, normalized over some axes.
pub(super) struct Normalized {
    /// x̂, with the shape of x.
    pub value: ValueId,
    /// 1/√(var + ε), with the axes kept as ones.
    inverse: ValueId,
    axes: Vec<usize>,
}

impl Normalized {
    /// Computes x̂ of `x` with the population variance of the centred values.
    pub fn new(emit: &mut Emit<'_>, x: ValueId, axes: &[usize], epsilon: f64) -> Result<Self> {
        let mean = emit.reduce("ReduceMean", x, axes, true)?;
        let centred = emit.sub(x, mean)?;
        let square = emit.mul(centred, centred)?;
        let variance = emit.reduce("ReduceMean", square, axes, true)?;
        let shifted = emit.shift(variance, epsilon)?;
        let deviation = emit.call("Sqrt", &[shifted])?;
        let inverse = emit.call("Reciprocal", &[deviation])?;
        let value = emit.mul(centred, inverse)?;
        Ok(Self { value, inverse, axes: axes.to_vec() })
    }

    /// x̄ = r·(g − mean g − x̂ ⊙ mean(g⊙x̂)) from the cotangent `g` of x̂.
    pub fn input_gradient(&self, emit: &mut Emit<'_>, g: ValueId) -> Result<ValueId> {
        let mean = emit.reduce("ReduceMean", g, &self.axes, true)?;
        let product = emit.mul(g, self.value)?;
        let along = emit.reduce("ReduceMean", product, &self.axes, true)?;
        let part = emit.mul(self.value, along)?;
        let rest = emit.sub(g, mean)?;
        let rest = emit.sub(rest, part)?;
        emit.mul(rest, self.inverse)
    }
}
