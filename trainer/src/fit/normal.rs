//! Normal equations in f64 and the linear operators that solve them.
//!
//! Rows are `x_r [U]` (the inputs that an operator sees at one position) and `t_r [O]` (the outputs it should produce).
//! With means removed, `G = Σ x xᵀ [U, U]` and `B = Σ x tᵀ [U, O]`. Every solver here minimizes
//! `Σ ‖t_r − Wᵀ x_r‖² + ρ·tr(G)/U·‖W‖²` over the operators of its form. The bias `mean t − Wᵀ mean x` is not penalized.
//! `U` = channels × taps, channel first, in the memory order of a kernel `[O, I, k…]`.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{Llt, Solve};
use faer::{Accum, Mat, MatRef, Side, get_global_parallelism};

use updp_passes::kernel::AffineMap;

use super::Unsolved;
use super::gram::BLOCK;
use super::table::Table;

/// Rounds of alternating least squares: after that, the error falls by less than a thousandth.
const ALTERNATIONS: usize = 6;

/// Rounds of alternating least squares that start from the previous operators, for targets that changed a little.
const MORE_ALTERNATIONS: usize = 2;

/// `G` with the mean of the rows.
#[derive(Debug)]
pub(super) struct Normal {
    pub(super) gram: Mat<f64>,
    pub(super) mean: Vec<f64>,
}

/// `B` with the mean of the targets.
#[derive(Clone, Debug)]
pub(super) struct Targets {
    /// `B [U, O]`.
    pub(super) cross: Mat<f64>,
    /// `[O]`.
    pub(super) mean: Vec<f64>,
}

/// A solved operator in dense form: `y = Wᵀ x + bias`. If it consists of two operators, they are included.
#[derive(Clone, Debug)]
pub(super) struct Solved {
    /// `W [U, O]`.
    pub(super) weight: Mat<f64>,
    /// `[O]`.
    pub(super) bias: Vec<f64>,
    /// First operator and second operator `[middle, O]`, if the form has two.
    pub(super) parts: Option<(Mat<f64>, Mat<f64>)>,
}

/// The kind of operator to solve for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// All weights are free.
    Dense,
    /// Only the weights of this tap are free.
    Tap(usize),
    /// A depthwise kernel, then a pointwise operator: `W[(c,t),o] = D[c,t]·P[c,o]`.
    Depthwise,
    /// An operator with this many output channels, then a pointwise operator.
    Rank(usize),
}

impl Normal {
    /// Computes `B` and the mean after the targets changed by `change`, a table for each table of rows. The change is
    /// small, so it is summed in f32 within a block and in f64 across blocks.
    pub(super) fn moved(targets: &Targets, rows: &[(&Table, Table)]) -> Targets {
        let Targets { mut cross, mean } = targets.clone();
        let count: usize = rows.iter().map(|(x, _)| x.rows()).sum();
        let mut shift = vec![0.0; mean.len()];
        for (x, change) in rows {
            let share = x.rows() as f64 / count.max(1) as f64;
            shift.iter_mut().zip(change.means()).for_each(|(sum, mean)| *sum += share * mean);
        }
        let mut part = Mat::<f32>::zeros(cross.nrows(), cross.ncols());
        for (x, change) in rows {
            let centred: Vec<f32> = change
                .values
                .chunks_exact(change.width.max(1))
                .flat_map(|row| row.iter().zip(&shift).map(|(v, m)| (f64::from(*v) - m) as f32))
                .collect();
            let centred = Table { values: centred, width: change.width };
            let (x, t) = (x.matrix(), centred.matrix());
            for from in (0..x.nrows()).step_by(8 * BLOCK) {
                let count = (8 * BLOCK).min(x.nrows() - from);
                let (x, t) = (x.subrows(from, count), t.subrows(from, count));
                let par = get_global_parallelism();
                matmul(&mut part, Accum::Replace, x.transpose(), t, 1.0, par);
                for column in 0..part.ncols() {
                    let sums = part.col_as_slice(column).iter();
                    for (out, sum) in cross.col_as_slice_mut(column).iter_mut().zip(sums) {
                        *out += f64::from(*sum);
                    }
                }
            }
        }
        Targets { cross, mean: mean.iter().zip(shift).map(|(mean, shift)| mean + shift).collect() }
    }

