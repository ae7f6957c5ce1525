//! The network of the chosen blocks: what is trained, or written when nothing is.

use updp_ir::Model;
use updp_passes::surgery::Form;
use updp_trainer::outcome::{Outcome, Score};
use updp_trainer::recovery::{Sequence, place, price};

use super::Recover;
use super::market::Market;
use crate::cli::{Method, StartChoice};
use crate::error::CliError;

/// The chosen blocks, fitted one after the other, and with the weights of the supernet where there is one.
pub(super) struct Start {
    /// Fitted.
    pub(super) sequence: Sequence,
    /// From the supernet.
    pub(super) subnet: Option<Subnet>,
    /// Whether the subnet is taken, not the sequence.
    pub(super) is_subnet: bool,
}

/// A subnet of the trained supernet, cut out of it.
pub(super) struct Subnet {
    /// With the batch of the input model.
    pub(super) model: Model,
    /// As it is scored and measured.
    pub(super) network: Model,
    /// On the held-out images.
    pub(super) score: Score,
    /// Index and form of every pruned block.
    pub(super) pruned: Vec<(usize, Form)>,
}

impl Recover<'_> {
    /// What the network of the chosen blocks may start from: only `--method fit` takes what a supernet has.
    pub(super) fn start_choice(&self) -> StartChoice {
        match &self.training {
            Some(plan) if plan.method != Method::Fit => StartChoice::Fit,
            _ => self.request.arguments.search.start,
        }
    }

    /// Says where the weights of the chosen blocks come from, where there is a supernet.
    pub(super) fn tell_start(&self, outcome: &mut Outcome, market: &Market<'_>, start: &Start) {
        let is_taken = self.training.is_none_or(|plan| plan.method == Method::Fit);
        if let Some(supernet) = outcome.supernet.as_mut().filter(|_| is_taken) {
            supernet.start = Some(start.source().to_owned());
        }
        outcome.explanation.extend(start.explanation(&market.baseline));
    }
}

impl Start {
    /// What was fitted alone.
    pub(super) fn fitted(sequence: Sequence) -> Self {
        Self { sequence, subnet: None, is_subnet: false }
    }

    /// The better one of both on the held-out images, the fitted one where they are even; the subnet in any case when `is_set`.
    pub(super) fn of(sequence: Sequence, subnet: Subnet, baseline: &Score, is_set: bool) -> Self {
        let is_better = price(baseline, &subnet.score) < price(baseline, &sequence.score);
        Self { sequence, subnet: Some(subnet), is_subnet: is_set || is_better }
    }

    fn taken(&self) -> Option<&Subnet> {
        self.subnet.as_ref().filter(|_| self.is_subnet)
    }

    /// As it is scored and measured.
    pub(super) fn network(&self) -> &Model {
        self.taken().map_or(&self.sequence.network, |subnet| &subnet.network)
    }

    /// On the held-out images.
    pub(super) fn score(&self) -> &Score {
        self.taken().map_or(&self.sequence.score, |subnet| &subnet.score)
    }

    /// Index and form of every pruned block.
    pub(super) fn pruned(&self) -> &[(usize, Form)] {
        self.taken().map_or(&self.sequence.pruned, |subnet| &subnet.pruned)
    }

    /// The network with the batch of the input model; `prepared` is that model.
    pub(super) fn model(&self, prepared: &Model) -> Result<Model, CliError> {
        if let Some(subnet) = self.taken() {
            return Ok(subnet.model.clone());
        }
        let mut model = prepared.clone();
        place(&mut model, &self.sequence.placed)?;
        Ok(model)
    }

    /// Where its weights come from.
    pub(super) fn source(&self) -> &'static str {
        if self.is_subnet { "supernet" } else { "fit" }
    }

    /// How both compare; nothing where there is no subnet.
    pub(super) fn explanation(&self, baseline: &Score) -> Option<String> {
        let subnet = self.subnet.as_ref()?;
        let [cut, fitted] =
            [&subnet.score, &self.sequence.score].map(|score| price(baseline, score));
        let taken = if self.is_subnet { "the subnet is taken" } else { "the fitted one is taken" };
        Some(format!(
            "the subnet cut out of the supernet loses {cut:.2} points on the held-out images, the same blocks fitted one after the other {fitted:.2}: {taken}"
        ))
    }
}
