//! The closed-form fit: a pruned block solved for by ridge regression, without labels and without gradients.
//!
//! What the operator reads comes from the network pruned so far, what it should make from the original:
//! `t = z − s`, the original's sum before the end activation less the shortcut of the pruned network. So
//! shrinking the weights shrinks the block toward its shortcut, and an error made further up is mended on the
//! way. Where the block ends in a rectifier, only what passes it counts: where the original is
//! cut off, the target becomes what the operator makes anyway, and the same factor solves again.

mod normal;
mod rows;

pub(crate) use rows::floats;

use ndarray::{ArrayD, IxDyn};
use updp_ir::Model;
use updp_passes::blocks::ActivationKind;
use updp_passes::kernel::AffineMap;
use updp_passes::surgery::{Fitted, Form, Layer, Site, Window, part_between};

use crate::error::TrainerError;
use crate::run::{Feed, Runner};
use crate::seed::Generator;
use normal::{Normal, Shape, Solved, Solver, Table};
use rows::{Batch, Layout, Rows};

/// The equations have no solution that can be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsolved {
    size: usize,
}

/// How a fit is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Rows for each unknown of an output channel.
    pub rows_per_unknown: usize,
    /// Fewest and most rows, where the data give them.
    pub rows: (usize, usize),
    /// Most bytes of rows.
    pub row_bytes: usize,
    /// Ridge strengths ρ to choose among, falling, relative to the mean of the Gram matrix's diagonal.
    pub ridges: Vec<f64>,
    /// Rounds of solving through the end activation.
    pub sweeps: usize,
    /// Seed of the rows that are drawn.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rows_per_unknown: 40,
            rows: (20_000, 120_000),
            row_bytes: 768 << 20,
            ridges: vec![1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5],
            sweeps: 5,
            seed: 0,
        }
    }
}

/// A fitted form of a block.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where it goes.
    pub site: Site,
    /// What goes there.
    pub fitted: Fitted,
    /// Ridge strength; `None` where nothing is solved.
    pub ridge: Option<f64>,
    /// `Σ‖a − â‖² / Σ‖a − mean a‖²` of the block's output `a` on held-out rows.
    pub output_error: f64,
}

/// A network, its pruned state, and the data.
#[derive(Clone, Copy)]
pub struct Fit<'a> {
    /// How networks are run.
    pub runner: &'a Runner,
    /// The original, prepared.
    pub original: &'a Model,
    /// The network pruned so far; values keep their names.
    pub current: &'a Model,
    /// Images to solve with.
    pub calibration: &'a dyn Feed,
    /// Images to choose the ridge by.
    pub held_out: &'a dyn Feed,
    /// How.
    pub settings: &'a Settings,
}

/// Sites that read the same rows.
struct Group<'a> {
    window: &'a Window,
    sites: Vec<&'a Site>,
}

