//! The closed-form fit. It solves for a pruned block by ridge regression, without labels and without gradients.
//!
//! The operator's inputs come from the network pruned so far, and its targets from the original: `t = z − s`, the
//! original's sum before the end activation minus the shortcut of the pruned network. So shrinking the weights shrinks
//! the block toward its shortcut, and the fit corrects errors of earlier blocks. If the block ends in a rectifier, only
//! values that pass it count: where the original is cut off, the target becomes the operator's own output, and the same
//! factor is used to solve again.

mod draw;
mod equations;
mod fisher;
mod gram;
mod maps;
mod mixtures;
mod moments;
mod normal;
mod rows;
mod saliency;
mod table;

pub use fisher::Fisher;
pub use mixtures::with_mixtures;
pub(crate) use rows::floats;

use std::collections::VecDeque;

use updp_ir::{ConvGeometry, Model};
use updp_passes::surgery::{self, Fitted, Form, Layer, Site};

use crate::activation_cache::Flow;
use crate::error::TrainerError;
use crate::run::Runner;
use draw::Wanted;
use equations::{Equations, Scale, Solution};
use gram::WIDE;
use maps::{map_of, maps};
use normal::{Shape, Solved, rows_of};
use rows::Rows;

/// Above [`WIDE`] unknowns, the number of rows per unknown is divided by this.
const FEWER: usize = 3;

/// Above [`WIDE`] unknowns, there are at most this many folds.
const FEW_FOLDS: usize = 2;

/// The equations have no computable solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsolved {
    size: usize,
}

/// The settings of a fit.
#[derive(Clone, Debug, PartialEq)]
pub struct FitSettings {
    /// Number of rows for each unknown of an output channel.
    pub rows_per_unknown: usize,
    /// Minimum and maximum number of rows, if the data provide them.
    pub rows: (usize, usize),
    /// Maximum number of bytes of rows.
    pub row_bytes: usize,
    /// Candidate ridge strengths ρ in falling order, relative to the mean of the Gram matrix's diagonal.
    pub ridges: Vec<f64>,
    /// Number of rounds of solving through the end activation.
    pub sweeps: usize,
    /// Maximum number of folds for cross-validation. Each batch of images belongs to one fold.
    pub folds: usize,
    /// How far the spread of an output is restored to that of the original: 0 = not at all, 1 = fully.
    pub restore: f64,
    /// Seed for drawing rows.
    pub seed: u64,
}

impl Default for FitSettings {
    fn default() -> Self {
        Self {
            rows_per_unknown: 40,
            rows: (20_000, 120_000),
            row_bytes: 768 << 20,
            ridges: vec![10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5],
            sweeps: 5,
            folds: 4,
            restore: 0.5,
            seed: 0,
        }
    }
}

impl FitSettings {
    /// Number of rows to draw for this many unknowns of an output channel.
    #[must_use]
    pub fn rows_for(&self, unknowns: usize) -> usize {
        let (least, most) = self.rows;
        // Layers with many unknowns have few positions and many channels. More rows would only come from the same
        // images.
        let each =
            if unknowns > WIDE { self.rows_per_unknown / FEWER } else { self.rows_per_unknown };
        let rows = (each * unknowns).clamp(least, most);
        rows.min(self.row_bytes / (4 * unknowns).max(1)).max(2)
    }

    /// Multiply-adds of solving for this many unknowns: the Gram matrix and a few factorizations of it.
    #[must_use]
    pub fn solving_macs(&self, unknowns: usize) -> u64 {
        let (rows, unknowns) = (self.rows_for(unknowns) as u64, unknowns as u64);
        // Half of a symmetric matrix in f64 takes twice the time per multiply-add. Three factorizations take a sixth of
        // the cube each, also at twice the time.
        rows * unknowns * unknowns + unknowns.pow(3)
    }
}

/// A fitted form of a block.
#[derive(Clone, Debug)]
pub struct FittedForm {
    /// The site that it fits.
    pub site: Site,
    /// The fitted operator or the dropped branch.
    pub fitted: Fitted,
    /// The same, fitted without the images of each fold. Batch `b` belongs to fold `b mod folds`. Empty if nothing is
    /// solved, or if there is one batch.
    pub folds: Vec<Fitted>,
    /// Ridge strength; `None` if nothing is solved.
    pub ridge: Option<f64>,
    /// `Σ‖a − â‖² / Σ‖a − mean a‖²` of the block's output `a`, where each row is predicted without its own fold.
    pub output_error: f64,
}

