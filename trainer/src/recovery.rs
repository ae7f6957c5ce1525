//! From blocks to prices, and from a choice of blocks to a fitted network.

use updp_ir::{DataPlacement, Model, no_external_data};
use updp_passes::surgery::{self, Form, Layer, Site};

use crate::checkpoint::{Checkpoint, Scored};
use crate::error::TrainerError;
use crate::fit::{Candidate, Fit, Settings};
use crate::judge::Judge;
use crate::outcome::Score;
use crate::run::{Feed, Runner};

/// A network, the images, and what was found so far.
pub struct Recovery<'a> {
    /// How networks are run.
    pub runner: &'a Runner,
    /// The original, prepared; its batch may be opened.
    pub original: &'a Model,
    /// Images to solve with.
    pub calibration: &'a dyn Feed,
    /// Held-out images: forms and blocks are chosen by them.
    pub judge: &'a Judge<'a>,
    /// How to fit.
    pub settings: &'a Settings,
    /// Where results are kept.
    pub checkpoint: &'a Checkpoint,
}

/// What a chosen block may become, in the network pruned so far.
#[derive(Clone, Debug)]
pub struct Step {
    /// The sites it is fitted at; the one that keeps most agreement is taken.
    pub sites: Vec<Site>,
}

/// What one block of the network is.
#[derive(Clone, Debug)]
pub enum Part {
    /// Pruned.
    Pruned(Step),
    /// Kept, with layers whose weights may be solved for anew.
    Kept(Vec<Layer>),
}

/// Told before each piece of work: what it is, how many are done, how many there are.
pub type Progress<'a> = &'a mut dyn FnMut(&str, usize, usize);

/// A network whose blocks are fitted one after the other.
#[derive(Debug)]
pub struct Sequence {
    /// Everything that was put in, in order.
    pub placed: Vec<Candidate>,
    /// Its score on the held-out images.
    pub score: Score,
    /// The fitted network, a copy of the original with its names.
    pub network: Model,
    /// Index and form of every pruned block.
    pub pruned: Vec<(usize, Form)>,
    /// Layers that were solved for anew.
    pub adjusted: usize,
}

/// Points lost: the mean of the share of images whose answer is lost and of the overlap that is lost. The second
/// has less noise, the first is what people count.
#[must_use]
pub fn price(before: &Score, after: &Score) -> f64 {
    50.0 * (hard_loss(before, after) + before.overlap - after.overlap)
}

/// Share of the images whose answer is lost: accuracy where there are labels, else agreement with the original, else
/// overlap.
#[must_use]
pub fn hard_loss(before: &Score, after: &Score) -> f64 {
    match (before.accuracy, after.accuracy, before.agreement, after.agreement) {
        (Some(before), Some(after), ..) | (None, None, Some(before), Some(after)) => before - after,
        _ => before.overlap - after.overlap,
    }
}

/// A copy with the same names.
///
/// # Errors
/// What encoding refuses.
pub fn copy_of(model: &Model) -> Result<Model, TrainerError> {
    let bytes = model.encode(&DataPlacement::Inline)?.model_to_bytes();
    Ok(Model::decode(bytes, &mut no_external_data)?)
}

