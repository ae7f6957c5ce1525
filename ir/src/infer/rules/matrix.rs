//! Matrix products, attention and recurrent layers.

use super::{Outcome, Site, broadcast, known, map_dim, one, same_dim};
use crate::dtype::DataType;
use crate::types::Dim;

/// Outcome of a matrix operator; `None` for others.
pub(super) fn rule(site: &Site<'_>) -> Option<Vec<Outcome>> {
    match site.node.op_type() {
        "Gemm" => one(site.dtype(0).or(site.dtype(1)), gemm(site)),
        "MatMul" => one(site.dtype(0).or(site.dtype(1)), matmul(site, 0, 1)),
        "MatMulInteger" => one(Some(DataType::Int32), matmul(site, 0, 1)),
        "QLinearMatMul" => one(site.dtype(7).or(site.dtype(0)), matmul(site, 0, 3)),
        "Attention" => Some(attention(site)),
        "LSTM" | "GRU" | "RNN" => Some(recurrent(site)),
        _ => None,
    }
}

/// `A [M, K]` (or transposed), `B [K, N]` (or transposed) → `[M, N]`.
fn gemm(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dim = |slot: usize, axis: usize| match site.shape(slot) {
        None => Some(Dim::Unknown),
        Some(dims) if dims.len() == 2 => Some(dims[axis].clone()),
        Some(_) => None,
    };
    let rows = usize::from(site.int("transA", 0)? != 0);
    let columns = usize::from(site.int("transB", 0)? == 0);
    Some(vec![dim(0, rows)?, dim(1, columns)?])
}

/// `A […, M, K]`, `B […, K, N]` → `[…, M, N]`; a vector loses its axis.
fn matmul(site: &Site<'_>, left: usize, right: usize) -> Option<Vec<Dim>> {
    let (a, b) = (site.shape(left)?, site.shape(right)?);
    let (a_batch, rows) = match a {
        [] => return None,
        [_] => (&[][..], None),
        [batch @ .., m, _] => (batch, Some(m)),
    };
    let (b_batch, columns) = match b {
        [] => return None,
        [_] => (&[][..], None),
        [batch @ .., _, n] => (batch, Some(n)),
    };
    let mut out = broadcast(a_batch, b_batch);
    out.extend(rows.into_iter().chain(columns).cloned());
    Some(out)
}

/// Queries, keys, values `[B, h, S, d]` or `[B, S, h·d]`.
fn attention(site: &Site<'_>) -> Vec<Outcome> {
    let heads = |name: &str| usize::try_from(site.node.int(name)?).ok().filter(|heads| *heads > 0);
    let per_head = |dim: &Dim| {
        map_dim(dim, |size| {
            let heads = heads("kv_num_heads")?;
            size.is_multiple_of(heads).then_some(size / heads)
        })
    };
    let result = match (site.shape(0), site.shape(2)) {
        (Some([b, h, s, _]), Some([.., d])) => {
            Some(vec![b.clone(), h.clone(), s.clone(), d.clone()])
        }
        (Some([b, s, _]), Some([.., hidden])) => {
            let size = per_head(hidden);
            let width = map_dim(&size, |d| d.checked_mul(heads("q_num_heads")?));
            Some(vec![b.clone(), s.clone(), width])
        }
        _ => None,
    };
    let present = |slot: usize| {
        let unless_past = |length: &Dim| if site.has(4) { Dim::Unknown } else { length.clone() };
        match site.shape(slot) {
            Some([b, h, s, d]) => Some(vec![b.clone(), h.clone(), unless_past(s), d.clone()]),
            Some([b, s, d]) => {
                Some(vec![b.clone(), known(heads("kv_num_heads")), unless_past(s), per_head(d)])
            }
            _ => None,
        }
    };
    let scores = result.as_ref().map(|_| vec![Dim::Unknown; 4]);
    vec![
        Outcome::new(site.dtype(0), result),
        Outcome::new(site.dtype(1), present(1)),
        Outcome::new(site.dtype(2), present(2)),
        Outcome::new(site.dtype(0), scores),
    ]
}

/// `X [S, B, I]` → `Y [S, D, B, H]`, `Y_h [D, B, H]` (and `Y_c`); batch first under `layout`.
fn recurrent(site: &Site<'_>) -> Vec<Outcome> {
    let shapes = || {
        let [first, second, _] = site.shape(0)? else { return None };
        let hidden = match site.node.int("hidden_size").and_then(|h| usize::try_from(h).ok()) {
            Some(size) => Dim::Known(size),
            None => site.shape(2)?.get(2)?.clone(),
        };
        let directions = match site.node.string("direction") {
            Some("bidirectional") => Dim::Known(2),
            _ => Dim::Known(1),
        };
        let directions = match site.shape(1).and_then(|weights| weights.first()) {
            Some(own) => same_dim(own, &directions),
            None => directions,
        };
        Some(if site.int("layout", 0)? == 0 {
            (
                vec![first.clone(), directions.clone(), second.clone(), hidden.clone()],
                vec![directions, second.clone(), hidden],
            )
        } else {
            (
                vec![first.clone(), second.clone(), directions.clone(), hidden.clone()],
                vec![first.clone(), directions, hidden],
            )
        })
    };
    let (all, last) = shapes().map_or((None, None), |(all, last)| (Some(all), Some(last)));
    let last = Outcome::new(site.dtype(0), last);
    vec![Outcome::new(site.dtype(0), all), last.clone(), last]
}
