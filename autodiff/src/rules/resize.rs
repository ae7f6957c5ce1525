//! `Resize` with `nearest` or `linear` interpolation: y = M₁ x M₂ᵀ along the resized axes; x̄ = M₁ᵀ ȳ M₂.
//!
//! The scales, the coordinate transformation and the rounding determine the matrices M [out, in].

use updp_ir::ValueId;

use super::site::{Cotangent, Site, first};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let x = site.operand(emit, 0)?;
    let input = emit.dims(x)?;
    let output = emit.dims(site.y(emit)?)?;
    let given = match site.optional(2) {
        Some(scales) => emit.constant_of(scales).and_then(|tensor| tensor.to_f64()),
        None => None,
    };
    let node = site.read(emit);
    let axes: Vec<usize> = node.ints("axes").map_or_else(
        || (0..input.len()).collect(),
        |axes| axes.iter().map(|axis| super::site::axis_of(*axis, input.len())).collect(),
    );
    let is_plain = node.int("antialias").unwrap_or(0) == 0
        && matches!(node.string("keep_aspect_ratio_policy"), None | Some("stretch"));
    let sampling = Sampling::of(node).filter(|_| is_plain);
    let Some(sampling) = sampling else {
        return Err(site.refuse(emit, "only nearest and linear sampling are differentiated"));
    };
    let mut dx = site.dy(emit)?;
    for axis in 0..input.len() {
        let (from, to) = (input[axis], output[axis]);
        let place = axes.iter().position(|a| *a == axis);
        let scale = given.as_ref().and_then(|scales| scales.get(place?).copied());
        if from != to {
            let matrix = sampling.matrix(from, to, scale.unwrap_or(to as f64 / from as f64));
            dx = along(emit, dx, axis, from, &matrix)?;
        }
    }
    Ok(first(dx))
}

/// `Mᵀ` applied to an axis of `x`, where M is [to, from] and `to` is the size of that axis.
fn along(
    emit: &mut Emit<'_>,
    x: ValueId,
    axis: usize,
    from: usize,
    matrix: &[f64],
) -> Result<ValueId> {
    let dims = emit.dims(x)?;
    let dtype = emit.dtype(x)?;
    let to = dims[axis];
    let before = dims[..axis].iter().product();
    let after: usize = dims[axis + 1..].iter().product();
    let mut result = dims.clone();
    result[axis] = from;
    let product = if after == 1 {
        let rows = emit.reshape(x, &[before, to])?;
        let matrix = emit.floats(dtype, &[to, from], matrix)?;
        emit.matmul(rows, matrix)?
    } else {
        let transposed: Vec<f64> =
            (0..from).flat_map(|i| (0..to).map(move |o| matrix[o * from + i])).collect();
        let columns = emit.reshape(x, &[before, to, after])?;
        let matrix = emit.floats(dtype, &[from, to], &transposed)?;
        emit.matmul(matrix, columns)?
    };
    emit.reshape(product, &result)
}

#[derive(Clone, Copy)]
enum Coordinates {
    HalfPixel,
    TorchHalfPixel,
    Asymmetric,
    AlignCorners,
}

#[derive(Clone, Copy)]
enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

/// How the rule finds the input positions of a result entry.
#[derive(Clone, Copy)]
struct Sampling {
    coordinates: Coordinates,
    /// `None` for linear interpolation.
    rounding: Option<Rounding>,
}

impl Sampling {
    fn of(node: &updp_ir::Node) -> Option<Self> {
        let coordinates = match node.string("coordinate_transformation_mode") {
            None | Some("half_pixel") => Coordinates::HalfPixel,
            Some("pytorch_half_pixel") => Coordinates::TorchHalfPixel,
            Some("asymmetric") => Coordinates::Asymmetric,
            Some("align_corners") => Coordinates::AlignCorners,
            Some(_) => return None,
        };
        let rounding = match node.string("mode") {
            Some("linear") => None,
            None | Some("nearest") => Some(match node.string("nearest_mode") {
                None | Some("round_prefer_floor") => Rounding::PreferFloor,
                Some("round_prefer_ceil") => Rounding::PreferCeil,
                Some("floor") => Rounding::Floor,
                Some("ceil") => Rounding::Ceil,
                Some(_) => return None,
            }),
            Some(_) => return None,
        };
        Some(Self { coordinates, rounding })
    }

    /// M [to, from], row by row.
    fn matrix(self, from: usize, to: usize, scale: f64) -> Vec<f64> {
        let mut matrix = vec![0.0; to * from];
        let last = from as f64 - 1.0;
        for (o, row) in matrix.chunks_mut(from).enumerate() {
            let o = o as f64;
            let x = match self.coordinates {
                Coordinates::TorchHalfPixel | Coordinates::AlignCorners if to == 1 => 0.0,
                Coordinates::HalfPixel | Coordinates::TorchHalfPixel => (o + 0.5) / scale - 0.5,
                Coordinates::Asymmetric => o / scale,
                Coordinates::AlignCorners => o * last / (to as f64 - 1.0),
            };
            let near = match self.rounding {
                Some(Rounding::PreferFloor) => (x - 0.5).ceil(),
                Some(Rounding::PreferCeil) => (x + 0.5).floor(),
                Some(Rounding::Floor) | None => x.floor(),
                Some(Rounding::Ceil) => x.ceil(),
            };
            let index = |v: f64| v.clamp(0.0, last) as usize;
            if self.rounding.is_some() {
                row[index(near)] = 1.0;
            } else {
                let x = x.clamp(0.0, last);
                let low = x.floor();
                row[index(low)] += 1.0 - (x - low);
                row[index(low + 1.0)] += x - low;
            }
        }
        matrix
    }
}
