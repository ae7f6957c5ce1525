//! The equations of all operators that read the same rows. Folds of the images choose the ridge strength, and give a
//! solution for each fold that has not seen it.

use faer::Mat;
use updp_passes::blocks::ActivationKind;
use updp_passes::surgery::Site;

use super::gram::WIDE;
use super::moments::{Centre, Moments, System};
use super::normal::{Normal, Shape, Solved, Solver, Targets, rows_of};
use super::rows::Rows;
use super::saliency;
use super::table::{Table, difference, sum};
use super::{FitSettings, Unsolved, unsolved};
use crate::error::TrainerError;

/// Another sweep follows while the last one reduced the error by at least this share.
const LEAST_GAIN: f64 = 0.01;

/// Bounds of the factor that restores the spread of an output.
const FACTORS: (f64, f64) = (0.5, 1.6);

/// The equations of all operators that read the same rows.
pub(super) struct Equations<'a> {
    site: &'a Site,
    taps: usize,
    folds: Vec<Rows>,
    scale: Scale,
    /// The sums over all rows.
    whole: System,
    /// The sums over all rows but those of each fold; empty if there is one fold.
    without: Vec<System>,
    /// The ridge strengths found, by form.
    ridges: Vec<(Shape, f64)>,
    settings: &'a FitSettings,
}

/// A solved operator.
pub(super) struct Solution {
    pub(super) ridge: f64,
    /// The operator for all rows.
    pub(super) whole: Solved,
    /// The operators for all rows but those of each fold; empty if there is one fold.
    pub(super) folds: Vec<Solved>,
    /// `Σ‖a − â‖² / Σ‖a − mean a‖²`, where each row is predicted by the operator that has not seen it.
    pub(super) error: f64,
}

/// The unknowns that are free, and the weights that they are drawn towards.
struct Start {
    columns: Vec<usize>,
    weight: Mat<f64>,
}

impl<'a> Equations<'a> {
    /// Sums the rows of each fold; the targets are `z − s`. `taps` is the number of taps of the operator's window.
    pub(super) fn new(
        folds: Vec<Rows>,
        site: &'a Site,
        taps: usize,
        settings: &'a FitSettings,
    ) -> Result<Self, TrainerError> {
        let targets: Vec<Table> = folds.iter().map(|rows| difference(&rows.z, &rows.s)).collect();
        let empty = || unsolved(site, "there are no rows".to_owned());
        let first = folds.first().ok_or_else(empty)?;
        let centre = Centre { x: first.x.means(), t: targets[0].means() };
        let pairs = folds.iter().zip(&targets);
        let sums: Vec<Moments> = pairs.map(|(rows, t)| Moments::of(&rows.x, t, &centre)).collect();
        let whole = Moments::system(&sums, &centre).ok_or_else(empty)?;
        let without = (0..if sums.len() > 1 { sums.len() } else { 0 }).filter_map(|fold| {
            let others = sums.iter().enumerate().filter(|(at, _)| *at != fold);
            Moments::system(others.map(|(_, sums)| sums), &centre)
        });
        let without = without.collect();
        let scale = Scale::of(&folds, site.activation);
        Ok(Self { site, taps, folds, scale, whole, without, ridges: Vec::new(), settings })
    }

    /// The error of the shortcut alone.
    pub(super) fn error_of_shortcut(&self) -> f64 {
        self.scale.share(self.folds.iter().map(|rows| self.scale.error(rows, &rows.s)).sum())
    }

    fn failed(&self) -> impl Fn(Unsolved) -> TrainerError {
        let site = self.site;
        move |e: Unsolved| unsolved(site, format!("{} unknowns", e.size))
    }

    /// Solves one form through the end activation, with the ridge strength that has the smallest cross-validated error.
    pub(super) fn solve(&mut self, shape: Shape) -> Result<Solution, TrainerError> {
        self.solved(shape).map_err(self.failed())
    }

