//! Fits forms of blocks to the calibration images and scores them by cross-fitting: each image is scored with the form as
//! it was fitted without that image's fold.

use updp_ir::Model;
use updp_passes::surgery::{self, Site};

use updp_trainer::activation_cache::{ActivationCache, Pair};
use updp_trainer::block_evaluator::{BatchShare, BlockEvaluator};
use updp_trainer::error::TrainerError;
use updp_trainer::evaluator::{Evaluator, Score};
use updp_trainer::fit::{Fisher, Fit, FitSettings, FittedForm, priced};
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
    /// The images that the fit solves with, and the original's outputs for them. Degradations are divergences on these
    /// images.
    pub calibration: &'a Evaluator,
    /// The images of [`Self::calibration`], and mixtures of them behind.
    pub images: &'a dyn BatchSource,
    /// Scores on the held-out images.
    pub evaluator: &'a Evaluator,
    /// The calibration images that score a form of a block or a set of blocks.
    pub share: BatchShare,
    /// The settings of the fit.
    pub settings: &'a FitSettings,
    /// How much the outputs of the network react to the outputs of blocks; `None` if it is not known.
    pub fisher: Option<&'a Fisher>,
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
        // Another goal may stop at other blocks before this one.
        let key = format!("block{}-{:016x}", first.block, cache.path_to(&first.source));
        let Some(latencies) = latencies else { return self.scored(cache, None, sites, &key) };
        let filter = ParetoFilter { sites, latencies };
        self.kept(cache, (None, &first.source), &filter.key(&key), sites, |cache| {
            let fit = self.fit(cache, None);
            let found = fit.block_where(sites, &|site, found| filter.is_needed(site, found))?;
            self.scores(cache, None, filter.best(found))
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
        self.kept(cache, (network, &sites[0].source), key, sites, |cache| {
            let forms = self.fit(cache, network).block(sites)?;
            self.scores(cache, network, forms)
        })
    }

    /// The same as [`Self::scored`] for a single site, without a score.
    pub(crate) fn fitted(
        &self,
        cache: &mut ActivationCache,
        network: Option<&Model>,
        site: &Site,
        key: &str,
    ) -> Result<Vec<Scored>, TrainerError> {
        let sites = std::slice::from_ref(site);
        self.kept(cache, (network, &site.source), key, sites, |cache| {
            Ok(unscored(self.fit(cache, network).block(sites)?))
        })
    }

    fn advance(
        &self,
        cache: &mut ActivationCache,
        network: Option<&Model>,
        name: &str,
    ) -> Result<(), TrainerError> {
        let outputs = self.calibration.outputs();
        let networks = Pair { original: self.original, current: network, outputs };
        cache.advance(self.runner, networks, name, self.images)
    }

    pub(crate) fn fit<'b>(
        &'b self,
        cache: &'b ActivationCache,
        network: Option<&'b Model>,
    ) -> Fit<'b> {
        Fit {
            runner: self.runner,
            original: self.original,
            current: network.unwrap_or(self.original),
            cut: cache.cut(),
            calibration: cache.flow(self.images),
            settings: self.settings,
            fisher: self.fisher,
        }
    }

    /// Returns the results that are stored under a key for these sites. If there are none, moves the cache to the value
    /// where the network is cut, calls `make` and stores its results. The results are the same to the last bit, whichever
    /// of them were stored.
    pub(crate) fn kept(
        &self,
        cache: &mut ActivationCache,
        (network, name): (Option<&Model>, &str),
        key: &str,
        sites: &[Site],
        make: impl FnOnce(&ActivationCache) -> Result<Vec<Scored>, TrainerError>,
    ) -> Result<Vec<Scored>, TrainerError> {
        if let Some(known) = self.checkpoint.get(key, sites) {
            cache.pass(network, name);
            return Ok(known);
        }
        self.advance(cache, network, name)?;
        let made = make(cache)?;
        self.checkpoint.put(key, sites, &made)?;
        Ok(made)
    }

    /// The forms of one block, each with the score of the network that contains it.
    fn scores(
        &self,
        cache: &ActivationCache,
        network: Option<&Model>,
        forms: Vec<FittedForm>,
    ) -> Result<Vec<Scored>, TrainerError> {
        let Some(first) = forms.first() else { return Ok(Vec::new()) };
        let network = network.unwrap_or(self.original);
        let result = first.site.result.as_str();
        let mut block = BlockEvaluator::open(
            self.runner,
            self.calibration,
            self.images,
            cache,
            network,
            result,
        )?;
        let is_priced = priced(forms.iter().map(|form| form.site.form));
        let mut scored = Vec::new();
        for (mut form, is_priced) in forms.into_iter().zip(is_priced) {
            let score = if is_priced { block.score(&form, self.share)? } else { Score::default() };
            if form.site.form.is_thin() {
                // Only depth forms are evaluated together before they are fitted as a whole.
                form.folds.clear();
            }
            scored.push((is_priced, Scored { form, score }));
        }
        Ok(with_interpolated(scored))
    }

    /// Score of the network that contains all of these forms, on the calibration images of [`Self::share`]. Each image is
    /// scored with the forms as they were fitted without it.
    ///
    /// # Errors
    /// Errors of running.
    pub fn together(&self, forms: &[&FittedForm]) -> Result<Score, TrainerError> {
        let folds = forms.iter().map(|form| form.folds.len()).max().unwrap_or(0).max(1);
        let mut executors = Vec::new();
        for fold in 0..folds {
            let mut network = self.original.clone();
            for form in forms {
                let own = form.folds.get(fold % form.folds.len().max(1));
                surgery::substitute(&mut network, &form.site, own.unwrap_or(&form.fitted))?;
            }
            executors.push(self.runner.open(&network)?);
        }
        let mut tally = self.calibration.tally();
        for (at, batch) in self.calibration.source().batches()?.enumerate() {
            if !self.share.contains(at) {
                continue;
            }
            tally.add(at, &executors[at % folds].run(&batch?.inputs)?)?;
        }
        Ok(tally.score())
    }
}