impl FittedForm {
    fn of_drop(site: &Site, output_error: f64) -> Self {
        let fitted = Fitted::Drop;
        Self { site: site.clone(), fitted, folds: Vec::new(), ridge: None, output_error }
    }

    fn of(site: &Site, solution: &Solution, fitted: impl Fn(&Solved) -> Fitted) -> Self {
        Self {
            site: site.clone(),
            fitted: fitted(&solution.whole),
            folds: solution.folds.iter().map(fitted).collect(),
            ridge: Some(solution.ridge),
            output_error: solution.error,
        }
    }
}

/// A network, its pruned state, and the data.
#[derive(Clone, Copy)]
pub struct Fit<'a> {
    /// The settings for running networks.
    pub runner: &'a Runner,
    /// The original, prepared.
    pub original: &'a Model,
    /// The network pruned so far. Its values keep their names.
    pub current: &'a Model,
    /// The values at which the images are given; none = at the inputs of the networks.
    pub cut: &'a [String],
    /// The images.
    pub calibration: Flow<'a>,
    /// The settings of the fit.
    pub settings: &'a FitSettings,
    /// How much the outputs react to the outputs of blocks. `None` = all directions count alike.
    pub fisher: Option<&'a Fisher>,
}

/// Sites that read the same rows.
struct Group<'a> {
    window: &'a ConvGeometry,
    sites: Vec<&'a Site>,
}

impl Group<'_> {
    /// Number of unknowns of an output channel; 1 if nothing is solved.
    fn unknowns(&self) -> usize {
        let is_solved = self.sites.iter().any(|site| site.form != Form::Drop);
        if is_solved { self.sites[0].in_channels * self.window.taps() } else { 1 }
    }
}