    fn solved(&mut self, shape: Shape) -> Result<Solution, Unsolved> {
        let ridge = self.ridge(plain(shape))?;
        // Forms of two operators are solved from scratch in every sweep.
        let most = match shape {
            Shape::Depthwise | Shape::Rank(_) => self.settings.sweeps.min(2),
            Shape::Dense | Shape::Tap(_) => self.settings.sweeps,
        };
        let mut folds = Vec::new();
        let (mut error, mut sweeps) = (0.0, 0);
        for (fold, system) in self.without.iter().enumerate() {
            let solver = system.normal.solver(shape, self.taps, ridge)?;
            let others = self.others(fold);
            let held = &self.folds[fold];
            let judge = |solved: &Solved| self.error_in(held, solved);
            let (mut solved, made) = self.through(&solver, system, &others, most, &judge)?;
            self.restore(&mut solved, system);
            error += self.error_in(held, &solved);
            sweeps += made;
            folds.push(solved);
        }
        let solver = self.whole.normal.solver(shape, self.taps, ridge)?;
        let all: Vec<&Rows> = self.folds.iter().collect();
        let most = if folds.is_empty() { most } else { sweeps.div_ceil(folds.len()) };
        let judge = |solved: &Solved| all.iter().map(|rows| self.error_in(rows, solved)).sum();
        let (mut whole, _) = self.through(&solver, &self.whole, &all, most, &judge)?;
        self.restore(&mut whole, &self.whole);
        let error = if folds.is_empty() { judge(&whole) } else { error };
        Ok(Solution { ridge, whole, folds, error: self.scale.share(error) })
    }

    /// Solves for the weights of a layer that exists. The ridge draws the solution to the present weights `base`. `None`
    /// if the present weights have a smaller cross-validated error.
    pub(super) fn solve_layer(&mut self, base: &Solved) -> Result<Option<Solution>, TrainerError> {
        let columns = (0..base.weight.nrows()).collect();
        let start = Start { columns, weight: base.weight.clone() };
        let solution = self.solve_from(&start, f64::INFINITY, true).map_err(self.failed())?;
        let present: f64 = self.folds.iter().map(|rows| self.error_in(rows, base)).sum();
        Ok((solution.error < self.scale.share(present)).then_some(solution))
    }

    /// Solves for a layer with fewer inputs: for each of `counts` the channels that stay, ascending, and the operator
    /// that reads them. Neighbouring channels of a `group` stay or leave together; the counts are multiples of it. `base`
    /// holds the layer's present weights. `fisher` is the factor of [`super::Fisher`] at the outputs,
    /// with which the lost outputs are weighed. `is_priced` says for which counts the operators
    /// without each fold are wanted.
    pub(super) fn solve_thin(
        &mut self,
        base: &Solved,
        counts: &[usize],
        group: usize,
        fisher: Option<&Mat<f64>>,
        is_priced: impl Fn(usize) -> bool,
    ) -> Result<Vec<(Vec<usize>, Solution)>, TrainerError> {
        let fits = |factor: &&Mat<f64>| factor.nrows() == base.weight.ncols();
        let weighted = fisher.filter(fits).map(|factor| &base.weight * factor);
        let weight = weighted.as_ref().unwrap_or(&base.weight);
        let counts: Vec<usize> = counts.iter().map(|count| count / group).collect();
        let kept = saliency::kept(&self.whole.normal, weight, self.taps * group, &counts);
        let mut found: Vec<(Vec<usize>, Solution)> = Vec::new();
        let mut ridge = None;
        for (at, kept) in kept.map_err(self.failed())?.into_iter().enumerate() {
            let kept = saliency::columns(&kept, group);
            let columns = saliency::columns(&kept, self.taps);
            let weight = rows_of(&base.weight, &columns);
            let start = Start { columns, weight };
            // The more channels are gone, the weaker the best ridge.
            let most = ridge.unwrap_or(f64::INFINITY);
            let solution = self.solve_from(&start, most, is_priced(at)).map_err(self.failed())?;
            ridge = Some(solution.ridge);
            found.push((kept, solution));
        }
        Ok(found)
    }

    /// The operator for all rows only. Its error is that of the rows that it was solved with.
    fn solve_whole(&self, start: &Start, ridge: f64) -> Result<Solution, Unsolved> {
        let mut whole = self.whole.solved_from(start, ridge)?;
        self.restore(&mut whole, &self.whole);
        let error = self.folds.iter().map(|rows| self.error_in(rows, &whole)).sum();
        Ok(Solution { ridge, whole, folds: Vec::new(), error: self.scale.share(error) })
    }

