//! Operators that select, repeat or join elements.

use super::{MAX_RANK, Outcome, Site, broadcast, map_dim, one, same_dim, sum};
use crate::infer::attributes;
use crate::infer::entry::Entry;
use crate::types::Dim;

/// Outcome of a moving operator; `None` for others.
pub(super) fn rule(site: &Site<'_>) -> Option<Vec<Outcome>> {
    let shape = match site.node.op_type() {
        "Expand" => expand(site),
        "Tile" => tile(site),
        "Concat" => concat(site),
        "Slice" => slice(site),
        "Gather" => gather(site),
        "GatherElements" => site.shape(1).map(<[Dim]>::to_vec),
        "GatherND" => gather_nd(site),
        "Compress" => compress(site),
        "Pad" => pad(site),
        "Split" => {
            let shapes = split(site);
            let outcome = |at: usize| {
                let shape = shapes.as_ref().and_then(|shapes| shapes.get(at).cloned());
                Outcome::new(site.dtype(0), shape)
            };
            return Some((0..site.results).map(outcome).collect());
        }
        _ => return None,
    };
    one(site.dtype(0), shape)
}

fn expand(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dims = site.shape(0)?;
    match site.entries(1) {
        Some(entries) => {
            Some(broadcast(dims, &entries.iter().map(Entry::to_dim).collect::<Vec<_>>()))
        }
        None => Some(broadcast(dims, &vec![Dim::Unknown; site.vector_len(1)?])),
    }
}

fn tile(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dims = site.shape(0)?;
    let unknown = vec![Entry::Unknown; dims.len()];
    let repeats = site.entries(1).unwrap_or(&unknown);
    if site.opset < 6 || repeats.len() != dims.len() {
        return None;
    }
    let times = |(dim, entry): (&Dim, &Entry)| match (dim, entry) {
        (dim, Entry::Known(1)) => dim.clone(),
        (Dim::Known(1), entry) => entry.to_dim(),
        (dim, entry) => {
            map_dim(dim, |size| size.checked_mul(usize::try_from(entry.known()?).ok()?))
        }
    };
    Some(dims.iter().zip(repeats).map(times).collect())
}

fn concat(site: &Site<'_>) -> Option<Vec<Dim>> {
    let ranks = (0..site.operands.len()).find_map(|slot| site.rank(slot))?;
    if site.opset >= 4 && !site.node.has("axis") {
        return None;
    }
    let axis = site.axis(1, ranks)?;
    let mut out = vec![Dim::Unknown; ranks];
    let mut along = Vec::with_capacity(site.operands.len());
    for slot in 0..site.operands.len() {
        match site.shape(slot) {
            Some(dims) if dims.len() == ranks => {
                for (place, dim) in out.iter_mut().zip(dims) {
                    *place = same_dim(place, dim);
                }
                along.push(dims[axis].clone());
            }
            Some(_) => return None,
            None => along.push(Dim::Unknown),
        }
    }
    out[axis] = sum(along.iter());
    Some(out)
}

fn slice(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dims = site.shape(0)?;
    let as_entries = |name: &str| -> Option<Vec<Entry>> {
        Some(site.node.ints(name)?.iter().map(|v| Entry::Known(*v)).collect())
    };
    let is_old = site.opset < 10;
    let listed = |name: &str, slot: usize| {
        if is_old { as_entries(name) } else { site.entries(slot).map(<[Entry]>::to_vec) }
    };
    let (starts, ends) = (listed("starts", 1), listed("ends", 2));
    let mut named = None;
    if is_old || site.has(3) {
        let Some(axes) = site.axes(3) else { return Some(vec![Dim::Unknown; dims.len()]) };
        named = axes.named();
    }
    let axes = if let Some(axes) = named {
        axes
    } else {
        let len = starts.as_ref().or(ends.as_ref()).map(Vec::len).or(site.vector_len(1))?;
        (0..len.min(MAX_RANK) as i64).collect()
    };
    let steps = if is_old || !site.has(4) {
        Some(vec![Entry::Known(1); axes.len()])
    } else {
        site.entries(4).map(<[Entry]>::to_vec)
    };
    attributes::axes(&axes, dims.len())?;
    let mut out = dims.to_vec();
    let at = |list: &Option<Vec<Entry>>, place: usize| {
        list.as_ref().and_then(|list| list.get(place).cloned()).unwrap_or(Entry::Unknown)
    };
    for (place, axis) in axes.iter().enumerate() {
        let axis = attributes::axis(*axis, dims.len())?;
        let (start, end, step) = (at(&starts, place), at(&ends, place), at(&steps, place));
        out[axis] = sliced(&dims[axis], &start, &end, &step);
    }
    Some(out)
}

