//! Chooses hidden channels to remove by second-order saliency: the optimal brain surgeon on a layer's inputs.
//!
//! A layer computes `y = Wᵀ x`. Removing channel `c` and correcting the others by least squares costs
//! `tr(W_cᵀ ([G⁻¹]_cc)⁻¹ W_c)`, where `W_c [T, O]` are the weights of the channel's taps (`ZipLM`, arXiv 2302.04089).
//! After each removal the remaining weights and `G⁻¹` change, so channels are removed one at a time. For speed, one round
//! inverts `G` once, takes the channels with the smallest cost as a pool, and removes some of the pool one at a time. Costs
//! inside the pool are exact, because they depend on the rows of the pool alone.

use faer::linalg::solvers::{DenseSolveCore, Solve};
use faer::{Mat, Side};

use super::Unsolved;
use super::gram::WIDE;
use super::normal::Normal;

/// Ridge of the inverse, relative to the mean of the diagonal. It keeps channels that never fire from dividing by zero.
const RIDGE: f64 = 1e-3;

/// A round removes one of this many channels, and its pool holds this many times as many. Wide layers use fewer rounds.
const SHARE: usize = 24;
const WIDE_SHARE: usize = 8;
const POOL: usize = 3;

/// The channels that stay for each of `counts`, ascending. `weight [U, O]` holds the layer's present weights; each channel
/// has `taps` rows.
pub(super) fn kept(
    normal: &Normal,
    weight: &Mat<f64>,
    taps: usize,
    counts: &[usize],
) -> Result<Vec<Vec<usize>>, Unsolved> {
    let channels = normal.gram.nrows() / taps.max(1);
    let mut alive: Vec<usize> = (0..channels).collect();
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(counts[*at]));
    let mut found = vec![Vec::new(); counts.len()];
    for at in order {
        while alive.len() > counts[at] {
            let share = if alive.len() * taps > WIDE { WIDE_SHARE } else { SHARE };
            let most = alive.len().div_ceil(share).min(alive.len() - counts[at]);
            remove(normal, weight, taps, &mut alive, most)?;
        }
        found[at].clone_from(&alive);
    }
    Ok(found)
}

/// Removes `count` channels from `alive`.
fn remove(
    normal: &Normal,
    weight: &Mat<f64>,
    taps: usize,
    alive: &mut Vec<usize>,
    count: usize,
) -> Result<(), Unsolved> {
    let own = columns(alive, taps);
    let size = own.len();
    let mut gram = Mat::from_fn(size, size, |i, j| normal.gram[(own[i], own[j])]);
    let unit = (0..size).map(|at| gram[(at, at)]).sum::<f64>() / size.max(1) as f64;
    for at in 0..size {
        gram[(at, at)] += RIDGE * unit.max(f64::MIN_POSITIVE);
    }
    let factor = gram.llt(Side::Lower).map_err(|_| Unsolved { size })?;
    let inverse = factor.inverse();
    // The weights that give the original's outputs best with the channels that are left: W + G⁻¹ G_dead W_dead.
    let dead: Vec<usize> = {
        let mut is_alive = vec![false; normal.gram.nrows()];
        for at in &own {
            is_alive[*at] = true;
        }
        (0..is_alive.len()).filter(|at| !is_alive[*at]).collect()
    };
    let mut current = Mat::from_fn(size, weight.ncols(), |i, o| weight[(own[i], o)]);
    if !dead.is_empty() {
        let across = Mat::from_fn(size, dead.len(), |i, j| normal.gram[(own[i], dead[j])]);
        let gone = Mat::from_fn(dead.len(), weight.ncols(), |j, o| weight[(dead[j], o)]);
        current += factor.solve(&across * &gone);
    }
    let mut costs: Vec<(f64, usize)> = (0..alive.len())
        .map(|place| Ok((cost(&inverse, &current, place, taps)?, place)))
        .collect::<Result<_, Unsolved>>()?;
    costs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let pool: Vec<usize> =
        costs.iter().take((POOL * count).min(alive.len())).map(|(_, place)| *place).collect();
    let rows = columns(&pool, taps);
    let mut part = Mat::from_fn(rows.len(), rows.len(), |i, j| inverse[(rows[i], rows[j])]);
    let mut weights = Mat::from_fn(rows.len(), weight.ncols(), |i, o| current[(rows[i], o)]);
    let mut waiting: Vec<usize> = (0..pool.len()).collect();
    let mut removed = vec![false; alive.len()];
    for step in 0..count {
        let mut best: Option<(f64, usize)> = None;
        for (at, place) in waiting.iter().enumerate() {
            let cost = cost(&part, &weights, *place, taps)?;
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, at));
            }
        }
        let Some((_, at)) = best else { break };
        let place = waiting.swap_remove(at);
        waiting.sort_unstable();
        removed[pool[place]] = true;
        if step + 1 < count {
            eliminate(&mut part, &mut weights, place, taps)?;
        }
    }
    let mut place = 0;
    alive.retain(|_| {
        place += 1;
        !removed[place - 1]
    });
    Ok(())
}

