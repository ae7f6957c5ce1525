//! Pruning chosen blocks: from the model as it came to the settled network that is merged and verified.

use std::path::Path;

use bytes::Bytes;
use indexmap::IndexMap;
use updp_exec::{InputData, ModelSource, Optimizer, batch_plan, input_specs, open, sample_inputs};
use updp_ir::{DataPlacement, Model, Tensor};
use updp_passes::surgery::{self, Choice, Expansion, Form, Shrink, Statistics};
use updp_passes::{Options, pipeline};

use crate::cli::{BlockList, FormChoice, PruneArgs, RuntimeArgs, ShrinkChoice};
use crate::error::CliError;
use crate::latency_table::{Conditions, LatencyTable};
use crate::survey::{Row, Survey, wanted};

/// Rows run at once through the calibration network.
const CALIBRATION_BATCH: usize = 100;

/// Rows of one drawn batch, and batches, where there are no data.
const NOISE_BATCH: usize = 4;
const NOISE_BATCHES: u64 = 2;

/// What was pruned.
#[derive(Debug)]
pub struct Pruned {
    /// The settled network, or the expanded one; encoded.
    pub bytes: Bytes,
    /// The blocks that were chosen, with the form of each.
    pub chosen: Vec<(Row, Form)>,
    /// Blocks that `all` asked for and that were left alone, with the reason.
    pub left: Vec<String>,
    /// Number of blocks found.
    pub found: usize,
    /// Where the statistics of inserted BatchNorms come from.
    pub statistics: StatisticsSource,
    /// What fitting found out; `None` without data.
    pub outcome: Option<updp_trainer::outcome::Outcome>,
}

/// Where the statistics of inserted BatchNorms come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatisticsSource {
    /// No BatchNorm stands in for a normalization.
    NotNeeded,
    /// The data that were given.
    Data,
    /// Drawn inputs: good enough to measure and to verify with.
    Noise,
}

impl StatisticsSource {
    /// Stable name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotNeeded => "not needed",
            Self::Data => "data",
            Self::Noise => "noise",
        }
    }
}

/// A prepared model with the blocks chosen in it.
struct Chosen {
    model: Model,
    blocks: Vec<(Row, Form)>,
    left: Vec<String>,
    found: usize,
}

/// How the command line asks for it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Arguments of pruning.
    pub arguments: &'a PruneArgs,
    /// Options of the merge.
    pub options: &'a Options,
    /// How models are run.
    pub runtime: &'a RuntimeArgs,
    /// Inputs for statistics.
    pub data: &'a InputData,
}

impl ShrinkChoice {
    /// As surgery takes it.
    #[must_use]
    pub fn as_shrink(self) -> Shrink {
        match self {
            Self::Auto => Shrink::Auto,
            Self::None => Shrink::None,
        }
    }
}

impl FormChoice {
    /// The form; `None` = the fastest.
    #[must_use]
    pub fn as_form(self) -> Option<Form> {
        Some(match self {
            Self::Auto => return None,
            Self::Conv => Form::Conv,
            Self::Dwpw => Form::DepthwisePointwise,
            Self::Pw => Form::Pointwise,
            Self::Norm => Form::Norm,
            Self::LowRank => Form::LowRank,
            Self::Drop => Form::Drop,
        })
    }
}