    /// Factors `G + ρ·tr(G)/U·I`; if the matrix is not positive definite, it takes a larger ρ.
    fn factor(gram: MatRef<'_, f64>, ridge: f64) -> Result<Llt<f64>, Unsolved> {
        let size = gram.nrows();
        let trace: f64 = (0..size).map(|at| gram[(at, at)]).sum();
        let unit = (trace / size.max(1) as f64).max(f64::MIN_POSITIVE);
        let mut ridge = ridge;
        for _ in 0..8 {
            let mut shifted = gram.to_owned();
            for at in 0..size {
                shifted[(at, at)] += ridge * unit;
            }
            if let Ok(factor) = shifted.llt(Side::Lower) {
                return Ok(factor);
            }
            ridge = (ridge * 10.0).max(1e-9);
        }
        Err(Unsolved { size })
    }

    /// `(G + ρ·tr(G)/U·I)⁻¹ B`.
    pub(super) fn solve_dense(
        gram: MatRef<'_, f64>,
        ridge: f64,
        cross: &Mat<f64>,
    ) -> Result<Mat<f64>, Unsolved> {
        Ok(Self::factor(gram, ridge)?.solve(cross))
    }

    /// The bias that gives the results of `W [U, O]` these means.
    pub(super) fn bias(&self, weight: &Mat<f64>, mean: &[f64]) -> Vec<f64> {
        let seen = |o: usize| -> f64 {
            self.mean.iter().zip(weight.col_as_slice(o)).map(|(mean, weight)| mean * weight).sum()
        };
        (0..weight.ncols()).map(|o| mean[o] - seen(o)).collect()
    }

    /// A solver of one form and ridge strength ρ; each channel has `taps` taps.
    pub(super) fn solver(
        &self,
        shape: Shape,
        taps: usize,
        ridge: f64,
    ) -> Result<Solver<'_>, Unsolved> {
        let columns: Option<Vec<usize>> = match shape {
            Shape::Tap(tap) => Some((0..self.mean.len() / taps).map(|c| c * taps + tap).collect()),
            _ => None,
        };
        let factor = match &columns {
            Some(own) => {
                let gram = Mat::from_fn(own.len(), own.len(), |i, j| self.gram[(own[i], own[j])]);
                Self::factor(gram.as_ref(), ridge)?
            }
            None => Self::factor(self.gram.as_ref(), ridge)?,
        };
        Ok(Solver { normal: self, shape, taps, ridge, columns, factor })
    }
}

/// Solves one form for any targets; `G` is factored only once.
pub(super) struct Solver<'a> {
    normal: &'a Normal,
    shape: Shape,
    taps: usize,
    ridge: f64,
    columns: Option<Vec<usize>>,
    factor: Llt<f64>,
}

