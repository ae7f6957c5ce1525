//! The starting network: the network of the selected blocks. It is trained, or written if there is no training.

use updp_ir::Model;
use updp_passes::surgery::Form;
use updp_trainer::evaluator::Score;
use updp_trainer::observer::Observer;

use crate::candidates::CandidateSet;
use crate::config::StartChoice;
use crate::context::Context;
use crate::error::Result;
use crate::fit_set::{FittedSet, fit_set};
use crate::fitter::place;
use crate::search::Genome;
use crate::select::SetEvaluator;

/// The selected blocks, fitted as a whole, and also with the weights of the supernet if there is one.
#[derive(Debug)]
pub struct StartingNetwork {
    /// Fitted one block after another.
    pub fitted: FittedSet,
    /// Extracted from the supernet; `None` without a supernet.
    pub subnet: Option<Subnet>,
    /// Whether the subnet is used instead of the fitted set.
    pub is_subnet: bool,
}

/// A subnet of the trained supernet, as a network of its own.
#[derive(Debug)]
pub struct Subnet {
    /// The network with the batch size of the input model.
    pub model: Model,
    /// The network with an open batch if the original has one. This one is scored and measured.
    pub network: Model,
    /// Score on the held-out images.
    pub score: Score,
    /// Index and form of every pruned block.
    pub pruned: Vec<(usize, Form)>,
}

/// Fits the blocks of a genome as a whole. If there is a supernet, also extracts them from it and uses the network that
/// is better on the held-out images.
///
/// # Errors
/// Errors of fitting and running.
pub(crate) fn build(
    cx: &Context<'_>,
    candidates: &CandidateSet,
    sets: &SetEvaluator,
    genome: &Genome,
    observer: &mut dyn Observer,
) -> Result<StartingNetwork> {
    let fitted = fit_set(cx, candidates, genome, observer)?;
    let supernet = sets.supernet().filter(|_| cx.config.start_choice() != StartChoice::Fit);
    // The unpruned network is the input model, not its copy in the supernet.
    let Some(supernet) = supernet.filter(|_| genome.iter().any(Option::is_some)) else {
        return Ok(StartingNetwork { fitted, subnet: None, is_subnet: false });
    };
    let subnet = supernet.cut(cx, genome)?;
    let is_better = subnet.score.degradation() < fitted.score.degradation();
    let is_subnet = cx.config.starts_from_supernet() || is_better;
    Ok(StartingNetwork { fitted, subnet: Some(subnet), is_subnet })
}

impl StartingNetwork {
    fn taken(&self) -> Option<&Subnet> {
        self.subnet.as_ref().filter(|_| self.is_subnet)
    }

    /// The network that is scored and measured.
    #[must_use]
    pub fn network(&self) -> &Model {
        self.taken().map_or(&self.fitted.network, |subnet| &subnet.network)
    }

    /// Score on the held-out images.
    #[must_use]
    pub fn score(&self) -> &Score {
        self.taken().map_or(&self.fitted.score, |subnet| &subnet.score)
    }

    /// Index and form of every pruned block.
    #[must_use]
    pub fn pruned(&self) -> &[(usize, Form)] {
        self.taken().map_or(&self.fitted.pruned, |subnet| &subnet.pruned)
    }

    /// The form that a block was pruned to; `None` if it stays.
    #[must_use]
    pub fn form_of(&self, block: usize) -> Option<Form> {
        self.pruned().iter().find(|(index, _)| *index == block).map(|(_, form)| *form)
    }

    /// The network with the batch size of the input model; `prepared` is that model.
    ///
    /// # Errors
    /// Errors of rewriting the graph.
    pub fn model(&self, prepared: &Model) -> Result<Model> {
        if let Some(subnet) = self.taken() {
            return Ok(subnet.model.clone());
        }
        let mut model = prepared.clone();
        place(&mut model, &self.fitted.placed)?;
        Ok(model)
    }

    /// The source of the weights, as reports name it.
    #[must_use]
    pub fn source(&self) -> &'static str {
        if self.is_subnet { "supernet" } else { "fit" }
    }

    /// The comparison of the fitted set with the subnet; `None` if there is no subnet.
    #[must_use]
    pub fn explanation(&self) -> Option<String> {
        let subnet = self.subnet.as_ref()?;
        let [cut, fitted] = [&subnet.score, &self.fitted.score].map(Score::degradation);
        let taken = if self.is_subnet { "the subnet is taken" } else { "the fitted one is taken" };
        Some(format!(
            "the subnet of the supernet has a degradation of {cut:.4} on the held-out images, the same blocks fitted one after the other {fitted:.4}: {taken}"
        ))
    }
}