impl Request<'_> {
    /// Expands the chosen blocks; their flow at λ = 0 is the model's.
    ///
    /// # Errors
    /// As [`Request::prune`].
    pub fn expand(&self, model: Model) -> Result<Pruned, CliError> {
        let Chosen { mut model, blocks: chosen, left, found } = self.chosen(model)?;
        let choices = choices(&chosen);
        surgery::expand(&mut model, &choices, self.shrink())?;
        let bytes = encode(&model)?;
        let statistics = StatisticsSource::NotNeeded;
        Ok(Pruned { bytes, chosen, left, found, statistics, outcome: None })
    }

    /// Prunes the chosen blocks up to the settled network.
    ///
    /// # Errors
    /// C0013 for a block that is not there, C0014 when nothing is left to prune, P0004 for a block that cannot
    /// take its form.
    pub fn prune(&self, model: Model) -> Result<Pruned, CliError> {
        let Chosen { mut model, blocks: chosen, left, found } = self.chosen(model)?;
        let choices = choices(&chosen);
        surgery::move_geometry(&mut model, &choices, self.shrink())?;
        let expansion = surgery::expand(&mut model, &choices, self.shrink())?;
        let statistics = if !self.data.arrays.is_empty() {
            StatisticsSource::Data
        } else if expansion.norms.iter().any(|norm| norm.replaces_norm) {
            StatisticsSource::Noise
        } else {
            StatisticsSource::NotNeeded
        };
        if statistics != StatisticsSource::NotNeeded {
            self.calibrate(&mut model, &expansion, |network, fixed| self.batches(network, fixed))?;
        }
        surgery::settle(&mut model)?;
        let bytes = encode(&model)?;
        Ok(Pruned { bytes, chosen, left, found, statistics, outcome: None })
    }

    /// Whether a block that gets slower is refused.
    pub(crate) fn is_guarded(&self) -> bool {
        !self.arguments.force && !self.options.merge_all
    }

    pub(crate) fn shrink(&self) -> Shrink {
        self.arguments.shrink.as_shrink()
    }

    /// The prepared model and the blocks chosen in it.
    fn chosen(&self, mut model: Model) -> Result<Chosen, CliError> {
        pipeline::prepare(&mut model)?;
        let mut blocks = surgery::blocks_of(&model)?;
        let found = blocks.len();
        let indices = self.wanted(&blocks)?;
        blocks.retain(|block| indices.contains(&block.index));
        let asked = self.arguments.form.as_form();
        let survey = Survey {
            model: &model,
            shrink: self.shrink(),
            options: self.options,
            is_fitted: false,
            effort: f64::INFINITY,
        };
        let mut table = self.table()?;
        let rows = survey.rows(blocks, |block| wanted(block, asked), table.as_mut())?;
        if let Some(table) = &table {
            table.save()?;
        }
        let is_all = matches!(self.arguments.blocks, Some(BlockList::All));
        let mut chosen = Vec::new();
        let mut refusals = Vec::new();
        for row in rows {
            match self.decide(&row, asked) {
                Ok(form) => chosen.push((row, form)),
                Err(reason) => refusals.push(format!("block {}: {reason}", row.block.index)),
            }
        }
        if found == 0 {
            let detail = "no blocks of a known family are in the model".to_owned();
            return Err(CliError::NothingToPrune { detail });
        }
        if chosen.is_empty() || (!is_all && !refusals.is_empty()) {
            return Err(CliError::NothingToPrune { detail: refusals.join("; ") });
        }
        Ok(Chosen { model, blocks: chosen, left: refusals, found })
    }

    /// The form a block gets.
    fn decide(&self, row: &Row, asked: Option<Form>) -> Result<Form, String> {
        if let Some(refusal) = &row.block.refusal {
            return Err(format!("{} ({})", refusal.detail, refusal.reason));
        }
        if let Some(Err(reason)) = asked.and_then(|form| row.forms.get(&form)) {
            return Err(reason.clone());
        }
        let Some((form, _)) = row.fastest() else {
            let offered: Vec<&str> = surgery::forms(&row.block).iter().map(|f| f.name()).collect();
            let first = row.forms.values().find_map(|v| v.as_ref().err()).cloned();
            return Err(first.unwrap_or_else(|| format!("it offers only {}", offered.join(", "))));
        };
        match row.slower().filter(|_| self.is_guarded()) {
            Some(reason) => Err(format!("{reason}; --force prunes it all the same")),
            None => Ok(form),
        }
    }

    /// Indices of the blocks asked for.
    pub(crate) fn wanted(
        &self,
        blocks: &[updp_passes::blocks::Block],
    ) -> Result<Vec<usize>, CliError> {
        let Some(BlockList::Some(list)) = &self.arguments.blocks else {
            return Ok((0..blocks.len()).collect());
        };
        if let Some(index) = list.iter().find(|index| **index >= blocks.len()) {
            return Err(CliError::NoSuchBlock { index: *index, count: blocks.len() });
        }
        Ok(list.clone())
    }

    /// The table that decides; `None` where a form is asked for and no guard stands.
    fn table(&self) -> Result<Option<LatencyTable>, CliError> {
        if self.arguments.form != FormChoice::Auto && !self.is_guarded() {
            return Ok(None);
        }
        Ok(Some(self.open_table(self.arguments.latency_table.as_deref())?))
    }

    /// The latency table of a file, for the conditions asked for.
    pub(crate) fn open_table(&self, path: Option<&Path>) -> Result<LatencyTable, CliError> {
        let conditions = Conditions {
            runtime: self.runtime.options(),
            batch: self.arguments.batch.get(),
            seconds: self.arguments.probe_seconds,
        };
        LatencyTable::open(path, conditions)
    }

    /// The data in batches; drawn inputs where there are none.
    fn batches(
        &self,
        network: &Model,
        fixed: Option<usize>,
    ) -> Result<Vec<IndexMap<String, Tensor>>, CliError> {
        if !self.data.arrays.is_empty() {
            return Ok(self.data.batches(fixed.unwrap_or(CALIBRATION_BATCH)));
        }
        let specs = input_specs(&network.graph).ok_or_else(|| CliError::Unverifiable {
            detail: "an input has no known shape".into(),
        })?;
        let plan = batch_plan(&specs, NOISE_BATCH);
        let drawn = (0..NOISE_BATCHES).map(|seed| sample_inputs(&specs, seed, &plan));
        Ok(drawn.collect::<Result<_, _>>()?)
    }

    /// Mean and variance of every inserted BatchNorm in the pruned network, over the batches that `batches` gives for it and
    /// for the batch it fixes.
    pub(crate) fn calibrate(
        &self,
        model: &mut Model,
        expansion: &Expansion,
        batches: impl FnOnce(&Model, Option<usize>) -> Result<Vec<IndexMap<String, Tensor>>, CliError>,
    ) -> Result<(), CliError> {
        let mut network = model.clone();
        surgery::drop_baseline(&mut network)?;
        let names = surgery::calibration_model(&mut network, &expansion.norms)?;
        let bytes = encode(&network)?;
        let (runtime, options) = self.runtime.split(Optimizer::Off);
        let mut executor = open(ModelSource::Bytes(&bytes), runtime, &options)?;
        let fixed = network.graph.required_inputs().next().and_then(|input| {
            network.graph.value(input).declared()?.shape.as_ref()?.first()?.known()
        });
        let mut sums: Vec<Sums> = vec![Sums::default(); names.len()];
        for batch in batches(&network, fixed)? {
            let rows = batch.values().next().and_then(|t| t.dims().first().copied()).unwrap_or(0);
            // A network of fixed batch cannot take the rows left over.
            if fixed.is_some_and(|size| size != rows) {
                continue;
            }
            let outputs = executor.run(&batch)?;
            for (sum, (mean, variance)) in sums.iter_mut().zip(&names) {
                sum.add(&outputs, (mean, variance), rows as f64)?;
            }
        }
        if sums.iter().any(|sum| sum.rows == 0.0) {
            return Err(CliError::Calibration { name: "the data".into() });
        }
        let statistics: Vec<Statistics> = sums.iter().map(Sums::finish).collect();
        surgery::set_statistics(model, &expansion.norms, &statistics)?;
        Ok(())
    }
}

