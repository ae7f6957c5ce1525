//! Prunes only the structure, without images and without recovering accuracy. This is for experiments, or as the first
//! step of a training elsewhere.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use updp_exec::{InputData, RuntimeOptions, batch_plan, input_specs, sample_inputs};
use updp_ir::{Model, Tensor};
use updp_passes::blocks::Block;
use updp_passes::surgery::{self, Choice, Form, Shrink};
use updp_passes::{Declined, Options, pipeline};
use updp_trainer::observer::Observer;

use crate::config::{BlockSelection, FormConfig, LatencyConfig};
use crate::error::{PruneError, Result};
use crate::latency_table::{Conditions, LatencyTable};
use crate::profile::{BlockProfile, Profiler};
use crate::{Pruned, statistics};

/// Number of images per run of the calibration network.
const CALIBRATION_BATCH: usize = 100;

/// Images of one drawn batch, and batches, where there are no data.
const NOISE_BATCH: usize = 4;
const NOISE_BATCHES: u64 = 2;

/// The source of the statistics of inserted BatchNormalizations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatisticsSource {
    /// No BatchNormalization replaces another normalization.
    NotNeeded,
    /// The given data.
    Data,
    /// Drawn inputs. They are good enough for measuring and verifying.
    Noise,
}

impl StatisticsSource {
    /// Stable name for reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotNeeded => "not needed",
            Self::Data => "data",
            Self::Noise => "noise",
        }
    }
}

/// The settings for pruning the structure.
#[derive(Clone, Debug)]
pub struct StructureConfig {
    /// The blocks to prune.
    pub blocks: BlockSelection,
    /// The allowed forms.
    pub forms: FormConfig,
    /// How latencies are measured.
    pub latency: LatencyConfig,
    /// Options of the exact merge.
    pub passes: Options,
    /// How models are run.
    pub runtime: RuntimeOptions,
}

/// A prepared model with the blocks chosen in it.
struct Chosen {
    model: Model,
    blocks: Vec<(BlockProfile, Form)>,
    skipped: Vec<String>,
    blocks_found: usize,
}

/// Expands the chosen blocks: both flows of each block exist side by side, mixed by λ. At λ = 0 the network computes
/// the same as the input model.
///
/// # Errors
/// The same errors as [`prune`].
pub fn expand(
    model: Model,
    config: &StructureConfig,
    observer: &mut dyn Observer,
) -> Result<Pruned> {
    let mut chosen = choose(model, config, observer)?;
    let choices = choices(&chosen.blocks);
    surgery::expand(&mut chosen.model, &choices, config.forms.shrink)?;
    Ok(chosen.finish(StatisticsSource::NotNeeded))
}

/// Prunes the chosen blocks up to the settled network.
///
/// # Errors
/// C0013 for a block that does not exist; C0014 when nothing is left to prune; P0004 for a block that cannot take its
/// form; errors of measuring.
pub fn prune(
    model: Model,
    config: &StructureConfig,
    data: &InputData,
    observer: &mut dyn Observer,
) -> Result<Pruned> {
    let mut chosen = choose(model, config, observer)?;
    let choices = choices(&chosen.blocks);
    let shrink = config.forms.shrink;
    let model = &mut chosen.model;
    surgery::move_geometry(model, &choices, shrink)?;
    let expansion = surgery::expand(model, &choices, shrink)?;
    let source = if !data.arrays.is_empty() {
        StatisticsSource::Data
    } else if expansion.norms.iter().any(|norm| norm.replaces_norm) {
        StatisticsSource::Noise
    } else {
        StatisticsSource::NotNeeded
    };
    if source != StatisticsSource::NotNeeded {
        statistics::calibrate(model, &expansion, &config.runtime, |network, fixed| {
            batches(data, network, fixed)
        })?;
    }
    surgery::settle(model)?;
    Ok(chosen.finish(source))
}

impl Chosen {
    fn finish(self, statistics: StatisticsSource) -> Pruned {
        let Self { model, blocks: chosen, skipped, blocks_found } = self;
        Pruned { model, chosen, skipped, blocks_found, statistics, outcome: None }
    }
}

/// The default candidate forms: those that keep the receptive field. Pointwise and drop are always faster; only their
/// accuracy is a reason against them.
fn automatic(block: &Block) -> Vec<Form> {
    let mut forms = surgery::forms(block);
    forms.retain(|form| !matches!(form, Form::Pointwise | Form::Drop));
    forms
}

/// The forms to consider: the requested form if the block has it, otherwise the automatic forms.
#[must_use]
pub fn wanted_forms(block: &Block, asked: Option<Form>) -> Vec<Form> {
    match asked {
        None => automatic(block),
        Some(form) => surgery::forms(block).into_iter().filter(|own| *own == form).collect(),
    }
}

