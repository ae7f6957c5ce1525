//! Operators that make sizes, sequences and statistics: `Shape`, `Range`, reductions, `TopK`.

use super::{MAX_RANK, Outcome, Site, one};
use crate::dtype::DataType;
use crate::infer::attributes;
use crate::infer::entry::Entry;
use crate::types::Dim;

/// Result types of one of these operators; `None` for others.
pub(super) fn rule(site: &Site<'_>) -> Option<Vec<Outcome>> {
    let int64 = Some(DataType::Int64);
    match site.node.op_type() {
        "Shape" => {
            let len = shape_range(site).map(|(_, len)| vec![Dim::Known(len)]);
            one(int64, len.or(Some(vec![Dim::Unknown])))
        }
        "Size" => one(int64, Some(Vec::new())),
        "ConstantOfShape" => {
            let dtype = if site.node.has("value") {
                let element = site.node.tensor_proto("value");
                element.map(|t| DataType::from_code(t.data_type()))
            } else {
                Some(DataType::Float)
            };
            one(dtype, sizes(site, 0))
        }
        "RandomNormal" | "RandomUniform" => {
            let dims = site.node.ints("shape");
            let dims = dims.map(|dims| dims.iter().map(|d| Entry::Known(*d).to_dim()).collect());
            one(site.dtype_attribute("dtype", Some(DataType::Float)), dims)
        }
        "Range" => one(site.dtype(0), Some(vec![range(site)])),
        "NonZero" => {
            let rank = site.rank(0).map_or(Dim::Unknown, |rank| Dim::Known(rank.max(1)));
            one(int64, Some(vec![rank, Dim::Unknown]))
        }
        "OneHot" => one(site.dtype(2), one_hot(site)),
        "TopK" => {
            let shape = top(site);
            let indices = Outcome::new(int64, shape.clone());
            Some(vec![Outcome::new(site.dtype(0), shape), indices])
        }
        "ArgMax" | "ArgMin" => one(int64, arg(site)),
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1"
        | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceSumSquare" => {
            one(site.dtype(0), reduce(site))
        }
        "Det" => {
            let dims = site.shape(0).filter(|dims| dims.len() >= 2);
            one(site.dtype(0), dims.map(|dims| dims[..dims.len() - 2].to_vec()))
        }
        _ => None,
    }
}

/// The part of the dims that `Shape` reads.
pub(super) fn shape_range(site: &Site<'_>) -> Option<(usize, usize)> {
    attributes::slice_range(site.rank(0)?, site.int("start", 0)?, site.int("end", i64::MAX)?, 1)
}

/// A shape operand as dims.
fn sizes(site: &Site<'_>, slot: usize) -> Option<Vec<Dim>> {
    match site.entries(slot) {
        Some(entries) => Some(entries.iter().map(Entry::to_dim).collect()),
        None => Some(vec![Dim::Unknown; site.vector_len(slot)?]),
    }
}

fn range(site: &Site<'_>) -> Dim {
    let scalar = |slot: usize| site.entries(slot).and_then(|e| e.first().cloned());
    let len = || {
        let (start, limit, delta) = (scalar(0)?, scalar(1)?, scalar(2)?.known()?);
        if start == Entry::Known(0) && delta == 1 {
            let dim = limit.to_dim();
            return Some(if limit.known().is_some_and(|l| l < 0) { Dim::Known(0) } else { dim });
        }
        let span = i128::from(limit.known()?) - i128::from(start.known()?);
        let delta = i128::from(delta);
        if delta == 0 {
            return None;
        }
        let whole = span / delta + i128::from(span % delta != 0 && (span > 0) == (delta > 0));
        Some(Dim::Known(usize::try_from(whole.max(0)).ok()?))
    };
    len().unwrap_or(Dim::Unknown)
}

fn one_hot(site: &Site<'_>) -> Option<Vec<Dim>> {
    let mut dims = site.shape(0)?.to_vec();
    let axis = site.axis(-1, dims.len() + 1)?;
    let depth = site.entries(1).and_then(|e| e.first()).map_or(Dim::Unknown, Entry::to_dim);
    dims.insert(axis, depth);
    Some(dims)
}

fn top(site: &Site<'_>) -> Option<Vec<Dim>> {
    let mut dims = site.shape(0)?.to_vec();
    let axis = site.axis(-1, dims.len())?;
    dims[axis] = if site.opset < 10 {
        Entry::Known(site.node.int("k")?).to_dim()
    } else {
        site.entries(1).and_then(|e| e.first()).map_or(Dim::Unknown, Entry::to_dim)
    };
    Some(dims)
}

fn arg(site: &Site<'_>) -> Option<Vec<Dim>> {
    let mut dims = site.shape(0)?.to_vec();
    let axis = site.axis(0, dims.len())?;
    if site.int("keepdims", 1)? == 0 {
        dims.remove(axis);
    } else {
        dims[axis] = Dim::Known(1);
    }
    Some(dims)
}

fn reduce(site: &Site<'_>) -> Option<Vec<Dim>> {
    let keep = site.int("keepdims", 1)? != 0;
    let everything = site.int("noop_with_empty_axes", 0)? == 0;
    let Some(dims) = site.shape(0) else {
        let axes = site.axes(1).map(|axes| axes.named().unwrap_or_default());
        return (!keep && everything && axes?.is_empty()).then(Vec::new);
    };
    let Some(axes) = site.axes(1) else {
        if keep {
            return Some(vec![Dim::Unknown; dims.len()]);
        }
        let removed = site.vector_len(1).filter(|len| *len > 0)?;
        return Some(vec![Dim::Unknown; dims.len().checked_sub(removed)?]);
    };
    let axes = axes.named().filter(|axes| !axes.is_empty());
    let axes = match axes {
        Some(axes) if axes.len() <= MAX_RANK => attributes::axes(&axes, dims.len())?,
        Some(_) => return None,
        None if everything => (0..dims.len()).collect(),
        None => return Some(dims.to_vec()),
    };
    let mut out = Vec::with_capacity(dims.len());
    for (axis, dim) in dims.iter().enumerate() {
        match axes.binary_search(&axis) {
            Err(_) => out.push(dim.clone()),
            Ok(_) if keep => out.push(Dim::Known(1)),
            Ok(_) => {}
        }
    }
    Some(out)
}
