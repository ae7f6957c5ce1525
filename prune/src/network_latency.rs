//! Latencies of whole networks, each measured in turns with the exactly compiled original, and the latency model that
//! such measurements calibrate.

use std::time::Duration;

use updp_exec::Precision;
use updp_ir::Model;
use updp_passes::{cost, pipeline, surgery};

use crate::candidates::CandidateSet;
use crate::context::Context;
use crate::error::Result;
use crate::latency_model::LatencyModel;
use crate::latency_table::{Comparison, LatencyTable};

/// The precision of a network that the model learns from: ±1 %, at most 5 seconds.
const LEARNING: Precision = Precision {
    width: 0.02,
    least_rounds: 20,
    most_rounds: 1000,
    most_time: Duration::from_secs(5),
};

/// The precision of the final figure: ±1 %, at most 20 seconds. It has more rounds than the least that the interval
/// needs, because this figure is the one that is told.
const FINAL: Precision = Precision {
    width: 0.016,
    least_rounds: 40,
    most_rounds: 3000,
    most_time: Duration::from_secs(20),
};

/// Measures whole networks.
#[derive(Debug)]
pub struct NetworkLatency {
    table: LatencyTable,
    compiled: Model,
}

impl NetworkLatency {
    /// Measures with the table of the block profiles.
    ///
    /// # Errors
    /// Errors of compiling the original.
    pub fn new(cx: &Context<'_>, table: LatencyTable) -> Result<Self> {
        Ok(Self { table, compiled: compiled(cx, cx.original.clone())? })
    }

    /// The compiled original.
    #[must_use]
    pub fn compiled(&self) -> &Model {
        &self.compiled
    }

    /// A network against the compiled original. The network is compiled first. A network that was measured before, with
    /// the same operators and shapes, is not measured again.
    ///
    /// # Errors
    /// Errors of compiling and running.
    pub fn measure(&mut self, cx: &Context<'_>, network: Model) -> Result<Comparison> {
        let network = compiled(cx, network)?;
        let found = self.table.compared(&self.compiled, &network, LEARNING)?;
        self.table.save()?;
        Ok(found)
    }

    /// The same with the precision of a final figure. The same table gives the same answer, so choices that depend on it
    /// repeat.
    ///
    /// # Errors
    /// Errors of compiling and running.
    pub fn measure_precisely(&mut self, cx: &Context<'_>, network: Model) -> Result<Comparison> {
        let network = compiled(cx, network)?;
        let found = self.table.compared(&self.compiled, &network, FINAL)?;
        self.table.save()?;
        Ok(found)
    }

    /// The final figure: measured now, whatever the table says.
    ///
    /// # Errors
    /// Errors of compiling and running.
    pub fn measure_afresh(&mut self, cx: &Context<'_>, network: Model) -> Result<Comparison> {
        let network = compiled(cx, network)?;
        self.table.compared_afresh(&self.compiled, &network, FINAL)
    }

    /// A latency model of these candidates that knows no pruned network yet.
    ///
    /// # Errors
    /// Errors of running the original.
    pub fn model(&mut self, candidates: &CandidateSet) -> Result<LatencyModel> {
        let original = self.table.compared(&self.compiled, &self.compiled, LEARNING)?;
        let estimate = |it: &crate::candidates::BlockCandidates| it.profile.baseline.estimate_ms;
        let blocks: f64 = candidates.blocks.iter().map(estimate).sum();
        let whole = surgery::with_context(&self.compiled, cost::graph_ns) / 1e6;
        let share = if whole > 0.0 { blocks / whole } else { 1.0 };
        Ok(LatencyModel::new(original.before_ms, &candidates.costs, share))
    }

    /// The runtime that measured last.
    #[must_use]
    pub fn runtime(&self) -> &str {
        self.table.runtime()
    }

    /// Number of threads of the measured networks.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.table.threads()
    }
}

/// The network after exact compilation.
fn compiled(cx: &Context<'_>, mut network: Model) -> Result<Model> {
    pipeline::compile(&mut network, &cx.config.passes, &mut |_, _| {})?;
    Ok(network)
}
