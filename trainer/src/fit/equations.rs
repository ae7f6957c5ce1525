//! The equations of one site: some rows are for solving, held-out rows are for choosing the ridge strength.

use faer::Mat;
use updp_passes::blocks::ActivationKind;
use updp_passes::surgery::Site;

use super::gram::WIDE;
use super::normal::{Normal, Shape, Solved, Solver, rows_of};
use super::rows::Rows;
use super::table::{Table, difference, sum};
use super::{FitSettings, Unsolved, unsolved};
use crate::error::TrainerError;

/// Another sweep follows while the last one reduced the error by at least this share.
const LEAST_GAIN: f64 = 0.01;

/// The equations of all operators that read the same rows.
pub(super) struct Equations<'a> {
    site: &'a Site,
    taps: usize,
    rows: Rows,
    pub(super) held: Rows,
    scale: Scale,
    normal: Normal,
    cross: (Mat<f64>, Vec<f64>),
    /// The ridge strengths found, by form.
    ridges: Vec<(Shape, f64)>,
}

impl<'a> Equations<'a> {
    /// Sums the rows; the targets are `z − s`. `taps` is the number of taps of the operator's window.
    pub(super) fn new(rows: Rows, held: Rows, site: &'a Site, taps: usize) -> Self {
        let normal = Normal::of(&rows.x);
        let cross = normal.cross(&rows.x, &difference(&rows.z, &rows.s));
        let scale = Scale::of(&held, site.activation);
        Self { site, taps, rows, held, scale, normal, cross, ridges: Vec::new() }
    }

    /// The error on held-out rows of outputs before the end activation.
    pub(super) fn error_of(&self, made: &Table) -> f64 {
        self.scale.error(&self.held, made)
    }

    /// Returns the ridge strength with the smallest error on held-out rows, the operator solved with it through the end
    /// activation, and its error.
    pub(super) fn solve(
        &mut self,
        shape: Shape,
        settings: &FitSettings,
    ) -> Result<(f64, Solved, f64), TrainerError> {
        let failed = |e: Unsolved| unsolved(self.site, format!("{} unknowns", e.size));
        let ridge = self.ridge(plain(shape), settings).map_err(failed)?;
        let solver = self.normal.solver(shape, self.taps, ridge).map_err(failed)?;
        // Forms of two operators are solved from scratch in every sweep.
        let sweeps = match shape {
            Shape::Depthwise | Shape::Rank(_) => settings.sweeps.min(2),
            Shape::Dense | Shape::Tap(_) => settings.sweeps,
        };
        let solved = self.through(&solver, sweeps).map_err(failed)?;
        let error = self.error(&solved);
        Ok((ridge, solved, error))
    }

    fn error(&self, solved: &Solved) -> f64 {
        self.error_of(&sum(&solved.predict(&self.held.x), &self.held.s))
    }

    /// Solves without the end activation, from strong to weak ridge until the error stops falling.
    fn ridge(&mut self, shape: Shape, settings: &FitSettings) -> Result<f64, Unsolved> {
        if let Some((_, known)) = self.ridges.iter().find(|(of, _)| *of == shape) {
            return Ok(*known);
        }
        let mut best: Option<(f64, f64)> = None;
        // If one factorization takes seconds, only every other ridge strength is tried.
        let step = if self.rows.x.width > WIDE { 2 } else { 1 };
        for ridge in settings.ridges.iter().step_by(step) {
            let solved = self.normal.solver(shape, self.taps, *ridge)?.solve(&self.cross)?;
            let error = self.error(&solved);
            if best.is_some_and(|(_, least)| error >= least) {
                break;
            }
            best = Some((*ridge, error));
        }
        let found = best.map_or(1e-3, |(ridge, _)| ridge);
        self.ridges.push((shape, found));
        Ok(found)
    }