/// The forms of each block of a prepared model that an overview shows, by its index: [`wanted_forms`], and leaving out a block without a
/// shortcut; of a block that is only fitted, the requested form or all forms that drop operators.
#[must_use]
pub fn shown_forms(
    model: &Model,
    blocks: &[Block],
    asked: Option<Form>,
    shrink: Shrink,
) -> BTreeMap<usize, Vec<Form>> {
    surgery::with_context(model, |cx| {
        let fitted = |block: &Block| -> Vec<Form> {
            let sites = surgery::sites(cx, block, shrink).into_iter().map(|(form, _)| form);
            sites.filter(|form| asked.map_or(form.is_depth(), |asked| asked == *form)).collect()
        };
        let of = |block: &Block| {
            let mut forms = fitted(block);
            if block.fit_only.is_none() {
                let own = wanted_forms(block, asked);
                let is_left_out = |form: Form| form == Form::Drop && block.shortcut.is_none();
                forms.retain(|form| is_left_out(*form) && !own.contains(form));
                forms.splice(0..0, own);
            }
            forms
        };
        blocks.iter().map(|block| (block.index, of(block))).collect()
    })
}

/// Prepares the model and chooses the blocks in it.
fn choose(
    mut model: Model,
    config: &StructureConfig,
    observer: &mut dyn Observer,
) -> Result<Chosen> {
    pipeline::prepare(&mut model)?;
    let mut blocks = surgery::blocks_of(&model)?;
    let blocks_found = blocks.len();
    let indices = config.blocks.indices(blocks_found)?;
    let is_all = config.blocks == BlockSelection::All;
    // The layer of an attention half stands for it; without images, nothing can take its place.
    blocks.retain(|block| indices.contains(&block.index) && !(block.is_half && is_all));
    let asked = config.forms.forms.single();
    let profiler = Profiler {
        model: &model,
        shrink: config.forms.shrink,
        options: &config.passes,
        is_fitted: false,
        shows_fitted: false,
        effort: f64::INFINITY,
    };
    let is_guarded = config.forms.is_guarded(&config.passes);
    // Latency decides unless a form is requested and no guard is active.
    let mut table = (asked.is_none() || is_guarded).then(|| config.open_table()).transpose()?;
    let wants = |block: &Block| wanted_forms(block, asked);
    let profiles = profiler.profiles(blocks, wants, table.as_mut(), observer)?;
    if let Some(table) = &table {
        table.save()?;
    }
    let mut chosen = Vec::new();
    let mut refusals = Vec::new();
    for profile in profiles {
        match decide(&profile, asked, is_guarded) {
            Ok(form) => chosen.push((profile, form)),
            Err(reason) => refusals.push(format!("block {}: {reason}", profile.block.index)),
        }
    }
    if blocks_found == 0 {
        return Err(PruneError::nothing("no blocks of a known family are in the model"));
    }
    if chosen.is_empty() || (!is_all && !refusals.is_empty()) {
        return Err(PruneError::NothingToPrune { detail: refusals.join("; ") });
    }
    Ok(Chosen { model, blocks: chosen, skipped: refusals, blocks_found })
}

impl StructureConfig {
    fn open_table(&self) -> Result<LatencyTable> {
        let conditions = Conditions::of(&self.latency, &self.runtime);
        LatencyTable::open(self.latency.table.as_deref(), conditions)
    }
}

/// The form that a block gets, or the reason why it gets none.
fn decide(
    profile: &BlockProfile,
    asked: Option<Form>,
    is_guarded: bool,
) -> std::result::Result<Form, String> {
    if let Some(refusal) = &profile.block.refusal {
        return Err(format!("{} ({})", refusal.detail, refusal.reason));
    }
    if let Some(fit_only) = &profile.block.fit_only {
        let Declined { reason, detail } = fit_only;
        return Err(format!("{detail} ({reason}), so it can only be fitted to images: --data"));
    }
    if let Some(Err(reason)) = asked.and_then(|form| profile.forms.get(&form)) {
        return Err(reason.clone());
    }
    let Some((form, _)) = profile.fastest() else {
        let offered: Vec<&str> = surgery::forms(&profile.block).iter().map(|f| f.name()).collect();
        let first = profile.forms.values().find_map(|v| v.as_ref().err()).cloned();
        return Err(first.unwrap_or_else(|| format!("it has only {}", offered.join(", "))));
    };
    match profile.slower().filter(|_| is_guarded) {
        Some(reason) => Err(format!("{reason}; --force prunes it all the same")),
        None => Ok(form),
    }
}

/// The data in batches; drawn inputs if there are no data.
fn batches(
    data: &InputData,
    network: &Model,
    fixed: Option<usize>,
) -> Result<Vec<IndexMap<String, Tensor>>> {
    if !data.arrays.is_empty() {
        return Ok(data.batches(fixed.unwrap_or(CALIBRATION_BATCH)));
    }
    let specs = input_specs(&network.graph).ok_or(PruneError::InputShape)?;
    let plan = batch_plan(&specs, NOISE_BATCH);
    let drawn = (0..NOISE_BATCHES).map(|seed| sample_inputs(&specs, seed, &plan));
    Ok(drawn.collect::<std::result::Result<_, _>>()?)
}

fn choices(chosen: &[(BlockProfile, Form)]) -> Vec<Choice> {
    let choice = |(profile, form): &(BlockProfile, Form)| Choice {
        block: profile.block.clone(),
        form: *form,
    };
    chosen.iter().map(choice).collect()
}
