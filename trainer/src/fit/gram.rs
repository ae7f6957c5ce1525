//! The Gram matrix of the rows, summed block by block.

use faer::linalg::matmul::triangular::{BlockStructure, matmul as triangular};
use faer::traits::RealField;
use faer::traits::math_utils::one;
use faer::{Accum, Mat, get_global_parallelism};

use super::table::Table;

/// Number of rows converted to f64 at once.
pub(super) const BLOCK: usize = 512;

/// Number of unknowns from which `G` is summed in f32 within a block of rows.
pub(super) const WIDE: usize = 1000;

/// Number of rows in this block.
const COARSE_BLOCK: usize = 1024;

/// `G = Σ (x − x̄)(x − x̄)ᵀ [U, U]`.
pub(super) fn gram(x: &Table, mean: &[f64]) -> Mat<f64> {
    let mut gram = if x.width > WIDE { coarse(x, mean) } else { exact(x, mean) };
    for column in 0..x.width {
        for row in 0..column {
            gram[(row, column)] = gram[(column, row)];
        }
    }
    gram
}

/// The lower triangle of `G`.
fn exact(x: &Table, mean: &[f64]) -> Mat<f64> {
    let mut gram = Mat::<f64>::zeros(x.width, x.width);
    for from in (0..x.rows()).step_by(BLOCK) {
        let block = x.block(from, (from + BLOCK).min(x.rows()), mean);
        add_square(&mut gram, &block, Accum::Add);
    }
    gram
}

/// Like [`exact`], but summed in f32 within a block of rows and in f64 across blocks. It takes half the time, and its
/// error is 10⁻⁶ of the diagonal, below the weakest ridge.
fn coarse(x: &Table, mean: &[f64]) -> Mat<f64> {
    let mut gram = Mat::<f64>::zeros(x.width, x.width);
    let mut part = Mat::<f32>::zeros(x.width, x.width);
    for from in (0..x.rows()).step_by(COARSE_BLOCK) {
        let block = x.block(from, (from + COARSE_BLOCK).min(x.rows()), mean);
        add_square(&mut part, &block, Accum::Replace);
        for column in 0..x.width {
            let sums = &part.col_as_slice(column)[column..];
            let own = &mut gram.col_as_slice_mut(column)[column..];
            own.iter_mut().zip(sums).for_each(|(own, sum)| *own += f64::from(*sum));
        }
    }
    gram
}

/// The lower triangle of `X Xᵀ`; `X` has one row per unknown.
fn add_square<T: RealField>(square: &mut Mat<T>, x: &Mat<T>, accum: Accum) {
    let (whole, lower) = (BlockStructure::Rectangular, BlockStructure::TriangularLower);
    triangular(
        square,
        lower,
        accum,
        x,
        whole,
        x.transpose(),
        whole,
        one(),
        get_global_parallelism(),
    );
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rows in which each number keeps this share of the one before it.
    pub(in super::super) fn tied_rows(count: usize, width: usize, seed: u64, share: f32) -> Table {
        let mut table = Table::new(width);
        let mut state = seed;
        for _ in 0..count {
            let mut last = 0.0_f32;
            for _ in 0..width {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let drawn = (state >> 40) as f32 / 8_388_608.0 - 1.0;
                last = share * last + drawn + 0.3;
                table.values.push(last);
            }
        }
        table
    }

    #[test]
    fn a_coarse_sum_differs_by_less_than_the_weakest_ridge() {
        let x = tied_rows(3000, 24, 3, 0.95);
        let mean = x.means();
        let (exact, coarse) = (exact(&x, &mean), coarse(&x, &mean));
        let trace: f64 = (0..24).map(|at| exact[(at, at)]).sum();
        let off = (&exact - &coarse).norm_max();
        assert!(off > 0.0 && off < 3e-6 * trace / 24.0, "{off} of {}", trace / 24.0);
    }
}
