//! The contents of a model, and what compiling it would do.

use std::path::PathBuf;

use updp_exec::RuntimeOptions;
use updp_ir::Model;
use updp_passes::surgery::{self, Form, Shrink};
use updp_passes::{Log, ModelSummary, Options, pipeline};

use super::weights::{FreezeWeights, freeze_weights, overridable_weights};
use super::{Error, Observer, RuleOptions, Source, error::check_cancelled, telling::Telling};
use crate::deploy::{self, DeployTarget, Finding};
use crate::model_file::ModelFile;
use updp_prune::latency_table::{Conditions, LatencyTable};
use updp_prune::profile::{BlockProfile, Profiler, SHORT_EFFORT};
use updp_prune::structure::shown_forms;

/// Time for measuring each form of a block, in seconds.
const PROBE_SECONDS: f64 = 0.25;

/// Options of an inspection.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// The rules of the compilation.
    pub rules: RuleOptions,
    /// Whether to compile the model in memory and report the effect.
    pub is_compiled: bool,
    /// The form in which each block is examined; `None` = the forms that keep the receptive field of the block.
    pub form: Option<Form>,
    /// Whether kernels are also made smaller.
    pub shrink: Shrink,
    /// Whether blocks and their forms are measured; otherwise the cost model estimates them.
    pub is_measured: bool,
    /// Batch size for measurements of a model with an open batch dimension.
    pub batch: usize,
    /// A file that keeps measured latencies for the next run.
    pub latency_table: Option<PathBuf>,
    /// The weights that are also inputs and count as constants.
    pub freeze_weights: FreezeWeights,
    /// A target that the unchanged model is checked against.
    pub target: Option<DeployTarget>,
    /// How models are run.
    pub runtime: RuntimeOptions,
}

impl Default for InspectOptions {
    fn default() -> Self {
        Self {
            rules: RuleOptions::default(),
            is_compiled: true,
            form: None,
            shrink: Shrink::Auto,
            is_measured: false,
            batch: 1,
            latency_table: None,
            freeze_weights: FreezeWeights::None,
            target: None,
            runtime: RuntimeOptions::default(),
        }
    }
}

/// The contents of a model.
#[derive(Debug)]
pub struct InspectReport {
    /// The model as read.
    pub model: Model,
    /// Number of its weights that are also inputs, so that a caller may replace them; without those that
    /// [`InspectOptions::freeze_weights`] names.
    pub overridable_weights: usize,
    /// Its summary.
    pub before: ModelSummary,
    /// The blocks that pruning can change.
    pub blocks: Vec<BlockProfile>,
    /// The effect of compiling, and the summary after it; `None` if that was not requested.
    pub compiled: Option<(Log, ModelSummary)>,
    /// The findings of the target check; `None` if no target is given.
    pub findings: Option<Vec<Finding>>,
}

/// Examines a model: its summary, its blocks, and the effect of compiling it. Writes nothing except the latency table.
///
/// # Errors
/// C0015 if the latency table cannot be used, P codes for unknown rules, and the errors of reading the model.
pub fn inspect<'a>(
    model: impl Into<Source<'a>>,
    options: &InspectOptions,
    observer: &mut dyn Observer,
) -> Result<InspectReport, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let file = model.into().open()?;
    let passes = options.rules.passes(file.total_bytes(), &options.runtime);
    let blocks = blocks(observer, &file, options, &passes)?;
    check_cancelled(observer)?;
    let has_data = !file.source.data_files.is_empty();
    let findings = options.target.map(|target| deploy::check(&file.model, has_data, target));
    let before = ModelSummary::of(&file.model, file.total_bytes());
    let mut model = file.source.again()?;
    freeze_weights(&options.freeze_weights, &mut model)?;
    let overridable_weights = overridable_weights(&model);
    let compiled = if options.is_compiled {
        let log = pipeline::compile(&mut model, &passes, &mut |_, _| {})?;
        Some((log, ModelSummary::of(&model, before.bytes)))
    } else {
        None
    };
    Ok(InspectReport { model: file.model, overridable_weights, before, blocks, compiled, findings })
}

/// The blocks with the requested forms, measured if that is requested.
fn blocks(
    observer: &mut dyn Observer,
    file: &ModelFile,
    options: &InspectOptions,
    passes: &Options,
) -> Result<Vec<BlockProfile>, Error> {
    let mut model = file.source.again()?;
    freeze_weights(&options.freeze_weights, &mut model)?;
    pipeline::prepare(&mut model)?;
    let conditions = Conditions {
        runtime: options.runtime.clone(),
        batch: options.batch,
        seconds: PROBE_SECONDS,
        constants: Vec::new(),
    };
    let path = options.latency_table.as_deref();
    let mut table =
        options.is_measured.then(|| LatencyTable::open(path, conditions)).transpose()?;
    let profiler = Profiler {
        is_fitted: false,
        shows_fitted: true,
        model: &model,
        shrink: options.shrink,
        options: passes,
        effort: if options.is_measured { f64::INFINITY } else { SHORT_EFFORT },
    };
    let blocks = surgery::blocks_of(&model)?;
    let forms = shown_forms(&model, &blocks, options.form, options.shrink);
    let profiles = profiler.profiles(
        blocks,
        |block| forms.get(&block.index).cloned().unwrap_or_default(),
        table.as_mut(),
        observer,
    )?;
    if let Some(table) = &table {
        table.save()?;
    }
    Ok(profiles)
}