/// Length of one sliced axis.
fn sliced(dim: &Dim, start: &Entry, end: &Entry, step: &Entry) -> Dim {
    let is_whole = *end == Entry::from(dim) && *end != Entry::Unknown;
    let end = if is_whole { Some(i64::MAX) } else { end.known() };
    let (Some(start), Some(end), Some(step)) = (start.known(), end, step.known()) else {
        return Dim::Unknown;
    };
    match dim {
        Dim::Known(size) => match attributes::slice_range(*size, start, end, step) {
            Some((_, len)) => Dim::Known(len),
            None => Dim::Unknown,
        },
        _ if start == 0 && step == 1 && end >= i64::from(i32::MAX) => dim.clone(),
        _ if start == -1 && step == -1 && end <= i64::from(i32::MIN) => dim.clone(),
        _ => Dim::Unknown,
    }
}

fn gather(site: &Site<'_>) -> Option<Vec<Dim>> {
    let (dims, indices) = (site.shape(0)?, site.shape(1)?);
    let axis = site.axis(0, dims.len())?;
    Some([&dims[..axis], indices, &dims[axis + 1..]].concat())
}

/// Data `[batch…, …]`, indices `[batch…, …, m]` → indices without `m`, then data after batch and `m`.
fn gather_nd(site: &Site<'_>) -> Option<Vec<Dim>> {
    let (dims, indices) = (site.shape(0)?, site.shape(1)?);
    let batch = usize::try_from(site.int("batch_dims", 0)?).ok()?;
    let (last, head) = indices.split_last()?;
    let taken = batch.checked_add(last.known()?)?;
    Some([head, dims.get(taken..)?].concat())
}

fn compress(site: &Site<'_>) -> Option<Vec<Dim>> {
    if !site.node.has("axis") {
        return Some(vec![Dim::Unknown]);
    }
    let mut dims = site.shape(0)?.to_vec();
    let axis = site.axis(0, dims.len())?;
    dims[axis] = Dim::Unknown;
    Some(dims)
}

fn pad(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dims = site.shape(0)?;
    let rank = dims.len();
    let pads = if site.opset < 11 {
        site.node
            .ints(if site.opset < 2 { "paddings" } else { "pads" })
            .map(|pads| pads.iter().map(|v| Entry::Known(*v)).collect())
    } else {
        site.entries(1).map(<[Entry]>::to_vec)
    };
    let axes: Option<Vec<usize>> = if site.has(3) {
        site.ints(3).and_then(|axes| axes.iter().map(|a| attributes::axis(*a, rank)).collect())
    } else {
        Some((0..rank).collect())
    };
    let (Some(pads), Some(axes)) = (pads, axes) else { return Some(vec![Dim::Unknown; rank]) };
    if pads.len() != axes.len().checked_mul(2)? {
        return None;
    }
    let mut out = dims.to_vec();
    for (at, axis) in axes.iter().enumerate() {
        let pair = (pads[at].known(), pads[at + axes.len()].known());
        out[*axis] = match pair {
            (Some(before), Some(after)) if before.checked_add(after) == Some(0) => {
                dims[*axis].clone()
            }
            (Some(before), Some(after)) => map_dim(&dims[*axis], |size| {
                let wide = i64::try_from(size).ok()?.checked_add(before)?.checked_add(after)?;
                usize::try_from(wide).ok()
            }),
            _ => Dim::Unknown,
        };
    }
    Some(out)
}

fn split(site: &Site<'_>) -> Option<Vec<Vec<Dim>>> {
    let dims = site.shape(0)?;
    let axis = site.axis(0, dims.len())?;
    let lengths: Vec<Dim> = if site.has(1) {
        match site.entries(1) {
            Some(entries) => entries.iter().map(Entry::to_dim).collect(),
            None => vec![Dim::Unknown; site.results],
        }
    } else if let Some(split) = site.node.ints("split") {
        split.iter().map(|v| Entry::Known(*v).to_dim()).collect()
    } else {
        let equal = || {
            let parts = usize::try_from(site.int("num_outputs", site.results as i64)?).ok()?;
            attributes::equal_split(dims[axis].known()?, parts, site.opset)
        };
        match equal() {
            Some(lengths) => lengths.into_iter().map(Dim::Known).collect(),
            None => vec![Dim::Unknown; site.results],
        }
    };
    let with = |len: Dim| {
        let mut part = dims.to_vec();
        part[axis] = len;
        part
    };
    (lengths.len() == site.results).then(|| lengths.into_iter().map(with).collect())
}
