//! Exact compilation: read, rewrite, write beside the target, verify, rename.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use updp_exec::{InputData, RuntimeOptions};
use updp_ir::{DataPlacement, Encoded, IrError, Model, text};
use updp_passes::{Log, ModelSummary, pipeline, surgery};
use updp_trainer::files::folder_of;
use updp_verify::Verification;

use super::error::check_cancelled;
use super::shapes::fix_shapes;
use super::telling::Telling;
use super::weights::{FreezeWeights, freeze_weights, overridable_weights};
use super::{Error, Observer, RuleOptions, Source};
use crate::deploy::{self, DeployTarget, Finding};
use crate::gates::{self, GateOptions, Gates};
use crate::model_file::{self, ModelFile};
use crate::report::Versions;
use crate::score_command::ScorePair;
use crate::test_vectors::{self, StagedVectors};
use crate::write::{self, Staged};

/// How a model is compiled.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Output file; `None` = the report contains the bytes of the result.
    pub output: Option<PathBuf>,
    /// Whether large tensors are written to `OUTPUT.data`. Above 2 GB they always are.
    pub external_data: bool,
    /// The rules to run.
    pub rules: RuleOptions,
    /// Stops after this many rewrites; `None` = runs to the end.
    pub max_rewrites: Option<usize>,
    /// Input shapes to fix: `NAME:1,3,224,224`.
    pub input_shapes: Vec<String>,
    /// The weights that are also inputs and become constants.
    pub freeze_weights: FreezeWeights,
    /// Whether the result is compared with the input model, by running both, before it gets its name.
    pub is_verified: bool,
    /// Number of random inputs for the verification.
    pub inputs: usize,
    /// Arrays for the verification, in place of random inputs.
    pub input_data: InputData,
    /// Gates that the result must pass at the end. The result is written in any case.
    pub gates: GateOptions,
    /// Batch size for a gate that measures a model with an open batch dimension.
    pub batch: usize,
    /// A target that the result is checked against.
    pub target: Option<DeployTarget>,
    /// Folder for the inputs and outputs of the reference, for test runners of other runtimes.
    pub test_vectors: Option<PathBuf>,
    /// The phase after which the observer gets the graph as a message.
    pub dump_after: Option<String>,
    /// Whether to count the blocks that pruning could change.
    pub has_block_count: bool,
    /// How models are run.
    pub runtime: RuntimeOptions,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self {
            output: None,
            external_data: false,
            rules: RuleOptions::default(),
            max_rewrites: None,
            input_shapes: Vec::new(),
            freeze_weights: FreezeWeights::None,
            is_verified: true,
            inputs: 3,
            input_data: InputData::default(),
            gates: GateOptions::default(),
            batch: 1,
            target: None,
            test_vectors: None,
            dump_after: None,
            has_block_count: false,
            runtime: RuntimeOptions::default(),
        }
    }
}

/// The outcome of the verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerificationStatus {
    /// Both models were run as a whole and agree.
    Passed,
    /// No runtime can run the whole model. Its changed parts were run separately and agree.
    Local,
    /// The result equals the input, so there was nothing to compare.
    Unchanged,
    /// The options ask for no verification.
    Skipped,
}

impl VerificationStatus {
    /// The word that reports use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Local => "local",
            Self::Unchanged => "unchanged",
            Self::Skipped => "skipped",
        }
    }
}

/// Block counts of a compiled model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCount {
    /// Number of blocks that pruning could change.
    pub prunable: usize,
    /// Number of all blocks.
    pub total: usize,
}

/// The report of a compilation.
#[derive(Debug)]
pub struct CompileReport {
    /// The result; `None` if it was written to a file.
    pub model: Option<Bytes>,
    /// The file that was written.
    pub path: Option<PathBuf>,
    /// Sizes of the input model.
    pub before: ModelSummary,
    /// Sizes of the result.
    pub after: ModelSummary,
    /// IR version and opset of both models.
    pub versions: Versions,
    /// Number of weights of the result that are also inputs, so that a caller may replace them.
    pub overridable_weights: usize,
    /// Number of such weights that became constants.
    pub frozen_weights: usize,
    /// Rewrites, refusals, warnings and times.
    pub log: Log,
    /// Whether the result equals the input exactly.
    pub is_unchanged: bool,
    /// Differences between the outputs; `None` if nothing was compared.
    pub verification: Option<Verification>,
    /// The outcome of the verification.
    pub status: VerificationStatus,
    /// The findings of the target check; `None` if no target is given.
    pub findings: Option<Vec<Finding>>,
    /// How the result compares with its gates.
    pub gates: Gates,
    /// Blocks of the result; `None` if they were not counted.
    pub blocks: Option<BlockCount>,
}

