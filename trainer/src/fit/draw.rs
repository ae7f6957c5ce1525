//! Draws the rows of several operators in one run of both networks.

use indexmap::{IndexMap, IndexSet};
use updp_ir::{ConvGeometry, Tensor};
use updp_passes::surgery::{Form, Site};

use super::rows::{Batch, Layout, Rows};
use super::{Fit, unsolved};
use crate::activation_cache::Part;
use crate::error::TrainerError;
use crate::run::BatchSource;
use crate::seed::Generator;

/// Rows to draw for one operator.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The site of the operator.
    pub(super) site: &'a Site,
    /// The window of its input that the operator reads.
    pub(super) window: &'a ConvGeometry,
    /// Approximate number of rows.
    pub(super) rows: usize,
    /// Maximum number of folds, at least 1.
    pub(super) folds: usize,
}

impl Wanted<'_> {
    fn is_drop(&self) -> bool {
        self.site.form == Form::Drop
    }

    fn misfit(&self) -> TrainerError {
        unsolved(self.site, "what it reads and what it makes differ in size".to_owned())
    }

    /// Values of the original that rows are made of.
    fn original(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.site.end.as_str()).chain(self.site.shortcut.as_deref())
    }

    /// Values of the network pruned so far that rows are made of.
    fn current(&self) -> impl Iterator<Item = &str> {
        let features = (!self.is_drop()).then_some(self.site.features.as_str());
        features.into_iter().chain(self.bypass())
    }

    /// The value of the network pruned so far that the operator adds to: the shortcut, or what takes the place of a
    /// dropped block.
    fn bypass(&self) -> Option<&str> {
        if self.is_drop() { Some(self.site.bypass()) } else { self.site.shortcut.as_deref() }
    }

    fn empty(&self) -> Rows {
        let site = self.site;
        let unknowns = site.in_channels * self.window.taps();
        Rows::new(if self.is_drop() { site.out_channels } else { unknowns }, site.out_channels)
    }

    /// Adds rows of one batch, `count` of each image; `None` if values do not match each other.
    fn draw(
        &self,
        rows: &mut Rows,
        [old, new]: [&IndexMap<String, Tensor>; 2],
        count: usize,
        random: &mut Generator,
    ) -> Option<()> {
        let site = self.site;
        let plain = ConvGeometry::default();
        let is_drop = self.is_drop();
        let layout = Layout {
            feature_axis: if is_drop { site.end_axis } else { site.channel_axis },
            end_axis: site.end_axis,
            window: if is_drop { &plain } else { self.window },
        };
        let end = old.get(&site.end)?;
        let read = |values: &'_ IndexMap<String, Tensor>, name: Option<&str>| {
            name.and_then(|name| values.get(name)).cloned()
        };
        let (original, current) = (read(old, site.shortcut.as_deref()), read(new, self.bypass()));
        let batch = Batch {
            features: if is_drop { end } else { new.get(&site.features)? },
            end,
            original: original.as_ref(),
            current: current.as_ref(),
        };
        rows.draw(&batch, &layout, count, random)
    }
}

impl Fit<'_> {
    /// The same as [`Self::draw`], for one operator.
    pub(super) fn draw_one(&self, wanted: Wanted<'_>) -> Result<Vec<Rows>, TrainerError> {
        let drawn = self.draw(&[wanted])?;
        drawn.into_iter().next().ok_or_else(|| wanted.misfit())
    }

    /// Draws approximately the wanted number of rows for each operator, spread evenly over the images, and divides them
    /// into folds. Batch `b` belongs to fold `b mod folds`.
    pub(super) fn draw(&self, wanted: &[Wanted<'_>]) -> Result<Vec<Vec<Rows>>, TrainerError> {
        let flow = self.calibration;
        let mut original: IndexSet<&str> = wanted.iter().flat_map(Wanted::original).collect();
        let current: IndexSet<&str> = wanted.iter().flat_map(Wanted::current).collect();
        // While nothing is pruned, one network runs for both.
        let is_one = std::ptr::eq(self.original, self.current) && flow.current.is_none();
        if is_one {
            original.extend(&current);
        }
        let open = |model, names: &IndexSet<&str>| {
            let names: Vec<&str> = names.iter().copied().collect();
            Part::open(self.runner, model, self.cut, &names)
        };
        let mut first = open(self.original, &original)?;
        let mut second = (!is_one).then(|| open(self.current, &current)).transpose()?;
        let images = flow.original.images().max(1);
        let mut drawn: Vec<(Vec<Rows>, Generator)> = wanted
            .iter()
            .map(|wanted| (Vec::new(), Generator::new(self.seed(wanted.site))))
            .collect();
        let mut own = flow.current.map(BatchSource::batches).transpose()?;
        let misfit = || match wanted.first() {
            Some(wanted) => wanted.misfit(),
            None => TrainerError::NoOutput,
        };
        for (number, batch) in flow.original.batches()?.enumerate() {
            let batch = batch?;
            let old = first.run(&batch.inputs)?;
            let new = match (&mut second, &mut own) {
                (None, _) => None,
                (Some(part), Some(own)) => Some(part.run(&own.next().ok_or_else(misfit)??.inputs)?),
                (Some(part), None) => Some(part.run(&batch.inputs)?),
            };
            let values = [&old, new.as_ref().unwrap_or(&old)];
            for (wanted, (folds, random)) in wanted.iter().zip(&mut drawn) {
                let count = wanted.rows.div_ceil(images).max(1);
                if folds.len() < wanted.folds {
                    folds.push(wanted.empty());
                }
                let rows = &mut folds[number % wanted.folds];
                wanted.draw(rows, values, count, random).ok_or_else(|| wanted.misfit())?;
            }
        }
        Ok(drawn.into_iter().map(|(folds, _)| folds).collect())
    }

    fn seed(&self, site: &Site) -> u64 {
        self.settings.seed ^ 0x5bd1_e995 ^ ((site.block as u64) << 32)
    }
}