    /// Solves once, then again with targets that count only the part that the end activation lets through. Where the
    /// end activation cuts off both the original and the operator's result, there is no error, whatever the values.
    fn through(&self, solver: &Solver<'_>, sweeps: usize) -> Result<Solved, Unsolved> {
        let Self { rows, cross, .. } = self;
        let mut solved = solver.solve(cross)?;
        let Some(upper) = upper_limit(self.site.activation) else { return Ok(solved) };
        let mut error = self.error(&solved);
        let narrow = solver
            .columns()
            .map(|own| (rows.x.columns(own), (rows_of(&cross.0, own), cross.1.clone()), own));
        for _ in 0..sweeps {
            let made = match &narrow {
                Some((x, _, own)) => solved.only(own).predict(x),
                None => solved.predict(&rows.x),
            };
            let mut change = Table::new(rows.z.width);
            let parts = rows.z.values.iter().zip(&rows.s.values).zip(&made.values);
            change.values.extend(parts.map(|((z, s), made)| {
                let made = made + s;
                if *z <= 0.0 {
                    made.min(0.0) - z
                } else if *z >= upper {
                    made.max(upper) - z
                } else {
                    0.0
                }
            }));
            let moved = match &narrow {
                Some((x, cross, own)) => {
                    let (part, mean) = Normal::moved(cross, x, &change);
                    let mut whole = Mat::<f64>::zeros(rows.x.width, part.ncols());
                    for (row, at) in own.iter().enumerate() {
                        whole.row_mut(*at).copy_from(part.row(row));
                    }
                    (whole, mean)
                }
                None => Normal::moved(cross, &rows.x, &change),
            };
            let next = solver.solve_again(&moved, &solved)?;
            let found = self.error(&next);
            if found >= error {
                break;
            }
            let gain = 1.0 - found / error;
            (solved, error) = (next, found);
            if gain < LEAST_GAIN {
                break;
            }
        }
        Ok(solved)
    }
}

/// The form whose ridge strength applies to this one: forms of two operators use the one of the dense form.
fn plain(shape: Shape) -> Shape {
    match shape {
        Shape::Depthwise | Shape::Rank(_) => Shape::Dense,
        other => other,
    }
}

/// The value above which a rectifier cuts off; `None` for other activations and for no activation.
fn upper_limit(activation: Option<ActivationKind>) -> Option<f32> {
    match activation? {
        ActivationKind::Relu => Some(f32::INFINITY),
        ActivationKind::Relu6 => Some(6.0),
        _ => None,
    }
}

fn activated(value: f32, activation: Option<ActivationKind>) -> f64 {
    let value = match upper_limit(activation) {
        Some(upper) => value.clamp(0.0, upper),
        None => value,
    };
    f64::from(value)
}

/// `Σ‖a − mean a‖²` of held-out rows, where `a` is the output of the end activation.
pub(super) struct Scale {
    spread: f64,
    activation: Option<ActivationKind>,
}

impl Scale {
    pub(super) fn of(held: &Rows, activation: Option<ActivationKind>) -> Self {
        let width = held.z.width.max(1);
        let mut sums = vec![(0.0, 0.0); width];
        for row in held.z.values.chunks_exact(width) {
            for (sum, value) in sums.iter_mut().zip(row) {
                let value = activated(*value, activation);
                sum.0 += value;
                sum.1 += value * value;
            }
        }
        let rows = held.count().max(1) as f64;
        let spread = sums.into_iter().map(|(sum, square)| (square - sum * sum / rows).max(0.0));
        Self { spread: spread.sum(), activation }
    }

    /// `Σ‖a − â‖² / Σ‖a − mean a‖²` for outputs before the end activation.
    pub(super) fn error(&self, held: &Rows, made: &Table) -> f64 {
        let activation = self.activation;
        let pairs = held.z.values.iter().zip(&made.values);
        let sum: f64 = pairs
            .map(|(z, made)| (activated(*z, activation) - activated(*made, activation)).powi(2))
            .sum();
        if self.spread > 0.0 { sum / self.spread } else { sum }
    }
}
