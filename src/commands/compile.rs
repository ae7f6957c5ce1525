//! `compile` and its output: the models before and after, the merges, and the outcome of the verification.

use std::path::{Path, PathBuf};

use updp_exec::InputData;
use updp_passes::pipeline;
use updp_prune::Pruned;

use crate::api::{self, CompileOptions, CompileReport, VerificationStatus, overridable_notice};
use crate::block_report;
use crate::cli::{CompileArgs, TargetChoice};
use crate::data;
use crate::deploy;
use crate::error::CliError;
use crate::front_table;
use crate::listener::{Listener, Outcome};
use crate::model_file::is_pipe;
use crate::report;
use crate::report_page::{self, Origin};
use crate::terminal::{self, Verbosity, note, say};
use crate::verdict;
use crate::write;

/// Runs the compilation.
pub(super) fn run(
    arguments: &CompileArgs,
    listener: &mut Listener<'_>,
) -> Result<Outcome, CliError> {
    if arguments.list_passes {
        for (name, summary) in pipeline::rule_names() {
            listener.say(&format!("{name:<24}{summary}"));
        }
        return Ok(Outcome::default());
    }
    let usage = |detail: &str| CliError::Usage { detail: detail.to_owned() };
    let input = arguments.model.as_deref().ok_or_else(|| usage("no model is given"))?;
    let target = arguments.output.as_ref().or(arguments.out.as_ref());
    let target = target.or_else(|| arguments.model.as_ref().filter(|_| arguments.in_place));
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
        refuse_dry(arguments)?;
    }
    arguments.paths(input, target).check()?;
    if arguments.prune.is_asked_for() || arguments.images.data.is_some() {
        return super::prune::run(arguments, input, target, listener);
    }
    let output = Output::new(arguments, input, target, listener);
    let options = output.options(false)?;
    let is_dumped = options.dump_after.is_some();
    let report = listener
        .during_with_messages(is_dumped, |observer| api::compile(input, &options, observer))?;
    output.finish(&report, None, None)
}

/// Refuses a dry run: without images no step takes long.
pub(super) fn refuse_dry(arguments: &CompileArgs) -> Result<(), CliError> {
    if arguments.dry_run {
        let detail = "--dry-run is for pruning with --data and a goal; inspect MODEL shows what compiling would do";
        return Err(CliError::Usage { detail: detail.to_owned() });
    }
    Ok(())
}

/// The written model, and the way to report on it.
pub(super) struct Output<'a> {
    pub(super) arguments: &'a CompileArgs,
    /// The input model.
    pub(super) input: &'a Path,
    pub(super) target: &'a Path,
    /// Whether a person reads what is printed.
    pub(super) prints: bool,
    /// What a page says about its making; `None` if no page is asked for.
    origin: Option<Origin>,
}

impl<'a> Output<'a> {
    /// Notes what the input is now: the result may replace it.
    pub(super) fn new(
        arguments: &'a CompileArgs,
        input: &'a Path,
        target: &'a Path,
        listener: &Listener<'_>,
    ) -> Self {
        let has_page = arguments.report.iter().any(|path| report_page::is_page(path));
        let origin = has_page.then(|| Origin::of(&arguments.command_line).model("Input", input));
        Self { arguments, input, target, prints: listener.prints(), origin }
    }
}