/// The forms of a block, where thin forms that were not evaluated get a degradation between those that were.
fn with_interpolated(scored: Vec<(bool, Scored)>) -> Vec<Scored> {
    let removed = |it: &Scored| {
        let site = &it.form.site;
        Some(1.0 - site.thin?.kept as f64 / site.in_channels.max(1) as f64)
    };
    let known = scored.iter().filter(|(is_priced, _)| *is_priced);
    let known: Vec<(f64, f64)> =
        known.filter_map(|(_, it)| Some((removed(it)?, it.score.degradation()))).collect();
    let of = |(is_priced, mut it): (bool, Scored)| {
        if let Some(removed) = removed(&it).filter(|_| !is_priced) {
            it.score.kl = interpolated(&known, removed);
        }
        it
    };
    scored.into_iter().map(of).collect()
}

/// The degradation of a thin block with this share of its hidden channels removed, by a power law through the two nearest
/// of the `known` shares and degradations: `KL = a·r^b`.
fn interpolated(known: &[(f64, f64)], removed: f64) -> f64 {
    let mut near: Vec<(f64, f64)> =
        known.iter().map(|(r, kl)| (*r, kl.max(1e-9))).filter(|(r, _)| *r > 0.0).collect();
    near.sort_by(|a, b| (a.0 - removed).abs().total_cmp(&(b.0 - removed).abs()));
    match near[..] {
        [(r, kl), (other_r, other_kl), ..] if r != other_r => {
            // Degradation never falls with the number of removed channels, apart from noise.
            let power = ((kl / other_kl).ln() / (r / other_r).ln()).clamp(0.0, 6.0);
            kl * (removed / r).powf(power)
        }
        [(_, kl), ..] => kl,
        [] => f64::INFINITY,
    }
}

/// Forms without a score.
pub(crate) fn unscored(forms: impl IntoIterator<Item = FittedForm>) -> Vec<Scored> {
    let unscored = |form| Scored { form, score: Score::default() };
    forms
        .into_iter()
        .map(|form: FittedForm| unscored(FittedForm { folds: Vec::new(), ..form }))
        .collect()
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

#[cfg(test)]
mod tests {
    use super::interpolated;

    #[test]
    fn a_thin_form_between_two_others_degrades_between_them_by_a_power_law() {
        let known = [(0.25, 0.01), (0.5, 0.04), (0.75, 0.09)];
        for removed in [0.125, 0.375, 0.625, 0.875] {
            let wanted = 0.16 * removed * removed;
            assert!((interpolated(&known, removed) - wanted).abs() < 1e-9, "{removed}");
        }
        assert_eq!(interpolated(&[(0.5, 0.02)], 0.25), 0.02);
        assert_eq!(interpolated(&[(0.25, 0.02), (0.5, 0.01)], 0.375), 0.02);
        assert!(interpolated(&[], 0.5).is_infinite());
    }
}
