//! The main job: read, rewrite, write beside the target, verify, rename.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use updp_exec::ModelSource;
use updp_ir::{DataPlacement, Encoded, IrError, Model, text};
use updp_passes::{Log, Options, pipeline, surgery};

use crate::block_report;
use crate::cli::CompileArgs;
use crate::data;
use crate::deploy::{self, Finding};
use crate::error::CliError;
use crate::gates::{self, Gates};
use crate::model_file::{ModelFile, Source, folder_of, is_pipe};
use crate::prune::Pruned;
use crate::report;
use crate::report_page;
use crate::terminal::{self, Bar, Verbosity, note, say};
use crate::test_vectors::{self, StagedVectors};
use crate::write::{self, Staged};
use updp_passes::ModelSummary;
use updp_verify::{Oracle, Verification, VerifyError};

/// Runs the compilation.
pub(super) fn run(arguments: &CompileArgs) -> Result<(), CliError> {
    if arguments.list_passes {
        for (name, summary) in pipeline::rule_names() {
            say(&format!("{name:<24}{summary}"));
        }
        return Ok(());
    }
    let usage = |detail: &str| CliError::Usage { detail: detail.to_owned() };
    let input = arguments.model.as_deref().ok_or_else(|| usage("no model is given"))?;
    let target = arguments.output.as_ref().or(arguments.out.as_ref());
    let nowhere = PathBuf::new();
    let target = target.or_else(|| arguments.dry_run.then_some(&nowhere));
    let target = target.ok_or_else(|| usage("no output is given: -o OUT"))?;
    if let Some(phase) = &arguments.dump_after
        && !pipeline::phases().iter().any(|known| known.name == phase)
    {
        let names: Vec<&str> = pipeline::phases().iter().map(|phase| phase.name).collect();
        return Err(usage(&format!("there is no phase {phase:?}, only {}", names.join(", "))));
    }
    if arguments.prune.force && !arguments.prune.is_asked_for() {
        return Err(usage("--force is for pruning: --blocks LIST, or --data with a goal"));
    }
    if arguments.verbosity() == Verbosity::Quiet {
        terminal::be_quiet();
    }
    if !arguments.prune.is_asked_for() && arguments.images.data.is_none() {
        super::prune::refuse_page(arguments)?;
        refuse_dry(arguments)?;
    }
    let ModelFile { source, model } = ModelFile::open(input)?;
    if arguments.prune.is_asked_for() || arguments.images.data.is_some() {
        return super::prune::run(arguments, source, model, target);
    }
    let before = ModelSummary::of(&model, source.total_bytes());
    Job { arguments, source, target, before, pruned: None, input: None }.run(model)
}

/// Without images there is nothing that takes long.
pub(super) fn refuse_dry(arguments: &CompileArgs) -> Result<(), CliError> {
    if arguments.dry_run {
        let detail = "--dry-run is for pruning with --data and a goal; inspect MODEL shows what compiling would do";
        return Err(CliError::Usage { detail: detail.to_owned() });
    }
    Ok(())
}

/// Fixes input shapes as `--input-shape` says.
pub(crate) fn fix_shapes(shapes: &[String], model: &mut Model) -> Result<(), CliError> {
    for text in shapes {
        let fail =
            |detail: &str| CliError::InputShape { text: text.clone(), detail: detail.into() };
        let (name, dims) = match text.rsplit_once(':') {
            Some((name, dims)) => (Some(name), dims),
            None => (None, text.as_str()),
        };
        let dims: Option<Vec<usize>> = dims
            .trim_start_matches('[')
            .trim_end_matches(']')
            .split([',', 'x'])
            .map(|dim| dim.trim().parse().ok().filter(|d| *d > 0))
            .collect();
        let dims = dims.ok_or_else(|| fail("a dim is no positive number"))?;
        let inputs: Vec<_> = model.graph.required_inputs().collect();
        let value = match name {
            Some(name) => model.graph.find(name).filter(|id| inputs.contains(id)),
            None => (inputs.len() == 1).then(|| inputs[0]),
        };
        let value = value.ok_or_else(|| fail("the model has no such input"))?;
        if model.graph.set_input_dims(value, &dims).is_err() {
            return Err(fail("the input has another rank or is no tensor"));
        }
    }
    Ok(())
}