impl Solver<'_> {
    /// The unknowns to solve for, if they are not all.
    pub(super) fn columns(&self) -> Option<&[usize]> {
        self.columns.as_deref()
    }

    /// The operator for `B` and the mean of `t`.
    pub(super) fn solve(&self, targets: &Targets) -> Result<Solved, Unsolved> {
        self.solve_from(targets, None)
    }

    /// Like [`Self::solve`], for targets that differ little from those of `before`.
    pub(super) fn solve_again(
        &self,
        targets: &Targets,
        before: &Solved,
    ) -> Result<Solved, Unsolved> {
        self.solve_from(targets, before.parts.as_ref().map(|(first, _)| first))
    }

    /// `before` is the first of the two operators of an earlier solution.
    fn solve_from(
        &self,
        Targets { cross, mean }: &Targets,
        before: Option<&Mat<f64>>,
    ) -> Result<Solved, Unsolved> {
        let (weight, parts) = match (&self.columns, self.shape) {
            (Some(own), _) => {
                let rhs = Mat::from_fn(own.len(), cross.ncols(), |i, j| cross[(own[i], j)]);
                let solution = self.factor.solve(&rhs);
                let mut weight = Mat::<f64>::zeros(cross.nrows(), cross.ncols());
                for (row, at) in own.iter().enumerate() {
                    for column in 0..cross.ncols() {
                        weight[(*at, column)] = solution[(row, column)];
                    }
                }
                (weight, None)
            }
            (None, Shape::Depthwise) => {
                let (start, rounds) = match before {
                    Some(before) => (before.clone(), MORE_ALTERNATIONS),
                    None => (first_directions(&self.factor.solve(cross), self.taps)?, ALTERNATIONS),
                };
                let (depthwise, pointwise) = self.alternate(start, cross, rounds)?;
                (spread(&depthwise, &pointwise), Some((depthwise, pointwise)))
            }
            (None, Shape::Rank(rank)) => {
                let full = self.factor.solve(cross);
                let basis = self.leading(&full, rank)?;
                let first = &full * &basis;
                let back = basis.transpose().to_owned();
                (&first * &back, Some((first, back)))
            }
            (None, _) => (self.factor.solve(cross), None),
        };
        let bias = self.normal.bias(&weight, mean);
        Ok(Solved { weight, bias, parts })
    }

    /// The leading directions `V [O, r]` of the outputs, from the eigenvectors of `Wᵀ G W`: reduced-rank regression.
    fn leading(&self, full: &Mat<f64>, rank: usize) -> Result<Mat<f64>, Unsolved> {
        let spread = full.transpose() * (&self.normal.gram * full);
        let failed = |_| Unsolved { size: spread.nrows() };
        let eigen = spread.self_adjoint_eigen(Side::Lower).map_err(failed)?;
        let vectors = eigen.U();
        let size = vectors.ncols();
        let rank = rank.clamp(1, size);
        // The eigenvalues are in ascending order.
        Ok(Mat::from_fn(size, rank, |row, column| vectors[(row, size - 1 - column)]))
    }

    /// Runs this many rounds of alternating least squares for `D [C, T]` and `P [C, O]`, starting from a given `D`.
    fn alternate(
        &self,
        mut depthwise: Mat<f64>,
        cross: &Mat<f64>,
        rounds: usize,
    ) -> Result<(Mat<f64>, Mat<f64>), Unsolved> {
        let gram = &self.normal.gram;
        let taps = self.taps;
        let (channels, outputs) = (gram.nrows() / taps, cross.ncols());
        let mut pointwise = Mat::<f64>::zeros(channels, outputs);
        for round in 0..rounds {
            // Solve for P: the features are the depthwise results.
            let mut seen = Mat::<f64>::zeros(channels, channels);
            for b in 0..channels {
                for a in b..channels {
                    let mut sum = 0.0;
                    for t in 0..taps {
                        for s in 0..taps {
                            sum += depthwise[(a, s)]
                                * gram[(a * taps + s, b * taps + t)]
                                * depthwise[(b, t)];
                        }
                    }
                    seen[(a, b)] = sum;
                    seen[(b, a)] = sum;
                }
            }
            let rhs = Mat::from_fn(channels, outputs, |c, o| {
                (0..taps).map(|t| depthwise[(c, t)] * cross[(c * taps + t, o)]).sum()
            });
            pointwise = Normal::factor(seen.as_ref(), self.ridge)?.solve(&rhs);
            if round + 1 == rounds {
                break;
            }
            // Solve for D: all taps of all channels together.
            let weights = &pointwise * pointwise.transpose();
            let mut mixed = gram.clone();
            for column in 0..gram.ncols() {
                for row in 0..gram.nrows() {
                    mixed[(row, column)] *= weights[(row / taps, column / taps)];
                }
            }
            let rhs = Mat::from_fn(gram.nrows(), 1, |u, _| {
                (0..outputs).map(|o| pointwise[(u / taps, o)] * cross[(u, o)]).sum()
            });
            let solution = Normal::factor(mixed.as_ref(), self.ridge)?.solve(&rhs);
            depthwise = Mat::from_fn(channels, taps, |c, t| solution[(c * taps + t, 0)]);
            // The scale of each channel moves to P.
            for channel in 0..channels {
                let norm = (0..taps).map(|t| depthwise[(channel, t)].powi(2)).sum::<f64>().sqrt();
                for t in 0..taps {
                    depthwise[(channel, t)] =
                        if norm > 0.0 { depthwise[(channel, t)] / norm } else { 0.0 };
                }
            }
        }
        Ok((depthwise, pointwise))
    }
}

