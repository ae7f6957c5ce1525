//! `Product`: Y [M, N] = A′·B′. `ProductBias`: Y = A′·B′ + c, which adds c [N] to each row. All values are f32.
//!
//! `trans_a` and `trans_b` say whether A and B are read transposed. A matrix with more than two axes is read as one
//! with two axes: all its leading axes together form the rows. Y has the leading axes of A where A is not transposed.
//!
//! The sizes alone determine how Y is cut into rectangles, so the result does not depend on the number of threads.

use std::ops::Range;

use super::call::{Attributes, Call, Operation, Refusal, refuse};

/// The operators, without and with a bias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product<const BIASED: bool> {
    trans_a: bool,
    trans_b: bool,
}

impl<const BIASED: bool> Operation for Product<BIASED> {
    const NAME: &'static str = if BIASED { "ProductBias" } else { "Product" };
    const OPERANDS: usize = if BIASED { 3 } else { 2 };
    const RESULTS: usize = 1;

    fn read(attributes: &Attributes<'_>) -> Result<Self, Refusal> {
        let flag = |name| match attributes.size(name)? {
            flag @ 0..=1 => Ok(flag == 1),
            _ => refuse(&format!("{name} is neither 0 nor 1")),
        };
        Ok(Self { trans_a: flag("trans_a")?, trans_b: flag("trans_b")? })
    }

    fn run(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let (a, b) = (call.operand(0)?, call.operand(1)?);
        let bias = if BIASED { Some(call.operand(2)?) } else { None };
        let left = Matrix::of(a.values()?, a.dims(), self.trans_a)?;
        let right = Matrix::of(b.values()?, b.dims(), self.trans_b)?;
        if left.columns != right.rows {
            return refuse(&format!("{:?} and {:?} are no factors", a.dims(), b.dims()));
        }
        let columns = right.columns;
        let bias = bias.as_ref().map(|bias| bias.values()).transpose()?;
        if bias.is_some_and(|bias| bias.len() != columns) {
            return refuse("the bias is not as long as a row");
        }
        let leading = if self.trans_a { &[left.rows] } else { &a.dims()[..a.dims().len() - 1] };
        let mut result = call.result(0, &[leading, &[columns]].concat())?;
        multiply(call, left, right, bias, result.values()?)
    }
}

/// A matrix that is not empty; element (i, j) is at `i·row + j·column`.
#[derive(Clone, Copy, Debug)]
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    fn of(values: &'a [f32], dims: &[usize], is_transposed: bool) -> Result<Self, Refusal> {
        let columns = match dims {
            [_, .., last] if !values.is_empty() => *last,
            _ => return refuse(&format!("{dims:?} is no matrix")),
        };
        let rows = values.len() / columns;
        let own = Self { values, rows, columns, row: columns, column: 1 };
        Ok(if is_transposed { own.transposed() } else { own })
    }

    fn transposed(self) -> Self {
        let Self { values, rows, columns, row, column } = self;
        Self { values, rows: columns, columns: rows, row: column, column: row }
    }

    /// Some of its rows.
    fn rows(self, range: &Range<usize>) -> Self {
        Self { values: &self.values[range.start * self.row..], rows: range.len(), ..self }
    }

    /// Some of its columns.
    fn columns(self, range: &Range<usize>) -> Self {
        self.transposed().rows(range).transposed()
    }
}

/// Number of parts of a product, chosen so that each of several threads gets some.
const PARTS: usize = 8;

/// Maximum number of rows of a part, so that the data a part reads and writes stays in the caches.
const MOST_ROWS: usize = 512;

/// Minimum number of rows or columns of a part: each part packs its own operands, so small parts do not pay off.
const LEAST: usize = 192;

/// Number of rows and columns of parts into which a product is cut.
fn cuts(rows: usize, columns: usize) -> [usize; 2] {
    let mut cuts = [rows.div_ceil(MOST_ROWS), 1];
    while cuts[0] * cuts[1] < PARTS {
        let sizes = [rows / cuts[0], columns / cuts[1]];
        let longer = usize::from(sizes[1] > sizes[0]);
        if sizes[longer] < 2 * LEAST {
            break;
        }
        cuts[longer] *= 2;
    }
    cuts
}

/// The result that the parts are written to.
struct Shared(*mut f32);

#[expect(unsafe_code, reason = "threads write to one matrix")]
// SAFETY: the threads write to parts that share no element.
unsafe impl Sync for Shared {}

/// `result = left·right + bias`, on the threads of the session.
fn multiply(
    call: &Call<'_>,
    left: Matrix<'_>,
    right: Matrix<'_>,
    bias: Option<&[f32]>,
    result: &mut [f32],
) -> Result<(), Refusal> {
    let (rows, columns) = (left.rows, right.columns);
    if result.len() != rows * columns {
        return refuse("the result has another size than the product");
    }
    let [down, across] = cuts(rows, columns);
    let shared = Shared(result.as_mut_ptr());
    call.each(down * across, |part| {
        let shared = &shared;
        let (at, beside) = (part / across, part % across);
        let own = rows * at / down..rows * (at + 1) / down;
        let of_columns = columns * beside / across..columns * (beside + 1) / across;
        let (left, right) = (left.rows(&own), right.columns(&of_columns));
        let bias = bias.map(|bias| &bias[of_columns.clone()]);
        #[expect(unsafe_code, reason = "parts of a row belong to several threads")]
        // SAFETY: the rectangle lies within the result, which has `rows` rows of `columns` elements, and no other part
        // overlaps it.
        unsafe {
            let first = shared.0.add(own.start * columns + of_columns.start);
            multiply_part(left, right, bias, first, columns);
        }
    })
}

/// One rectangle, on this thread.
///
/// # Safety
/// `result` has `left.rows` rows of `right.columns` elements, `pitch` apart, and only this call uses them.
#[expect(unsafe_code, reason = "of the rows of the result only parts belong to this thread")]
unsafe fn multiply_part(
    left: Matrix<'_>,
    right: Matrix<'_>,
    bias: Option<&[f32]>,
    result: *mut f32,
    pitch: usize,
) {
    let last = |m: Matrix<'_>| (m.rows - 1) * m.row + (m.columns - 1) * m.column;
    assert!(left.columns == right.rows, "no factors");
    assert!(last(left) < left.values.len() && last(right) < right.values.len(), "too few elements");
    if let Some(bias) = bias {
        assert!(bias.len() == right.columns, "another bias");
        for row in 0..left.rows {
            // SAFETY: the row belongs to this call.
            let own =
                unsafe { std::slice::from_raw_parts_mut(result.add(row * pitch), bias.len()) };
            own.copy_from_slice(bias);
        }
    }
    // SAFETY: the code above checked that the last element of each operand exists, and the caller guarantees the
    // result. The result is read only where it was filled with the bias.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            result,
            1,
            pitch as isize,
            bias.is_some(),
            left.values.as_ptr(),
            left.column as isize,
            left.row as isize,
            right.values.as_ptr(),
            right.column as isize,
            right.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