/// The unknowns of these channels.
pub(super) fn columns(channels: &[usize], taps: usize) -> Vec<usize> {
    channels.iter().flat_map(|channel| channel * taps..(channel + 1) * taps).collect()
}

/// `tr(W_cᵀ ([G⁻¹]_cc)⁻¹ W_c)` of the channel at a place.
fn cost(inverse: &Mat<f64>, weight: &Mat<f64>, place: usize, taps: usize) -> Result<f64, Unsolved> {
    if taps == 1 {
        let square: f64 = (0..weight.ncols()).map(|o| weight[(place, o)].powi(2)).sum();
        return Ok(square / inverse[(place, place)].max(f64::MIN_POSITIVE));
    }
    let from = place * taps;
    let own = weight.submatrix(from, 0, taps, weight.ncols());
    let factor = inverse.submatrix(from, from, taps, taps).llt(Side::Lower);
    let solved = factor.map_err(|_| Unsolved { size: taps })?.solve(own);
    Ok((0..weight.ncols())
        .map(|o| (0..taps).map(|t| own[(t, o)] * solved[(t, o)]).sum::<f64>())
        .sum())
}

/// Removes the channel at a place: `W ← W − P_·c P_cc⁻¹ W_c` and `P ← P − P_·c P_cc⁻¹ P_c·` for `P = G⁻¹`.
fn eliminate(
    inverse: &mut Mat<f64>,
    weight: &mut Mat<f64>,
    place: usize,
    taps: usize,
) -> Result<(), Unsolved> {
    let (from, size) = (place * taps, inverse.nrows());
    let factor = inverse.submatrix(from, from, taps, taps).llt(Side::Lower);
    let factor = factor.map_err(|_| Unsolved { size: taps })?;
    let across = inverse.submatrix(0, from, size, taps).to_owned();
    let own = weight.submatrix(from, 0, taps, weight.ncols()).to_owned();
    *weight -= &across * factor.solve(own);
    *inverse -= &across * factor.solve(across.transpose());
    for tap in 0..taps {
        // The diagonal stays positive, so the removed channel never divides by zero.
        inverse[(from + tap, from + tap)] = 1.0;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::gram::tests::tied_rows;
    use super::super::moments::System;
    use super::super::table::Table;
    use super::*;

    fn system(x: &Table) -> Normal {
        System::of(x, &Table { values: vec![0.0; x.rows()], width: 1 }).normal
    }

    #[test]
    fn a_channel_without_weight_goes_first_and_one_of_two_copies_next() {
        let mut x = tied_rows(500, 5, 7, 0.1);
        for row in x.values.chunks_exact_mut(5) {
            row[3] = row[1]; // a copy
        }
        let weight = Mat::from_fn(5, 2, |u, o| if u == 2 { 0.0 } else { 1.0 + (u + o) as f64 });
        let kept = kept(&system(&x), &weight, 1, &[4, 3]).expect("it is regular");
        assert_eq!(kept[0], [0, 1, 3, 4]);
        assert!(kept[1] == [0, 1, 4] || kept[1] == [0, 3, 4], "{kept:?}");
    }

    #[test]
    fn two_copies_never_leave_together() {
        let mut x = tied_rows(800, 48, 11, 0.0);
        for row in x.values.chunks_exact_mut(48) {
            for at in 0..24 {
                row[24 + at] = row[at];
            }
        }
        let weight = Mat::from_fn(48, 3, |u, o| ((u % 24) + 3 * o) as f64 * 0.1 + 0.5);
        let kept = &kept(&system(&x), &weight, 1, &[24]).expect("it is regular")[0];
        let mut origins: Vec<usize> = kept.iter().map(|channel| channel % 24).collect();
        origins.sort_unstable();
        origins.dedup();
        assert!(origins.len() >= 22, "{kept:?}");
    }

    #[test]
    fn channels_of_several_taps_leave_as_a_whole() {
        let x = tied_rows(900, 12, 5, 0.3);
        let weight = Mat::from_fn(12, 2, |u, _| if u / 4 == 1 { 0.01 } else { 1.0 });
        let kept = kept(&system(&x), &weight, 4, &[2]).expect("it is regular");
        assert_eq!(kept[0], [0, 2]);
        assert_eq!(columns(&kept[0], 4), [0, 1, 2, 3, 8, 9, 10, 11]);
    }
}