/// Makes every exact merge, verifies the result by running it, and writes it.
///
/// A result that differs from the input model is never written.
///
/// # Errors
/// C0008 if the result differs, C0009 if it cannot be verified, C0031 if the inputs prove nothing, C0003 if it cannot be
/// written, C0004 if it does not fit into bytes; I and P codes for the model and the rules.
pub fn compile<'a>(
    model: impl Into<Source<'a>>,
    options: &CompileOptions,
    observer: &mut dyn Observer,
) -> Result<CompileReport, Error> {
    let observer: &mut dyn Observer = &mut Telling(observer);
    let ModelFile { source, model } = model.into().open()?;
    if options.is_verified {
        options.runtime.prepare();
    }
    let before = ModelSummary::of(&model, source.total_bytes());
    let score = input_score(&source, options, observer)?;
    Job { options, source: &source, input: None, before, score }.run(model, observer)
}

/// One compilation.
pub(crate) struct Job<'a> {
    pub(crate) options: &'a CompileOptions,
    /// The reference: the input model, or the pruned network before it is merged.
    pub(crate) source: &'a model_file::Source,
    /// The input file, if a pruned network replaces it as the reference.
    pub(crate) input: Option<&'a model_file::Source>,
    /// Sizes of the input model.
    pub(crate) before: ModelSummary,
    /// Score of the input model, if a command scores models.
    pub(crate) score: Option<f64>,
}

/// The score of the input model, if a command scores models.
///
/// # Errors
/// C0022 when the command gives none; C0004 when the model is not a file.
pub(crate) fn input_score(
    source: &model_file::Source,
    options: &CompileOptions,
    observer: &mut dyn Observer,
) -> Result<Option<f64>, Error> {
    let Some(command) = &options.gates.score else { return Ok(None) };
    if model_file::is_pipe(&source.path) || options.output.is_none() {
        return Err(Error::Pipe);
    }
    check_cancelled(observer)?;
    observer.progress("scoring the input model", 0, 0);
    let score = command.score(&source.path)?;
    observer.message(&format!("score of the input model: {score}"));
    Ok(Some(score))
}

