//! Operators that give the same elements other dims.

use super::{MAX_RANK, Outcome, Site, one, product};
use crate::infer::attributes;
use crate::infer::entry::Entry;
use crate::types::Dim;

/// Outcome of a reshaping operator; `None` for others.
pub(super) fn rule(site: &Site<'_>) -> Option<Vec<Outcome>> {
    let shape = match site.node.op_type() {
        "Reshape" => reshape(site),
        "Flatten" => flatten(site),
        "Squeeze" => squeeze(site),
        "Unsqueeze" => unsqueeze(site),
        "Transpose" => transpose(site),
        _ => return None,
    };
    one(site.dtype(0), shape)
}

fn reshape(site: &Site<'_>) -> Option<Vec<Dim>> {
    let own: Vec<Entry>;
    let entries = if site.opset < 5 {
        own = site.node.ints("shape")?.iter().map(|d| Entry::Known(*d)).collect();
        own.as_slice()
    } else if let Some(entries) = site.entries(1) {
        entries
    } else {
        return site.vector_len(1).map(|rank| vec![Dim::Unknown; rank]);
    };
    let data = site.shape(0);
    let allow_zero = site.int("allowzero", 0)? != 0;
    let mut left: Vec<Option<&Dim>> = data.unwrap_or_default().iter().map(Some).collect();
    let mut out = Vec::with_capacity(entries.len());
    let mut given = Vec::new();
    let mut open = Vec::new();
    for (position, entry) in entries.iter().enumerate() {
        match entry {
            Entry::Known(0) if !allow_zero => {
                out.push(match data {
                    Some(dims) => dims.get(position)?.clone(),
                    None => Dim::Unknown,
                });
                if let Some(copied) = left.get_mut(position) {
                    *copied = None;
                }
            }
            Entry::Known(-1) | Entry::Unknown => {
                open.push(position);
                out.push(Dim::Unknown);
            }
            Entry::Known(size) => {
                out.push(Dim::Known(usize::try_from(*size).ok()?));
                given.push(out.last()?.clone());
            }
            Entry::Symbol(_) => {
                out.push(entry.to_dim());
                given.push(entry.to_dim());
            }
        }
    }
    if let ([position], Some(_)) = (open.as_slice(), data) {
        out[*position] = quotient(left.into_iter().flatten().cloned().collect(), &given);
    }
    Some(out)
}

/// `Π whole / Π parts`, after equal symbols cancel.
fn quotient(mut whole: Vec<Dim>, parts: &[Dim]) -> Dim {
    let mut divisor = 1_usize;
    for part in parts {
        match part {
            Dim::Known(size) => match divisor.checked_mul(*size) {
                Some(product) => divisor = product,
                None => return Dim::Unknown,
            },
            symbol => match whole.iter().position(|dim| dim == symbol && *dim != Dim::Unknown) {
                Some(place) => {
                    whole.swap_remove(place);
                }
                None => return Dim::Unknown,
            },
        }
    }
    let (sizes, names): (Vec<Dim>, Vec<Dim>) =
        whole.into_iter().partition(|dim| dim.known().is_some());
    let Dim::Known(total) = product(&sizes) else { return Dim::Unknown };
    if divisor == 0 || !total.is_multiple_of(divisor) {
        return Dim::Unknown;
    }
    match names.as_slice() {
        [] => Dim::Known(total / divisor),
        [name] if total == divisor => name.clone(),
        _ => Dim::Unknown,
    }
}

fn flatten(site: &Site<'_>) -> Option<Vec<Dim>> {
    let Some(dims) = site.shape(0) else { return Some(vec![Dim::Unknown; 2]) };
    let axis = site.int("axis", 1)?;
    let axis =
        if axis == dims.len() as i64 { dims.len() } else { attributes::axis(axis, dims.len())? };
    let (head, tail) = dims.split_at(axis);
    Some(vec![product(head), product(tail)])
}

fn squeeze(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dims = site.shape(0)?;
    let Some(axes) = site.axes(1) else {
        let rank = dims.len().checked_sub(site.vector_len(1)?)?;
        return Some(vec![Dim::Unknown; rank]);
    };
    match axes.named() {
        Some(axes) => {
            let axes = attributes::axes(&axes, dims.len())?;
            let kept = dims.iter().enumerate().filter(|(at, _)| axes.binary_search(at).is_err());
            Some(kept.map(|(_, dim)| dim.clone()).collect())
        }
        None if dims.iter().all(|dim| dim.known().is_some()) => {
            Some(dims.iter().filter(|dim| **dim != Dim::Known(1)).cloned().collect())
        }
        None => None,
    }
}

fn unsqueeze(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dims = site.shape(0)?;
    let Some(axes) = site.axes(1) else {
        return Some(vec![Dim::Unknown; dims.len() + site.vector_len(1)?]);
    };
    let axes = axes.named().filter(|axes| axes.len() <= MAX_RANK)?;
    let rank = dims.len() + axes.len();
    let axes = attributes::axes(&axes, rank)?;
    let mut old = dims.iter();
    (0..rank)
        .map(|at| match axes.binary_search(&at) {
            Ok(_) => Some(Dim::Known(1)),
            Err(_) => old.next().cloned(),
        })
        .collect()
}

fn transpose(site: &Site<'_>) -> Option<Vec<Dim>> {
    let Some(dims) = site.shape(0) else {
        return site.node.ints("perm").map(|perm| vec![Dim::Unknown; perm.len()]);
    };
    let order = attributes::permutation(site.node, dims.len())?;
    Some(order.into_iter().map(|axis| dims[axis].clone()).collect())
}