/// Sums of first and second moments, weighted by the rows they are of.
#[derive(Clone, Debug, Default)]
struct Sums {
    mean: Vec<f64>,
    square: Vec<f64>,
    rows: f64,
}

impl Sums {
    fn add(
        &mut self,
        outputs: &IndexMap<String, Tensor>,
        (mean, variance): (&str, &str),
        rows: f64,
    ) -> Result<(), CliError> {
        let read = |name: &str| {
            let values = outputs.get(name).and_then(Tensor::to_f64);
            let finite = values.filter(|values| values.iter().all(|v| v.is_finite()));
            finite.ok_or_else(|| CliError::Calibration { name: name.to_owned() })
        };
        let (mean, variance) = (read(mean)?, read(variance)?);
        self.mean.resize(mean.len(), 0.0);
        self.square.resize(mean.len(), 0.0);
        for (at, (m, v)) in mean.iter().zip(&variance).enumerate() {
            self.mean[at] += rows * m;
            self.square[at] += rows * (v + m * m);
        }
        self.rows += rows;
        Ok(())
    }

    fn finish(&self) -> Statistics {
        let mean: Vec<f64> = self.mean.iter().map(|sum| sum / self.rows).collect();
        let square = self.square.iter().map(|sum| sum / self.rows);
        let variance = square.zip(&mean).map(|(square, mean)| (square - mean * mean).max(0.0));
        Statistics { variance: variance.collect(), mean }
    }
}

fn choices(chosen: &[(Row, Form)]) -> Vec<Choice> {
    chosen.iter().map(|(row, form)| Choice { block: row.block.clone(), form: *form }).collect()
}

pub(crate) fn encode(model: &Model) -> Result<Bytes, CliError> {
    Ok(model.encode(&DataPlacement::Inline)?.model_to_bytes())
}