impl Fit<'_> {
    /// Every site of one block, solved for; of each the ridge with the smallest error on held-out rows.
    /// Dropping the branch is among them where a site says so.
    ///
    /// # Errors
    /// T0005 when the equations have no solution; what running refuses.
    pub fn block(&self, sites: &[Site]) -> Result<Vec<Candidate>, TrainerError> {
        let mut found = Vec::new();
        for group in groups(sites) {
            found.extend(self.group(&group)?);
        }
        Ok(found)
    }

    /// The weights of a layer that stays, solved for anew so that it makes of the pruned network's values what the
    /// original made of its own. The change is shrunk, not the weights. `None` where no change is better.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub fn layer(&self, layer: &Layer) -> Result<Option<Candidate>, TrainerError> {
        let site = &layer.site;
        let unsolved = |detail: String| unsolved(site, detail);
        let base = Solved::of(&layer.map);
        let wanted = self.rows(site.in_channels * site.window.taps());
        let mut rows = self.draw(self.calibration, site, &site.window, wanted)?;
        let mut held = self.draw(self.held_out, site, &site.window, wanted / 5)?;
        for rows in [&mut rows, &mut held] {
            rows.s = sum(&rows.s, &base.predict(&rows.x));
        }
        if !rows.x.values.iter().chain(&rows.s.values).all(|v| v.is_finite()) {
            return Err(unsolved("a value is not finite".to_owned()));
        }
        let scale = Scale::of(&held, site.activation);
        let before = scale.error(&held, &held.s, site.activation);
        let normal = Normal::of(&rows.x);
        let cross = normal.cross(&rows.x, &difference(&rows.z, &rows.s));
        let ridge =
            self.ridge(Shape::Dense, &normal, &cross, (&held, &scale), site, &site.window)?;
        let attempt = normal.solver(Shape::Dense, site.window.taps(), ridge).and_then(|solver| {
            through(&solver, &rows, &cross, site.activation, self.settings.sweeps)
        });
        let change = attempt.map_err(|e| unsolved(format!("{} unknowns", e.size)))?;
        let made = sum(&change.predict(&held.x), &held.s);
        let output_error = scale.error(&held, &made, site.activation);
        if output_error >= before {
            return Ok(None);
        }
        let whole = base.plus(&change);
        let fitted = Fitted::Maps(maps(&whole, site, &site.window));
        Ok(Some(Candidate { site: site.clone(), fitted, ridge: Some(ridge), output_error }))
    }

    fn group(&self, group: &Group<'_>) -> Result<Vec<Candidate>, TrainerError> {
        let first = group.sites[0];
        let unsolved = |detail: String| unsolved(first, detail);
        let taps = group.window.taps();
        let unknowns = if group.sites.iter().all(|site| site.form == Form::Drop) {
            1
        } else {
            first.in_channels * taps
        };
        let wanted = self.rows(unknowns);
        let rows = self.draw(self.calibration, first, group.window, wanted)?;
        let held = self.draw(self.held_out, first, group.window, wanted / 5)?;
        if rows.count() < 2 || held.count() == 0 {
            return Err(unsolved("there are no rows".to_owned()));
        }
        if !rows.x.values.iter().chain(&rows.z.values).all(|v| v.is_finite()) {
            return Err(unsolved("a value is not finite".to_owned()));
        }
        let scale = Scale::of(&held, first.activation);
        let mut found = Vec::new();
        if let Some(site) = group.sites.iter().find(|site| site.form == Form::Drop) {
            let output_error = scale.error(&held, &held.s, first.activation);
            let (site, fitted) = ((*site).clone(), Fitted::Drop);
            found.push(Candidate { site, fitted, ridge: None, output_error });
        }
        let solved: Vec<&Site> =
            group.sites.iter().copied().filter(|site| site.form != Form::Drop).collect();
        if solved.is_empty() {
            return Ok(found);
        }
        let normal = Normal::of(&rows.x);
        let target = difference(&rows.z, &rows.s);
        let cross = normal.cross(&rows.x, &target);
        for site in solved {
            let shape = shape_of(site, group.window);
            let place = (&held, &scale);
            let ridge = self.ridge(plain(shape), &normal, &cross, place, site, group.window)?;
            let attempt = normal.solver(shape, taps, ridge).and_then(|solver| {
                through(&solver, &rows, &cross, first.activation, self.settings.sweeps)
            });
            let solution = attempt.map_err(|e| unsolved(format!("{} unknowns", e.size)))?;
            let made = sum(&solution.predict(&held.x), &held.s);
            let output_error = scale.error(&held, &made, first.activation);
            let maps = maps(&solution, site, group.window);
            let fitted = Fitted::Maps(maps);
            found.push(Candidate { site: site.clone(), fitted, ridge: Some(ridge), output_error });
        }
        Ok(found)
    }

    /// The ridge with the smallest error on held-out rows, solved without the end activation; from strong to weak
    /// until it does not get better.
    fn ridge(
        &self,
        shape: Shape,
        normal: &Normal,
        cross: &(faer::Mat<f64>, Vec<f64>),
        (held, scale): (&Rows, &Scale),
        site: &Site,
        window: &Window,
    ) -> Result<f64, TrainerError> {
        let mut best: Option<(f64, f64)> = None;
        for ridge in &self.settings.ridges {
            let attempt = normal.solver(shape, window.taps(), *ridge).and_then(|s| s.solve(cross));
            let solution = attempt.map_err(|e| unsolved(site, format!("{} unknowns", e.size)))?;
            let made = sum(&solution.predict(&held.x), &held.s);
            let error = scale.error(held, &made, site.activation);
            if best.is_some_and(|(_, least)| error >= least) {
                break;
            }
            best = Some((*ridge, error));
        }
        Ok(best.map_or(1e-3, |(ridge, _)| ridge))
    }

    /// Rows to draw for so many unknowns.
    fn rows(&self, unknowns: usize) -> usize {
        let settings = self.settings;
        let (least, most) = settings.rows;
        let rows = (settings.rows_per_unknown * unknowns).clamp(least, most);
        rows.min(settings.row_bytes / (4 * unknowns).max(1)).max(2)
    }

    /// Draws about `wanted` rows, spread evenly over the images.
    fn draw(
        &self,
        feed: &dyn Feed,
        site: &Site,
        window: &Window,
        wanted: usize,
    ) -> Result<Rows, TrainerError> {
        let mut original = vec![site.end.as_str()];
        original.extend(site.shortcut.as_deref());
        let mut current: Vec<&str> = Vec::new();
        if site.form != Form::Drop {
            current.push(&site.features);
        }
        current.extend(site.shortcut.as_deref());
        current.dedup();
        let mut original = Part::open(self.runner, self.original, &original)?;
        let mut current = Part::open(self.runner, self.current, &current)?;
        let count = wanted.div_ceil(feed.images().max(1)).max(1);
        let mut random = Generator(self.settings.seed ^ 0x5bd1_e995 ^ ((site.block as u64) << 32));
        let is_drop = site.form == Form::Drop;
        let unknowns = if is_drop { site.out_channels } else { site.in_channels * window.taps() };
        let mut rows = Rows::new(unknowns, site.out_channels);
        let layout = Layout {
            feature_axis: if is_drop { site.end_axis } else { site.channel_axis },
            end_axis: site.end_axis,
            window: if is_drop { &Window::default() } else { window },
        };
        let misfit = || unsolved(site, "what it reads and what it makes differ in size".to_owned());
        for batch in feed.batches()? {
            let batch = batch?;
            let old = original.run(&batch.inputs)?;
            let new = current.run(&batch.inputs)?;
            let shortcut = |values: &indexmap::IndexMap<String, updp_ir::Tensor>| {
                site.shortcut.as_ref().and_then(|name| values.get(name)).cloned()
            };
            let (original, current) = (shortcut(&old), shortcut(&new));
            let end = old.get(&site.end).ok_or_else(misfit)?;
            let features = if is_drop { Some(end) } else { new.get(&site.features) };
            let tensors = Batch {
                features: features.ok_or_else(misfit)?,
                end,
                original: original.as_ref(),
                current: current.as_ref(),
            };
            rows.draw(&tensors, &layout, count, &mut random).ok_or_else(misfit)?;
        }
        Ok(rows)
    }
}

