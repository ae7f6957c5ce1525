//! Pruning, with images or of the structure alone. Exact compilation then merges the pruned blocks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use updp_exec::{InputData, ModelSource};
use updp_ir::{DataPlacement, Model};
use updp_passes::{ModelSummary, surgery};
use updp_prune::config::PruneConfig;
use updp_prune::estimate::Estimate;
use updp_prune::stages::{PruneStage, PruneStages};
use updp_prune::structure::{self, StructureConfig};
use updp_prune::{Goal, ImageSets, NetworkScore, Pruned};
use updp_trainer::data::{Dataset, ModelInputs};
use updp_trainer::input_check::CheckedInput;
use updp_verify::{Oracle, Verification};

use super::input_check::{Checked, InputCheckOptions, refuse_unknown_frozen};
use super::inputs::{refuse_unknown_inputs, refuse_unknown_outputs, tell_inputs};
use super::shapes::fix_shapes;
use super::telling::Telling;
use super::weights::{freeze_weights, tell_overridable};
use super::{CompileOptions, CompileReport, Error, Observer, Source, compile};
use crate::model_file::{self, ModelFile};
use crate::score_command::ScoreCommand;

/// How a model is pruned with images.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// Images: a folder (with labels: one subfolder per class), `.npz`, `.npy`, IDX or `.tar`. Labels are not needed.
    pub data: PathBuf,
    /// Images for the report; `None` = the held-out images are used.
    pub validation: Option<PathBuf>,
    /// How images become inputs: a preset, or a JSON file in the format that Hugging Face and timm publish beside a
    /// model.
    /// `auto` takes the known preprocessing with the highest accuracy; it needs labels.
    pub preprocess: String,
    /// The input that takes the images, and constants for the other inputs.
    pub inputs: ModelInputs,
    /// What is asked of the input model before any work.
    pub check: InputCheckOptions,
    /// The goal, and the way to reach it. The rules and the runtime of [`Self::compile`] replace those of the
    /// configuration.
    pub config: PruneConfig,
    /// How the pruned network is merged, verified and written.
    pub compile: CompileOptions,
}

impl PruneOptions {
    /// The defaults for images and a goal.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>, goal: Goal) -> Self {
        Self {
            data: data.into(),
            validation: None,
            preprocess: "imagenet".to_owned(),
            inputs: ModelInputs::default(),
            check: InputCheckOptions::default(),
            config: PruneConfig::new(goal),
            compile: CompileOptions::default(),
        }
    }

    /// Opens the images, and scores the input model on a few of them.
    fn images(
        &self,
        model: &Model,
        before: &ModelSummary,
        observer: &mut dyn Observer,
    ) -> Result<(ImageSets, CheckedInput), Error> {
        let PruneConfig { finetune, supernet, .. } = &self.config;
        let trainings = finetune.iter().map(|it| &it.training);
        let trainings = trainings.chain(supernet.iter().map(|it| &it.training));
        refuse_unknown_frozen(model, trainings.flat_map(|training| &training.frozen))?;
        refuse_unknown_inputs(model, &self.inputs)?;
        refuse_unknown_outputs(model, &self.config.outputs)?;
        if !self.config.outputs.is_empty() && (finetune.is_some() || supernet.is_some()) {
            observer.warning(
                "--outputs decides what is pruned and which network is written; training itself follows all outputs",
            );
        }
        let open = |path: &Path| -> Result<Dataset, Error> {
            Ok(Dataset::open(path)?.with_inputs(self.inputs.clone()))
        };
        let images = open(&self.data)?;
        let validation = self.validation.as_deref().map(open).transpose()?;
        let checked = Checked {
            model,
            macs: before.macs,
            preprocess: &self.preprocess,
            seed: self.config.data.seed,
            runtime: &self.compile.runtime,
        }
        .run(&images, validation.as_ref(), self.check, observer)?;
        let preprocess = checked.chosen.clone();
        tell_inputs(model, &images, &preprocess, observer)?;
        Ok((ImageSets { images, validation, preprocess }, checked))
    }

    fn config(&self, model_bytes: u64) -> PruneConfig {
        PruneConfig {
            passes: self.compile.rules.passes(model_bytes, &self.compile.runtime),
            runtime: self.compile.runtime.clone(),
            ..self.config.clone()
        }
    }
}

