//! Fits forms of blocks to the calibration images and scores them on the held-out images.

use updp_ir::Model;
use updp_passes::surgery::{self, Site};

use updp_trainer::activation_cache::{ActivationCache, Pair};
use updp_trainer::error::TrainerError;
use updp_trainer::evaluator::{Evaluator, Score};
use updp_trainer::fit::{Fit, FitSettings, FittedForm};
use updp_trainer::run::{BatchSource, Runner};

use crate::checkpoint::{Checkpoint, Scored};
use crate::pareto_filter::ParetoFilter;

/// The inputs of fitting: a network, the images and a place for results.
#[derive(Clone, Copy)]
pub struct Fitter<'a> {
    /// How networks are run.
    pub runner: &'a Runner,
    /// The original, prepared. Its batch may be open.
    pub original: &'a Model,
    /// Images that the fit solves with.
    pub calibration: &'a dyn BatchSource,
    /// Scores on the held-out images. These images decide between forms and blocks.
    pub evaluator: &'a Evaluator,
    /// The settings of the fit.
    pub settings: &'a FitSettings,
    /// Where results are stored.
    pub checkpoint: &'a Checkpoint,
}

impl Fitter<'_> {
    /// Fits and scores every form of one block while all other blocks stay unchanged. Blocks share a cache if they are
    /// given in the order in which data pass through them. If the latency of each site is given, forms that another
    /// form dominates are left out.
    ///
    /// # Errors
    /// Errors of fitting and running.
    pub fn alone(
        &self,
        cache: &mut ActivationCache,
        sites: &[Site],
        latencies: Option<&[f64]>,
    ) -> Result<Vec<Scored>, TrainerError> {
        let Some(first) = sites.first() else { return Ok(Vec::new()) };
        let key = format!("block{}", first.block);
        let Some(latencies) = latencies else { return self.scored(cache, None, sites, &key) };
        let filter = ParetoFilter { sites, latencies };
        self.kept(&filter.key(&key), sites, || {
            self.advance(cache, None, &first.source)?;
            let fit = self.fit(cache, None);
            let found = fit.block_where(sites, &|site, found| filter.is_needed(site, found))?;
            let score = |form| self.score(cache, None, form);
            filter.best(found).into_iter().map(score).collect()
        })
    }

    /// Fits and scores every site of one block, or returns the stored results. `network` is the pruned network; `None`
    /// while that is the original.
    pub(crate) fn scored(
        &self,
        cache: &mut ActivationCache,
        network: Option<&Model>,
        sites: &[Site],
        key: &str,
    ) -> Result<Vec<Scored>, TrainerError> {
        self.kept(key, sites, || {
            self.advance(cache, network, &sites[0].source)?;
            let forms = self.fit(cache, network).block(sites)?;
            let score = |form| self.score(cache, network, form);
            forms.into_iter().map(score).collect()
        })
    }

    fn inputs(&self) -> [&dyn BatchSource; 2] {
        [self.calibration, self.evaluator.source()]
    }

    pub(crate) fn advance(
        &self,
        cache: &mut ActivationCache,
        network: Option<&Model>,
        name: &str,
    ) -> Result<(), TrainerError> {
        let output = self.evaluator.output();
        let networks = Pair { original: self.original, current: network, output };
        cache.advance(self.runner, networks, name, self.inputs())
    }

    pub(crate) fn fit<'b>(
        &'b self,
        cache: &'b ActivationCache,
        network: Option<&'b Model>,
    ) -> Fit<'b> {
        let [calibration, held_out] = cache.flows(self.inputs());
        Fit {
            runner: self.runner,
            original: self.original,
            current: network.unwrap_or(self.original),
            cut: cache.cut(),
            calibration,
            held_out,
            settings: self.settings,
        }
    }

    /// Returns the results that are stored under a key for these sites. If there are none, calls `make` and stores its
    /// results.
    pub(crate) fn kept(
        &self,
        key: &str,
        sites: &[Site],
        make: impl FnOnce() -> Result<Vec<Scored>, TrainerError>,
    ) -> Result<Vec<Scored>, TrainerError> {
        if let Some(known) = self.checkpoint.get(key, sites) {
            return Ok(known);
        }
        let made = make()?;
        self.checkpoint.put(key, sites, &made)?;
        Ok(made)
    }

    /// A form with the score of the network that contains it.
    pub(crate) fn score(
        &self,
        cache: &ActivationCache,
        network: Option<&Model>,
        form: FittedForm,
    ) -> Result<Scored, TrainerError> {
        let mut network = network.unwrap_or(self.original).clone();
        place(&mut network, [&form])?;
        let score = self.evaluator.score_from(self.runner, cache, &network)?;
        Ok(Scored { form, score })
    }

    /// Score of the network that contains all of these forms.
    ///
    /// # Errors
    /// Errors of running.
    pub fn together(&self, forms: &[&FittedForm]) -> Result<Score, TrainerError> {
        let mut network = self.original.clone();
        place(&mut network, forms.iter().copied())?;
        self.evaluator.score(self.runner, &network)
    }
}

/// Inserts forms into a network that has the same names as the one they were fitted in.
///
/// # Errors
/// The same errors as [`surgery::substitute`].
pub fn place<'a>(
    model: &mut Model,
    forms: impl IntoIterator<Item = &'a FittedForm>,
) -> Result<(), TrainerError> {
    for form in forms {
        surgery::substitute(model, &form.site, &form.fitted)?;
    }
    Ok(())
}