    /// `min Σ‖t − Wᵀx‖² + ρ·tr(G)/U·‖W − W₀‖²` over the free unknowns, where `W₀` is the start.
    /// The ridge strength is at most `most`.
    fn solve_from(&self, start: &Start, most: f64, has_folds: bool) -> Result<Solution, Unsolved> {
        let ridge = self.search(most, |ridge, system| system.solved_from(start, ridge))?;
        if !has_folds {
            return self.solve_whole(start, ridge);
        }
        let mut folds = Vec::new();
        let mut error = 0.0;
        for (system, held) in self.without.iter().zip(&self.folds) {
            let mut solved = system.solved_from(start, ridge)?;
            self.restore(&mut solved, system);
            error += self.error_in(held, &solved);
            folds.push(solved);
        }
        let solution = self.solve_whole(start, ridge)?;
        if folds.is_empty() {
            return Ok(solution);
        }
        Ok(Solution { folds, error: self.scale.share(error), ..solution })
    }

    /// The rows of all folds but one.
    fn others(&self, fold: usize) -> Vec<&Rows> {
        let all = self.folds.iter().enumerate();
        all.filter(|(at, _)| *at != fold).map(|(_, rows)| rows).collect()
    }

    /// The squared error of an operator on rows.
    fn error_in(&self, rows: &Rows, solved: &Solved) -> f64 {
        self.scale.error(rows, &sum(&solved.predict(&rows.x), &rows.s))
    }

    /// The ridge strength with the smallest cross-validated error, without the end activation.
    fn ridge(&mut self, shape: Shape) -> Result<f64, Unsolved> {
        if let Some((_, known)) = self.ridges.iter().find(|(of, _)| *of == shape) {
            return Ok(*known);
        }
        let solve = |ridge: f64, system: &System| {
            system.normal.solver(shape, self.taps, ridge)?.solve(&system.targets)
        };
        let found = self.search(f64::INFINITY, solve)?;
        self.ridges.push((shape, found));
        Ok(found)
    }

    /// Tries ridge strengths of at most `most` from strong to weak until the cross-validated error stops falling.
    fn search(
        &self,
        most: f64,
        solve: impl Fn(f64, &System) -> Result<Solved, Unsolved>,
    ) -> Result<f64, Unsolved> {
        let is_wide = self.folds.first().is_some_and(|rows| rows.x.width > WIDE);
        // If one factorization takes seconds, only every other ridge strength is tried, in one fold.
        let (step, folds) = if is_wide { (2, 1) } else { (1, usize::MAX) };
        let mut best: Option<(f64, f64)> = None;
        let ridges = self.settings.ridges.iter().step_by(step);
        for ridge in ridges.filter(|ridge| **ridge <= most) {
            let mut error = 0.0;
            for (system, held) in self.without.iter().zip(&self.folds).take(folds) {
                error += self.error_in(held, &solve(*ridge, system)?);
            }
            if best.is_some_and(|(_, least)| error >= least) {
                break;
            }
            if self.without.is_empty() {
                break;
            }
            best = Some((*ridge, error));
        }
        Ok(best.map_or(1e-3, |(ridge, _)| ridge))
    }

    /// Gives each output the spread of its target: least squares shrinks it, layer by layer (REPAIR, arXiv 2211.08403).
    /// An output before an activation keeps its least-squares solution.
    fn restore(&self, solved: &mut Solved, system: &System) {
        if self.settings.restore <= 0.0 || self.site.activation.is_some() {
            return;
        }
        let made = &system.normal.gram * &solved.weight;
        let factors = (0..solved.weight.ncols()).map(|o| {
            let own = made.col_as_slice(o).iter().zip(solved.weight.col_as_slice(o));
            let spread: f64 = own.map(|(a, b)| a * b).sum();
            let factor = (system.spread[o] / spread.max(f64::MIN_POSITIVE)).sqrt();
            1.0 + self.settings.restore * (factor.clamp(FACTORS.0, FACTORS.1) - 1.0)
        });
        solved.scale(&factors.collect::<Vec<f64>>());
        solved.bias = system.normal.bias(&solved.weight, &system.targets.mean);
    }