/// A part of a network from its inputs to some values; values that are inputs are passed on.
struct Part {
    executor: Option<Box<dyn updp_exec::Executor>>,
    names: Vec<String>,
}

impl Part {
    fn open(runner: &Runner, model: &Model, names: &[&str]) -> Result<Self, TrainerError> {
        let graph = &model.graph;
        let is_input =
            |name: &str| graph.required_inputs().any(|input| graph.value(input).name() == name);
        let made: Vec<&str> = names.iter().copied().filter(|name| !is_input(name)).collect();
        let executor = if made.is_empty() {
            None
        } else {
            Some(runner.open(&part_between(model, &[], &made)?)?)
        };
        Ok(Self { executor, names: names.iter().map(|name| (*name).to_owned()).collect() })
    }

    fn run(
        &mut self,
        inputs: &indexmap::IndexMap<String, updp_ir::Tensor>,
    ) -> Result<indexmap::IndexMap<String, updp_ir::Tensor>, TrainerError> {
        let mut values = match &mut self.executor {
            Some(executor) => executor.run(inputs)?,
            None => indexmap::IndexMap::new(),
        };
        for name in &self.names {
            if let Some(input) = inputs.get(name) {
                values.insert(name.clone(), input.clone());
            }
        }
        Ok(values)
    }
}