/// The report of a pruning.
#[derive(Debug)]
pub struct PruneReport {
    /// The pruned blocks, and the reasons for their choice.
    pub pruned: Pruned,
    /// The report of merging them. Its verification compares the merged network with the pruned one.
    pub compiled: CompileReport,
}

/// Prunes a model with images and recovers its accuracy. Then merges the pruned blocks, verifies the merge and writes
/// the result.
///
/// Returns `None` if the options end the work after an earlier stage. A missed goal is not an error:
/// [`PruneReport::pruned`] names it, and the best network found is written.
///
/// # Errors
/// T0007 for an input model near chance, T0008 for one below the expected accuracy; C0013, C0014 for blocks; C0011 when
/// the observer cancels; other T codes for images and training; all codes of [`compile`](super::compile()).
pub fn prune<'a>(
    model: impl Into<Source<'a>>,
    options: &PruneOptions,
    observer: &mut dyn Observer,
) -> Result<Option<PruneReport>, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let Input { source, model, before } = Input::open(model.into(), &options.compile, observer)?;
    let config = options.config(source.total_bytes());
    let stages = PruneStages::of(&config);
    stages.start(PruneStage::ScoreInput, observer);
    let score = compile::input_score(&source, &options.compile, observer)?;
    let mut config = config;
    config.score = options.compile.gates.score.as_ref().zip(score).map(network_score);
    let (images, checked) = options.images(&model, &before, observer)?;
    let Some(mut pruned) = updp_prune::prune(model, &images, &config, observer)? else {
        return Ok(None);
    };
    if let Some(outcome) = &mut pruned.outcome {
        outcome.input = Some(checked);
    }
    stages.start(PruneStage::Verify, observer);
    let mut compile = options.compile.clone();
    if let Some(command) = &mut compile.gates.score {
        command.max_drop = command.max_drop.or(config.asked_drop());
    }
    merge((&source, score), before, pruned, &compile, observer).map(Some)
}

/// The command of the user as a score of networks.
fn network_score((command, before): (&ScoreCommand, f64)) -> NetworkScore {
    let command = command.clone();
    let of = move |network: &Model| -> Result<f64, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("network.onnx");
        let bytes = encode(network).map_err(|error| error.to_string())?;
        std::fs::write(&path, &bytes).map_err(|error| error.to_string())?;
        command.score(&path).map_err(|error| error.to_string())
    };
    NetworkScore { before, of: Arc::new(of) }
}

/// Estimates the work and the duration of [`prune`] from a few measured images and steps. Writes nothing.
///
/// # Errors
/// As [`prune`].
pub fn estimate<'a>(
    model: impl Into<Source<'a>>,
    options: &PruneOptions,
    observer: &mut dyn Observer,
) -> Result<Estimate, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let Input { source, model, before } = Input::open(model.into(), &options.compile, observer)?;
    let config = options.config(source.total_bytes());
    let (images, _) = options.images(&model, &before, observer)?;
    Ok(updp_prune::estimate::estimate(model, &images, &config, observer)?)
}

/// Prunes blocks without images and without recovering accuracy, as an experiment with the structure. The result must
/// be trained before it is usable.
///
/// # Errors
/// C0013, C0014 for blocks, P0004 for a form; all codes of [`compile`](super::compile()).
pub fn prune_structure<'a>(
    model: impl Into<Source<'a>>,
    config: &StructureConfig,
    options: &CompileOptions,
    observer: &mut dyn Observer,
) -> Result<PruneReport, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let Input { source, model, before } = Input::open(model.into(), options, observer)?;
    let config = merged(config, options, source.total_bytes());
    let score = compile::input_score(&source, options, observer)?;
    let pruned = structure::prune(model, &config, &options.input_data, observer)?;
    merge((&source, score), before, pruned, options, observer)
}

/// An expanded network.
#[derive(Debug)]
pub struct ExpandReport {
    /// The network; λ is one of its inputs.
    pub model: Bytes,
    /// The expanded blocks.
    pub pruned: Pruned,
    /// Summary of the input model.
    pub before: ModelSummary,
    /// Summary of the expanded network.
    pub after: ModelSummary,
    /// The comparison of the expanded network at λ = 0 with the input model; `None` if nothing was compared.
    pub verification: Option<Verification>,
}

