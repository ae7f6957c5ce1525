//! `ReduceSum`: y = Σ x over axes; x̄ = ȳ, repeated by the driver.

use updp_ir::ValueId;

use super::site::{Cotangent, Site, axis_of, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let reduced = Reduced::of(emit, site)?;
    let dy = site.dy(emit)?;
    Ok(first(reduced.kept(emit, dy)?))
}

/// The axes that a reduction sums over.
pub(super) struct Reduced {
    /// The axes, sorted.
    pub axes: Vec<usize>,
    /// The dims of the result if all axes were kept.
    dims: Vec<usize>,
    /// The number of elements that form one element of the result.
    pub count: usize,
}

impl Reduced {
    /// Reads a reduction. The axes are an operand or an attribute. If none are named, the reduction takes all axes or
    /// no axis.
    pub fn of(emit: &Emit<'_>, site: &Site) -> Result<Self> {
        let mut dims = emit.dims(site.operand(emit, 0)?)?;
        let node = site.read(emit);
        let named = match site.integers(emit, 1)? {
            Some(axes) => axes,
            None => node.ints("axes").map(<[i64]>::to_vec).unwrap_or_default(),
        };
        let is_noop = node.int("noop_with_empty_axes").unwrap_or(0) != 0;
        let mut axes: Vec<usize> = if named.is_empty() && !is_noop {
            (0..dims.len()).collect()
        } else {
            named.iter().map(|axis| axis_of(*axis, dims.len())).collect()
        };
        axes.sort_unstable();
        let count = axes.iter().map(|axis| dims[*axis]).product();
        for axis in &axes {
            dims[*axis] = 1;
        }
        Ok(Self { axes, dims, count })
    }

    /// A pool over all axes behind the channels.
    pub fn spatial(emit: &Emit<'_>, site: &Site) -> Result<Self> {
        let mut dims = emit.dims(site.operand(emit, 0)?)?;
        let count = dims[2..].iter().product();
        dims[2..].fill(1);
        Ok(Self { axes: (2..dims.len()).collect(), dims, count })
    }

    /// Reshapes a value with the shape of the result, so that the reduced axes are kept as ones.
    pub fn kept(&self, emit: &mut Emit<'_>, value: ValueId) -> Result<ValueId> {
        emit.reshape(value, &self.dims)
    }

    /// x̄ of a maximum or minimum: ȳ in equal shares for all entries that equal y.
    pub fn extremum(&self, emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
        let (x, y) = (site.operand(emit, 0)?, site.y(emit)?);
        let dy = site.dy(emit)?;
        let (y, dy) = (self.kept(emit, y)?, self.kept(emit, dy)?);
        let is_chosen = emit.mask("Equal", x, y)?;
        let chosen = emit.reduce_sum(is_chosen, &self.axes, true)?;
        let share = emit.div(dy, chosen)?;
        Ok(first(emit.mul(is_chosen, share)?))
    }
}
