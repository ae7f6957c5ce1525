//! Fits a set of blocks as a whole. The blocks are fitted in order, each to the activations of the network pruned so
//! far.

use std::fmt::Write;

use updp_ir::{IrError, Model};
use updp_passes::blocks::Block;
use updp_passes::surgery::{self, Form, Layer, Site};
use updp_trainer::activation_cache::ActivationCache;
use updp_trainer::error::TrainerError;
use updp_trainer::evaluator::Score;
use updp_trainer::fit::FittedForm;
use updp_trainer::hash::Fnv;
use updp_trainer::observer::Observer;

use crate::candidates::CandidateSet;
use crate::context::Context;
use crate::error::Result;
use crate::fitter::{Fitter, place, unscored};
use crate::part::Part;
use crate::progress;
use crate::search::Genome;
use crate::time_budget;

/// Number of calibration images from which all layers of kept blocks are solved again.
const MANY_IMAGES: usize = 1500;

/// Fits the blocks of a genome as a whole, one after another. It also solves the kept layers behind them, as far as the
/// time budget allows.
///
/// # Errors
/// T0006 when results cannot be stored; errors of fitting and running.
pub fn fit_set(
    cx: &Context<'_>,
    candidates: &CandidateSet,
    genome: &Genome,
    observer: &mut dyn Observer,
) -> Result<FittedSet> {
    let mut forms = String::new();
    let has_many = cx.calibration.images() >= MANY_IMAGES;
    let (mut parts, outer) = surgery::with_context(&cx.original, |graph| {
        let pairs = candidates.blocks.iter().zip(genome);
        let part = pairs.map(|(block, choice)| match choice {
            Some(choice) => {
                let own = block.fitted[*choice].form.site.form;
                let keeps =
                    |site: &&Site| site.form == own || (site.form == Form::Drop && !own.is_thin());
                let sites: Vec<Site> = block.sites.iter().filter(keeps).cloned().collect();
                for site in &sites {
                    let _ = write!(forms, "{} {},", site.block, site.form.name());
                }
                Part::Pruned(sites)
            }
            None if cx.shows_few_classes => Part::Kept(Vec::new()),
            // With few images, only the last layer is solved again: solutions inside blocks overfit (docs/experiments).
            None => {
                let mut layers = surgery::layers(graph, &block.profile.block);
                let first = if has_many { 0 } else { layers.len().saturating_sub(1) };
                Part::Kept(layers.split_off(first))
            }
        });
        let parts = part.collect::<Vec<Part>>();
        let blocks: Vec<&Block> = candidates.blocks.iter().map(|it| &it.profile.block).collect();
        Ok::<_, IrError>((parts, surgery::outer_layers(graph, &blocks)?))
    })?;
    let mut macs: Vec<u64> = candidates.blocks.iter().map(|it| it.profile.baseline.macs).collect();
    for (before, layer) in outer.into_iter().rev().filter(|_| !cx.shows_few_classes) {
        parts.insert(before, Part::Kept(vec![layer]));
        // One layer runs in no time compared with a block; solving for it counts.
        macs.insert(before, 0);
    }
    let fitter = cx.fitter();
    let left = time_budget::leave(&mut parts, &macs, &fitter);
    let name = format!("set{:016x}", Fnv::of(forms.as_bytes()));
    let mut found = fitter.fit_in_order(&parts, &name, observer)?;
    found.left = left;
    Ok(found)
}

/// A network whose blocks are fitted one after another.
#[derive(Debug)]
pub struct FittedSet {
    /// Everything that was inserted, in order.
    pub placed: Vec<FittedForm>,
    /// Its score on the held-out images.
    pub score: Score,
    /// The fitted network: a copy of the original with the same names.
    pub network: Model,
    /// Index and form of every pruned block.
    pub pruned: Vec<(usize, Form)>,
    /// Number of layers that were solved again.
    pub adjusted: usize,
    /// Number of blocks whose layers the caller excluded from solving again.
    pub left: usize,
    /// Positions in `placed` of the operators that replace pruned blocks, in the order of `pruned`.
    replacements: Vec<usize>,
}

