//! Sums over rows, fold by fold. The sums of several folds add up, so every training set of a cross-validation comes from
//! one pass over the rows.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, get_global_parallelism};

use super::gram::{BLOCK, gram};
use super::normal::{Normal, Targets};
use super::table::Table;

/// Sums of rows `x [U]` and targets `t [O]` around a common centre.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    count: f64,
    /// `Σ (x − c)(x − c)ᵀ [U, U]`.
    gram: Mat<f64>,
    /// `Σ (x − c) [U]`.
    sum: Vec<f64>,
    /// `Σ (x − c)(t − d)ᵀ [U, O]`.
    cross: Mat<f64>,
    /// `Σ (t − d) [O]`.
    target_sum: Vec<f64>,
    /// `Σ (t − d)² [O]`.
    target_square: Vec<f64>,
}

/// The centre of the sums: approximate means of rows and targets.
#[derive(Clone, Debug)]
pub(super) struct Centre {
    pub(super) x: Vec<f64>,
    pub(super) t: Vec<f64>,
}

impl Moments {
    pub(super) fn of(x: &Table, t: &Table, centre: &Centre) -> Self {
        let mut cross = Mat::<f64>::zeros(x.width, t.width);
        for from in (0..x.rows()).step_by(BLOCK) {
            let to = (from + BLOCK).min(x.rows());
            let (x, t): (Mat<f64>, Mat<f64>) =
                (x.block(from, to, &centre.x), t.block(from, to, &centre.t));
            matmul(&mut cross, Accum::Add, &x, t.transpose(), 1.0, get_global_parallelism());
        }
        let count = x.rows() as f64;
        let shifted = |table: &Table, centre: &[f64]| -> Vec<f64> {
            table.means().iter().zip(centre).map(|(mean, centre)| (mean - centre) * count).collect()
        };
        let mut target_square = vec![0.0; t.width];
        for row in t.values.chunks_exact(t.width.max(1)) {
            for ((sum, value), centre) in target_square.iter_mut().zip(row).zip(&centre.t) {
                *sum += (f64::from(*value) - centre).powi(2);
            }
        }
        Self {
            count,
            gram: gram(x, &centre.x),
            sum: shifted(x, &centre.x),
            cross,
            target_sum: shifted(t, &centre.t),
            target_square,
        }
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.gram += &other.gram;
        self.cross += &other.cross;
        let pairs = [
            (&mut self.sum, &other.sum),
            (&mut self.target_sum, &other.target_sum),
            (&mut self.target_square, &other.target_square),
        ];
        for (own, other) in pairs {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        }
    }

    /// The normal equations of all rows of these folds.
    pub(super) fn system<'a>(
        folds: impl IntoIterator<Item = &'a Self>,
        centre: &Centre,
    ) -> Option<System> {
        let mut folds = folds.into_iter();
        let mut all = folds.next()?.clone();
        folds.for_each(|fold| all.add(fold));
        let Self { count, mut gram, sum, mut cross, target_sum, target_square } = all;
        let count = count.max(1.0);
        for column in 0..gram.ncols() {
            for (value, row) in gram.col_as_slice_mut(column).iter_mut().zip(&sum) {
                *value -= row * sum[column] / count;
            }
        }
        for (column, target_sum) in target_sum.iter().enumerate() {
            for (value, row) in cross.col_as_slice_mut(column).iter_mut().zip(&sum) {
                *value -= row * target_sum / count;
            }
        }
        let mean = |sum: &[f64], centre: &[f64]| -> Vec<f64> {
            sum.iter().zip(centre).map(|(sum, centre)| centre + sum / count).collect()
        };
        let spread = target_square.iter().zip(&target_sum);
        Some(System {
            spread: spread.map(|(square, sum)| (square - sum * sum / count).max(0.0)).collect(),
            targets: Targets { cross, mean: mean(&target_sum, &centre.t) },
            normal: Normal { gram, mean: mean(&sum, &centre.x) },
        })
    }
}

/// The normal equations of one training set.
#[derive(Debug)]
pub(super) struct System {
    pub(super) normal: Normal,
    pub(super) targets: Targets,
    /// `Σ (t − mean t)²` of each output.
    pub(super) spread: Vec<f64>,
}

impl System {
    /// The equations of all rows of one table.
    #[cfg(test)]
    pub(super) fn of(x: &Table, t: &Table) -> Self {
        let centre = Centre { x: x.means(), t: t.means() };
        Moments::system([&Moments::of(x, t, &centre)], &centre).expect("one fold")
    }
}

#[cfg(test)]
mod tests {
    use super::super::gram::tests::tied_rows;
    use super::*;

    #[test]
    fn the_sums_of_two_folds_are_the_sums_of_their_rows() {
        let (x, t) = (tied_rows(400, 5, 3, 0.5), tied_rows(400, 3, 9, 0.2));
        let whole = System::of(&x, &t);
        let part = |table: &Table, from: usize, to: usize| {
            let (from, to) = (from * table.width, to * table.width);
            Table { values: table.values[from..to].to_vec(), width: table.width }
        };
        let centre = Centre { x: vec![0.1; 5], t: vec![0.3; 3] };
        let fold = |from, to| Moments::of(&part(&x, from, to), &part(&t, from, to), &centre);
        let both = Moments::system([&fold(0, 150), &fold(150, 400)], &centre).expect("two folds");
        assert!((&both.normal.gram - &whole.normal.gram).norm_max() < 1e-9);
        assert!((&both.targets.cross - &whole.targets.cross).norm_max() < 1e-9);
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(near(&both.normal.mean, &whole.normal.mean));
        assert!(near(&both.targets.mean, &whole.targets.mean));
        assert!(near(&both.spread, &whole.spread));
    }
}