impl Fit<'_> {
    /// Solves for every site of one block. Each site uses the ridge with the smallest cross-validated error. If a site
    /// allows it, the results include dropping the branch.
    ///
    /// # Errors
    /// T0005 when the equations have no solution; errors of running the model.
    pub fn block(&self, sites: &[Site]) -> Result<Vec<FittedForm>, TrainerError> {
        self.all(groups(sites).into(), &|_, _| true)
    }

    /// The same as [`Self::block`], in order from few unknowns to many. Skips the sites for which `is_needed` returns
    /// false, given the earlier results.
    ///
    /// # Errors
    /// The same errors as [`Self::block`].
    pub fn block_where(
        &self,
        sites: &[Site],
        is_needed: &dyn Fn(&Site, &[FittedForm]) -> bool,
    ) -> Result<Vec<FittedForm>, TrainerError> {
        let mut groups = groups(sites);
        groups.sort_by_key(Group::unknowns);
        self.all(groups.into(), is_needed)
    }

    fn all(
        &self,
        mut waiting: VecDeque<Group<'_>>,
        is_needed: &dyn Fn(&Site, &[FittedForm]) -> bool,
    ) -> Result<Vec<FittedForm>, TrainerError> {
        let mut found = Vec::new();
        while !waiting.is_empty() {
            let together = self.together(&waiting);
            let mut drawn: Vec<Group<'_>> = waiting.drain(..together).collect();
            for group in &mut drawn {
                group.sites.retain(|site| is_needed(site, &found));
            }
            drawn.retain(|group| !group.sites.is_empty());
            let wanted: Vec<Wanted<'_>> = drawn.iter().map(|group| self.wanted(group)).collect();
            if wanted.is_empty() {
                continue;
            }
            for (group, folds) in drawn.iter().zip(self.draw(&wanted)?) {
                found.extend(self.group(group, folds)?);
            }
        }
        Ok(found)
    }

    /// Number of groups, starting with the first, that are drawn in one run. A group with many unknowns is drawn alone.
    fn together(&self, groups: &VecDeque<Group<'_>>) -> usize {
        let mut bytes = 0;
        let fitting = groups.iter().take_while(|group| {
            let unknowns = group.unknowns();
            bytes += 4 * unknowns * self.settings.rows_for(unknowns);
            bytes <= self.settings.row_bytes && unknowns <= WIDE
        });
        fitting.count().max(1)
    }

    fn wanted<'b>(&self, group: &Group<'b>) -> Wanted<'b> {
        self.wanted_at(group.sites[0], group.window, group.unknowns())
    }

    fn wanted_at<'b>(
        &self,
        site: &'b Site,
        window: &'b ConvGeometry,
        unknowns: usize,
    ) -> Wanted<'b> {
        let most = if unknowns > WIDE { FEW_FOLDS } else { usize::MAX };
        let folds = self.settings.folds.clamp(1, most);
        Wanted { site, window, rows: self.settings.rows_for(unknowns), folds }
    }

    /// Solves again for the weights of a kept layer, so that it maps the values of the pruned network to the layer's
    /// original outputs. The ridge shrinks the change, not the weights. `None` if no change is better.
    ///
    /// # Errors
    /// The same errors as [`Self::block`].
    pub fn layer(&self, layer: &Layer) -> Result<Option<FittedForm>, TrainerError> {
        let site = &layer.site;
        let taps = site.window.taps();
        let wanted = self.wanted_at(site, &site.window, site.in_channels * taps);
        let folds = finite(site, self.draw_one(wanted)?)?;
        let mut equations = Equations::new(folds, site, taps, self.settings)?;
        let solution = equations.solve_layer(&Solved::of(&layer.map))?;
        let fitted = |solved: &Solved| Fitted::Maps(maps(solved, site, &site.window));
        Ok(solution.map(|solution| FittedForm::of(site, &solution, fitted)))
    }

    /// Solves the last layer of a block for each number of hidden channels.
    fn thin(
        &self,
        equations: &mut Equations<'_>,
        sites: &[&Site],
    ) -> Result<Vec<FittedForm>, TrainerError> {
        let Some(first) = sites.first() else { return Ok(Vec::new()) };
        let map = surgery::with_context(self.original, |cx| surgery::thin_map(cx, first));
        let map = map.ok_or_else(|| unsolved(first, "its last layer is not known".to_owned()))?;
        let counts: Vec<usize> =
            sites.iter().map(|site| site.thin.map_or(1, |it| it.kept)).collect();
        let group = first.thin.map_or(1, |thin| thin.group);
        let is_priced = priced(sites.iter().map(|site| site.form));
        let factor = self.fisher.and_then(|fisher| fisher.factor(&first.sum));
        let solutions =
            equations.solve_thin(&Solved::of(&map), &counts, group, factor, |at| is_priced[at])?;
        let forms = sites.iter().zip(solutions).map(|(site, (kept, solution))| {
            let columns = saliency::columns(&kept, site.window.taps());
            let fitted = |solved: &Solved| Fitted::Thin {
                kept: kept.clone(),
                last: map_of(&rows_of(&solved.weight, &columns), solved.bias.clone(), &site.window),
            };
            let form = FittedForm::of(site, &solution, fitted);
            if site.thin.is_some_and(|thin| thin.is_gated) {
                self.behind_gate(form)
            } else {
                Ok(form)
            }
        });
        forms.collect()
    }

    /// Solves the last layer of a thin form anew: a gate that sees fewer channels makes others of those that stay, so the
    /// rows come from the network in which they are gone.
    fn behind_gate(&self, form: FittedForm) -> Result<FittedForm, TrainerError> {
        let Fitted::Thin { kept, last } = &form.fitted else { return Ok(form) };
        let mut current = self.current.clone();
        surgery::substitute(&mut current, &form.site, &form.fitted)?;
        let Self { runner, original, cut, calibration, settings, fisher, .. } = *self;
        let fit = Fit { runner, original, current: &current, cut, calibration, settings, fisher };
        let site = Site { in_channels: kept.len(), form: Form::Conv, ..form.site.clone() };
        let taps = site.window.taps();
        let wanted = fit.wanted_at(&site, &site.window, kept.len() * taps);
        let folds = finite(&site, fit.draw_one(wanted)?)?;
        let mut equations = Equations::new(folds, &site, taps, settings)?;
        let base = Solved::of(last);
        let solutions = equations.solve_thin(&base, &[kept.len()], 1, None, |_| true)?;
        let Some((_, solution)) = solutions.into_iter().next() else { return Ok(form) };
        let fitted = |solved: &Solved| Fitted::Thin {
            kept: kept.clone(),
            last: map_of(&solved.weight, solved.bias.clone(), &site.window),
        };
        Ok(FittedForm::of(&form.site, &solution, fitted))
    }

    fn group(&self, group: &Group<'_>, folds: Vec<Rows>) -> Result<Vec<FittedForm>, TrainerError> {
        let first = group.sites[0];
        let (dropped, solved): (Vec<&Site>, Vec<&Site>) =
            group.sites.iter().partition(|site| site.form == Form::Drop);
        let taps = group.window.taps();
        let folds = finite(first, folds)?;
        let mut found = Vec::new();
        if solved.is_empty() {
            let scale = Scale::of(&folds, first.activation);
            let error = scale.share(folds.iter().map(|rows| scale.error(rows, &rows.s)).sum());
            found.extend(dropped.first().map(|site| FittedForm::of_drop(site, error)));
            return Ok(found);
        }
        let mut equations = Equations::new(folds, first, taps, self.settings)?;
        let error = equations.error_of_shortcut();
        found.extend(dropped.first().map(|site| FittedForm::of_drop(site, error)));
        let (thin, solved): (Vec<&Site>, Vec<&Site>) =
            solved.into_iter().partition(|site| site.form.is_thin());
        if !thin.is_empty() {
            found.extend(self.thin(&mut equations, &thin)?);
        }
        for site in solved {
            let solution = equations.solve(shape_of(site, group.window))?;
            let fitted = |solved: &Solved| Fitted::Maps(maps(solved, site, group.window));
            found.push(FittedForm::of(site, &solution, fitted));
        }
        Ok(found)
    }
}