impl Job<'_> {
    /// Compiles `model`, which was already read from the source.
    ///
    /// # Errors
    /// As [`compile`].
    pub(crate) fn run(
        &self,
        mut model: Model,
        observer: &mut dyn Observer,
    ) -> Result<CompileReport, Error> {
        let options = self.options;
        let has_data = !self.source.data_files.is_empty();
        if options.output.is_none() && (has_data || options.external_data) {
            return Err(Error::Pipe);
        }
        if let Some(output) = &options.output {
            self.refuse_own_data(output, output)?;
        }
        let versions = Versions::of(&model);
        let frozen_weights = self.adjust(&mut model)?;
        let log = self.compile(&mut model, None, observer)?;
        check_cancelled(observer)?;
        let is_unchanged = !model.graph.is_edited();
        let copies = is_unchanged && !has_data && !options.external_data;
        let (staged, written) = self.staged(model, copies, observer)?;
        let (verification, status) =
            self.verified(&written, log.rewrites.len(), is_unchanged, observer)?;
        check_cancelled(observer)?;
        let mut report = CompileReport {
            model: None,
            path: None,
            after: ModelSummary::of(&written.model, written.total_bytes()),
            versions,
            overridable_weights: overridable_weights(&written.model),
            frozen_weights,
            log,
            is_unchanged,
            verification,
            status,
            findings: self.findings(&written),
            gates: Gates::default(),
            blocks: self.blocks(&written.model),
            before: self.before.clone(),
        };
        let vectors = self.test_vectors(&written)?;
        report.gates = self.gates(&written, observer)?;
        self.place(staged, written, &mut report)?;
        if let Some(vectors) = vectors {
            vectors.commit()?;
        }
        Ok(report)
    }

    /// Writes the result beside its target, if the target is a file, and reads it back. The following checks then apply
    /// to the written bytes and not to the graph in memory.
    fn staged(
        &self,
        model: Model,
        copies: bool,
        observer: &mut dyn Observer,
    ) -> Result<(Option<Staged>, ModelFile), Error> {
        let Some(target) = self.options.output.as_deref().filter(|it| !write::is_special(it))
        else {
            let bytes = self.in_memory(&model, copies)?;
            drop(model);
            let path = self.options.output.as_deref().unwrap_or(Path::new("-"));
            return Ok((None, ModelFile::read(path, bytes)?));
        };
        let staged = if copies {
            Staged::copy(target, &self.source.bytes)?
        } else {
            let name = data_name(target);
            let encoded = self.encode(&model, &name, observer)?;
            if encoded.has_data() {
                self.refuse_own_data(&folder_of(target).join(&name), target)?;
            }
            Staged::encoded(target, &encoded, &name)?
        };
        drop(model);
        let written = ModelFile::open(&staged.model_path())?;
        Ok((Some(staged), written))
    }

    /// Gives the result its name, writes it to a device, or puts it into the report.
    fn place(
        &self,
        staged: Option<Staged>,
        written: ModelFile,
        report: &mut CompileReport,
    ) -> Result<(), Error> {
        report.path.clone_from(&self.options.output);
        match (staged, &self.options.output) {
            (Some(staged), _) => {
                drop(written);
                staged.commit()
            }
            (None, Some(device)) => write::special(device, &written.source.bytes),
            (None, None) => {
                report.model = Some(written.source.bytes);
                Ok(())
            }
        }
    }

    /// Rewrites the reference; `max_rewrites` limits the number of rewrites during bisection.
    pub(super) fn compile(
        &self,
        model: &mut Model,
        max_rewrites: Option<usize>,
        observer: &mut dyn Observer,
    ) -> Result<Log, Error> {
        let mut passes =
            self.options.rules.passes(self.source.total_bytes(), &self.options.runtime);
        passes.max_rewrites = max_rewrites.or(self.options.max_rewrites);
        let wanted = self.options.dump_after.as_deref();
        let log = pipeline::compile(model, &passes, &mut |phase, graph| {
            if max_rewrites.is_none() && wanted == Some(phase) {
                let graph = text::to_graph_text(graph);
                observer.message(&format!("after {phase}:\n{}", graph.trim_end()));
            }
        })?;
        Ok(log)
    }

    /// The reference, read again, with the requested shapes.
    pub(super) fn reference(&self) -> Result<Model, Error> {
        let mut model = self.source.again()?;
        self.adjust(&mut model)?;
        Ok(model)
    }

    /// Fixes the requested shapes and makes constants of the requested weights; returns the number of these. A pruned
    /// network has constant weights already.
    fn adjust(&self, model: &mut Model) -> Result<usize, Error> {
        fix_shapes(&self.options.input_shapes, model)?;
        match self.input {
            Some(_) => Ok(0),
            None => freeze_weights(&self.options.freeze_weights, model),
        }
    }

    /// How the result compares with the requested gates.
    fn gates(&self, written: &ModelFile, observer: &mut dyn Observer) -> Result<Gates, Error> {
        let CompileOptions { gates, batch, runtime, input_shapes, .. } = self.options;
        Gates::measure(
            gates,
            written.total_bytes(),
            || {
                observer.progress("measuring the result", 0, 0);
                let input = self.input.unwrap_or(self.source);
                gates::speedup(input, input_shapes, written, *batch, runtime)
            },
            |command| {
                let before = self.score.unwrap_or(f64::NAN);
                let after = command.score(&written.source.path)?;
                let (command, max_drop) = (command.command.clone(), command.max_drop);
                Ok(ScorePair { command, before, after, max_drop })
            },
        )
    }

    fn findings(&self, written: &ModelFile) -> Option<Vec<Finding>> {
        let has_data = !written.source.data_files.is_empty();
        let target = self.options.target?;
        Some(deploy::check(&written.model, has_data, target))
    }

    /// Counts the blocks of the result. The compiled model is close enough to a prepared one; preparing the input again
    /// would cost as much as the compilation.
    fn blocks(&self, written: &Model) -> Option<BlockCount> {
        let blocks = surgery::blocks_of(written).ok().filter(|_| self.options.has_block_count)?;
        let prunable = blocks.iter().filter(|block| block.refusal.is_none()).count();
        Some(BlockCount { prunable, total: blocks.len() })
    }

    /// Refuses to overwrite the tensors of the input, unless the input itself is replaced.
    fn refuse_own_data(&self, path: &Path, target: &Path) -> Result<(), Error> {
        let is_in_place = target.canonicalize().is_ok_and(|target| {
            self.source.path.canonicalize().is_ok_and(|source| source == target)
        });
        if self.input.unwrap_or(self.source).has_data_file(path) && !is_in_place {
            return Err(Error::Write {
                path: path.to_owned(),
                detail: "the input model keeps its tensors in this file".into(),
            });
        }
        Ok(())
    }

    /// The requested test vectors, which do not have their final name yet.
    fn test_vectors(&self, written: &ModelFile) -> Result<Option<StagedVectors>, Error> {
        let Some(folder) = &self.options.test_vectors else { return Ok(None) };
        let output = self.options.output.as_deref().unwrap_or(Path::new("-"));
        test_vectors::refuse_around(folder, &[&self.source.path, output])?;
        StagedVectors::new(folder, written, self.oracle()?.runs()).map(Some)
    }

    /// Stores the tensors inline if they fit; otherwise uses a data file.
    fn encode(
        &self,
        model: &Model,
        data_name: &str,
        observer: &mut dyn Observer,
    ) -> Result<Encoded, Error> {
        let external = DataPlacement::External { file_name: data_name.to_owned() };
        if self.options.external_data {
            return Ok(model.encode(&external)?);
        }
        match model.encode(&DataPlacement::Inline) {
            Err(IrError::TooLargeForOneFile { .. }) => {
                observer.message(&format!("above 2 GB: weights go to {data_name}"));
                Ok(model.encode(&external)?)
            }
            other => Ok(other?),
        }
    }

    /// The result as bytes, for a report or a device.
    fn in_memory(&self, model: &Model, copies: bool) -> Result<Bytes, Error> {
        if copies {
            return Ok(self.source.bytes.clone());
        }
        match model.encode(&DataPlacement::Inline) {
            Err(IrError::TooLargeForOneFile { .. }) => Err(Error::Pipe),
            encoded => Ok(encoded?.model_to_bytes()),
        }
    }
}

fn data_name(target: &Path) -> String {
    let name = target.file_name().map(|n| n.to_string_lossy().into_owned());
    format!("{}.data", name.unwrap_or_default())
}