    /// Solves once, then again with targets that count only the part that the end activation lets through. Where the
    /// end activation cuts off both the original and the operator's result, there is no error, whatever the values.
    /// `judge` gives the error that a sweep must reduce. Returns the operator and the number of sweeps that helped.
    fn through(
        &self,
        solver: &Solver<'_>,
        system: &System,
        rows: &[&Rows],
        sweeps: usize,
        judge: &dyn Fn(&Solved) -> f64,
    ) -> Result<(Solved, usize), Unsolved> {
        let targets = &system.targets;
        let mut solved = solver.solve(targets)?;
        let Some(upper) = upper_limit(self.site.activation) else { return Ok((solved, 0)) };
        let mut error = judge(&solved);
        let narrow = solver.columns().map(|own| {
            let cross = rows_of(&targets.cross, own);
            let tables: Vec<Table> = rows.iter().map(|rows| rows.x.columns(own)).collect();
            (tables, Targets { cross, mean: targets.mean.clone() }, own)
        });
        let mut helped = 0;
        for _ in 0..sweeps {
            let made = |at: usize| match &narrow {
                Some((tables, _, own)) => solved.only(own).predict(&tables[at]),
                None => solved.predict(&rows[at].x),
            };
            let changes: Vec<Table> =
                rows.iter().enumerate().map(|(at, rows)| change(rows, &made(at), upper)).collect();
            let next = if let Some((tables, targets, own)) = &narrow {
                let part = Normal::moved(targets, &paired(tables.iter(), changes));
                let mut cross = Mat::<f64>::zeros(system.normal.mean.len(), part.mean.len());
                for (row, at) in own.iter().enumerate() {
                    cross.row_mut(*at).copy_from(part.cross.row(row));
                }
                solver.solve_again(&Targets { cross, mean: part.mean }, &solved)?
            } else {
                let tables = rows.iter().map(|rows| &rows.x);
                solver.solve_again(&Normal::moved(targets, &paired(tables, changes)), &solved)?
            };
            let found = judge(&next);
            if found >= error {
                break;
            }
            let gain = 1.0 - found / error;
            (solved, error) = (next, found);
            helped += 1;
            if gain < LEAST_GAIN {
                break;
            }
        }
        Ok((solved, helped))
    }
}

fn paired<'a>(
    tables: impl Iterator<Item = &'a Table>,
    changes: Vec<Table>,
) -> Vec<(&'a Table, Table)> {
    tables.zip(changes).collect()
}

/// How far the target moves where the end activation cuts it off.
fn change(rows: &Rows, made: &Table, upper: f32) -> Table {
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
    change
}

impl System {
    /// The operator that reads the free unknowns of `start` and is drawn to its weights. Its weights have one row per
    /// free unknown.
    fn solved_from(&self, start: &Start, ridge: f64) -> Result<Solved, Unsolved> {
        let own = &start.columns;
        let gram = Mat::from_fn(own.len(), own.len(), |i, j| self.normal.gram[(own[i], own[j])]);
        let rhs = rows_of(&self.targets.cross, own) - &gram * &start.weight;
        let change = Normal::solve_dense(gram.as_ref(), ridge, &rhs)?;
        let mut weight = Mat::<f64>::zeros(self.normal.mean.len(), rhs.ncols());
        for (row, at) in own.iter().enumerate() {
            for column in 0..rhs.ncols() {
                weight[(*at, column)] = start.weight[(row, column)] + change[(row, column)];
            }
        }
        let bias = self.normal.bias(&weight, &self.targets.mean);
        Ok(Solved { weight, bias, parts: None })
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

/// `Σ‖a − mean a‖²` of rows, where `a` is the output of the end activation.
pub(super) struct Scale {
    spread: f64,
    activation: Option<ActivationKind>,
}

impl Scale {
    pub(super) fn of(folds: &[Rows], activation: Option<ActivationKind>) -> Self {
        let width = folds.first().map_or(1, |rows| rows.z.width.max(1));
        let mut sums = vec![(0.0, 0.0); width];
        for row in folds.iter().flat_map(|rows| rows.z.values.chunks_exact(width)) {
            for (sum, value) in sums.iter_mut().zip(row) {
                let value = activated(*value, activation);
                sum.0 += value;
                sum.1 += value * value;
            }
        }
        let rows = folds.iter().map(Rows::count).sum::<usize>().max(1) as f64;
        let spread = sums.into_iter().map(|(sum, square)| (square - sum * sum / rows).max(0.0));
        Self { spread: spread.sum(), activation }
    }

    /// `Σ‖a − â‖²` for outputs before the end activation.
    pub(super) fn error(&self, rows: &Rows, made: &Table) -> f64 {
        let activation = self.activation;
        let pairs = rows.z.values.iter().zip(&made.values);
        pairs
            .map(|(z, made)| (activated(*z, activation) - activated(*made, activation)).powi(2))
            .sum()
    }

    /// An error as a share of the spread.
    pub(super) fn share(&self, error: f64) -> f64 {
        if self.spread > 0.0 { error / self.spread } else { error }
    }
}