pub(super) struct Job<'a> {
    pub(super) arguments: &'a CompileArgs,
    pub(super) source: Source,
    pub(super) target: &'a PathBuf,
    /// ModelSummary of the input model; the source is the settled network where blocks were pruned.
    pub(super) before: ModelSummary,
    pub(super) pruned: Option<Pruned>,
    /// The input file, where the settled network stands in its place.
    pub(super) input: Option<Source>,
}

/// What a run did, to be told at the end.
struct Outcome<'a> {
    before: &'a ModelSummary,
    after: ModelSummary,
    log: &'a Log,
    is_unchanged: bool,
    verified: Option<Verification>,
    status: &'static str,
    /// What the target does not take; `None` where no target is given.
    findings: Option<Vec<Finding>>,
    hint: Option<String>,
    gates: Gates,
}

impl Job<'_> {
    fn print(&self, text: &str) {
        if self.arguments.verbosity() == Verbosity::Quiet {
            return;
        }
        // Standard output belongs to the model when it goes there.
        if is_pipe(self.target) { note(text) } else { say(text) }
    }

    fn options(&self) -> Options {
        let mut options = super::pass_options(&self.arguments.rules, self.source.total_bytes());
        options.max_rewrites = self.arguments.stop_after;
        options
    }

    /// Rewrites the reference; at most `max_rewrites` times when bisecting.
    fn compile(&self, model: &mut Model, max_rewrites: Option<usize>) -> Result<Log, CliError> {
        let mut options = self.options();
        options.max_rewrites = max_rewrites.or(options.max_rewrites);
        let wanted = self.arguments.dump_after.as_deref();
        let log = pipeline::compile(model, &options, &mut |phase, graph| {
            if max_rewrites.is_none() && wanted == Some(phase) {
                note(&format!("after {phase}:\n{}", text::to_graph_text(graph).trim_end()));
            }
        })?;
        Ok(log)
    }

    /// The input, read anew, with the shapes asked for.
    fn reference(&self) -> Result<Model, CliError> {
        let mut model = self.source.again()?;
        fix_shapes(&self.arguments.input_shape, &mut model)?;
        Ok(model)
    }

    pub(super) fn run(&self, mut model: Model) -> Result<(), CliError> {
        let before = &self.before;
        let has_data = !self.source.data_files.is_empty();
        if is_pipe(self.target) && (has_data || self.arguments.external_data) {
            return Err(CliError::Pipe);
        }
        self.refuse_own_data(self.target)?;
        let versions = report::Versions::of(&model);
        fix_shapes(&self.arguments.input_shape, &mut model)?;
        let log = self.compile(&mut model, None)?;
        let is_unchanged = !model.graph.is_edited();
        let copies = is_unchanged && !has_data && !self.arguments.external_data;
        let staged = if is_pipe(self.target) || write::is_special(self.target) {
            None
        } else if copies {
            Some(Staged::copy(self.target, &self.source.bytes)?)
        } else {
            let name = self.data_name();
            let encoded = self.encode(&model, &name)?;
            if encoded.has_data() {
                self.refuse_own_data(&folder_of(self.target).join(&name))?;
            }
            Some(Staged::encoded(self.target, &encoded, &name)?)
        };
        // What follows holds against the bytes written, not against what is still in memory.
        let written = if let Some(staged) = &staged {
            drop(model);
            ModelFile::open(&staged.model_path())?
        } else {
            let bytes = self.in_memory(&model, copies)?;
            drop(model);
            ModelFile::read(self.target, bytes)?
        };
        let (verified, status) = self.verified(&written, &log, is_unchanged)?;
        let after = ModelSummary::of(&written.model, written.total_bytes());
        let hint = self.hint(&written.model);
        let has_data = !written.source.data_files.is_empty();
        let findings = self.arguments.target;
        let findings = findings.map(|target| deploy::check(&written.model, has_data, target));
        let vectors = self.test_vectors(&written)?;
        let gates = self.gates(&written)?;
        if let Some(staged) = staged {
            drop(written);
            staged.commit()?;
        } else {
            write::model(self.target, &written.source.bytes)?;
        }
        if let Some(vectors) = vectors {
            vectors.commit()?;
        }
        let log = &log;
        let outcome =
            Outcome { before, after, log, is_unchanged, verified, status, findings, hint, gates };
        self.report(&outcome, versions)?;
        self.refuse_for_target(&outcome)
    }

    /// How the result stands at the gates asked for.
    fn gates(&self, written: &ModelFile) -> Result<Gates, CliError> {
        let CompileArgs { gates: arguments, prune, runtime, input_shape, .. } = self.arguments;
        Gates::measure(arguments, written.total_bytes(), || {
            let bar = Bar::new("measuring the result", 0);
            let input = (self.input.as_ref().unwrap_or(&self.source), input_shape.as_slice());
            let speedup = gates::speedup(input, written, prune.batch.get(), runtime);
            drop(bar);
            speedup
        })
    }

    /// Refuses to write over the tensors of the input, unless the input itself is replaced.
    fn refuse_own_data(&self, path: &Path) -> Result<(), CliError> {
        let is_in_place = self.target.canonicalize().is_ok_and(|target| {
            self.source.path.canonicalize().is_ok_and(|source| source == target)
        });
        let input = self.input.as_ref().unwrap_or(&self.source);
        if input.has_data_file(path) && !is_in_place {
            return Err(CliError::Write {
                path: path.to_owned(),
                detail: "the input model keeps its tensors in this file".into(),
            });
        }
        Ok(())
    }

    /// The test vectors asked for, still without their name.
    fn test_vectors(&self, written: &ModelFile) -> Result<Option<StagedVectors>, CliError> {
        let Some(folder) = &self.arguments.test_vectors else { return Ok(None) };
        test_vectors::refuse_around(folder, &[&self.source.path, self.target])?;
        StagedVectors::new(folder, written, self.oracle()?.runs()).map(Some)
    }

    /// Verifies unless there is no need; how that went, in a word.
    fn verified(
        &self,
        written: &ModelFile,
        log: &Log,
        is_unchanged: bool,
    ) -> Result<(Option<Verification>, &'static str), CliError> {
        if self.arguments.no_verify {
            return Ok((None, "skipped"));
        }
        if is_unchanged {
            return Ok((None, "unchanged"));
        }
        match self.verify(written.source.for_runtime(), log.rewrites.len()) {
            // Data that were asked for are used or nothing is.
            Err(CliError::Unverifiable { detail }) if self.arguments.input_data.is_empty() => {
                let (before, after) = (self.reference()?, &written.model);
                let count = self.arguments.check.get();
                let runtime = self.arguments.runtime.options();
                match updp_verify::regions::compare(&before, after, count, &runtime) {
                    Err(VerifyError::Unverifiable { detail: part }) => {
                        let detail = format!("{detail}; nor part by part: {part}");
                        Err(CliError::Unverifiable { detail })
                    }
                    other => Ok((Some(other?), "local")),
                }
            }
            other => Ok((Some(other?), "passed")),
        }
    }

    fn report(&self, outcome: &Outcome<'_>, versions: report::Versions) -> Result<(), CliError> {
        self.tell(outcome);
        let outcome_of_fit = self.pruned.as_ref().and_then(|pruned| pruned.outcome.as_ref());
        let mut missed = outcome_of_fit.map(|fitted| fitted.missed.clone()).unwrap_or_default();
        missed.extend(outcome.gates.missed());
        for path in &self.arguments.report {
            match outcome_of_fit.filter(|_| report_page::is_page(path)) {
                Some(fitted) => {
                    let name = |path: &Path| path.display().to_string();
                    let (input, output) = (name(&self.source.path), name(self.target));
                    let run = report_page::Run {
                        input: (&input, outcome.before),
                        output: (&output, &outcome.after),
                        log: outcome.log,
                        verified: outcome.verified.as_ref(),
                        status: outcome.status,
                        outcome: fitted,
                        missed: &missed,
                    };
                    write::text(path, &report_page::page(&run))?;
                }
                None => write::text(path, &format!("{:#}\n", self.json(outcome, &versions)))?,
            }
        }
        if missed.is_empty() {
            return Ok(());
        }
        Err(CliError::GoalMissed { detail: missed.join("; ") })
    }

    fn json(&self, outcome: &Outcome<'_>, versions: &report::Versions) -> serde_json::Value {
        let input = (self.source.path.as_path(), outcome.before);
        let output = (self.target.as_path(), &outcome.after);
        let verified = outcome.verified.as_ref();
        let mut report =
            report::json(versions, input, output, outcome.log, verified, outcome.status);
        if let (Some(target), Some(findings)) = (self.arguments.target, &outcome.findings) {
            report["deploy"] = deploy::json(target, findings);
        }
        if let Some(gates) = outcome.gates.json() {
            report["gates"] = gates;
        }
        if let Some(pruned) = &self.pruned {
            report["pruning"] = block_report::pruning(pruned);
        }
        report
    }

    /// What exact compilation leaves on the table. The compiled model is near enough to a prepared one, and
    /// preparing the input again would cost as much as the compilation.
    fn hint(&self, written: &Model) -> Option<String> {
        if self.pruned.is_some()
            || is_pipe(self.target)
            || self.arguments.verbosity() == Verbosity::Quiet
        {
            return None;
        }
        let blocks = surgery::blocks_of(written).ok()?;
        let prunable = blocks.iter().filter(|block| block.refusal.is_none()).count();
        (prunable > 0).then(|| {
            format!(
                "{prunable} of its {} blocks could be pruned, which changes the function: \
                 updp-compile inspect {} shows the gain",
                blocks.len(),
                self.target.display()
            )
        })
    }

    /// Ends with an error when the target given refuses the model.
    fn refuse_for_target(&self, outcome: &Outcome<'_>) -> Result<(), CliError> {
        let (Some(target), Some(findings)) = (self.arguments.target, &outcome.findings) else {
            return Ok(());
        };
        let count = findings.iter().filter(|f| f.severity == deploy::Severity::Error).count();
        if count == 0 {
            return Ok(());
        }
        if self.arguments.verbosity() == Verbosity::Quiet {
            note(&deploy::table(target, findings));
        }
        Err(CliError::TargetRefuses { target: target.key(), count })
    }

    fn data_name(&self) -> String {
        let name = self.target.file_name().map(|n| n.to_string_lossy().into_owned());
        format!("{}.data", name.unwrap_or_default())
    }

    /// Inline where that fits, else with a data file.
    fn encode(&self, model: &Model, data_name: &str) -> Result<Encoded, CliError> {
        let external = DataPlacement::External { file_name: data_name.to_owned() };
        if self.arguments.external_data {
            return Ok(model.encode(&external)?);
        }
        match model.encode(&DataPlacement::Inline) {
            Err(IrError::TooLargeForOneFile { .. }) => {
                self.print(&format!("above 2 GB: weights go to {data_name}"));
                Ok(model.encode(&external)?)
            }
            other => Ok(other?),
        }
    }

    /// The result for a pipe or device, which takes one file.
    fn in_memory(&self, model: &Model, copies: bool) -> Result<Bytes, CliError> {
        if copies {
            return Ok(self.source.bytes.clone());
        }
        match model.encode(&DataPlacement::Inline) {
            Err(IrError::TooLargeForOneFile { .. }) => Err(CliError::Pipe),
            encoded => Ok(encoded?.model_to_bytes()),
        }
    }

    fn oracle(&self) -> Result<Oracle<'_>, CliError> {
        let data = data::read(&self.arguments.input_data)?;
        let model = self.reference()?;
        let count = self.arguments.check.get();
        let source = self.source.for_runtime();
        let runtime = self.arguments.runtime.options();
        Ok(Oracle::new(source, &model.graph, &data, count, &runtime)?)
    }

    /// Runs the result against the input model.
    fn verify(&self, result: ModelSource<'_>, rewrites: usize) -> Result<Verification, CliError> {
        let oracle = self.oracle()?;
        let verification = oracle.compare(result)?;
        let Some(failure) = verification.failure() else { return Ok(verification) };
        let detail = match self.bisect(&oracle, rewrites) {
            Some(name) => {
                format!("{failure}; the first rewrite that makes the difference is {name}")
            }
            None => failure,
        };
        Err(CliError::VerificationFailed { detail })
    }

    /// The first rewrite after which the outputs differ, found by halving.
    fn bisect(&self, oracle: &Oracle<'_>, rewrites: usize) -> Option<String> {
        let differs = |count: usize| -> Option<(bool, Log)> {
            let mut model = self.reference().ok()?;
            let log = self.compile(&mut model, Some(count)).ok()?;
            let bytes = model.encode(&DataPlacement::Inline).ok()?.model_to_bytes();
            let is_passed =
                oracle.compare(ModelSource::Bytes(&bytes)).is_ok_and(|result| result.is_passed());
            Some((!is_passed, log))
        };
        let (mut good, mut bad) = (0, rewrites);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if differs(middle)?.0 { bad = middle } else { good = middle }
        }
        let (_, log) = differs(bad)?;
        log.rewrites.last().map(|rewrite| format!("{} at {:?}", rewrite.rule, rewrite.node))
    }

    fn tell(&self, outcome: &Outcome<'_>) {
        let log = outcome.log;
        if let Some(pruned) = &self.pruned {
            if let Some(fitted) = &pruned.outcome {
                self.print(&block_report::fitted(fitted));
            } else {
                self.print(
                    "pruned without recovery: the network is not usable, only its structure is",
                );
                self.print(&block_report::chosen(pruned));
            }
        }
        if self.pruned.is_some() && log.rewrites.is_empty() {
            self.print(&report::table(outcome.before, &outcome.after));
        } else if outcome.is_unchanged {
            self.print("nothing to merge: the model is written as it came");
        } else if log.rewrites.is_empty() {
            self.print("nothing to merge: only the shapes asked for are fixed");
        } else {
            self.print(&report::table(outcome.before, &outcome.after));
            for (rule, count) in report::by_rule(log) {
                self.print(&format!("  {rule}: {count}"));
            }
        }
        if self.arguments.verbose {
            for rewrite in &log.rewrites {
                self.print(&format!("  {} at {:?}", rewrite.rule, rewrite.node));
            }
        }
        for warning in &log.warnings {
            self.print(&format!("warning: {warning}"));
        }
        if let Some(result) = &outcome.verified {
            if self.pruned.is_some() {
                self.print("merged against settled (the pruned network before merging):");
            }
            self.print(&report::verification(result));
        } else if outcome.status == "skipped" && !outcome.is_unchanged {
            self.print("not verified (--no-verify)");
        }
        if self.arguments.why_not {
            self.print(&report::why_not(log));
        } else if !log.refusals.is_empty() {
            self.print(&format!("{} merges declined; --why-not says why", log.refusals.len()));
        }
        if let (Some(target), Some(findings)) = (self.arguments.target, &outcome.findings) {
            self.print(&deploy::table(target, findings));
        }
        for held in outcome.gates.held() {
            self.print(&held);
        }
        if let Some(hint) = &outcome.hint {
            self.print(hint);
        }
        if self.arguments.time_passes {
            for (phase, time) in &log.phase_times {
                self.print(&format!("  {phase:<12}{:>9.2} ms", time.as_secs_f64() * 1e3));
            }
        }
    }
}