/// Selected rows of a matrix.
pub(super) fn rows_of(matrix: &Mat<f64>, rows: &[usize]) -> Mat<f64> {
    Mat::from_fn(rows.len(), matrix.ncols(), |row, column| matrix[(rows[row], column)])
}

/// The leading right singular vector of each channel's `[T, O]`, as `[C, T]`.
fn first_directions(weight: &Mat<f64>, taps: usize) -> Result<Mat<f64>, Unsolved> {
    let channels = weight.nrows() / taps;
    let mut directions = Mat::<f64>::zeros(channels, taps);
    for channel in 0..channels {
        let own = weight.submatrix(channel * taps, 0, taps, weight.ncols());
        let gram = own * own.transpose();
        let failed = |_| Unsolved { size: taps };
        let eigen = gram.self_adjoint_eigen(Side::Lower).map_err(failed)?;
        for tap in 0..taps {
            directions[(channel, tap)] = eigen.U()[(tap, taps - 1)];
        }
    }
    Ok(directions)
}

/// `W[(c,t),o] = D[c,t]·P[c,o]`.
fn spread(depthwise: &Mat<f64>, pointwise: &Mat<f64>) -> Mat<f64> {
    let taps = depthwise.ncols();
    Mat::from_fn(depthwise.nrows() * taps, pointwise.ncols(), |u, o| {
        depthwise[(u / taps, u % taps)] * pointwise[(u / taps, o)]
    })
}

impl Solved {
    /// An operator with one group as `W [U, O]`.
    pub(super) fn of(map: &AffineMap) -> Self {
        let outputs = map.out_channels();
        let values: Vec<f64> = map.weight.iter().copied().collect();
        let unknowns = values.len() / outputs.max(1);
        let weight = Mat::from_fn(unknowns, outputs, |u, o| values[o * unknowns + u]);
        Self { weight, bias: map.bias.clone(), parts: None }
    }

    /// Multiplies each output by its factor. The bias stays.
    pub(super) fn scale(&mut self, factors: &[f64]) {
        let second = self.parts.as_mut().map(|(_, second)| second);
        for matrix in std::iter::once(&mut self.weight).chain(second) {
            for (o, factor) in factors.iter().enumerate() {
                matrix.col_as_slice_mut(o).iter_mut().for_each(|weight| *weight *= factor);
            }
        }
    }

    /// The part that reads these unknowns.
    pub(super) fn only(&self, columns: &[usize]) -> Self {
        Self { weight: rows_of(&self.weight, columns), bias: self.bias.clone(), parts: None }
    }

