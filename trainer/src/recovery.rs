//! From blocks to prices, and from a choice of blocks to a fitted network.

use updp_ir::Model;
use updp_passes::surgery::{self, Form, Layer, Site};

use crate::checkpoint::{Checkpoint, Scored};
use crate::error::TrainerError;
use crate::fit::{Candidate, Fit, Settings};
use crate::judge::Judge;
use crate::outcome::Score;
use crate::rivals::Rivals;
use crate::run::{Feed, Runner};
use crate::stage::{Pair, Stage};

/// A network, the images, and what was found so far.
#[derive(Clone, Copy)]
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

/// What one block of the network is.
#[derive(Clone, Debug)]
pub enum Part {
    /// Pruned at one of these sites: the one that keeps most agreement.
    Pruned(Vec<Site>),
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
    /// Blocks whose layers the caller kept out of that.
    pub left: usize,
    /// Places in `placed` of what stands in for pruned blocks, in the order of `pruned`.
    stand_ins: Vec<usize>,
}

impl Sequence {
    /// What stands in for the pruned blocks, in the order of [`Self::pruned`], without the layers that were solved for anew.
    pub fn stand_ins(&self) -> impl Iterator<Item = &Candidate> {
        self.stand_ins.iter().filter_map(|at| self.placed.get(*at))
    }
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

impl Recovery<'_> {
    /// Every form of one block, fitted and scored with all other blocks as they are. Blocks in the order the data pass
    /// them share a stage. With the latency of each site, forms that others outdo are left out.
    ///
    /// # Errors
    /// What fitting and running refuse.
    pub fn alone(
        &self,
        stage: &mut Stage,
        sites: &[Site],
        latencies: Option<&[f64]>,
    ) -> Result<Vec<Scored>, TrainerError> {
        let Some(first) = sites.first() else { return Ok(Vec::new()) };
        let key = format!("block{}", first.block);
        let Some(latencies) = latencies else { return self.scored(stage, None, sites, &key) };
        let rivals = Rivals { sites, latencies };
        self.kept(&rivals.key(&key), sites, || {
            self.advance(stage, None, &first.source)?;
            let fit = self.fit(stage, None);
            let found = fit.block_where(sites, &|site, found| rivals.is_needed(site, found))?;
            let score = |candidate| self.score(stage, None, candidate);
            rivals.best(found).into_iter().map(score).collect()
        })
    }

    /// Every site of one block fitted and scored, or what is kept of that. `network` is the pruned one; `None` while
    /// that is the original.
    fn scored(
        &self,
        stage: &mut Stage,
        network: Option<&Model>,
        sites: &[Site],
        key: &str,
    ) -> Result<Vec<Scored>, TrainerError> {
        self.kept(key, sites, || {
            self.advance(stage, network, &sites[0].source)?;
            let candidates = self.fit(stage, network).block(sites)?;
            let score = |candidate| self.score(stage, network, candidate);
            candidates.into_iter().map(score).collect()
        })
    }

    fn inputs(&self) -> [&dyn Feed; 2] {
        [self.calibration, self.judge.feed()]
    }

    fn advance(
        &self,
        stage: &mut Stage,
        network: Option<&Model>,
        name: &str,
    ) -> Result<(), TrainerError> {
        let output = self.judge.output();
        let networks = Pair { original: self.original, current: network, output };
        stage.advance(self.runner, networks, name, self.inputs())
    }

    fn fit<'b>(&'b self, stage: &'b Stage, network: Option<&'b Model>) -> Fit<'b> {
        let [calibration, held_out] = stage.flows(self.inputs());
        Fit {
            runner: self.runner,
            original: self.original,
            current: network.unwrap_or(self.original),
            cut: stage.cut(),
            calibration,
            held_out,
            settings: self.settings,
        }
    }

    /// What is kept under a key for these sites, else what `make` makes, which is kept then.
    fn kept(
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

    /// A candidate with the score of the network that has it.
    fn score(
        &self,
        stage: &Stage,
        network: Option<&Model>,
        candidate: Candidate,
    ) -> Result<Scored, TrainerError> {
        let mut network = network.unwrap_or(self.original).clone();
        place(&mut network, [&candidate])?;
        let score = self.judge.score_from(self.runner, stage, &network)?;
        Ok(Scored { candidate, score })
    }

    /// Score of the network with all of these put in.
    ///
    /// # Errors
    /// What running refuses.
    pub fn together(&self, candidates: &[&Candidate]) -> Result<Score, TrainerError> {
        let mut network = self.original.clone();
        place(&mut network, candidates.iter().copied())?;
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
            network: self.original.clone(),
            score: self.judge.baseline(),
            placed: Vec::new(),
            pruned: Vec::new(),
            adjusted: 0,
            stand_ins: Vec::new(),
            stage: Stage::default(),
        };
        let total = parts.len() + 1;
        for (at, part) in parts.iter().enumerate() {
            match part {
                Part::Pruned(sites) => {
                    progress("fitting", at, total);
                    self.prune(&mut state, sites, &format!("{name}-{at}"))?;
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
        let State { network, score, placed, pruned, adjusted, stand_ins, .. } = state;
        Ok(Sequence { placed, score, network, pruned, adjusted, left: 0, stand_ins })
    }

    fn prune(&self, state: &mut State, sites: &[Site], key: &str) -> Result<(), TrainerError> {
        let network = (!state.placed.is_empty()).then_some(&state.network);
        let scored = self.scored(&mut state.stage, network, sites, key)?;
        let best = scored.into_iter().reduce(|best, next| {
            // Ties go to what is cheaper to run: dropping.
            let (a, b) = (merit(&best.score), merit(&next.score));
            let is_drop = next.candidate.site.form == Form::Drop;
            if b > a || (b == a && is_drop) { next } else { best }
        });
        let Some(best) = best else { return Ok(()) };
        state.pruned.push((best.candidate.site.block, best.candidate.site.form));
        state.stand_ins.push(state.placed.len());
        state.take(best)
    }

    fn adjust(&self, state: &mut State, layer: &Layer, key: &str) -> Result<(), TrainerError> {
        let State { network, stage, .. } = state;
        let network = Some(&*network);
        let scored = self.kept(key, std::slice::from_ref(&layer.site), || {
            self.advance(stage, network, &layer.site.source)?;
            let candidate = self.fit(stage, network).layer(layer)?;
            let score = |candidate| self.score(stage, network, candidate);
            candidate.map(score).into_iter().collect()
        })?;
        let Some(scored) = scored.into_iter().next() else { return Ok(()) };
        if merit(&scored.score) >= merit(&state.score) {
            state.adjusted += 1;
            state.take(scored)?;
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
    stand_ins: Vec<usize>,
    stage: Stage,
}

impl State {
    fn take(&mut self, Scored { candidate, score }: Scored) -> Result<(), TrainerError> {
        place(&mut self.network, [&candidate])?;
        self.score = score;
        self.placed.push(candidate);
        Ok(())
    }
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
pub fn place<'a>(
    model: &mut Model,
    candidates: impl IntoIterator<Item = &'a Candidate>,
) -> Result<(), TrainerError> {
    for candidate in candidates {
        surgery::substitute(model, &candidate.site, &candidate.fitted)?;
    }
    Ok(())
}