impl Output<'_> {
    /// Whether nothing but errors is printed.
    fn is_silent(&self) -> bool {
        !self.prints || self.arguments.verbosity() == Verbosity::Quiet
    }

    pub(super) fn print(&self, text: &str) {
        if self.is_silent() {
            return;
        }
        // If the model is written to standard output, the text must not go there.
        if is_pipe(self.target) { note(text) } else { say(text) }
    }

    /// Prints a table whose first line is its head.
    fn print_table(&self, text: &str) {
        if !self.is_silent() {
            terminal::table(text, is_pipe(self.target));
        }
    }

    /// Prints what came of it, in one line. A missed goal and a refusal by the target are errors, which come last.
    fn tell_verdict(&self, report: &CompileReport, pruned: Option<&Pruned>) {
        if self.is_silent() {
            return;
        }
        let (tone, text) = verdict::of(self.target, report, pruned);
        terminal::verdict(tone, &text, is_pipe(self.target));
    }

    /// Options for compiling the model, or for merging it after pruning.
    pub(super) fn options(&self, is_pruned: bool) -> Result<CompileOptions, CliError> {
        let arguments = self.arguments;
        let has_inputs = is_pruned || !arguments.no_verify || arguments.test_vectors.is_some();
        let input_data =
            if has_inputs { data::read(&arguments.input_data)? } else { InputData::default() };
        let is_quiet = arguments.verbosity() == Verbosity::Quiet;
        Ok(CompileOptions {
            output: (!is_pipe(self.target)).then(|| self.target.to_owned()),
            external_data: arguments.external_data,
            rules: arguments.rules.options(),
            max_rewrites: arguments.stop_after,
            input_shapes: arguments.input_shape.clone(),
            freeze_weights: arguments.weights.options(),
            is_verified: !arguments.no_verify,
            inputs: arguments.check.get(),
            input_data,
            gates: arguments.gates.options(),
            batch: arguments.prune.batch.get(),
            target: arguments.target.map(TargetChoice::target),
            test_vectors: arguments.test_vectors.clone(),
            dump_after: arguments.dump_after.clone(),
            has_block_count: !is_pruned && !is_pipe(self.target) && !is_quiet,
            runtime: arguments.runtime.options(),
        })
    }

    /// Writes the model if it goes to standard output, prints a summary and writes the reports. `hint` comes before the
    /// verdict.
    pub(super) fn finish(
        &self,
        report: &CompileReport,
        pruned: Option<&Pruned>,
        hint: Option<&str>,
    ) -> Result<Outcome, CliError> {
        if let Some(bytes) = &report.model {
            write::model(self.target, bytes)?;
        }
        self.tell(report, pruned);
        let missed = Self::missed(report, pruned);
        // It lists every rewrite, so it is made only where somebody reads it.
        let is_json = |path: &PathBuf| !report_page::is_page(path);
        let is_read = !self.prints || self.arguments.report.iter().any(is_json);
        let document = is_read.then(|| self.json(report, pruned));
        self.write_reports(report, pruned, &missed, document.as_ref())?;
        if let Some(hint) = hint {
            self.print(hint);
        }
        let failure = if missed.is_empty() {
            self.refusal_of_target(report)
        } else {
            Some(CliError::GoalMissed { detail: missed.join("; ") })
        };
        if failure.is_none() {
            self.tell_verdict(report, pruned);
        }
        Ok(Outcome { document, failure })
    }

    /// The requirements that the result misses.
    fn missed(report: &CompileReport, pruned: Option<&Pruned>) -> Vec<String> {
        let fitted = pruned.and_then(|pruned| pruned.outcome.as_ref());
        let mut missed = fitted.map(|fitted| fitted.missed.clone()).unwrap_or_default();
        missed.extend(report.gates.missed());
        missed
    }

    /// Writes the requested reports.
    fn write_reports(
        &self,
        report: &CompileReport,
        pruned: Option<&Pruned>,
        missed: &[String],
        document: Option<&serde_json::Value>,
    ) -> Result<(), CliError> {
        let fitted = pruned.and_then(|pruned| pruned.outcome.as_ref());
        for path in &self.arguments.report {
            let text = match document.filter(|_| !report_page::is_page(path)) {
                Some(document) => format!("{document:#}\n"),
                None => self.page(report, pruned, missed),
            };
            write::text(path, &text)?;
        }
        if let (Some(path), Some(fitted)) = (&self.arguments.prune.front, fitted) {
            write::text(path, &front_table::text(path, self.input, fitted))?;
        }
        Ok(())
    }

    /// The report as a page.
    fn page(&self, report: &CompileReport, pruned: Option<&Pruned>, missed: &[String]) -> String {
        let name = |path: &Path| path.display().to_string();
        let (input, output) = (name(self.input), name(self.target));
        let (input, output) = ((&*input, &report.before), (&*output, &report.after));
        let fitted = pruned.and_then(|pruned| pruned.outcome.as_ref());
        let origin = self.origin(report, fitted);
        let macs = pruned.map(block_report::macs).unwrap_or_default();
        let (log, verified, status) =
            (&report.log, report.verification.as_ref(), report.status.name());
        let (macs, origin) = (&macs[..], &origin);
        if let Some(outcome) = fitted {
            let run = report_page::Run {
                input,
                output,
                log,
                verified,
                status,
                outcome,
                missed,
                macs,
                origin,
            };
            return report_page::page(&run);
        }
        let findings = report.findings.iter().flatten();
        let findings: Vec<String> = findings
            .map(|it| {
                format!("{}: {} ({}): {}", it.severity, it.what, it.places.join(", "), it.cure)
            })
            .collect();
        report_page::compiled(&report_page::Compiled {
            input,
            output,
            log,
            verified,
            status,
            is_pruned: pruned.is_some(),
            missed,
            held: &report.gates.held(),
            findings: &findings,
            macs,
            origin,
        })
    }

    /// What the page says about its making.
    fn origin(
        &self,
        report: &CompileReport,
        fitted: Option<&updp_prune::outcome::Outcome>,
    ) -> Origin {
        let mut origin = self.origin.clone().unwrap_or_default().model("Output", self.target);
        let speed = fitted.and_then(|fitted| fitted.speed.as_ref());
        let verified = report.verification.as_ref().map(|it| &it.runtime);
        let runtime = speed.map(|speed| &speed.runtime).or(verified).filter(|it| !it.is_empty());
        if let Some(runtime) = runtime {
            origin = origin.fact("Runtime", runtime);
        }
        let threads = speed.map(|speed| speed.threads);
        origin = origin.threads(threads.or(self.arguments.runtime.threads.map(usize::from)));
        if let Some(speed) = speed {
            origin = origin.fact("Images in a run", speed.batch.to_string());
        }
        if let Some(input) = fitted.map(|fitted| &fitted.data.image_input) {
            let size = report_page::image_size(&input.dims);
            origin = origin.fact("Image size", format!("{size}, input {}", input.name));
        }
        origin
    }

    fn json(&self, report: &CompileReport, pruned: Option<&Pruned>) -> serde_json::Value {
        let input = (self.input, &report.before);
        let output = (self.target, &report.after);
        let verified = report.verification.as_ref();
        let status = report.status.name();
        let mut json = report::json(&report.versions, input, output, &report.log, verified, status);
        json["overridable_weights"] = report.overridable_weights.into();
        json["frozen_weights"] = report.frozen_weights.into();
        if let (Some(target), Some(findings)) = (self.arguments.target, &report.findings) {
            json["deploy"] = deploy::json(target.target(), findings);
        }
        if let Some(gates) = report.gates.json() {
            json["gates"] = gates;
        }
        if let Some(pruned) = pruned {
            json["pruning"] = block_report::pruning(pruned);
        }
        json
    }

    /// The possible gain beyond exact compilation.
    fn hint(&self, report: &CompileReport) -> Option<String> {
        let blocks = report.blocks.filter(|blocks| blocks.prunable > 0)?;
        Some(format!(
            "{} of its {} blocks could be pruned, which changes the function: \
             updp-compile inspect {} shows the gain",
            blocks.prunable,
            blocks.total,
            self.target.display()
        ))
    }

    /// The error if the given target refuses the model.
    fn refusal_of_target(&self, report: &CompileReport) -> Option<CliError> {
        let (target, findings) = self.arguments.target.zip(report.findings.as_ref())?;
        let target = target.target();
        let count = findings.iter().filter(|f| f.severity == deploy::Severity::Error).count();
        if count == 0 {
            return None;
        }
        if self.prints && self.arguments.verbosity() == Verbosity::Quiet {
            note(&deploy::table(target, findings));
        }
        Some(CliError::TargetRefuses { target: target.key(), count })
    }

    fn tell(&self, report: &CompileReport, pruned: Option<&Pruned>) {
        self.tell_change(report, pruned);
        if let Some(result) = &report.verification {
            if pruned.is_some() {
                self.print("merged against settled (the pruned network before merging):");
            }
            self.print(&report::verification(result));
        } else if report.status == VerificationStatus::Skipped && !report.is_unchanged {
            self.print("not verified (--no-verify)");
        }
        let log = &report.log;
        if self.arguments.why_not {
            self.print(&report::why_not(log));
        } else if !log.refusals.is_empty() {
            self.print(&format!("{} merges declined; --why-not says why", log.refusals.len()));
        }
        if let (Some(target), Some(findings)) = (self.arguments.target, &report.findings) {
            self.print(&deploy::table(target.target(), findings));
        }
        for held in report.gates.held() {
            self.print(&held);
        }
        if let Some(hint) = self.hint(report) {
            self.print(&hint);
        }
        if self.arguments.time_passes {
            for (phase, time) in &log.phase_times {
                self.print(&format!("  {phase:<12}{:>9.2} ms", time.as_secs_f64() * 1e3));
            }
        }
    }

    /// The pruned blocks, the sizes before and after, and the rewrites.
    fn tell_change(&self, report: &CompileReport, pruned: Option<&Pruned>) {
        let log = &report.log;
        if let Some(pruned) = pruned {
            if let Some(fitted) = &pruned.outcome {
                self.print(&block_report::fitted(fitted));
            } else {
                self.print(
                    "pruned without recovery: the network is not usable, only its structure is",
                );
                self.print(&block_report::chosen(pruned));
            }
        }
        if pruned.is_some() && log.rewrites.is_empty() {
            self.print_table(&report::table(&report.before, &report.after));
        } else if report.is_unchanged {
            self.print("nothing to merge: the model is written as it came");
        } else if log.rewrites.is_empty() {
            self.print("nothing to merge: only the shapes and weights asked for are fixed");
        } else {
            self.print_table(&report::table(&report.before, &report.after));
            for (rule, count) in report::by_rule(log) {
                self.print(&format!("  {rule}: {count}"));
            }
        }
        if self.arguments.verbose {
            for rewrite in &log.rewrites {
                self.print(&format!("  {} at {:?}", rewrite.rule, rewrite.node));
            }
        }
        if report.frozen_weights > 0 {
            self.print(&format!("weights made constants: {}", report.frozen_weights));
        }
        if let Some(notice) = overridable_notice(report.overridable_weights) {
            self.print(&format!("warning: {notice}"));
        }
        let warnings =
            if self.arguments.verbose { log.warnings.clone() } else { report::warnings(log) };
        for warning in warnings {
            self.print(&format!("warning: {warning}"));
        }
    }
}