impl Recovery<'_> {
    fn fit<'b>(&'b self, current: &'b Model) -> Fit<'b> {
        Fit {
            runner: self.runner,
            original: self.original,
            current,
            calibration: self.calibration,
            held_out: self.judge.feed(),
            settings: self.settings,
        }
    }

    /// Every form of one block, fitted and scored with all other blocks as they are.
    ///
    /// # Errors
    /// What fitting and running refuse.
    pub fn alone(&self, sites: &[Site]) -> Result<Vec<Scored>, TrainerError> {
        let Some(first) = sites.first() else { return Ok(Vec::new()) };
        let key = format!("block{}", first.block);
        if let Some(known) = self.checkpoint.get(&key, sites) {
            return Ok(known);
        }
        let candidates = self.fit(self.original).block(sites)?;
        let prefix = self.judge.prefix(self.runner, self.original, &first.source)?;
        let mut scored = Vec::new();
        for candidate in candidates {
            let mut network = copy_of(self.original)?;
            surgery::substitute(&mut network, &candidate.site, &candidate.fitted)?;
            let score = self.judge.score_from(self.runner, prefix.as_ref(), &network)?;
            scored.push(Scored { candidate, score });
        }
        self.checkpoint.put(&key, sites, &scored)?;
        Ok(scored)
    }

    /// Score of the network with all of these put in.
    ///
    /// # Errors
    /// What running refuses.
    pub fn together(&self, candidates: &[&Candidate]) -> Result<Score, TrainerError> {
        let mut network = copy_of(self.original)?;
        for candidate in candidates {
            surgery::substitute(&mut network, &candidate.site, &candidate.fitted)?;
        }
        self.judge.score(self.runner, &network)
    }

    /// Fits the chosen blocks in the order the data pass them, each on what the network pruned so far gives it, and
    /// solves the kept layers behind them anew, so that they make up for what is lost further up. A block is
    /// dropped where that keeps more agreement than fitting it, and a layer stays where its change does not help.
    ///
    /// # Errors
    /// What fitting and running refuse.
    pub fn sequence(
        &self,
        parts: &[Part],
        head: Option<&Layer>,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<Sequence, TrainerError> {
        let mut state = State {
            network: copy_of(self.original)?,
            score: self.judge.baseline(),
            placed: Vec::new(),
            pruned: Vec::new(),
            adjusted: 0,
        };
        let total = parts.len() + 1;
        for (at, part) in parts.iter().enumerate() {
            match part {
                Part::Pruned(step) => {
                    progress("fitting", at, total);
                    self.prune(&mut state, step, &format!("{name}-{at}"))?;
                }
                Part::Kept(layers) if !state.placed.is_empty() => {
                    progress("adjusting", at, total);
                    for (number, layer) in layers.iter().enumerate() {
                        self.adjust(&mut state, layer, &format!("{name}-{at}-{number}"))?;
                    }
                }
                Part::Kept(_) => {}
            }
        }
        if let Some(head) = head.filter(|_| !state.placed.is_empty()) {
            progress("adjusting", parts.len(), total);
            self.adjust(&mut state, head, &format!("{name}-head"))?;
        }
        let State { network, score, placed, pruned, adjusted } = state;
        Ok(Sequence { placed, score, network, pruned, adjusted })
    }

    fn prune(&self, state: &mut State, step: &Step, key: &str) -> Result<(), TrainerError> {
        let scored = if let Some(known) = self.checkpoint.get(key, &step.sites) {
            known
        } else {
            let mut scored = Vec::new();
            let first = &step.sites[0];
            let prefix = self.judge.prefix(self.runner, &state.network, &first.source)?;
            for candidate in self.fit(&state.network).block(&step.sites)? {
                let mut network = copy_of(&state.network)?;
                surgery::substitute(&mut network, &candidate.site, &candidate.fitted)?;
                let score = self.judge.score_from(self.runner, prefix.as_ref(), &network)?;
                scored.push(Scored { candidate, score });
            }
            self.checkpoint.put(key, &step.sites, &scored)?;
            scored
        };
        let best = scored.into_iter().reduce(|best, next| {
            // Ties go to what is cheaper to run: dropping.
            let (a, b) = (merit(&best.score), merit(&next.score));
            let is_drop = next.candidate.site.form == Form::Drop;
            if b > a || (b == a && is_drop) { next } else { best }
        });
        let Some(best) = best else { return Ok(()) };
        surgery::substitute(&mut state.network, &best.candidate.site, &best.candidate.fitted)?;
        state.score = best.score;
        state.pruned.push((best.candidate.site.block, best.candidate.site.form));
        state.placed.push(best.candidate);
        Ok(())
    }

    fn adjust(&self, state: &mut State, layer: &Layer, key: &str) -> Result<(), TrainerError> {
        let sites = std::slice::from_ref(&layer.site);
        let scored = if let Some(known) = self.checkpoint.get(key, sites) {
            known
        } else {
            let mut scored = Vec::new();
            if let Some(candidate) = self.fit(&state.network).layer(layer)? {
                let mut network = copy_of(&state.network)?;
                surgery::substitute(&mut network, &candidate.site, &candidate.fitted)?;
                let score = self.judge.score(self.runner, &network)?;
                scored.push(Scored { candidate, score });
            }
            self.checkpoint.put(key, sites, &scored)?;
            scored
        };
        let Some(Scored { candidate, score }) = scored.into_iter().next() else { return Ok(()) };
        if merit(&score) >= merit(&state.score) {
            surgery::substitute(&mut state.network, &candidate.site, &candidate.fitted)?;
            state.score = score;
            state.placed.push(candidate);
            state.adjusted += 1;
        }
        Ok(())
    }
}

/// A network on its way.
struct State {
    network: Model,
    score: Score,
    placed: Vec<Candidate>,
    pruned: Vec<(usize, Form)>,
    adjusted: usize,
}

/// What forms and layers are chosen by: agreement and overlap with the original, half and half. Labels have no say
/// here, so that a network is fitted alike with and without them.
fn merit(score: &Score) -> f64 {
    score.agreement.unwrap_or(score.overlap) + score.overlap
}

/// Puts candidates into a network with the names of the one they were fitted in.
///
/// # Errors
/// As [`surgery::substitute`].
pub fn place(model: &mut Model, candidates: &[Candidate]) -> Result<(), TrainerError> {
    for candidate in candidates {
        surgery::substitute(model, &candidate.site, &candidate.fitted)?;
    }
    Ok(())
}