/// Expands blocks. Each expanded block holds both branches side by side, and the input λ mixes them. At λ = 0 the
/// network computes the same as the input model; this is verified.
///
/// # Errors
/// C0013, C0014 for blocks; C0008 if the networks differ at λ = 0; C0009 if they cannot be run.
pub fn expand<'a>(
    model: impl Into<Source<'a>>,
    config: &StructureConfig,
    options: &CompileOptions,
    observer: &mut dyn Observer,
) -> Result<ExpandReport, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let Input { source, model, before } = Input::open(model.into(), options, observer)?;
    let config = merged(config, options, source.total_bytes());
    let pruned = structure::expand(model, &config, observer)?;
    let bytes = encode(&pruned.model)?;
    let verification =
        if options.is_verified { Some(verify_at_zero(&source, &bytes, options)?) } else { None };
    let written = ModelFile::read(&source.path, bytes.clone())?;
    let after = ModelSummary::of(&written.model, written.total_bytes());
    Ok(ExpandReport { model: bytes, pruned, before, after, verification })
}

/// A model that was read, with the requested input shapes.
struct Input {
    source: model_file::Source,
    model: Model,
    before: ModelSummary,
}

impl Input {
    fn open(
        model: Source<'_>,
        options: &CompileOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let ModelFile { source, mut model } = model.open()?;
        let before = ModelSummary::of(&model, source.total_bytes());
        fix_shapes(&options.input_shapes, &mut model)?;
        freeze_weights(&options.freeze_weights, &mut model)?;
        tell_overridable(&model, observer);
        Ok(Self { source, model, before })
    }
}

/// The configuration with the rules and the runtime of the compilation.
fn merged(config: &StructureConfig, options: &CompileOptions, model_bytes: u64) -> StructureConfig {
    StructureConfig {
        passes: options.rules.passes(model_bytes, &options.runtime),
        runtime: options.runtime.clone(),
        ..config.clone()
    }
}

/// Merges the pruned blocks: exact compilation with the pruned network as its reference.
fn merge(
    (input, score): (&model_file::Source, Option<f64>),
    before: ModelSummary,
    pruned: Pruned,
    options: &CompileOptions,
    observer: &mut dyn Observer,
) -> Result<PruneReport, Error> {
    let place = options.output.as_deref().unwrap_or(Path::new("-"));
    let ModelFile { source, model } = ModelFile::read(place, encode(&pruned.model)?)?;
    let source = model_file::Source { path: input.path.clone(), ..source };
    let job = compile::Job { options, source: &source, input: Some(input), before, score };
    let compiled = job.run(model, observer)?;
    Ok(PruneReport { pruned, compiled })
}

fn verify_at_zero(
    source: &model_file::Source,
    expanded: &Bytes,
    options: &CompileOptions,
) -> Result<Verification, Error> {
    let mut baseline = ModelFile::read(&source.path, expanded.clone())?.model;
    surgery::fix_lambda(&mut baseline, 0.0)?;
    let bytes = encode(&baseline)?;
    let mut reference = source.again()?;
    fix_shapes(&options.input_shapes, &mut reference)?;
    freeze_weights(&options.freeze_weights, &mut reference)?;
    let data: &InputData = &options.input_data;
    let oracle = Oracle::new(
        source.for_runtime(),
        &reference.graph,
        data,
        options.inputs,
        &options.runtime,
    )?;
    let result = oracle.compare(ModelSource::Bytes(&bytes))?;
    match result.failure() {
        Some(failure) => Err(Error::VerificationFailed { detail: format!("at λ = 0 {failure}") }),
        None => match result.proves_nothing() {
            Some(detail) => Err(Error::ProvesNothing { detail }),
            None => Ok(result),
        },
    }
}

/// A model as bytes, with its tensors inside.
pub(crate) fn encode(model: &Model) -> Result<Bytes, Error> {
    Ok(model.encode(&DataPlacement::Inline)?.model_to_bytes())
}
