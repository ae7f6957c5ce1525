//! The stage that selects blocks. It goes from a goal to a set of blocks and repeats this until the network itself
//! meets the goal.

mod gentler;
mod latency;
mod macs;
mod max_drop;
mod networks;
pub(crate) mod search;
mod sets;
mod shortlist;

use updp_ir::Model;
use updp_trainer::observer::Observer;

use crate::candidates::CandidateSet;
use crate::config::Goal;
use crate::context::Context;
use crate::error::{PruneError, Result};
use crate::fitter::place;
use crate::latency_model::LatencyModel;
use crate::network_latency::NetworkLatency;
use crate::outcome::SearchOutcome;
use crate::search::explore::Archive;
use crate::search::{Constraint, Genome, sum};
use crate::starting_network::{self, StartingNetwork};
pub use gentler::{Gentler, gentler};
pub use networks::FittedNetwork;
pub use sets::SetEvaluator;
pub(crate) use shortlist::length as shortlist_length;

/// A selected set of blocks, and the sets that were evaluated to find it.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The set.
    pub genome: Genome,
    /// Sets that were evaluated as a whole, in order, with their degradation in points.
    pub tried: Vec<(Genome, f64)>,
    /// Sets that were fitted as a whole, with their degradation in points.
    pub shortlist: Vec<(Genome, f64)>,
    /// How the selection was made, in sentences.
    pub explanation: Vec<String>,
    /// Share of the original's multiply-adds that is left, if the goal sets this share.
    pub macs_share: Option<f64>,
    /// Every set that was fitted as a whole, with what was measured of it.
    pub networks: Vec<FittedNetwork>,
    /// The calibrated latency model, if the goal sets a speed.
    pub model: Option<LatencyModel>,
}

impl Selection {
    fn new(genome: Genome, tried: Vec<(Genome, f64)>, explanation: Vec<String>) -> Self {
        Self {
            genome,
            tried,
            shortlist: Vec::new(),
            explanation,
            macs_share: None,
            networks: Vec::new(),
            model: None,
        }
    }

    /// Degradation of a set that was fitted as a whole, in points; `None` if it was not fitted.
    #[must_use]
    pub fn fitted_degradation(&self, genome: &Genome) -> Option<f64> {
        self.shortlist.iter().find(|(own, _)| own == genome).map(|(_, points)| *points)
    }

    /// Describes the selection in sentences. `start` is the network of the selected blocks.
    #[must_use]
    pub fn words(&self, start: &StartingNetwork) -> Vec<String> {
        let blocks = start.pruned().iter().map(|(index, form)| format!("{index} {}", form.name()));
        let blocks = blocks.collect::<Vec<_>>().join(", ");
        let chosen = format!("chosen: {blocks}; {} held out, before any training", start.score());
        self.explanation.iter().cloned().chain([chosen]).collect()
    }
}

/// Selects the blocks to prune, and fits them as a whole.
///
/// Returns the selection, its network, and the search for the report.
///
/// # Errors
/// Errors of fitting, running and measuring; T0006 when results cannot be stored.
pub fn select(
    cx: &Context<'_>,
    candidates: &CandidateSet,
    sets: &mut SetEvaluator,
    latency: &mut NetworkLatency,
    observer: &mut dyn Observer,
) -> Result<(Selection, StartingNetwork, Option<SearchOutcome>)> {
    let mut selector = Selector::new(cx, candidates, sets, latency, observer);
    let (mut selection, start) = match &cx.config.goal {
        _ if cx.config.picked.is_some() => selector.select_picked(),
        Goal::Blocks(_) => {
            let with_form = candidates.costs.iter().filter(|cost| !cost.candidates.is_empty());
            selector.select_for_count(with_form.count())
        }
        Goal::Count(count) => selector.select_for_count(*count),
        Goal::Speedup(_) | Goal::LatencyMs(_) => selector.select_for_latency(),
        Goal::MacsShare(share) => selector.select_for_macs(*share),
        Goal::MaxDrop(points) => selector.select_for_max_drop(*points),
        Goal::Pick(number) => Err(PruneError::NoSuchNetwork { number: *number, count: 0 }),
    }?;
    selection.networks = std::mem::take(&mut selector.networks);
    let search = selector.search_outcome();
    Ok((selection, start, search))
}

/// Measures every set that was fitted as a whole, and adds `count` sets between the input model and the selected set.
///
/// # Errors
/// Errors of fitting, running and measuring; T0006 when results cannot be stored.
pub fn add_front(
    cx: &Context<'_>,
    candidates: &CandidateSet,
    sets: &mut SetEvaluator,
    latency: &mut NetworkLatency,
    (selection, count): (&mut Selection, usize),
    observer: &mut dyn Observer,
) -> Result<()> {
    let mut selector = Selector::new(cx, candidates, sets, latency, observer);
    selector.networks = std::mem::take(&mut selection.networks);
    selector.add_front(&selection.genome, count)?;
    selection.networks = std::mem::take(&mut selector.networks);
    Ok(())
}

/// The state of a selection.
struct Selector<'a> {
    cx: &'a Context<'a>,
    candidates: &'a CandidateSet,
    sets: &'a mut SetEvaluator,
    latency: &'a mut NetworkLatency,
    /// Sets that a search by sets evaluated.
    archive: Archive,
    /// Sets that were fitted as a whole.
    networks: Vec<FittedNetwork>,
    observer: &'a mut dyn Observer,
}

impl<'a> Selector<'a> {
    fn new(
        cx: &'a Context<'a>,
        candidates: &'a CandidateSet,
        sets: &'a mut SetEvaluator,
        latency: &'a mut NetworkLatency,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let archive = Archive::new(&candidates.costs);
        Self { cx, candidates, sets, latency, archive, networks: Vec::new(), observer }
    }
}

impl Selector<'_> {
    /// The set of an earlier front.
    fn select_picked(&mut self) -> Result<(Selection, StartingNetwork)> {
        let picked = self.cx.config.picked.as_ref();
        let (number, set) = picked.map_or((0, &[][..]), |it| (it.number, it.set.as_slice()));
        let genome = self.candidates.genome(set).ok_or_else(|| PruneError::NoFront {
            work: self.cx.config.work.clone().unwrap_or_default(),
            detail: format!("the forms of network {number} are no candidates any more"),
        })?;
        let start = self.start(&genome)?;
        let shortlist = vec![(genome.clone(), start.score().degradation())];
        let selection = Selection::new(genome, Vec::new(), Vec::new());
        Ok((Selection { shortlist, ..selection }, start))
    }

    /// This many blocks, those that lose least.
    fn select_for_count(&mut self, count: usize) -> Result<(Selection, StartingNetwork)> {
        let constraint = Constraint::Count(count);
        let costs = &self.candidates.costs;
        let selection = self.propose(costs, constraint)?;
        // Searches also evaluate sets that do not meet the goal.
        self.best_of_shortlist(selection, |_, genome| {
            Ok(sum(costs, genome).is_some_and(|sum| constraint.is_reached_by(&sum)))
        })
    }

    /// The network of a set of blocks, fitted as a whole.
    fn start(&mut self, genome: &Genome) -> Result<StartingNetwork> {
        let start =
            starting_network::build(self.cx, self.candidates, self.sets, genome, self.observer)?;
        self.keep(genome, &start)?;
        Ok(start)
    }

    /// The original with these blocks pruned, as they were fitted alone.
    fn placed(&self, genome: &Genome) -> Result<Model> {
        let mut network = self.cx.original.clone();
        place(&mut network, self.candidates.chosen(genome))?;
        Ok(network)
    }
}
