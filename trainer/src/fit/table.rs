//! Rows of numbers, drawn from tensors or computed by an operator.

use faer::traits::RealField;
use faer::traits::math_utils::{from_f64, zero};
use faer::{Mat, MatRef};

/// Rows and columns of f32, stored row by row.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Number of elements.
    pub(super) values: Vec<f32>,
    /// Number of elements per row.
    pub(super) width: usize,
}

impl Table {
    pub(super) fn new(width: usize) -> Self {
        Self { values: Vec::new(), width }
    }

    pub(super) fn rows(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Rows `from..to` in f64 with `mean` subtracted; each row becomes a column: `[width, rows]`.
    pub(super) fn block<T: RealField>(&self, from: usize, to: usize, mean: &[f64]) -> Mat<T> {
        let mut block = Mat::from_fn(self.width, to - from, |_, _| zero());
        let rows = self.values[from * self.width..to * self.width].chunks_exact(self.width);
        for (column, row) in rows.enumerate() {
            let column = block.col_as_slice_mut(column);
            for ((out, value), mean) in column.iter_mut().zip(row).zip(mean) {
                *out = from_f64(f64::from(*value) - mean);
            }
        }
        block
    }

    /// Only these columns.
    pub(super) fn columns(&self, columns: &[usize]) -> Self {
        let rows = self.values.chunks_exact(self.width.max(1));
        let values = rows.flat_map(|row| columns.iter().map(|column| row[*column])).collect();
        Self { values, width: columns.len() }
    }

    pub(super) fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }

    /// The elements as a matrix `[R, width]`.
    pub(super) fn matrix(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(&self.values, self.rows(), self.width)
    }

    pub(super) fn means(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        for row in self.values.chunks_exact(self.width.max(1)) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
        let rows = self.rows().max(1) as f64;
        sums.into_iter().map(|sum| sum / rows).collect()
    }
}

/// `a − b`.
pub(super) fn difference(a: &Table, b: &Table) -> Table {
    let values = a.values.iter().zip(&b.values).map(|(a, b)| a - b).collect();
    Table { values, width: a.width }
}

/// `a + b`.
pub(super) fn sum(a: &Table, b: &Table) -> Table {
    let values = a.values.iter().zip(&b.values).map(|(a, b)| a + b).collect();
    Table { values, width: a.width }
}