/// Sites by what they read: a pointwise one is the centre tap of the others' window.
fn groups(sites: &[Site]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut order: Vec<&Site> = sites.iter().collect();
    order.sort_by_key(|site| (std::cmp::Reverse(site.window.taps()), site.form == Form::Drop));
    for site in order {
        let joined = groups.iter_mut().find(|group| {
            let first = group.sites[0];
            let is_centre = site.form == Form::Pointwise
                && group.window.centre().as_ref() == Some(&site.window);
            site.form == Form::Drop
                || (first.features == site.features
                    && first.output == site.output
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

fn shape_of(site: &Site, window: &Window) -> Shape {
    let is_own_window = site.window == *window;
    match site.form {
        Form::LowRank => Shape::Rank(site.rank()),
        Form::DepthwisePointwise if window.taps() > 1 => Shape::Depthwise,
        _ if !is_own_window => Shape::Tap(window.centre_tap()),
        _ => Shape::Dense,
    }
}

/// The form whose ridge stands for this one: those of two operators follow the dense one.
fn plain(shape: Shape) -> Shape {
    match shape {
        Shape::Depthwise | Shape::Rank(_) => Shape::Dense,
        other => other,
    }
}

/// Solves, then again with targets that count only what the end activation lets through: where the original
/// is cut off and so is the operator's result, there is no error, whatever the numbers.
fn through(
    solver: &Solver<'_>,
    rows: &Rows,
    cross: &(faer::Mat<f64>, Vec<f64>),
    activation: Option<ActivationKind>,
    sweeps: usize,
) -> Result<Solved, Unsolved> {
    let mut solved = solver.solve(cross)?;
    let Some(upper) = upper_limit(activation) else { return Ok(solved) };
    for _ in 0..sweeps {
        let made = solved.predict(&rows.x);
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
        solved = solver.solve(&Normal::moved(cross, &rows.x, &change))?;
    }
    Ok(solved)
}

/// Where a rectifier cuts off above; `None` for other activations and none.
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

/// `Σ‖a − mean a‖²` of held-out rows.
struct Scale(f64);

impl Scale {
    fn of(held: &Rows, activation: Option<ActivationKind>) -> Self {
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
        Self(sums.into_iter().map(|(sum, square)| (square - sum * sum / rows).max(0.0)).sum())
    }

    fn error(&self, held: &Rows, made: &Table, activation: Option<ActivationKind>) -> f64 {
        let pairs = held.z.values.iter().zip(&made.values);
        let sum: f64 = pairs
            .map(|(z, made)| (activated(*z, activation) - activated(*made, activation)).powi(2))
            .sum();
        if self.0 > 0.0 { sum / self.0 } else { sum }
    }
}

fn difference(a: &Table, b: &Table) -> Table {
    let values = a.values.iter().zip(&b.values).map(|(a, b)| a - b).collect();
    Table { values, width: a.width }
}

fn sum(a: &Table, b: &Table) -> Table {
    let values = a.values.iter().zip(&b.values).map(|(a, b)| a + b).collect();
    Table { values, width: a.width }
}

/// The operators of a solution. `W [U, O]` becomes `[O, I, k…]`.
fn maps(solution: &Solved, site: &Site, window: &Window) -> Vec<AffineMap> {
    let own = &site.window;
    let rank = own.kernel.len();
    let map = |weight: ArrayD<f64>, bias: Vec<f64>, window: &Window, groups: usize| AffineMap {
        weight,
        bias,
        stride: window.stride.clone(),
        dilation: window.dilation.clone(),
        pad_begin: window.pad_begin.clone(),
        pad_end: window.pad_end.clone(),
        groups,
        border: None,
    };
    let dims = |outputs: usize, inputs: usize, kernel: &[usize]| {
        IxDyn(&[&[outputs, inputs], kernel].concat())
    };
    let shaped = |weight: &faer::Mat<f64>, kernel: &[usize]| {
        let taps: usize = kernel.iter().product::<usize>().max(1);
        let (inputs, outputs) = (weight.nrows() / taps, weight.ncols());
        let mut values = Vec::with_capacity(weight.nrows() * outputs);
        for o in 0..outputs {
            values.extend((0..weight.nrows()).map(|u| weight[(u, o)]));
        }
        ArrayD::from_shape_vec(dims(outputs, inputs, kernel), values).expect("as many elements")
    };
    let bias = solution.bias.clone();
    let pointwise = Window::pointwise(rank);
    match (&solution.parts, site.form) {
        (Some((depthwise, second)), Form::DepthwisePointwise) => {
            let channels = depthwise.nrows();
            let values = (0..channels)
                .flat_map(|c| (0..depthwise.ncols()).map(move |t| depthwise[(c, t)]))
                .collect();
            let weight = ArrayD::from_shape_vec(dims(channels, 1, &own.kernel), values);
            let first = weight.expect("as many elements");
            vec![
                map(first, vec![0.0; channels], own, channels),
                map(shaped(second, &pointwise.kernel), bias, &pointwise, 1),
            ]
        }
        (Some((first, basis)), _) => {
            let back = basis.transpose().to_owned();
            let zeros = vec![0.0; first.ncols()];
            vec![
                map(shaped(first, &own.kernel), zeros, own, 1),
                map(shaped(&back, &pointwise.kernel), bias, &pointwise, 1),
            ]
        }
        (None, _) if own == window => {
            vec![map(shaped(&solution.weight, &own.kernel), bias, own, 1)]
        }
        (None, _) => {
            let (taps, tap) = (window.taps(), window.centre_tap());
            let weight = faer::Mat::from_fn(
                solution.weight.nrows() / taps,
                solution.weight.ncols(),
                |c, o| solution.weight[(c * taps + tap, o)],
            );
            vec![map(shaped(&weight, &own.kernel), bias, own, 1)]
        }
    }
}
