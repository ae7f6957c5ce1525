//! What is in a model, and what compiling it would do.

use std::path::PathBuf;

use updp_exec::RuntimeOptions;
use updp_ir::Model;
use updp_passes::surgery::{self, Form, Shrink};
use updp_passes::{Log, ModelSummary, Options, pipeline};

use super::{Error, Observer, RuleOptions, Source, error::check_cancelled};
use crate::deploy::{self, DeployTarget, Finding};
use crate::model_file::ModelFile;
use updp_prune::latency_table::{Conditions, LatencyTable};
use updp_prune::profile::{BlockProfile, Profiler, SHORT_EFFORT};
use updp_prune::structure::wanted_forms;

/// Seconds for each form of a block.
const PROBE_SECONDS: f64 = 0.25;

/// What is looked at.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// Rules of the compilation.
    pub rules: RuleOptions,
    /// Whether the model is compiled in memory, so that the report says what that does.
    pub is_compiled: bool,
    /// The form each block is looked at in; `None` = those that keep what the block can see.
    pub form: Option<Form>,
    /// Whether kernels would shrink.
    pub shrink: Shrink,
    /// Whether blocks and their forms are measured; else the cost model stands in.
    pub is_measured: bool,
    /// Batch to measure with, where the model leaves it open.
    pub batch: usize,
    /// A file that keeps measured latencies for the next run.
    pub latency_table: Option<PathBuf>,
    /// A target that the model as it is is checked against.
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
            target: None,
            runtime: RuntimeOptions::default(),
        }
    }
}

/// What is in a model.
#[derive(Debug)]
pub struct InspectReport {
    /// The model as it was read.
    pub model: Model,
    /// Its sizes.
    pub before: ModelSummary,
    /// The blocks that pruning decides on.
    pub blocks: Vec<BlockProfile>,
    /// What compiling did, and the sizes afterwards; `None` where that was not asked for.
    pub compiled: Option<(Log, ModelSummary)>,
    /// What the target does not take; `None` where no target is given.
    pub findings: Option<Vec<Finding>>,
}

/// Looks at a model: its sizes, its blocks, and what compiling it would do. Writes nothing but the latency table.
///
/// # Errors
/// C0015 when the latency table cannot be used, P codes for unknown rules; what reading the model gives.
pub fn inspect<'a>(
    model: impl Into<Source<'a>>,
    options: &InspectOptions,
    observer: &mut dyn Observer,
) -> Result<InspectReport, Error> {
    let file = model.into().open()?;
    let passes = options.rules.passes(file.total_bytes());
    let blocks = blocks(observer, &file, options, &passes)?;
    check_cancelled(observer)?;
    let has_data = !file.source.data_files.is_empty();
    let findings = options.target.map(|target| deploy::check(&file.model, has_data, target));
    let before = ModelSummary::of(&file.model, file.total_bytes());
    let compiled = if options.is_compiled {
        let mut model = file.source.again()?;
        let log = pipeline::compile(&mut model, &passes, &mut |_, _| {})?;
        Some((log, ModelSummary::of(&model, before.bytes)))
    } else {
        None
    };
    Ok(InspectReport { model: file.model, before, blocks, compiled, findings })
}

/// The blocks with the forms asked for, measured when that is asked for.
fn blocks(
    observer: &mut dyn Observer,
    file: &ModelFile,
    options: &InspectOptions,
    passes: &Options,
) -> Result<Vec<BlockProfile>, Error> {
    let mut model = file.source.again()?;
    pipeline::prepare(&mut model)?;
    let conditions = Conditions {
        runtime: options.runtime.clone(),
        batch: options.batch,
        seconds: PROBE_SECONDS,
    };
    let path = options.latency_table.as_deref();
    let mut table =
        options.is_measured.then(|| LatencyTable::open(path, conditions)).transpose()?;
    let profiler = Profiler {
        is_fitted: false,
        model: &model,
        shrink: options.shrink,
        options: passes,
        effort: if options.is_measured { f64::INFINITY } else { SHORT_EFFORT },
    };
    let blocks = surgery::blocks_of(&model)?;
    let profiles = profiler.profiles(
        blocks,
        |block| wanted_forms(block, options.form),
        table.as_mut(),
        observer,
    )?;
    if let Some(table) = &table {
        table.save()?;
    }
    Ok(profiles)
}
