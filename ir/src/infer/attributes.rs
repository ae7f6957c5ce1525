//! Reads attributes and axes for evaluation and inference.

use crate::node::Node;
use crate::proto::attribute_proto::AttributeType;

/// The axes that a node names, or the fact that it names none.
pub(super) struct Axes(Option<Vec<i64>>);

impl Axes {
    /// From a known operand.
    pub(super) fn given(axes: Vec<i64>) -> Self {
        Self(Some(axes))
    }

    /// From the attribute `axes`.
    pub(super) fn attribute(node: &Node) -> Self {
        Self(node.ints("axes").map(<[i64]>::to_vec))
    }

    /// The named axes; the list may be empty.
    pub(super) fn named(self) -> Option<Vec<i64>> {
        self.0
    }
}

/// An integer attribute with its default; `None` if it is present in another form.
pub(super) fn int(node: &Node, name: &str, default: i64) -> Option<i64> {
    let Some(attribute) = node.attribute(name) else { return Some(default) };
    let is_int = attribute.r#type.is_none_or(|kind| kind == AttributeType::Int as i32);
    // Writers that follow proto3 may leave out a zero.
    if is_int && attribute.ref_attr_name.is_none() { Some(attribute.i.unwrap_or(0)) } else { None }
}

/// `axis` counted from the front in `0..rank`; `None` out of range.
pub(super) fn axis(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis.checked_add(rank)? } else { axis };
    if axis < rank { usize::try_from(axis).ok() } else { None }
}

/// All `axes` counted from the front, sorted; `None` if one is out of range or named twice.
pub(super) fn axes(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    if axes.len() > rank {
        return None;
    }
    let mut sorted: Vec<usize> = axes.iter().map(|a| axis(*a, rank)).collect::<Option<_>>()?;
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1]).then_some(sorted)
}

/// `perm` of a Transpose as indices (reversed order if absent); `None` unless it is a permutation.
pub(super) fn permutation(node: &Node, rank: usize) -> Option<Vec<usize>> {
    if !node.has("perm") {
        return Some((0..rank).rev().collect());
    }
    let perm = node.ints("perm")?;
    if perm.len() != rank {
        return None;
    }
    let order: Vec<usize> = perm
        .iter()
        .map(|p| usize::try_from(*p).ok().filter(|p| *p < rank))
        .collect::<Option<_>>()?;
    let mut seen = vec![false; rank];
    order.iter().all(|p| !std::mem::replace(&mut seen[*p], true)).then_some(order)
}

/// First index and length of `start..end` by `step` over `dim` elements, clamped as in Slice.
pub(super) fn slice_range(dim: usize, start: i64, end: i64, step: i64) -> Option<(usize, usize)> {
    let size = i128::try_from(dim).ok()?;
    let from_front = |v: i64| if v < 0 { i128::from(v) + size } else { i128::from(v) };
    let (start, end, step) = (from_front(start), from_front(end), i128::from(step));
    let (first, span) = match step {
        0 => return None,
        1.. => {
            let start = start.clamp(0, size);
            (start, end.clamp(0, size) - start)
        }
        _ if size == 0 => (0, 0),
        _ => {
            let start = start.clamp(0, size - 1);
            (start, start - end.clamp(-1, size - 1))
        }
    };
    let (span, stride) = (span.max(0), step.abs());
    let len = span / stride + i128::from(span % stride != 0);
    Some((usize::try_from(first).ok()?, usize::try_from(len).ok()?))
}

/// Lengths of `parts` equal pieces of `dim`: all equal, or with a smaller last piece from opset 18 on.
pub(super) fn equal_split(dim: usize, parts: usize, opset: i64) -> Option<Vec<usize>> {
    if parts == 0 || parts > 1 << 16 {
        return None;
    }
    if dim.is_multiple_of(parts) {
        return Some(vec![dim / parts; parts]);
    }
    let piece = dim.div_ceil(parts);
    let last = dim.checked_sub(piece.checked_mul(parts - 1)?)?;
    let mut pieces = vec![piece; parts];
    *pieces.last_mut()? = last;
    (opset >= 18).then_some(pieces)
}
