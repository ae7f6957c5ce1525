//! Shape arithmetic: entries of small integer results, with symbols kept.

use super::source::shape_range;
use super::{Site, product};
use crate::dtype::DataType;
use crate::infer::attributes;
use crate::infer::entry::{Entry, combine};
use crate::types::Dim;

/// Longest vector whose entries are tracked.
pub(in crate::infer) const MAX_ENTRIES: usize = 256;

/// Entries of the first result (int64, int32 or bool of rank 0 or 1), as far as known.
pub(in crate::infer) fn value(site: &Site<'_>) -> Option<Vec<Entry>> {
    if !site.node.domain().is_empty() || site.node.has_reference_attribute() {
        return None;
    }
    let entries = match site.node.op_type() {
        "Shape" => {
            let (first, len) = shape_range(site)?;
            site.shape(0)?[first..first + len].iter().map(Entry::from).collect()
        }
        "Size" => vec![Entry::from(&product(site.shape(0)?))],
        "Identity" | "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" | "Expand" => same(site)?,
        "Cast" => {
            let to = site.dtype_attribute("to", None)?;
            let is_index = |dtype| matches!(dtype, DataType::Int64 | DataType::Int32);
            let fits = |entry: &Entry| {
                to == DataType::Int64 || entry.known().is_none_or(|v| i32::try_from(v).is_ok())
            };
            let entries = site.entries(0)?;
            if !is_index(to) || !is_index(site.dtype(0)?) || !entries.iter().all(fits) {
                return None;
            }
            entries.to_vec()
        }
        "Gather" => gather(site)?,
        "Slice" => slice(site)?,
        "Concat" => concat(site)?,
        "Where" => choose(site)?,
        "ReduceProd" if site.rank(0) == Some(1) => {
            let entries = site.entries(0)?;
            let one = Entry::Known(1);
            vec![entries.iter().fold(one, |total, entry| combine("Mul", &total, entry))]
        }
        op @ ("Add" | "Sub" | "Mul" | "Div" | "Min" | "Max" | "Sum" | "Equal" | "Less"
        | "Greater" | "LessOrEqual" | "GreaterOrEqual") => elementwise(site, op)?,
        _ => return None,
    };
    (entries.len() <= MAX_ENTRIES).then_some(entries)
}

/// The operand's entries, where the result has as many.
fn same(site: &Site<'_>) -> Option<Vec<Entry>> {
    let entries = site.entries(0)?;
    let is_expanded = site.node.is("Expand")
        && site.entries(1).is_none_or(|shape| match shape {
            [] => false,
            [Entry::Known(len)] => *len != 1 && *len != entries.len() as i64,
            _ => true,
        });
    (!is_expanded).then(|| entries.to_vec())
}

fn gather(site: &Site<'_>) -> Option<Vec<Entry>> {
    let entries = site.entries(0)?;
    if site.rank(0)? != 1 || site.rank(1)? > 1 {
        return None;
    }
    let pick = |index: i64| Some(entries[attributes::axis(index, entries.len())?].clone());
    site.ints(1)?.into_iter().map(pick).collect()
}

fn slice(site: &Site<'_>) -> Option<Vec<Entry>> {
    let entries = site.entries(0)?;
    if site.rank(0)? != 1 {
        return None;
    }
    let one = |name: &str, slot: usize| {
        let list = if site.opset < 10 { site.node.ints(name)?.to_vec() } else { site.ints(slot)? };
        if let [only] = list.as_slice() { Some(*only) } else { None }
    };
    let (start, end) = (one("starts", 1)?, one("ends", 2)?);
    let step = if site.opset < 10 || !site.has(4) { 1 } else { one("steps", 4)? };
    let (first, len) = attributes::slice_range(entries.len(), start, end, step)?;
    let mut at = first as i64;
    let mut out = Vec::with_capacity(len);
    for _ in 0..len {
        out.push(entries.get(usize::try_from(at).ok()?)?.clone());
        at = at.saturating_add(step);
    }
    Some(out)
}

/// Joins vectors one after the other; vectors with unknown entries need a known length.
fn concat(site: &Site<'_>) -> Option<Vec<Entry>> {
    let mut out = Vec::new();
    for slot in 0..site.operands.len() {
        match (site.shape(slot)?, site.entries(slot)) {
            ([_], Some(entries)) => out.extend_from_slice(entries),
            ([Dim::Known(len)], None) if *len <= MAX_ENTRIES => {
                out.extend(std::iter::repeat_n(Entry::Unknown, *len));
            }
            _ => return None,
        }
        if out.len() > MAX_ENTRIES {
            return None;
        }
    }
    Some(out)
}

/// Common length of operands of rank 0 or 1; `None` if they do not agree.
fn common_len(parts: &[&[Entry]]) -> Option<usize> {
    let len = parts.iter().map(|part| part.len()).find(|len| *len != 1).unwrap_or(1);
    parts.iter().all(|part| part.len() == 1 || part.len() == len).then_some(len)
}

fn at(part: &[Entry], place: usize) -> &Entry {
    if part.len() == 1 { &part[0] } else { &part[place] }
}

fn choose(site: &Site<'_>) -> Option<Vec<Entry>> {
    let (tests, x, y) = (site.entries(0)?, site.entries(1)?, site.entries(2)?);
    let len = common_len(&[tests, x, y])?;
    let pick = |place: usize| match (at(tests, place), at(x, place), at(y, place)) {
        (Entry::Known(0), _, y) => y.clone(),
        (Entry::Known(_), x, _) => x.clone(),
        (_, x, y) if x == y => x.clone(),
        _ => Entry::Unknown,
    };
    Some((0..len).map(pick).collect())
}

fn elementwise(site: &Site<'_>, op: &str) -> Option<Vec<Entry>> {
    let is_index =
        |slot: usize| matches!(site.dtype(slot), Some(DataType::Int64 | DataType::Int32));
    let lists: Vec<&[Entry]> =
        (0..site.operands.len()).map(|slot| site.entries(slot)).collect::<Option<_>>()?;
    let (first, rest) = lists.split_first()?;
    if !(0..lists.len()).all(is_index) || (lists.len() != 2 && !matches!(op, "Min" | "Max" | "Sum"))
    {
        return None;
    }
    let len = common_len(&lists)?;
    let total = |place: usize| {
        rest.iter()
            .fold(at(first, place).clone(), |total, part| combine(op, &total, at(part, place)))
    };
    Some((0..len).map(total).collect())
}
