//! The closed-form fit: a pruned block solved for by ridge regression, without labels and without gradients.
//!
//! What the operator reads comes from the network pruned so far, what it should make from the original:
//! `t = z − s`, the original's sum before the end activation less the shortcut of the pruned network. So
//! shrinking the weights shrinks the block toward its shortcut, and an error made further up is mended on the
//! way. Where the block ends in a rectifier, only what passes it counts: where the original is
//! cut off, the target becomes what the operator makes anyway, and the same factor solves again.

mod equations;
mod maps;
mod normal;
mod rows;
mod table;

pub(crate) use rows::floats;

use indexmap::IndexMap;
use updp_ir::{Model, Tensor};
use updp_passes::surgery::{Fitted, Form, Layer, Site, Window};

use crate::error::TrainerError;
use crate::run::{Feed, Runner};
use crate::seed::Generator;
use crate::stage::{Flow, Part};
use equations::{Equations, Scale};
use maps::maps;
use normal::{Shape, Solved};
use rows::{Batch, Layout, Rows};
use table::sum;

/// Unknowns of an output channel from which on [`FEWER`] rows an unknown do.
const MANY: usize = 1000;

/// What part of the rows an unknown is drawn there: one third.
const FEWER: usize = 3;

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

impl Candidate {
    fn of_drop(site: &Site, output_error: f64) -> Self {
        Self { site: site.clone(), fitted: Fitted::Drop, ridge: None, output_error }
    }
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
    /// The value that the images are given at; `None` = the networks' inputs.
    pub cut: Option<&'a str>,
    /// Images to solve with.
    pub calibration: Flow<'a>,
    /// Images to choose the ridge by.
    pub held_out: Flow<'a>,
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
        let base = Solved::of(&layer.map);
        let wanted = self.rows(site.in_channels * site.window.taps());
        let mut rows = self.draw(self.calibration, site, &site.window, wanted)?;
        let mut held = self.draw(self.held_out, site, &site.window, wanted / 5)?;
        for rows in [&mut rows, &mut held] {
            rows.s = sum(&rows.s, &base.predict(&rows.x));
        }
        if !rows.x.is_finite() || !rows.s.is_finite() {
            return Err(unsolved(site, "a value is not finite".to_owned()));
        }
        let mut equations = Equations::new(rows, held, site, site.window.taps());
        let (ridge, change, output_error) = equations.solve(Shape::Dense, self.settings)?;
        if output_error >= equations.error_of(&equations.held.s) {
            return Ok(None);
        }
        let fitted = Fitted::Maps(maps(&base.plus(&change), site, &site.window));
        Ok(Some(Candidate { site: site.clone(), fitted, ridge: Some(ridge), output_error }))
    }

    fn group(&self, group: &Group<'_>) -> Result<Vec<Candidate>, TrainerError> {
        let first = group.sites[0];
        let (dropped, solved): (Vec<&Site>, Vec<&Site>) =
            group.sites.iter().partition(|site| site.form == Form::Drop);
        let taps = group.window.taps();
        let unknowns = if solved.is_empty() { 1 } else { first.in_channels * taps };
        let wanted = self.rows(unknowns);
        let rows = self.draw(self.calibration, first, group.window, wanted)?;
        let held = self.draw(self.held_out, first, group.window, wanted / 5)?;
        if rows.count() < 2 || held.count() == 0 {
            return Err(unsolved(first, "there are no rows".to_owned()));
        }
        if !rows.x.is_finite() || !rows.z.is_finite() {
            return Err(unsolved(first, "a value is not finite".to_owned()));
        }
        let mut found = Vec::new();
        if solved.is_empty() {
            let scale = Scale::of(&held, first.activation);
            let output_error = scale.error(&held, &held.s);
            found.extend(dropped.first().map(|site| Candidate::of_drop(site, output_error)));
            return Ok(found);
        }
        let mut equations = Equations::new(rows, held, first, taps);
        let output_error = equations.error_of(&equations.held.s);
        found.extend(dropped.first().map(|site| Candidate::of_drop(site, output_error)));
        for site in solved {
            let shape = shape_of(site, group.window);
            let (ridge, solution, output_error) = equations.solve(shape, self.settings)?;
            let fitted = Fitted::Maps(maps(&solution, site, group.window));
            found.push(Candidate { site: site.clone(), fitted, ridge: Some(ridge), output_error });
        }
        Ok(found)
    }

    /// Rows to draw for so many unknowns.
    fn rows(&self, unknowns: usize) -> usize {
        let settings = self.settings;
        let (least, most) = settings.rows;
        // Many unknowns come with few positions of many channels: more rows would be more of the same images.
        let each = if unknowns > MANY {
            settings.rows_per_unknown / FEWER
        } else {
            settings.rows_per_unknown
        };
        let rows = (each * unknowns).clamp(least, most);
        rows.min(settings.row_bytes / (4 * unknowns).max(1)).max(2)
    }

    /// Draws about `wanted` rows, spread evenly over the images.
    fn draw(
        &self,
        flow: Flow<'_>,
        site: &Site,
        window: &Window,
        wanted: usize,
    ) -> Result<Rows, TrainerError> {
        let mut original = vec![site.end.as_str()];
        original.extend(site.shortcut.as_deref());
        // While nothing is pruned, one network is run for both.
        let is_one = std::ptr::eq(self.original, self.current) && flow.current.is_none();
        let mut current: Vec<&str> = Vec::new();
        if site.form != Form::Drop {
            current.push(&site.features);
        }
        current.extend(site.shortcut.as_deref());
        current.dedup();
        if is_one {
            current.retain(|name| !original.contains(name));
            original.append(&mut current);
        }
        let open = |model, names: &[&str]| Part::open(self.runner, model, self.cut, names);
        let mut original = open(self.original, &original)?;
        let mut current = (!is_one).then(|| open(self.current, &current)).transpose()?;
        let count = wanted.div_ceil(flow.original.images().max(1)).max(1);
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
        let mut own = flow.current.map(Feed::batches).transpose()?;
        for batch in flow.original.batches()? {
            let batch = batch?;
            let old = original.run(&batch.inputs)?;
            let new = match (&mut current, &mut own) {
                (None, _) => old.clone(),
                (Some(part), Some(own)) => part.run(&own.next().ok_or_else(misfit)??.inputs)?,
                (Some(part), None) => part.run(&batch.inputs)?,
            };
            let shortcut = |values: &IndexMap<String, Tensor>| {
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
        _ if is_own_window => Shape::Dense,
        _ => window.centre_tap().map_or(Shape::Dense, Shape::Tap),
    }
}