impl FittedSet {
    /// The operators that replace the pruned blocks, in the order of [`Self::pruned`], without the layers that were
    /// solved again.
    pub fn replacements(&self) -> impl Iterator<Item = &FittedForm> {
        self.replacements.iter().filter_map(|at| self.placed.get(*at))
    }
}

impl Fitter<'_> {
    /// Fits the chosen blocks in network order, each to the activations of the network pruned so far. It also solves
    /// the kept layers behind them again, which compensates for earlier losses. A block is dropped if dropping it degrades
    /// the network less than fitting it. A layer keeps its weights if new weights do not help.
    ///
    /// # Errors
    /// Errors of fitting and running.
    pub(crate) fn fit_in_order(
        &self,
        parts: &[Part],
        name: &str,
        observer: &mut dyn Observer,
    ) -> Result<FittedSet> {
        let mut state = State {
            network: self.original.clone(),
            placed: Vec::new(),
            pruned: Vec::new(),
            adjusted: 0,
            replacements: Vec::new(),
            cache: ActivationCache::default(),
        };
        let total = parts.len();
        for (at, part) in parts.iter().enumerate() {
            match part {
                Part::Pruned(sites) => {
                    progress::tell(observer, "fitting the network", at, total)?;
                    self.prune(&mut state, sites, &format!("{name}-{at}"))?;
                }
                Part::Kept(layers) if !state.placed.is_empty() => {
                    progress::tell(observer, "fitting the network", at, total)?;
                    for (number, layer) in layers.iter().enumerate() {
                        self.adjust(&mut state, layer, &format!("{name}-{at}-{number}"))?;
                    }
                }
                Part::Kept(_) => {}
            }
        }
        let State { network, placed, pruned, adjusted, replacements, .. } = state;
        let score = if placed.is_empty() {
            self.evaluator.baseline()
        } else {
            self.evaluator.score(self.runner, &network)?
        };
        Ok(FittedSet { placed, score, network, pruned, adjusted, left: 0, replacements })
    }

    fn prune(
        &self,
        state: &mut State,
        sites: &[Site],
        key: &str,
    ) -> std::result::Result<(), TrainerError> {
        let network = (!state.placed.is_empty()).then_some(&state.network);
        let scored = match sites {
            [site] => self.fitted(&mut state.cache, network, site, key)?,
            _ => self.scored(&mut state.cache, network, sites, key)?,
        };
        let best = scored.into_iter().reduce(|best, next| {
            // In a tie, the option that is cheaper to run wins: dropping.
            let (a, b) = (best.score.degradation(), next.score.degradation());
            let is_drop = next.form.site.form == Form::Drop;
            if b < a || (b == a && is_drop) { next } else { best }
        });
        let Some(best) = best else { return Ok(()) };
        state.pruned.push((best.form.site.block, best.form.site.form));
        state.replacements.push(state.placed.len());
        state.take(best.form)
    }

    fn adjust(
        &self,
        state: &mut State,
        layer: &Layer,
        key: &str,
    ) -> std::result::Result<(), TrainerError> {
        let State { network, cache, .. } = state;
        let network = Some(&*network);
        let at = (network, layer.site.source.as_str());
        let scored = self.kept(cache, at, key, std::slice::from_ref(&layer.site), |cache| {
            Ok(unscored(self.fit(cache, network).layer(layer)?))
        })?;
        let Some(scored) = scored.into_iter().next() else { return Ok(()) };
        state.adjusted += 1;
        state.take(scored.form)
    }
}

/// A network while its blocks are being fitted.
struct State {
    network: Model,
    placed: Vec<FittedForm>,
    pruned: Vec<(usize, Form)>,
    adjusted: usize,
    replacements: Vec<usize>,
    cache: ActivationCache,
}

impl State {
    fn take(&mut self, form: FittedForm) -> std::result::Result<(), TrainerError> {
        place(&mut self.network, [&form])?;
        self.placed.push(form);
        Ok(())
    }
}