    /// `Wᵀ x + bias` for every row, in f32.
    pub(super) fn predict(&self, x: &Table) -> Table {
        let outputs = self.weight.ncols();
        let weight =
            Mat::<f32>::from_fn(self.weight.nrows(), outputs, |u, o| self.weight[(u, o)] as f32);
        let rows = x.rows();
        let mut values = vec![0.0_f32; rows * outputs];
        let made = faer::MatMut::from_row_major_slice_mut(&mut values, rows, outputs);
        matmul(made, Accum::Replace, x.matrix(), &weight, 1.0, get_global_parallelism());
        for row in values.chunks_exact_mut(outputs) {
            for (value, bias) in row.iter_mut().zip(&self.bias) {
                *value += *bias as f32;
            }
        }
        Table { values, width: outputs }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gram::tests::tied_rows;
    use super::super::moments::System;
    use super::*;

    /// Rows that are neither independent nor centred, drawn from a fixed sequence.
    fn rows(count: usize, width: usize, seed: u64) -> Table {
        tied_rows(count, width, seed, 0.4)
    }

    fn made_by(x: &Table, weight: &Mat<f64>, bias: &[f64]) -> Table {
        let solved = Solved { weight: weight.clone(), bias: bias.to_vec(), parts: None };
        solved.predict(x)
    }

    fn distance(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
        (a - b).norm_max()
    }

    fn solve(x: &Table, t: &Table, shape: Shape, taps: usize, ridge: f64) -> Solved {
        let System { normal, targets, .. } = System::of(x, t);
        normal.solver(shape, taps, ridge).expect("regular").solve(&targets).expect("solved")
    }

    #[test]
    fn finds_the_operator_that_made_the_targets() {
        let x = rows(2000, 6, 7);
        let weight = Mat::from_fn(6, 3, |u, o| (u as f64 - 2.0) * 0.3 + o as f64);
        let bias = [0.5, -1.0, 2.0];
        let solved = solve(&x, &made_by(&x, &weight, &bias), Shape::Dense, 1, 1e-12);
        assert!(distance(&solved.weight, &weight) < 1e-5);
        assert!(solved.bias.iter().zip(bias).all(|(a, b)| (a - b).abs() < 1e-4));
    }

    #[test]
    fn a_strong_ridge_leaves_the_bias_alone() {
        let x = rows(500, 4, 3);
        let weight = Mat::from_fn(4, 2, |u, o| (u + o) as f64);
        let t = made_by(&x, &weight, &[1.0, 2.0]);
        let solved = solve(&x, &t, Shape::Dense, 1, 1e9);
        assert!(solved.weight.norm_max() < 1e-5);
        let means = t.means();
        assert!(solved.bias.iter().zip(means).all(|(a, b)| (a - b).abs() < 1e-3));
    }

    #[test]
    fn finds_a_depthwise_and_a_pointwise_operator() {
        let x = rows(3000, 3 * 4, 11);
        let depthwise = Mat::from_fn(3, 4, |c, t| (c as f64 + 1.0) * 0.2 - t as f64 * 0.15 + 0.1);
        let pointwise = Mat::from_fn(3, 5, |c, o| c as f64 - 0.5 * o as f64 + 0.2);
        let weight = spread(&depthwise, &pointwise);
        let t = made_by(&x, &weight, &[0.0; 5]);
        let solved = solve(&x, &t, Shape::Depthwise, 4, 1e-12);
        assert!(distance(&solved.weight, &weight) < 1e-3, "{}", distance(&solved.weight, &weight));
    }

    #[test]
    fn of_all_depthwise_and_pointwise_operators_the_alternation_finds_a_better_one_than_its_start()
    {
        let x = tied_rows(3000, 3 * 4, 5, 0.9);
        let weight = Mat::from_fn(12, 5, |u, o| ((u * 7 + o * 3) as f64 * 0.9).sin());
        let t = made_by(&x, &weight, &[0.3; 5]);
        let error = |solved: &Solved| -> f64 {
            let made = solved.predict(&x);
            made.values.iter().zip(&t.values).map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        let solved = solve(&x, &t, Shape::Depthwise, 4, 1e-12);
        let dense = solve(&x, &t, Shape::Dense, 4, 1e-12);
        let (start, second) = (first_directions(&dense.weight, 4).expect("found"), &dense.weight);
        let projected =
            Mat::from_fn(3, 5, |c, o| (0..4).map(|s| start[(c, s)] * second[(c * 4 + s, o)]).sum());
        let cut =
            Solved { weight: spread(&start, &projected), bias: solved.bias.clone(), parts: None };
        assert!(error(&solved) < 0.9 * error(&cut), "{} {}", error(&solved), error(&cut));
        assert!(error(&dense) < error(&solved));
    }

    #[test]
    fn reduced_rank_finds_an_operator_of_that_rank_and_a_tap_only_itself() {
        let x = rows(2000, 6, 9);
        let left = Mat::from_fn(6, 2, |u, r| (u as f64 * 0.4 + r as f64).cos());
        let right = Mat::from_fn(2, 5, |r, o| (r as f64 * 2.0 + o as f64).sin());
        let weight = &left * &right;
        let t = made_by(&x, &weight, &[0.1; 5]);
        let solved = solve(&x, &t, Shape::Rank(2), 1, 1e-12);
        assert!(distance(&solved.weight, &weight) < 1e-4);
        let (first, second) = solved.parts.as_ref().expect("two operators");
        assert_eq!((first.ncols(), second.nrows()), (2, 2));
        let own = solve(&x, &t, Shape::Tap(1), 3, 1e-12);
        assert!((0..6).filter(|u| u % 3 != 1).all(|u| own.weight[(u, 0)] == 0.0));
        assert!(own.weight[(1, 0)] != 0.0);
    }
}