/// Rows that can be solved for.
fn finite(site: &Site, folds: Vec<Rows>) -> Result<Vec<Rows>, TrainerError> {
    if folds.iter().map(Rows::count).sum::<usize>() < 2 {
        return Err(unsolved(site, "there are no rows".to_owned()));
    }
    let is_finite = |rows: &Rows| rows.x.is_finite() && rows.z.is_finite() && rows.s.is_finite();
    if !folds.iter().all(is_finite) {
        return Err(unsolved(site, "a value is not finite".to_owned()));
    }
    Ok(folds)
}

/// Which of several forms are evaluated. Of the thin forms, these are every second one, if there are at least two: the
/// degradations of the others lie between them.
#[must_use]
pub fn priced(forms: impl Iterator<Item = Form> + Clone) -> Vec<bool> {
    let is_even = |form: Form| matches!(form, Form::Thin(eighths) if eighths % 2 == 0);
    let has_two = forms.clone().filter(|form| is_even(*form)).count() >= 2;
    forms.map(|form| !has_two || !form.is_thin() || is_even(form)).collect()
}

/// Groups sites by their inputs. A pointwise site uses the centre tap of the others' window.
fn groups(sites: &[Site]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut order: Vec<&Site> = sites.iter().collect();
    order.sort_by_key(|site| (std::cmp::Reverse(site.window.taps()), site.form == Form::Drop));
    for site in order {
        let joined = groups.iter_mut().find(|group| {
            let first = group.sites[0];
            let is_centre = site.form == Form::Pointwise
                && group.window.centre().as_ref() == Some(&site.window);
            // Without a shortcut, a dropped block has rows of its own: those of what takes its place.
            (site.form == Form::Drop && site.shortcut.is_some())
                || (first.features == site.features
                    && first.output == site.output
                    && (first.form == Form::Drop) == (site.form == Form::Drop)
                    && (*group.window == site.window || is_centre))
        });
        match joined {
            Some(group) => group.sites.push(site),
            None => groups.push(Group { window: &site.window, sites: vec![site] }),
        }
    }
    groups
}

fn unsolved(site: &Site, detail: String) -> TrainerError {
    TrainerError::Unsolved { block: site.block, name: site.name.clone(), detail }
}

fn shape_of(site: &Site, window: &ConvGeometry) -> Shape {
    let is_own_window = site.window == *window;
    match site.form {
        Form::LowRank => Shape::Rank(site.rank()),
        Form::DepthwisePointwise if window.taps() > 1 => Shape::Depthwise,
        _ if is_own_window => Shape::Dense,
        _ => window.centre_tap().map_or(Shape::Dense, Shape::Tap),
    }
}
