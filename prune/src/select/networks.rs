//! The sets that were fitted as a whole, with what was measured of their networks. Every run keeps all of them; a run
//! that asks for a front adds sets between the input model and the selected set.

use updp_ir::Model;
use updp_passes::surgery::{self, Form};
use updp_passes::{ModelSummary, pipeline};
use updp_trainer::evaluator::Score;

use super::Selector;
use crate::error::Result;
use crate::fitter::place;
use crate::latency_table::Comparison;
use crate::progress;
use crate::search::{Constraint, Genome, fastest, solve};
use crate::starting_network::StartingNetwork;
use crate::words::counted;

/// A front whose fastest set is less than this much faster than the input model goes up to the fastest choice instead.
const LEAST_GAIN: f64 = 0.01;

/// A set that was fitted as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedNetwork {
    /// The set.
    pub genome: Genome,
    /// Index and form of every pruned block in the fitted network.
    pub pruned: Vec<(usize, Form)>,
    /// Score of the fitted network on the held-out images.
    pub score: Score,
    /// Multiply-adds of the compiled network, as a share of those of the compiled original.
    pub macs_share: f64,
    /// The network against the compiled original; `None` if it was not measured.
    pub speed: Option<Comparison>,
}

impl Selector<'_> {
    /// Keeps a fitted set. The unpruned network is left out.
    pub(super) fn keep(&mut self, genome: &Genome, start: &StartingNetwork) -> Result<()> {
        let is_known = self.networks.iter().any(|it| it.genome == *genome);
        if is_known || start.pruned().is_empty() {
            return Ok(());
        }
        let mut network = start.network().clone();
        pipeline::compile(&mut network, &self.cx.config.passes, &mut |_, _| {})?;
        let whole = ModelSummary::of(self.latency.compiled(), 0).macs.max(1);
        self.networks.push(FittedNetwork {
            genome: genome.clone(),
            pruned: start.pruned().to_vec(),
            score: *start.score(),
            macs_share: ModelSummary::of(&network, 0).macs as f64 / whole as f64,
            speed: None,
        });
        Ok(())
    }

    /// Keeps the measured speed of a fitted set.
    pub(super) fn keep_speed(&mut self, genome: &Genome, speed: Comparison) {
        for network in self.networks.iter_mut().filter(|it| it.genome == *genome) {
            network.speed = Some(speed);
        }
    }

    /// Measures every fitted network, and adds `count` networks that are spread evenly in speed between the input model
    /// and the set `chosen`: for each speed the least degraded set, fitted as a whole.
    pub(super) fn add_front(&mut self, chosen: &Genome, count: usize) -> Result<()> {
        for genome in self.networks.iter().map(|it| it.genome.clone()).collect::<Vec<_>>() {
            self.measure_network(&genome)?;
        }
        let mut approach = self.calibrated()?;
        let own = self.networks.iter().find(|it| it.genome == *chosen);
        let own = own.and_then(|it| it.speed).map_or(1.0, |it| it.speedup);
        let all = fastest(&self.candidates.costs).genome;
        let top = if own < 1.0 + LEAST_GAIN { approach.model.speedup(&all) } else { own };
        for step in 1..=count {
            let aim = 1.0 + (top - 1.0) * step as f64 / (count + 1) as f64;
            let costs = approach.model.costs(&self.candidates.costs);
            let bound = approach.bound(&costs, aim).max(fastest(&costs).latency_ms);
            let Some(found) = solve(&costs, Constraint::Latency(bound), 1).pop() else { continue };
            let is_new = !self.networks.iter().any(|it| it.genome == found.genome);
            if !is_new || found.genome.iter().all(Option::is_none) {
                continue;
            }
            self.observer.message(&format!(
                "network {step} of {count} for the front: about {aim:.2} times as fast"
            ));
            self.start(&found.genome)?;
            let predicted = approach.model.speedup(&found.genome);
            if let Some(speed) = self.measure_network(&found.genome)? {
                approach.learn(&found.genome, predicted, speed);
            }
        }
        Ok(())
    }

    /// Measures the network of a fitted set; `None` if the set was not fitted.
    fn measure_network(&mut self, genome: &Genome) -> Result<Option<Comparison>> {
        let Some(network) = self.networks.iter().find(|it| it.genome == *genome) else {
            return Ok(None);
        };
        if network.speed.is_some() {
            return Ok(network.speed);
        }
        let images = network.score.images;
        let text = format!(
            "measuring a network with {} (degradation {:.4} on {images} held-out images)",
            counted(network.pruned.len(), "pruned block", "pruned blocks"),
            network.score.degradation()
        );
        progress::tell(self.observer, &text, 0, 0)?;
        let network = self.formed(&network.pruned)?;
        let found = self.latency.measure(self.cx, network)?;
        self.keep_speed(genome, found);
        Ok(Some(found))
    }

    /// A network with these blocks in these forms. Its weights are not those of the fitted set, which the time does not
    /// depend on.
    fn formed(&self, pruned: &[(usize, Form)]) -> Result<Model> {
        let mut network = self.cx.original.clone();
        for (index, form) in pruned {
            let block = self.candidates.blocks.iter().find(|it| it.profile.block.index == *index);
            let Some(block) = block else { continue };
            let alone = block.fitted.iter().find(|it| it.form.site.form == *form);
            if let Some(alone) = alone {
                place(&mut network, [&alone.form])?;
            } else if let Some(site) = block.sites.iter().find(|site| site.form == *form) {
                surgery::substitute(&mut network, site, &surgery::stand_in(site)?)?;
            }
        }
        Ok(network)
    }
}
